"""The `local:` backend on transformers, and tuned weights in other forms.

Knows nothing of torch until a model is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness import BackendConfig, VariantJob, VariantResult

# Named here, so that a list of plugins imports neither torch nor gguf.
_MERGED = ("merged", "merged-bf16", "merged-f16")
_QUANTISED = ("int8", "nf4")
GGUF_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def _local(config: BackendConfig) -> Any:
    from harness_transformers.backend import LocalBackend

    return LocalBackend(config)


def _lacks(model: str) -> str:
    """Return what must be installed before `model` can be found; nothing is converted."""
    from harness_transformers.models import require_local
    from harness_transformers.wheels import WHEELS, gguf_of

    try:
        require_local(f"local:{model}")
        if model in WHEELS:
            gguf_of(WHEELS[model])
    except harness.UsageError as exc:
        return str(exc)
    return ""


_local.lacks = _lacks  # type: ignore[attr-defined]


@harness.hookimpl
def harness_backends() -> Mapping[str, Any]:
    """Offer the scheme `local:` (a known name or a folder)."""
    return {"local": _local}


def _merged(job: VariantJob, *, form: str) -> VariantResult:
    from harness_transformers.merging import make_merged

    return make_merged(job, form=form)


def _quantised(job: VariantJob, *, form: str) -> VariantResult:
    from harness_transformers.quantised import make_quantised

    return make_quantised(job, form=form)


def _gguf(job: VariantJob, *, form: str) -> VariantResult:
    from harness_transformers.gguf_export import make_gguf

    return make_gguf(job, form=form)


@harness.hookimpl
def harness_variants() -> Mapping[str, Callable[[VariantJob], VariantResult]]:
    """Offer a whole model as safetensors, in few bits too, and Llama architectures as GGUF."""
    made: dict[str, Callable[[VariantJob], VariantResult]] = {}
    made |= {form: partial(_merged, form=form) for form in _MERGED}
    made |= {form: partial(_quantised, form=form) for form in _QUANTISED}
    made |= {form: partial(_gguf, form=form) for form in map("gguf-{}".format, GGUF_TYPES)}
    return made
