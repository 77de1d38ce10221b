"""How an eval function is called: within a time limit, and awaited where it is async.

Knows nothing of scores. Where the platform has no SIGALRM, or the alarm belongs to somebody else
(a time-out plugin), or evals do not run in the main thread, there is no limit.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

import pytest

from harness.errors import Miss
from harness.surface.eval_session import EvalSession
from harness.surface.eval_trials import eval_trial_of

AGAIN_S = 1.0
"""The alarm rings again after this many seconds, for an eval that swallowed it."""
DEBUGGERS = ("pdb", "bdb", "pydevd", "_pydevd_bundle", "debugpy")


class EvalTimeout(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """An eval did not end in time: a fault of the eval. No `except Exception` swallows it."""


class EvalCalls:
    """The plugin of one session."""

    def __init__(self, session: EvalSession) -> None:
        self._session = session
        self._limits_s: dict[Path, float] = {}
        self._item: pytest.Item | None = None
        self._handler = self._ring  # one object, so that it is known again
        self._has_alarm: bool | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Ring an alarm where an eval does not end in time."""
        if eval_trial_of(item) is None or not self._owns_alarm():
            return (yield)
        limit_s = self._limits_s.get(item.path) or self._limit_s(item.path)
        self._item = item
        signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @pytest.hookimpl
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Await an async eval that no async plugin took: those come first, or wrap this."""
        if eval_trial_of(pyfuncitem) is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_exception_interact(
        self, node: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Let `--pdb` open a miss in the eval, not in the check that it called, and say why."""
        excinfo = call.excinfo
        if not isinstance(node, pytest.Item) or eval_trial_of(node) is None or excinfo is None:
            return
        if getattr(report, "harness_mark", "") == "missed" and isinstance(excinfo.value, Miss):
            report.longrepr = str(excinfo.value)
            excinfo.value.__traceback__ = _until(excinfo.value.__traceback__, node.path.parent)
            call.excinfo = pytest.ExceptionInfo.from_exception(excinfo.value)

    def pytest_enter_pdb(self) -> None:
        """Leave a person at a debugger all the time in the world."""
        if self._has_alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def pytest_unconfigure(self) -> None:
        """Give the alarm back."""
        if self._has_alarm and signal.getsignal(signal.SIGALRM) is self._handler:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _owns_alarm(self) -> bool:
        if self._has_alarm is None:
            is_main = threading.current_thread() is threading.main_thread()
            is_free = hasattr(signal, "SIGALRM") and (
                signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
            )
            self._has_alarm = is_main and is_free
            if self._has_alarm:
                signal.signal(signal.SIGALRM, self._handler)
        return self._has_alarm and signal.getsignal(signal.SIGALRM) is self._handler

    def _limit_s(self, path: Path) -> float:
        limit_s = self._session.evaluation_of(path).task.settings.eval_timeout_s
        self._limits_s[path] = limit_s
        return limit_s

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if str(getattr(sys.gettrace(), "__module__", "")).split(".")[0] in DEBUGGERS:
            return
        trial = eval_trial_of(self._item) if self._item is not None else None
        if self._item is None or trial is None:
            return
        what = trial.id.case_id or f"the trials of {trial.id.candidate}"
        raise EvalTimeout(
            f"{what}: the eval did not end within {self._limits_s[self._item.path]:g} s "
            "(`eval_timeout_s` in task.toml)"
        )


def _until(trace: TracebackType | None, folder: Path) -> TracebackType | None:
    """Return `trace` up to its last frame in a file of `folder`; whole where none is there."""
    links: list[TracebackType] = []
    while trace is not None:
        links.append(trace)
        trace = trace.tb_next
    ours = [i for i, t in enumerate(links) if folder in Path(t.tb_frame.f_code.co_filename).parents]
    kept: TracebackType | None = None
    for link in reversed(links[: ours[-1] + 1 if ours else len(links)]):
        kept = TracebackType(kept, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return kept
