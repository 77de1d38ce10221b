"""Earn the fine-tune: the names that evals, plugins and programs use.

Everything is imported when it is first asked for, so that a pytest run that has nothing to do
with evals pays nothing for this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import checks as checks
    from harness.errors import (
        BackendError as BackendError,
    )
    from harness.errors import (
        HarnessError as HarnessError,
    )
    from harness.errors import (
        MissingExtra as MissingExtra,
    )
    from harness.errors import (
        Miss as Miss,
    )
    from harness.errors import (
        UsageError as UsageError,
    )
    from harness.ports.hookspecs import hookimpl as hookimpl
    from harness.ports.protocols import (
        BackendConfig as BackendConfig,
    )
    from harness.ports.protocols import (
        TrainProgress as TrainProgress,
    )
    from harness.ports.protocols import (
        TrainResult as TrainResult,
    )
    from harness.ports.protocols import (
        TuneJob as TuneJob,
    )
    from harness.records import (
        Case as Case,
    )
    from harness.records import (
        Decoding as Decoding,
    )
    from harness.records import (
        Message as Message,
    )
    from harness.records import (
        PreparedRow as PreparedRow,
    )
    from harness.records import (
        Reply as Reply,
    )
    from harness.records import (
        Request as Request,
    )
    from harness.records import (
        TrainingRow as TrainingRow,
    )

_HOMES = {
    "BackendConfig": "harness.ports.protocols",
    "BackendError": "harness.errors",
    "Case": "harness.records",
    "Decoding": "harness.records",
    "HarnessError": "harness.errors",
    "Message": "harness.records",
    "Miss": "harness.errors",
    "MissingExtra": "harness.errors",
    "PreparedRow": "harness.records",
    "Reply": "harness.records",
    "Request": "harness.records",
    "TrainProgress": "harness.ports.protocols",
    "TrainResult": "harness.ports.protocols",
    "TrainingRow": "harness.records",
    "TuneJob": "harness.ports.protocols",
    "UsageError": "harness.errors",
    "hookimpl": "harness.ports.hookspecs",
}

__all__ = sorted([*_HOMES, "checks"])
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "checks":
        return importlib.import_module("harness.checks")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
