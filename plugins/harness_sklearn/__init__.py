"""The tuner `sklearn` and the backend `sklearn:`: classical models as candidates. Knows no task.

Training needs the extra `[sklearn]`; answering reads numbers and JSON with a reader of our own, and
needs no scikit-learn. No pickle is written or read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import BackendConfig, MissingExtra, hookimpl


def _require(what: str, *libraries: str) -> None:
    missing = [n for n in libraries if importlib.util.find_spec(n) is None]
    if missing:
        raise MissingExtra(f"{what} (without {', '.join(missing)})", extra="sklearn")


def make_tuner() -> Any:
    """Return the tuner. Raises MissingExtra."""
    _require("the tuner 'sklearn'", "sklearn", "safetensors")
    from harness_sklearn.tuner import Sklearn

    return Sklearn()


def make_backend(config: BackendConfig) -> Any:
    """Return the model of an artifact. Raises UsageError where none is named."""
    _require("the backend sklearn:", "safetensors")
    from harness_sklearn.backend import SklearnBackend

    return SklearnBackend(config)


@hookimpl
def harness_tuners() -> Mapping[str, Any]:
    """Offer `sklearn`."""
    return {"sklearn": make_tuner}


@hookimpl
def harness_backends() -> Mapping[str, Any]:
    """Own the scheme `sklearn`."""
    return {"sklearn": make_backend}


@hookimpl
def harness_recipes() -> Mapping[str, Path]:
    """Offer the files of `recipes/`, by their paths in it."""
    home = Path(__file__).with_name("recipes")
    return {f.relative_to(home).with_suffix("").as_posix(): f for f in home.rglob("*.toml")}
