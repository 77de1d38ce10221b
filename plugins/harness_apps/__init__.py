"""Whole applications as candidates: `http:NAME` and `python:MODULE:FUNCTION`. Knows no model.

What is measured is the application as it stands, retrieval, tools and all; the prompt of the
candidate is only its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import BackendConfig, hookimpl

if TYPE_CHECKING:
    from harness_apps.endpoint import HttpBackend


def make_http(config: BackendConfig) -> HttpBackend:
    """Return the backend of an endpoint. Raises UsageError for a bad option."""
    from harness_apps.endpoint import HttpBackend

    return HttpBackend(config)


def make_python(config: BackendConfig) -> object:
    """Return the backend of a callable. Raises UsageError where it cannot be had."""
    from harness_apps.function import make_backend

    return make_backend(config)


# a module of the task's own folder is another one for another task
make_python.by_folder = True  # type: ignore[attr-defined]


@hookimpl
def harness_backends() -> Mapping[str, object]:
    """Own the schemes `http` and `python`."""
    return {"http": make_http, "python": make_python}
