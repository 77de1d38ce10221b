"""What can go wrong, by what the reader can do about it. Knows no room and no library.

HarnessError                 exit 2 unless said otherwise
├── UsageError               a wrong name, option or file; the message says what is known
│   ├── TaskError            a task.toml, prompt or case file that cannot be read (file:line)
│   ├── RecipeError          a recipe that a tuner cannot follow
│   ├── PluginError          a plugin that cannot be loaded, or two that claim one name
│   └── MissingExtra         a library that an extra installs
├── Refused                  exit 1: the harness will not do it, and says what would change that
│   └── GuardRefused         a guarded reply that is not good, after every try; holds the tries
├── NotEnoughEvidence        exit 3: a question that the recorded runs cannot answer
├── BackendError             exit 4: a model, server or trainer did not deliver
├── StoreError               exit 4: the store cannot be opened, read or written
└── Miss                     no error: a reply that was measured and missed (an AssertionError too)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any


def words_of(error: BaseException) -> str:
    """Return what an error says. A stranger's may raise again when it is asked."""
    try:
        return str(error)
    except Exception as exc:  # noqa: BLE001 - border: a stranger's class says it
        return f"({type(error).__name__} cannot be put into words: {type(exc).__name__})"


class HarnessError(Exception):
    """Base of every error that the harness raises on purpose.

    `case_ids` name the cases that it is about, where they could be left out; `beside` is what a
    command can tell all the same, as the results of other cases: it stands in its JSON.
    """

    exit_code = 2
    case_ids: tuple[str, ...] = ()
    beside: Mapping[str, Any] = MappingProxyType({})


class UsageError(HarnessError):
    """The user asked for something that does not exist or cannot be."""


class TaskError(UsageError):
    """A file of a task is broken; the message begins with `file:line`."""


class RecipeError(UsageError):
    """A recipe that a tuner cannot follow. A tuner says what is wrong and which `keys` it is about;
    the engine, which knows the file, puts file and lines in the place of `recipe`.
    """

    def __init__(self, problem: str, *, keys: Sequence[str] = (), place: str = "recipe") -> None:
        super().__init__(f"{place}: {problem}")
        self.problem, self.keys = problem, tuple(keys)


class PluginError(UsageError):
    """A plugin is broken, misspelt, or claims a name that another one owns."""


class MissingExtra(UsageError):
    """A library of an optional extra is absent; the message holds the `pip install` line."""

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'tuning-harness[{extra}]'")
        self.extra = extra


class Refused(HarnessError):
    """A rule of the house stands in the way, as for `tune` without a wall."""

    exit_code = 1


class GuardRefused(Refused):
    """A guard found no good reply. `result` is its GuardResult, with every attempt."""

    def __init__(self, message: str, *, result: Any) -> None:
        super().__init__(message)
        self.result = result


class NotEnoughEvidence(HarnessError):
    """The question cannot be answered from what was recorded."""

    exit_code = 3


class BackendError(HarnessError):
    """A backend or tuner failed.

    `is_retryable` marks what may pass when tried again (429, 5xx, a lost connection);
    `retry_after_s` is the wait that the server asked for, in seconds, where it did.
    `is_overload` marks an answer that says "too much" (429, 529), after which fewer requests are
    sent at once; None leaves it to whether a wait was asked for.
    `is_systemic` marks an answer of the system under test itself (a context overflow, a
    refusal to answer): it counts as a failed case, where infrastructure trouble counts as missing.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        is_retryable: bool = False,
        retry_after_s: float | None = None,
        is_systemic: bool = False,
        is_overload: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable
        self.retry_after_s = retry_after_s
        self.is_systemic = is_systemic
        self.is_overload = is_overload


class StoreError(HarnessError):
    """The store is newer than this program, damaged, full, or on a network file system."""

    exit_code = 4


class Miss(HarnessError, AssertionError):
    """A measurement that came out against the reply. `value` is the score it earned, in [0, 1]."""

    def __init__(self, reason: str, *, value: float = 0.0) -> None:
        super().__init__(reason)
        self.value = value
