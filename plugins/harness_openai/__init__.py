"""The `openai:` backend: OpenAI's chat API, and any server that speaks it. Knows no task.

`openai:MODEL` asks `--base-url`, else `OPENAI_BASE_URL`, else api.openai.com. What a server
obeys is written in `presets.toml`; `--base-url http://localhost:8000/v1#vllm` picks the entry by
hand where the address does not tell (the fragment is never sent).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import BackendConfig, hookimpl

if TYPE_CHECKING:
    from harness_openai.backend import OpenAIBackend


def make_backend(config: BackendConfig) -> OpenAIBackend:
    """Return the backend of `config`. Raises UsageError for a bad address, option or key."""
    from harness_openai.backend import OpenAIBackend

    return OpenAIBackend(config)


@hookimpl
def harness_backends() -> Mapping[str, object]:
    """Own the scheme `openai`."""
    return {"openai": make_backend}
