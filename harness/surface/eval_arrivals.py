"""Lets evals run while later replies are on their way. Knows no score.

Only where both are quick: a reply takes tens of milliseconds, an eval less than one or two. Then
half of a run would be waiting. Everywhere else all replies are fetched before the first eval runs,
for requests stand still while an eval runs, and a latency is a number (docs/decisions/0013).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from harness.engine.coming import Coming
from harness.engine.evaluate import Asked
from harness.engine.tasks import Task
from harness.errors import HarnessError
from harness.surface.eval_fixtures import is_plain
from harness.surface.eval_trials import EvalTrial, eval_trial_of
from harness.surface.words import from_here

if TYPE_CHECKING:
    from harness.surface.eval_session import EvalSession
    from harness.surface.progress import TextProgress

MANY, MOST = 100, 20_000
"""Fewer requests are over before it matters; more, held while items run, take too much memory."""
QUICK_S = (0.01, 0.1)
"""A first reply within these seconds: a faster one leaves nothing to wait for, and beside a slower
one evals take no time."""
TURN_S = 0.003
"""Requests stand still for so long at most, and for the eval that runs."""
SLOW_S = 0.01
"""An eval that takes longer is the last that runs while requests are on their way."""
SLOW_FIXTURES = frozenset({"ask", "judge", "trials"})
"""They ask by themselves, or need every reply."""
SHOWS = 2
"""So many items of each function show how long it takes while nothing is on its way: the first
has what it imports to load."""


def is_worth_it(asked: Sequence[Asked], config: pytest.Config) -> bool:
    """Tell whether evals may run before every reply is there."""
    asks = [ask for _, some in asked for ask in some.values()]
    return (
        MANY <= len(asks) <= MOST
        and not config.option.usepdb
        and not config.option.trace
        and all(ask.live.only_waits for ask in asks)
        and not any(_needs_latencies(evaluation.task) for evaluation, _ in asked)
    )


def _needs_latencies(task: Task) -> bool:
    s = task.settings
    needed = (s.budgets.p95_latency_s, s.advise.latency_needed_s)
    return s.better_in == "latency" or any(limit is not None for limit in needed)


class Arrivals:
    """The plugin of a session whose replies are on their way."""

    def __init__(self, coming: Coming, session: EvalSession, *, progress: TextProgress) -> None:
        self._coming: Coming | None = coming
        self._session = session
        self._progress = progress
        self._shown: dict[int, int] = {}
        self._began_at = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Have the reply of an item there before it begins: outside of its time and its output."""
        if self._coming is not None:
            try:
                self._move_on(self._coming, item)
            except HarnessError as exc:
                self._stop(item.session, exc)
            self._began_at = time.perf_counter()
        return (yield)

    def _move_on(self, coming: Coming, item: pytest.Item) -> None:
        took_s = time.perf_counter() - self._began_at if self._shown else 0.0
        trial = _quick_trial(item)
        if trial is None:
            self._finish(coming)
            return
        kind = id(item._fixtureinfo)  # type: ignore[attr-defined] # one for each function
        shown = self._shown.get(kind, 0)
        if shown < SHOWS:
            self._show(coming, trial, is_first=not self._shown)
            self._shown[kind] = shown + 1
            return
        if took_s > SLOW_S:
            self._finish(coming)
            return
        if coming.is_settled:
            coming.go_on()
            coming.turn()
        elif coming.stood_s > TURN_S:
            coming.turn()
        coming.take(trial.evaluation, trial.id)

    def _show(self, coming: Coming, trial: EvalTrial, *, is_first: bool) -> None:
        """Let an item run alone, where replies are neither too fast nor too slow for all this."""
        least_s, most_s = QUICK_S
        if is_first:
            coming.hold()
            self._use_wait(coming, trial)
        if coming.comes_within(trial.evaluation, trial.id, most_s):
            reply = coming.take(trial.evaluation, trial.id).reply
            latency_s = reply.latency_s if reply is not None else None
            is_slow_enough = latency_s is not None and latency_s >= least_s
            if (is_slow_enough or not is_first) and coming.settle(most_s):
                return
        self._finish(coming)  # whoever waits for one slow reply holds up all others

    def _use_wait(self, coming: Coming, trial: EvalTrial) -> None:
        """Work out what scores will need, until the first reply is there."""
        for _ in trial.evaluation.identify():
            is_turn = coming.stood_s > TURN_S
            if is_turn and coming.comes_within(trial.evaluation, trial.id, 0.0):
                return

    def _finish(self, coming: Coming) -> None:
        """Have every reply there before anything else runs."""
        self._coming = None
        self._progress.show(is_within_line=bool(self._shown))
        coming.finish()
        self._session.end_fetch()

    def _stop(self, session: pytest.Session, error: HarnessError) -> None:
        self._coming = None
        self._session.error = error
        if not self._session.is_watched:
            raise pytest.UsageError(from_here(str(error))) from error
        session.shouldstop = "what was asked did not go through"


def _quick_trial(item: pytest.Item) -> EvalTrial | None:
    """Return the trial of an item that needs its reply, and nothing that may take its time."""
    trial = eval_trial_of(item)
    if trial is None or not trial.id.case_id or not isinstance(item, pytest.Function):
        return None
    is_plain_one = is_plain(item._fixtureinfo) and not inspect.iscoroutinefunction(item.obj)
    return trial if is_plain_one and SLOW_FIXTURES.isdisjoint(item.fixturenames) else None
