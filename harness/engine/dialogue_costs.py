"""What the dialogues of evals cost, and what the rest of them will. Knows no store or terminal.

A dialogue is several requests, of which one is known when the one before it is answered. So no
request can be drawn beforehand: the pilot is the first ten dialogues of an eval with a candidate
that come to their end. The costs of one of which every turn was recorded tell what others will
cost; of one that sent something, what was recorded costs nothing. What two evals or candidates ask
alike costs once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from harness.core.money import usd
from harness.engine.fetch import Outcome, was_not_asked
from harness.engine.spending import PILOT, Forecast, Spending, forecast
from harness.errors import UsageError


@dataclass(slots=True)
class _Kind:
    """Dialogues of one eval with one candidate: dollars of each in the pilot, how many came to
    their end, how many of these sent something, what that cost, and what the turns of the others
    cost so far.
    """

    costs: list[float] = field(default_factory=list)
    ended: int = 0
    asked: int = 0
    paid: float = 0.0
    under_way: float = 0.0
    is_told: bool = False


class DialogueCosts:
    """Of one process, whose dialogues come one after the other. What others know is `known`."""

    def __init__(self) -> None:
        self._totals: Counter[tuple[str, str]] = Counter()
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._refused = ""
        self._one: tuple[tuple[str, str], str] | None = None
        self._paid: list[float] = []
        self._recorded: list[float] = []
        self._is_cut = False
        self._seen: set[str] = set()

    def plan(self, who: str, eval_: str) -> None:
        """Count one dialogue of the candidate `who` that is to come."""
        self._totals[who, eval_] += 1

    @property
    def known(self) -> dict[str, Any]:
        """What another process of the same command must know, as JSON holds it."""
        kinds = [[*name, asdict(kind)] for name, kind in self._kinds.items()]
        return {"kinds": kinds, "refused": self._refused}

    @known.setter
    def known(self, told: Mapping[str, Any]) -> None:
        self._kinds = {(who, eval_): _Kind(**kind) for who, eval_, kind in told["kinds"]}
        self._refused = told["refused"]

    def begin(self, who: str, eval_: str, one: str) -> None:
        """Say whose turn is next; the dialogue before it is at its end, where it is another."""
        if self._one == ((who, eval_), one):
            return
        if self._one is not None and not self._is_cut:
            self._end(self._kind)
        self._one, self._is_cut = ((who, eval_), one), False
        self._paid.clear()
        self._recorded.clear()

    def _end(self, kind: _Kind) -> None:
        kind.ended += 1
        kind.asked += bool(self._paid)
        kind.paid += sum(self._paid)
        kind.under_way -= sum(self._paid + self._recorded)
        if not kind.is_told:
            kind.costs.append(sum(self._paid or self._recorded))

    def take(self, outcome: Outcome) -> None:
        """Take what came of a turn."""
        self._is_cut |= was_not_asked(outcome.fault)
        cost = outcome.reply.cost_usd if outcome.reply is not None else None
        if cost is not None and not outcome.is_cached:
            self._paid.append(cost)
            self._kind.under_way += cost
        elif cost is not None and outcome.key not in self._seen:
            self._recorded.append(cost)
            self._kind.under_way += cost
        self._seen.add(outcome.key)

    @property
    def is_due(self) -> bool:
        """Tell whether a turn may not be sent before `stop_above`: the pilot is over of what has
        its turn, and nobody said yet what the rest costs; or somebody did, and it is too much.

        A dialogue that sent something is let go on: half of one is worth nothing.
        """
        kind = self._kind
        is_new = not kind.is_told and len(kind.costs) >= PILOT
        return (is_new or bool(self._refused)) and not self._paid

    @property
    def _kind(self) -> _Kind:
        assert self._one is not None, "begin() comes first"
        return self._kinds.setdefault(self._one[0], _Kind())

    def stop_above(self, spending: Spending, *, note: Callable[[str], None]) -> None:
        """Say what the dialogues will cost whose costs are known. Raises UsageError above the cap,
        from then on for every dialogue that would send something.
        """
        if self._refused:
            raise UsageError(self._refused)
        made = [f for name in self._kinds if (f := self._forecast(*name)) is not None]
        for one in made:
            note(one.line())
        try:
            cases = max((one.requests for one in made), default=0)
            spending.stop_above(made, cases=cases, is_whole=False)
        except UsageError as exc:
            self._refused = str(exc)
            raise
        for kind in self._kinds.values():
            kind.is_told |= len(kind.costs) >= PILOT

    def _forecast(self, who: str, eval_: str) -> Forecast | None:
        kind = self._kinds[who, eval_]
        left = max(0, self._totals[who, eval_] - kind.ended)
        if not left or not any(kind.costs):
            return None
        is_one_of_several = sum(name == who for name, _ in self._totals) > 1
        made = forecast(
            f"{who} in {eval_}" if is_one_of_several else who,
            kind.costs,
            left=left,
            spent=kind.paid,
            asked=kind.asked,
            what="cases",
        )
        return replace(made, spent=min(made.mean, kind.paid + kind.under_way))

    @property
    def so_far(self) -> str:
        """What all would cost, in words; empty where there was a forecast, or nothing tells it."""
        if self._one is None:
            return ""
        kind = self._kind
        if kind.is_told or not any(kind.costs):
            return ""
        total, n = self._totals[self._one[0]], len(kind.costs)
        return (
            f"{n} of {total} cases cost {usd(sum(kind.costs))}, so that all would cost about "
            f"{usd(total * fmean(kind.costs))}"
        )
