"""The `local:` backend on transformers. Knows nothing of torch until a model is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness import BackendConfig


def _local(config: BackendConfig) -> Any:
    from harness_transformers.backend import LocalBackend

    return LocalBackend(config)


@harness.hookimpl
def harness_backends() -> Mapping[str, Any]:
    """Offer the scheme `local:` (a known name or a folder)."""
    return {"local": _local}
