"""`--offline`, `--max-cost` and `--batch` of one session: whether anybody is asked, at what cost.

Knows no backend; `harness.engine.spending` decides what a request may cost.

Under xdist each worker fetches in its turn, under one lock: what the session has spent so far is
handed on in a file beside the store, so that the cap is one cap for all of them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.surface.life import life_of

if TYPE_CHECKING:
    from harness.engine.spending import Spending


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
        self.spending = _spending(config.option.max_cost)
        self.is_batch: bool = config.option.batch
        self._session: str | None = getattr(config, "workerinput", {}).get("testrunuid")
        self._life = life_of(config)
        if self._life is not None and self.spending is not None:  # it may have begun again
            self.spending.spent_usd, self.spending.is_forecast = self._life.spent

    @property
    def is_any(self) -> bool:
        """Whether either option was given."""
        return self.is_batch or self.spending is not None

    @contextmanager
    def shared(self, store: Path) -> Iterator[Spending | None]:
        """Lend the spending for one fetch, inside the lock under which workers take turns."""
        if self.spending is None or self._session is None:
            try:
                yield self.spending
            finally:
                if self._life is not None and self.spending is not None:
                    self._life.spent = self.spending.spent_usd, self.spending.is_forecast
            return
        path = Path(f"{store}.spending.json")
        known = json.loads(path.read_text()) if path.exists() else {}
        if known.get("session") == self._session:
            self.spending.spent_usd = known["spent_usd"]
            self.spending.is_forecast = known["is_forecast"]
            self.spending.silent = known["silent"]
        try:
            yield self.spending
        finally:
            mine = {
                "session": self._session,
                "spent_usd": self.spending.spent_usd,
                "is_forecast": self.spending.is_forecast,
                "silent": self.spending.silent,
            }
            half = path.with_suffix(".half")
            half.write_text(json.dumps(mine))
            half.replace(path)


def _spending(cap_usd: float | None) -> Spending | None:
    if cap_usd is None:
        return None
    from harness.engine.spending import Spending

    return Spending(cap_usd=cap_usd)
