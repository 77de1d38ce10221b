"""Earn the fine-tune: the names that evals, plugins and programs use.

Everything is imported when it is first asked for, so that a pytest run that has nothing to do
with evals pays nothing for this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import checks as checks
    from harness.checks.base import CheckResult as CheckResult
    from harness.checks.offline import refuse_offline as refuse_offline
    from harness.engine.attempts import GuardResult as GuardResult
    from harness.engine.guard import Guard as Guard, guard as guard
    from harness.engine.imported_files import (
        imported_files as imported_files,
        module_roots as module_roots,
    )
    from harness.engine.reward import Reward as Reward, reward as reward
    from harness.errors import (
        BackendError as BackendError,
        GuardRefused as GuardRefused,
        HarnessError as HarnessError,
        Miss as Miss,
        MissingExtra as MissingExtra,
        RecipeError as RecipeError,
        Refused as Refused,
        UsageError as UsageError,
        words_of as words_of,
    )
    from harness.ports.artifacts import (
        ServeJob as ServeJob,
        ServerCommand as ServerCommand,
        VariantJob as VariantJob,
        VariantResult as VariantResult,
    )
    from harness.ports.backends import BackendConfig as BackendConfig, BatchState as BatchState
    from harness.ports.hookspecs import hookimpl as hookimpl
    from harness.ports.optimisers import (
        OptimisedPrompt as OptimisedPrompt,
        OptimiseJob as OptimiseJob,
        ScoredReply as ScoredReply,
        Sections as Sections,
    )
    from harness.ports.tuners import (
        Checkpoint as Checkpoint,
        TrainProgress as TrainProgress,
        TrainResult as TrainResult,
        TuneEstimate as TuneEstimate,
        TuneJob as TuneJob,
    )
    from harness.records import (
        Case as Case,
        Decoding as Decoding,
        Message as Message,
        PreparedRow as PreparedRow,
        Reply as Reply,
        Request as Request,
        TrainingRow as TrainingRow,
    )
    from harness.surface.lint_tests import lint_tests as lint_tests

_HOMES = {
    "BackendConfig": "harness.ports.backends",
    "BackendError": "harness.errors",
    "BatchState": "harness.ports.backends",
    "Case": "harness.records",
    "CheckResult": "harness.checks.base",
    "Checkpoint": "harness.ports.tuners",
    "Decoding": "harness.records",
    "Guard": "harness.engine.guard",
    "GuardRefused": "harness.errors",
    "GuardResult": "harness.engine.attempts",
    "HarnessError": "harness.errors",
    "Message": "harness.records",
    "Miss": "harness.errors",
    "MissingExtra": "harness.errors",
    "OptimiseJob": "harness.ports.optimisers",
    "OptimisedPrompt": "harness.ports.optimisers",
    "PreparedRow": "harness.records",
    "RecipeError": "harness.errors",
    "Refused": "harness.errors",
    "Reply": "harness.records",
    "Request": "harness.records",
    "Reward": "harness.engine.reward",
    "ScoredReply": "harness.ports.optimisers",
    "Sections": "harness.ports.optimisers",
    "ServeJob": "harness.ports.artifacts",
    "ServerCommand": "harness.ports.artifacts",
    "TrainProgress": "harness.ports.tuners",
    "TrainResult": "harness.ports.tuners",
    "TrainingRow": "harness.records",
    "TuneEstimate": "harness.ports.tuners",
    "TuneJob": "harness.ports.tuners",
    "UsageError": "harness.errors",
    "VariantJob": "harness.ports.artifacts",
    "VariantResult": "harness.ports.artifacts",
    "guard": "harness.engine.guard",
    "hookimpl": "harness.ports.hookspecs",
    "imported_files": "harness.engine.imported_files",
    "lint_tests": "harness.surface.lint_tests",
    "module_roots": "harness.engine.imported_files",
    "refuse_offline": "harness.checks.offline",
    "reward": "harness.engine.reward",
    "words_of": "harness.errors",
}

__all__ = [
    "BackendConfig",
    "BackendError",
    "BatchState",
    "Case",
    "CheckResult",
    "Checkpoint",
    "Decoding",
    "Guard",
    "GuardRefused",
    "GuardResult",
    "HarnessError",
    "Message",
    "Miss",
    "MissingExtra",
    "OptimiseJob",
    "OptimisedPrompt",
    "PreparedRow",
    "RecipeError",
    "Refused",
    "Reply",
    "Request",
    "Reward",
    "ScoredReply",
    "Sections",
    "ServeJob",
    "ServerCommand",
    "TrainProgress",
    "TrainResult",
    "TrainingRow",
    "TuneEstimate",
    "TuneJob",
    "UsageError",
    "VariantJob",
    "VariantResult",
    "checks",
    "guard",
    "hookimpl",
    "imported_files",
    "lint_tests",
    "module_roots",
    "refuse_offline",
    "reward",
    "words_of",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "checks":
        return importlib.import_module("harness.checks")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
