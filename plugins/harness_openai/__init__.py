"""The `openai:` backend: OpenAI's chat API, and any server that speaks it. Knows no task.

`openai:MODEL` asks `--base-url`, else `OPENAI_BASE_URL`, else api.openai.com. What a server
obeys is written in `presets.toml`; `--base-url http://localhost:8000/v1#vllm` picks the entry by
hand where the address does not tell (the fragment is never sent).

`[backends.openai]` in task.toml, or a candidate's `options`, may say: `stream = true` (a reply's
`first_token_s` is then known), `concurrency`, `timeout_s`, `batch_size` (none of these changes an
answer, and none asks anew), `preset`, and what replaces a preset's own `honours`, `token_limit`,
`key_env`, `body` and `sampled_body`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import BackendConfig, hookimpl

if TYPE_CHECKING:
    from harness_openai.backend import OpenAIBackend


def make_backend(config: BackendConfig) -> OpenAIBackend:
    """Return the backend of `config`. Raises UsageError for a bad address or option."""
    from harness_openai.backend import OpenAIBackend

    preset = OpenAIBackend(config).preset
    # batches and token ids are methods that an engine looks for: only where the server has them
    if preset.batch:
        from harness_openai.batches import BatchingBackend

        return BatchingBackend(config)
    from harness_openai.tokens import make_showing

    return make_showing(config, tokens=preset.tokens)


@hookimpl
def harness_backends() -> Mapping[str, object]:
    """Own the scheme `openai`."""
    return {"openai": make_backend}


def _tuner() -> Any:
    from harness_openai.finetuning.tuner import OpenAITuner

    return OpenAITuner()


def _dpo() -> Any:
    from harness_openai.finetuning.tuner import OpenAIDpo

    return OpenAIDpo()


@hookimpl
def harness_tuners() -> Mapping[str, Any]:
    """Offer `openai` and `openai-dpo`: hosted tuning, by any server with that API."""
    return {"openai": _tuner, "openai-dpo": _dpo}


@hookimpl
def harness_recipes() -> Mapping[str, Path]:
    """Offer the files of `recipes/`, by their paths in it."""
    home = Path(__file__).with_name("recipes")
    return {f.relative_to(home).with_suffix("").as_posix(): f for f in home.rglob("*.toml")}
