"""Calls a task's evals as the plain functions that they are, for one reply or for many.

Knows nothing of pytest, stores and backends. The scores are those that the pytest face gives: a
miss is 0 with its reason, no reference is None, another error is a fault of the eval. Guarding,
filtering of training data and monitoring stand on this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from harness.engine.bare_asserts import told
from harness.engine.bounded import Bounded
from harness.engine.case_checks import run_case_checks
from harness.engine.closing import Closing
from harness.engine.eval_files import PlainEval, load_eval_files
from harness.engine.outcomes import is_miss, is_unscored, merged, raising_frame, reason_of
from harness.engine.tasks import CHECKS, Task
from harness.engine.views import eval_case
from harness.errors import UsageError
from harness.records import Case, Fault, Reply, Score

AT_ONCE = 64
"""Replies that are handed over together where many are scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainScores:
    """What the evals gave for one reply. `fault` is of an eval that broke: its score is None."""

    scores: tuple[Score, ...]
    fault: Fault | None = None

    @property
    def missed(self) -> tuple[Score, ...]:
        """The scores that came out against the reply."""
        return tuple(s for s in self.scores if s.value == 0)


class PlainEvals(Closing):
    """The evals of a task that work without pytest. Safe to use from several threads.

    `names` are the eval functions that it calls; `left_out` says, by name, why others cannot be
    called here. A case's own checks are the score `checks`: `scored` has it too, where cases bring
    some. An eval that does not end within the task's `eval_timeout_s` is a fault, and its thread is
    left behind.
    """

    def __init__(self, task: Task, *, only: Sequence[str] | None = None) -> None:
        """Load the eval files of `task`; `only` names the evals that are wanted.

        Raises UsageError under `python -O`, where `only` names what is not there or was left out,
        and TaskError where a file cannot be imported.
        """
        found = load_eval_files(task.folder)
        known = {e.name for e in found.evals}
        for name in only or ():
            if name in found.left_out:
                raise UsageError(f"eval {name!r} needs pytest: {found.left_out[name]}")
            if name not in known and name != CHECKS:
                raise UsageError(
                    f"no eval {name!r} in task {task.name!r}. Known: {', '.join(sorted(known))}."
                )
        chosen = [e for e in found.evals if only is None or e.name in only]
        self.names: tuple[str, ...] = tuple(sorted({e.name for e in chosen}))
        judges = dict.fromkeys(task.settings.judges, "it is a judge: a model is asked for it")
        self.left_out = dict(sorted((judges | found.left_out).items()))
        self._evals = chosen
        self._has_checks = only is None or CHECKS in only
        self._always_checks = CHECKS in task.builtin_names
        has_checks = self._has_checks and self._always_checks
        self.scored: tuple[str, ...] = (*self.names, *([CHECKS] if has_checks else []))
        self._folder = task.folder
        self._limit_s = task.settings.eval_timeout_s
        self._bounded: Bounded[Score | _Broken] = Bounded(
            timeout_s=self._limit_s, overdue=self._overdue
        )

    def scores(self, case: Case, reply: Reply) -> PlainScores:
        """Return the scores of one reply."""
        return self._settled(self._calls(case, reply))

    def scores_of(self, pairs: Iterable[tuple[Case, Reply]]) -> Iterator[PlainScores]:
        """Yield the scores of many replies, in order: quicker than one by one."""
        rest = iter(pairs)
        while some := list(islice(rest, AT_ONCE)):
            calls = [self._calls(case, reply) for case, reply in some]
            results = iter(self._bounded.run([call for each in calls for call in each]))
            for each in calls:
                yield _gathered(each, list(islice(results, len(each))))

    def close(self) -> None:
        """Let the threads end."""
        self._bounded.close()

    def _calls(self, case: Case, reply: Reply) -> list[_Call]:
        seen = eval_case(case)
        calls: list[_Call] = [partial(self._one, e, seen, reply) for e in self._evals]
        if self._has_checks and (case.checks or self._always_checks):
            calls.append(partial(self._checks, case, reply))
        return calls

    def _settled(self, calls: Sequence[_Call]) -> PlainScores:
        return _gathered(calls, self._bounded.run(calls))

    def _one(self, plain: PlainEval, case: Case, reply: Reply) -> Score | _Broken:
        """Return what one eval measured: runs in a thread of its own."""
        given: list[float] = []

        def score(value: float) -> None:
            value = float(value)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"score({value}): a score is a number in [0, 1]")
            given[:] = [value]

        offered = {"case": case, "reply": reply, "score": score}
        try:
            function = plain.function
            if plain.holder is not None:  # a fresh one each time, as pytest has it
                function = getattr(plain.holder(), function.__name__)
            result = function(**{name: offered[name] for name in plain.asks})
            if plain.is_async:
                asyncio.run(result)
        except BaseException as exc:  # noqa: BLE001 - border: an eval can raise anything
            return self._judged(plain.name, exc)
        return Score(name=plain.name, value=given[0] if given else 1.0)

    def _checks(self, case: Case, reply: Reply) -> Score | _Broken:
        try:
            run_case_checks(case, reply)
        except BaseException as exc:  # noqa: BLE001 - border: a plugin's check can raise anything
            return self._judged(CHECKS, exc)
        return Score(name=CHECKS, value=1.0)

    def _judged(self, name: str, error: BaseException) -> Score | _Broken:
        if is_miss(error, folder=self._folder):
            return Score(name=name, value=0.0, reason=_reason(error))
        if is_unscored(error):
            return Score(name=name, value=None, reason=reason_of(error))
        return _Broken(name=name, reason=reason_of(error))

    def _overdue(self) -> _Broken:
        return _Broken(
            name="",
            reason=f"the eval did not end within {self._limit_s:g} s "
            "(`eval_timeout_s` in task.toml)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    """An eval that ended in an error of its own, or in none."""

    name: str
    reason: str


_Call = Callable[[], Score | _Broken]


def _reason(error: BaseException) -> str:
    """Return why it missed; of a bare `assert`, its source and values."""
    if str(error) or not isinstance(error, AssertionError):
        return reason_of(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    frame = raising_frame(error)
    if trace is None or frame is None:
        return reason_of(error)
    return told(frame, trace.tb_lineno)


def _gathered(calls: Sequence[Any], results: Sequence[Score | _Broken]) -> PlainScores:
    scores = []
    fault = None
    for call, result in zip(calls, results, strict=True):
        if isinstance(result, _Broken):
            name = result.name or _name_of(call)
            scores.append(Score(name=name, value=None, reason=result.reason, is_fault=True))
            message = f"{name}: {result.reason}"
            fault = Fault(origin="eval", message=message, is_missing=True)
        else:
            scores.append(result)
    found = merged(scores) if len({s.name for s in scores}) < len(scores) else scores
    return PlainScores(scores=tuple(sorted(found, key=lambda s: s.name)), fault=fault)


def _name_of(call: Any) -> str:
    first = call.args[0]
    return first.name if isinstance(first, PlainEval) else CHECKS
