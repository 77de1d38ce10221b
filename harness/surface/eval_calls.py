"""How an eval and its fixtures are called: within a time limit, and awaited where async.

Knows nothing of scores. Setup, call and teardown of an item have the limit each; fixtures of a
wider scope than a function (a model that is loaded once) have none: that one takes longer is said
once, on standard error. Where the platform has no
SIGALRM, or the alarm belongs to somebody else (a time-out plugin), or evals do not run in the main
thread, there is no limit.
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from harness.core.frames import under
from harness.engine.life import life_of
from harness.engine.reins import REINS
from harness.errors import Miss
from harness.surface.alarm import (
    WATCH,
    Escape,
    go,
    handler_of,
    is_debugged,
    leave,
    stop,
    unlimited,
)
from harness.surface.eval_fixtures import asks_for_none
from harness.surface.eval_outcomes import score_name
from harness.surface.eval_session import EvalSession
from harness.surface.eval_trials import eval_trial_of
from harness.surface.tracebacks import until, with_lines

AGAIN_S = 1.0
"""The alarm rings again after this many seconds, for an eval that swallowed it."""
STUBBORN = 3
"""From this ring on, an eval that swallows even `BaseException` is left line by line."""
WHERE = {"setup": "a fixture before the eval", "call": "the eval", "teardown": "a fixture after it"}
ALONE = (
    "where the process ends here, by a crash in C or `eval_timeout_s`, replies and scores are "
    "kept: `harness runs` lists them as a partial run; with `-n 1` (pytest-xdist) a worker alone "
    "ends, and the other cases go on"
)
CALLED = {"setup": "setup", "call": "runtest"}
"""The method of an item that pytest calls in a phase."""
WIDE = "harness-wide-fixtures"


class EvalTimeout(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """An eval did not end in time: a fault of the eval. No `except Exception` swallows it."""

    __module__ = "builtins"  # as pytest's own: it is shown without a module


class EvalEndedProcess(pytest.fail.Exception):  # type: ignore[misc, name-defined]
    """An eval ended the process before this one: a fault of the eval, which is not called again."""

    __module__ = "builtins"


class WideFixtures:
    """The plugin of a session in which an eval needs a fixture of a wider scope than a function."""

    def __init__(self, waiting: Callable[[], tuple[str, float] | None]) -> None:
        self._waiting = waiting
        """The eval that is under way, and its limit in seconds; None where it has none."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Iterator[Any]:
        """Stop the clock while such a fixture comes, and while it goes."""
        if fixturedef.scope == "function":
            return (yield)
        left: list[tuple[float, float]] = []
        name = f"{fixturedef.argname!r} (scope {fixturedef.scope})"

        def begin() -> None:
            left.append(stop())
            self._will_say(f"the fixture {name} is not gone yet")

        def end() -> None:
            if left:
                WATCH.say_no_more()
                go(left.pop())

        fixturedef.addfinalizer(end)
        self._will_say(f"the fixture {name} is not there yet")
        try:
            with unlimited():
                result = yield
        finally:
            WATCH.say_no_more()
        fixturedef.addfinalizer(begin)  # the last one comes first
        return result

    def _will_say(self, what: str) -> None:
        waiting = self._waiting()
        if waiting is not None:
            eval_, limit_s = waiting
            WATCH.say_in(
                limit_s,
                f"{eval_} waits: {what}, after {limit_s:g} s (`eval_timeout_s` in task.toml). "
                "Fixtures of this scope have no time limit; Ctrl-C ends the run",
            )


def may_be_wide(fixtures: Any) -> bool:
    """Tell whether fixtures of wider scopes may be asked for: by name, or through a
    stranger's `request`. Its hook takes its time at every fixture of every item.
    """
    if fixtures is None or "request" in fixtures.argnames:
        return True
    needed = [some[-1] for some in fixtures.name2fixturedefs.values() if some]
    strange = [f for f in needed if not asks_for_none(f.func)]
    return any(f.scope != "function" for f in needed) or any(
        "request" in f.argnames for f in strange
    )


class EvalCalls:
    """The plugin of one session."""

    def __init__(self, session: EvalSession) -> None:
        self._session = session
        self._limits_s: dict[Path, float] = {}
        self._fixtures: Any = None
        self._item: pytest.Item | None = None  # while a phase of an eval runs
        self._phase = ""
        self._rings = 0
        self._escape: Escape | None = None
        self._handler = self._ring  # one object, so that it is known again
        self._has_alarm: bool | None = None
        self._is_eval = self._is_ours = False
        self._life = life_of(session.config)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Ring an alarm where the fixtures of an eval are not there in time."""
        fixtures = getattr(item, "_fixtureinfo", None)
        if fixtures is not self._fixtures:  # shared by the items of one function
            self._fixtures = fixtures
            if not item.config.pluginmanager.has_plugin(WIDE) and may_be_wide(fixtures):
                item.config.pluginmanager.register(WideFixtures(self._waiting), WIDE)
        if self._life is not None and self._life.ended:
            self._refuse_another_end(item, "setup")
        yield from self._limited(item, "setup")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Ring an alarm where an eval does not end in time."""
        if self._life is not None and self._life.ended:
            self._refuse_another_end(item, "call")
        yield from self._limited(item, "call")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Iterator[None]:
        """Ring an alarm where the fixtures of an eval do not go in time."""
        try:
            yield from self._limited(item, "teardown")
        finally:
            if nextitem is None or eval_trial_of(nextitem) is None:
                WATCH.pause()

    def _limited(self, item: pytest.Item, phase: str) -> Generator[None, None, None]:
        if phase != "teardown":  # then as it was in the call
            self._is_eval = eval_trial_of(item) is not None
            self._is_ours = self._is_eval and self._owns_alarm()
        if self._is_eval and self._life is not None:
            self._life.enter(item.nodeid, phase, item.path)
            try:
                yield from self._within_limit(item, phase)
            finally:
                self._life.leave()
        else:
            yield from self._within_limit(item, phase)

    def _within_limit(self, item: pytest.Item, phase: str) -> Generator[None, None, None]:
        if not self._is_ours or is_debugged():
            yield
            return
        limit_s = self._limits_s.get(item.path) or self._limit_s(item.path)
        self._item, self._phase, self._rings = item, phase, 0
        WATCH.expect(limit_s)
        signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
        method = CALLED.get(phase, "") if self._life is None else ""
        others = vars(item).get(method)
        if method:
            vars(item)[method] = under(self._told(item), getattr(item, method))
        try:
            yield
            if self._rings:
                raise self._timeout()
        except EvalTimeout as exc:
            exc.__traceback__ = with_lines(exc.__traceback__)
            raise
        except (KeyboardInterrupt, pytest.exit.Exception):
            raise
        except BaseException:
            if self._rings:  # it was swallowed, as by what shows a value
                raise self._timeout() from None
            raise
        finally:
            self._item = None  # what rings from here on sets no clock
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._end_escape()
            WATCH.end()
            if others is not None:
                vars(item)[method] = others
            elif method:
                del vars(item)[method]

    def _told(self, item: pytest.Item) -> str:
        """What a process that C ends under an eval tells of it, beside where it was held."""
        return f"{_name_of(item)} was under way: {ALONE}"

    def _waiting(self) -> tuple[str, float] | None:
        item = self._item
        return None if item is None else (_name_of(item), self._limits_s[item.path])

    def _end_escape(self) -> None:
        if self._escape is not None:
            self._escape.end()
            self._escape = None

    @pytest.hookimpl
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Await an async eval that no async plugin took: those come first, or wrap this."""
        if eval_trial_of(pyfuncitem) is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        import asyncio  # few evals are async

        names = pyfuncitem._fixtureinfo.argnames
        runner = asyncio.Runner()
        loop = runner.get_loop()
        try:
            runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        finally:
            if self._rings:
                with unlimited():
                    self._end_escape()
                    for task in asyncio.all_tasks(loop):
                        leave(task.get_coro(), self._timeout)
            runner.close()
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_exception_interact(
        self, node: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        """Let `--pdb` open a miss in the eval, not in the check that it called, and say why."""
        WATCH.pause()  # pytest stops every such watch here
        excinfo = call.excinfo
        if not isinstance(node, pytest.Item) or eval_trial_of(node) is None or excinfo is None:
            return
        if getattr(report, "harness_mark", "") == "missed" and isinstance(excinfo.value, Miss):
            report.longrepr = str(excinfo.value)
            excinfo.value.__traceback__ = until(excinfo.value.__traceback__, node.path.parent)
            call.excinfo = pytest.ExceptionInfo.from_exception(excinfo.value)

    def pytest_enter_pdb(self) -> None:
        """Leave a person at a debugger all the time in the world."""
        if self._has_alarm:
            stop()
            WATCH.say_no_more()

    def pytest_configure(self, config: pytest.Config) -> None:
        """Watch for code that holds the interpreter, where pytest's own watch does not."""
        has_watch = config.pluginmanager.has_plugin("faulthandler")  # `-p no:faulthandler`
        if not (has_watch and float(config.getini("faulthandler_timeout") or 0)):
            WATCH.take(self._life.stack_fd if self._life is not None else None)
            # the controller keeps what a worker scored, and a parent goes on by itself
            if not hasattr(config, "workerinput") and self._life is None:
                WATCH.last_will = self._end
        else:
            REINS.stack_fd = None  # its one thread is taken

    def pytest_sessionstart(self) -> None:
        """Let a crash be told by the parent, where there is one, and that of a worker of xdist."""
        if self._life is not None:
            WATCH.show_crashes(self._life.stack_fd)
        plugins = self._session.config.pluginmanager
        if plugins.has_plugin("dsession"):
            from harness.surface.crashed import Crashes

            plugins.register(Crashes(self._session), "harness-crashes")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """No eval runs any more, though others were to come."""
        WATCH.pause()
        if self._life is not None:
            self._life.close()

    def pytest_unconfigure(self) -> None:
        """Give the alarm back."""
        WATCH.give_back()
        WATCH.last_will = None
        if self._has_alarm and handler_of(signal.SIGALRM) is self._handler:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            WATCH.handler = None

    def _owns_alarm(self) -> bool:
        if self._has_alarm is None:
            is_main = threading.current_thread() is threading.main_thread()
            is_free = hasattr(signal, "SIGALRM") and (handler_of(signal.SIGALRM) == signal.SIG_DFL)
            self._has_alarm = is_main and is_free
            if self._has_alarm:
                signal.signal(signal.SIGALRM, self._handler)
                WATCH.handler = self._handler
        return self._has_alarm and handler_of(signal.SIGALRM) is self._handler

    def _limit_s(self, path: Path) -> float:
        limit_s = self._session.evaluation_of(path).task.settings.eval_timeout_s
        self._limits_s[path] = limit_s
        return limit_s

    def _ring(self, number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if self._item is None or not WATCH.is_due:
            return
        if is_debugged():  # since it began
            WATCH.pause()
            return
        limit_s = AGAIN_S if self._rings else self._limits_s[self._item.path]
        if WATCH.puts_off(frame, limit_s=limit_s, again_s=AGAIN_S):
            return
        WATCH.hear(AGAIN_S)
        self._rings += 1
        error = self._timeout()
        if self._escape is not None:
            self._escape.end()
        if self._rings >= STUBBORN and frame is not None:
            self._escape = Escape(frame, self._timeout)  # from here on nothing else may be called
        raise error from None

    def _end(self) -> None:
        """Keep what was scored, name what hangs, and end the process: called in a thread."""
        from harness.surface.stuck import keep_and_end

        keep_and_end(self._session, self._item, why=str(self._timeout()))

    def _refuse_another_end(self, item: pytest.Item, phase: str) -> None:
        """Raise what an eval did in a process before this one, where it ended it: in the phase of
        then, but before fixtures come that would not go.
        """
        end = self._life.ended.get(item.nodeid) if self._life is not None else None
        if end is None or phase != ("call" if end.phase == "call" else "setup"):
            return
        at = f", at {end.place}" if end.place else ""
        if end.did:
            said = f"{_what(item)}: {WHERE[end.phase]} {end.did}{at}"
        else:
            said = f"{self._too_long(item, end.phase)}{at}, and its process was ended"
        raise EvalEndedProcess(f"{said}. The run began again without it.", pytrace=False)

    def _timeout(self) -> EvalTimeout:
        if self._item is None:
            return EvalTimeout("the eval did not end in time")
        return EvalTimeout(self._too_long(self._item, self._phase))

    def _too_long(self, item: pytest.Item, phase: str) -> str:
        limit_s = self._limits_s.get(item.path) or self._limit_s(item.path)
        return (
            f"{_what(item)}: {WHERE[phase]} did not end within {limit_s:g} s "
            "(`eval_timeout_s` in task.toml)"
        )


def _what(item: pytest.Item) -> str:
    trial = eval_trial_of(item)
    if trial is None:
        return item.name
    return trial.id.case_id or f"the trials of {trial.id.candidate}"


def _name_of(item: pytest.Item) -> str:
    trial = eval_trial_of(item)
    return f"{score_name(item)}[{trial.title}]" if trial else item.name
