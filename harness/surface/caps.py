"""`--offline`, `--max-cost` and `--batch` of one session: whether anybody is asked, at what cost.

Knows no backend; `harness.engine.spending` decides what a request may cost.

Under xdist each worker fetches in its turn, under one lock: what the session has spent so far is
handed on in a file beside the store, so that the cap is one cap for all of them; and what a request
costs at most, or each worker would find it out by one of its own, beyond the cap.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.engine.fetch import Outcome, Progress
from harness.engine.life import life_of
from harness.surface.alarm import WATCH
from harness.surface.eval_outcomes import score_name
from harness.surface.eval_trials import EvalTrial, eval_trial_of
from harness.surface.progress import ForecastAlone, TextProgress

if TYPE_CHECKING:
    from harness.engine.dialogue_costs import DialogueCosts
    from harness.engine.fetch import Ask
    from harness.engine.spending import Spending
    from harness.store.store import Store


def add_options(group: pytest.OptionGroup) -> None:
    """Declare the two options."""
    group.addoption(
        "--max-cost",
        type=_dollars,
        default=None,
        metavar="USD",
        help="spend at most this, in this command: ten requests a candidate give a forecast, and "
        "nothing more is sent where it is above; what is sent stops at the cap, and the same "
        "command goes on with the rest, counting anew",
    )
    group.addoption(
        "--batch",
        action="store_true",
        help="hand missing requests in to the provider's batch API, and wait; resumable",
    )


def _dollars(text: str) -> float:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no sum of dollars, as in 2.50")
    return value


class Cap:
    """What a session may spend, and did."""

    def __init__(self, config: pytest.Config) -> None:
        if config.option.offline:
            from harness.checks.offline import offline

            block = ExitStack()
            block.enter_context(offline())
            config.add_cleanup(block.close)
        self.spending: Spending | None = None
        self._dialogues: DialogueCosts | None = None
        if config.option.max_cost is not None:
            from harness.engine.dialogue_costs import DialogueCosts
            from harness.engine.spending import Spending

            self.spending = Spending(cap_usd=config.option.max_cost)
            self._dialogues = DialogueCosts()
        self._is_offline: bool = config.option.offline
        self.is_batch: bool = config.option.batch
        self._session: str | None = getattr(config, "workerinput", {}).get("testrunuid")
        self._life = life_of(config)
        if self._life is not None and self.spending is not None and self._life.spent:
            self.spending.known = json.loads(self._life.spent)  # it began again

    @property
    def is_any(self) -> bool:
        """Whether either option was given."""
        return self.is_batch or self.spending is not None

    @contextmanager
    def shared(self, store: Path) -> Iterator[Spending | None]:
        """Lend the spending for one fetch, inside the lock under which workers take turns."""
        if self.spending is None or self._dialogues is None or self._session is None:
            try:
                yield self.spending
            finally:
                if self._life is not None and self.spending is not None:
                    self._life.spent = json.dumps(self.spending.known)
            return
        path = Path(f"{store}.spending.json")
        told = json.loads(path.read_text()) if path.exists() else {}
        if told.get("session") == self._session:
            self.spending.known = told["spending"]
            self._dialogues.known = told["dialogues"]
        try:
            yield self.spending
        finally:
            mine = {
                "session": self._session,
                "spending": self.spending.known,
                "dialogues": self._dialogues.known,
            }
            half = path.with_suffix(".half")
            half.write_text(json.dumps(mine))
            half.replace(path)

    # ------------------------------------------------------------ dialogues

    def plan(self, item: pytest.Item, trial: EvalTrial) -> None:
        """Count an item among the dialogues to come, where it is one that asks."""
        is_recorded = trial.evaluation.is_recorded(trial.id.candidate)
        if self._dialogues is not None and _asks(item) and not is_recorded:
            self._dialogues.plan(trial.id.candidate, score_name(item))

    def begin_turn(self, item: pytest.Item, trial: EvalTrial, asked: Ask, *, store: Store) -> None:
        """Say what dialogues will cost before a turn of one is sent, as soon as a pilot tells it.

        Call it within `shared`. Raises UsageError where that is above the cap.
        """
        if self.spending is None or self._dialogues is None:
            return
        self._dialogues.begin(trial.id.candidate, score_name(item), item.nodeid)
        self.spending.is_forecast = True  # else each turn would be a pilot of one request
        self.spending.so_far = self._dialogues.so_far
        if self._is_offline or not self._dialogues.is_due or store.known_replies([asked.key]):
            return
        capture = item.config.pluginmanager.get_plugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            alone = ForecastAlone(WATCH.error_fd)
            told: Progress = alone if self._session else TextProgress(is_hidden=True)
            self._dialogues.stop_above(self.spending, note=told.note)

    def end_turn(self, outcome: Outcome) -> None:
        """Take what came of a turn, within `shared`."""
        if self._dialogues is not None:
            self._dialogues.take(outcome)


def first_dialogues(items: Sequence[pytest.Item]) -> frozenset[pytest.Item]:
    """Return the items that are a pilot: the first ten of each eval and candidate that ask."""
    from harness.engine.spending import PILOT

    seen: Counter[tuple[Path, str, str]] = Counter()
    first = []
    for item in items:
        trial = eval_trial_of(item)
        if trial is not None and trial.id.case_id and _asks(item):
            kind = item.path, score_name(item), trial.id.candidate
            seen[kind] += 1
            first += [item] if seen[kind] <= PILOT else []
    return frozenset(first)


def _asks(item: pytest.Item) -> bool:
    return "ask" in getattr(item, "fixturenames", ())
