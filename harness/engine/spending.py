"""Keeps one command's spending within a cap: a forecast before, an admission to each request.

Knows nothing of stores, evals or terminals; `fetch` asks it. What a store knows costs nothing.

The pilot of a candidate is the ten of its requests with the smallest keys: keys are digests, so
that is a random draw which every later run draws again (and finds answered). The forecast is the
mean cost of the pilot times the requests that are left; its range holds the sum of those costs in
90 % of such draws, if costs were normal: t with n - 1 degrees of freedom times the standard error
of a sum of N further draws, s * sqrt(N + N^2 / n).
Source of the rule: Hahn & Meeker (1991), Statistical Intervals, section 4.8.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from harness.core.money import usd
from harness.engine.fetch import FORECAST, not_asked
from harness.errors import BackendError, UsageError
from harness.records import Fault, Reply

if TYPE_CHECKING:
    from harness.engine.fetch import Ask, Outcome

PILOT = 10
LONG_S = 3.0
"""Who waits for a first reply for longer is told why nothing else goes out meanwhile."""
LOST = 3
"""After so many requests in a row that took long and failed, before one told a cost, no more go
out: each of them may wait for its whole `timeout_s`, alone."""
T_95 = (6.3138, 2.9200, 2.3534, 2.1318, 2.0150, 1.9432, 1.8946, 1.8595, 1.8331)
"""The 95 % quantile of Student's t with 1, 2, ... degrees of freedom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one candidate's missing requests will cost. `lower` and `upper` are a 90 % range, None
    where fewer than two costs are known; `spent` of `mean` went to the pilot already. `what` names
    the requests: dialogues have a cost a case.
    """

    who: str
    requests: int
    asked: int
    spent: float
    mean: float
    lower: float | None = None
    upper: float | None = None
    what: str = "requests"

    def line(self) -> str:
        """Return the forecast in one line."""
        head = f"{FORECAST}{self.who}: {self.requests} {self.what}, "
        tail = f"; pilot of {self.asked} asked"
        if self.lower is None or self.upper is None:
            return f"{head}about {usd(self.mean)} (too few answers for a range){tail}"
        low, high = usd(self.lower).removeprefix("$"), usd(self.upper).removeprefix("$")
        return f"{head}about {usd(self.mean)} ({low}-{high}){tail}"


def forecast(
    who: str,
    costs: Sequence[float],
    *,
    left: int,
    spent: float = 0.0,
    asked: int = 0,
    what: str = "requests",
) -> Forecast:
    """Return the forecast of `left` more requests, from the `costs` of a random draw of them."""
    n, rest = len(costs), left * fmean(costs)
    lower = upper = None
    if n > 1 or not left:
        half = 0.0
        if left:
            t = T_95[min(n - 1, len(T_95)) - 1]
            half = t * stdev(costs) * math.sqrt(left + left**2 / n)
        lower, upper = spent + max(0.0, rest - half), spent + rest + half
    return Forecast(
        who=who,
        requests=left + asked,
        asked=asked,
        spent=spent,
        mean=spent + rest,
        lower=lower,
        upper=upper,
        what=what,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What will be asked about the replies once they are there: a judge's requests. `asks` are
    those that can be made already, `total` how many there will be in all, as far as these tell.
    """

    who: str
    asks: Sequence[Ask]
    total: int
    costs_nothing: bool


@dataclass(slots=True, kw_only=True)
class Spending:
    """What one command may spend, and did. One object for all of its fetches.

    A request is taken to cost as much as the dearest one known of its candidate. Until one is
    known, one request is in flight at a time, whatever its backend says: so a cost that cannot be
    told, or one that nobody spoke of, is found out by one request. Several are in flight as long
    as the cap would hold if each came twice as dear, and in the end one at a time. A request that
    failed is taken to cost nothing, and so is a reply without a cost of a backend that costs
    nothing. `later` makes, of the outcomes that are known, what judges will be asked about them: a
    pilot of it belongs to the forecast. `silent` says of whom nothing more is asked, and why;
    `note` is told why requests go out slowly; `so_far` is told with the cap, once it is reached.
    """

    cap_usd: float
    spent_usd: float = 0.0
    is_forecast: bool = False
    later: Callable[[Mapping[str, Outcome]], Sequence[Later]] | None = None
    note: Callable[[str], None] | None = None
    silent: dict[str, str] = field(default_factory=dict)
    so_far: str = ""
    _reserved: list[float] = field(default_factory=list)
    _in_flight: int = 0
    _first: dict[str, float] = field(default_factory=dict)  # whose cost is unknown: out since when
    _lost: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _costs: dict[str, list[float]] = field(default_factory=dict)
    _paid: dict[str, float] = field(default_factory=dict)
    _dearest: dict[str, float] = field(default_factory=dict)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cap_usd) and self.cap_usd >= 0):
            raise UsageError(f"--max-cost {self.cap_usd}: give dollars, 0 or more, as in 2.50")

    def begin(self) -> None:
        """Forget what was in flight when an earlier fetch was stopped."""
        self._reserved, self._in_flight, self._waiting = [], 0, []
        self._first.clear()

    @property
    def known(self) -> dict[str, Any]:
        """What another process of the same command must know, as JSON holds it."""
        return {
            "spent_usd": self.spent_usd,
            "is_forecast": self.is_forecast,
            "silent": self.silent,
            "dearest": self._dearest,
        }

    @known.setter
    def known(self, told: Mapping[str, Any]) -> None:
        self.spent_usd, self.is_forecast = told["spent_usd"], told["is_forecast"]
        self.silent = dict(told["silent"])
        for who, cost in told["dearest"].items():  # ours may be of recorded replies
            self._dearest[who] = max(cost, self._dearest.get(who, 0.0))

    # ------------------------------------------------------------ before

    def refuse_unpriced(self, asks: Iterable[Ask]) -> None:
        """Raise UsageError where the cost of an ask's reply will not be known."""
        for ask in asks:
            if ask.live.unpriced and not ask.live.costs_nothing:
                raise self._blind(ask.live.name, ask.live.unpriced)

    def pilot(
        self, asks: Iterable[Ask], known: Mapping[str, Reply]
    ) -> tuple[list[Ask], dict[str, int]]:
        """Return the missing asks of each candidate's pilot, and how many are missing of each.

        The costs of all replies that are known already are learnt: where they are of other requests
        than the pilot's, the pilot is asked all the same, for it is a random draw.
        """
        by_who: dict[str, list[Ask]] = {}
        for ask in asks:
            if not ask.live.costs_nothing:
                reply = known.get(ask.key)
                if reply is None or reply.cost_usd is not None:
                    by_who.setdefault(ask.payer, []).append(ask)
        send, missing = [], {}
        for who, some in by_who.items():
            missing[who] = sum(a.key not in known for a in some)
            if not missing[who]:
                continue
            for reply in (known[a.key] for a in some if a.key in known):
                self._learn(who, reply.cost_usd or 0.0)
            drawn = sorted(some, key=lambda a: a.key)[:PILOT]
            send += [ask for ask in drawn if ask.key not in known]
        return send, missing

    def forecasts(self, pilot: Sequence[Ask], missing: Mapping[str, int]) -> list[Forecast]:
        """Return a forecast for each candidate whose pilot told a cost; `pilot` is what was sent
        of it: the cap may have held some back.
        """
        made = []
        for who, total in missing.items():
            asked = sum(ask.payer == who for ask in pilot)
            costs, spent = self._costs.get(who, []), self._paid.get(who, 0.0)
            if costs and total:
                made.append(forecast(who, costs, left=total - asked, spent=spent, asked=asked))
        return made

    def later_pilot(
        self, some: Sequence[Later], known: Mapping[str, Reply]
    ) -> tuple[list[Ask], dict[str, int]]:
        """Return the asks of each judge's pilot, and how many of its requests are missing.

        Costs of recorded verdicts are learnt, and are the pilot where there are ten of them. What
        may not leave this machine is left to the fetch that asks for it, and refuses.
        """
        send, missing = [], {}
        for one in some:
            if one.costs_nothing:
                continue
            asks = {a.key: a for a in one.asks if not a.internal}
            recorded = [known[key].cost_usd for key in asks if key in known]
            costs = [cost for cost in recorded if cost is not None]
            for cost in costs:
                self._learn(one.who, cost)
            missing[one.who] = max(0, one.total - len(recorded))
            if missing[one.who]:
                left = sorted(key for key in asks if key not in known)
                send += [asks[key] for key in left[: max(0, PILOT - len(costs))]]
        return send, missing

    def unknown(self, missing: Mapping[str, int]) -> list[str]:
        """Return a line for each judge whose cost nothing tells yet."""
        return [
            f"{FORECAST}{who}: {count} requests, cost unknown until there are replies to judge"
            for who, count in missing.items()
            if count and not self._costs.get(who)
        ]

    def stop_above(
        self, made: Sequence[Forecast], *, cases: int, is_whole: bool, is_all: bool = True
    ) -> None:
        """Raise UsageError where the forecasts are above the cap, saying what would fit.

        `is_whole`: nothing can be stopped half way (a batch), so the upper end must fit. `is_all`
        is false where a judge's part is not known yet: its own fetch makes a forecast then.
        """
        left = sum(f.mean - f.spent for f in made)
        spread = math.sqrt(sum((f.upper - f.mean) ** 2 for f in made if f.upper is not None))
        needed = left + (spread if is_whole else 0.0)
        room = self.cap_usd - self.spent_usd
        if not made or needed <= room * (1 + 1e-9):
            self.is_forecast = is_all
            return
        fits = math.floor(cases * max(0.0, room) / (left + spread)) if left + spread else cases
        sample = f"--sample {fits}, " if fits >= 1 else ""
        raise UsageError(
            f"the forecast is {usd(self.spent_usd + left)} (up to "
            f"{usd(self.spent_usd + left + spread)}), and --max-cost is {usd(self.cap_usd)}: "
            f"nothing more is sent, and what was answered ({usd(self.spent_usd)}) is kept. "
            f"To go on: {sample}a --max-cost of about {usd(needed, is_enough=True)} for the rest, "
            "or none."
        )

    # ------------------------------------------------------------ while it runs

    async def admit(self, ask: Ask) -> float | None:
        """Return what is set aside for `ask`, or None where it may not go out: `fault` says why."""
        loop = asyncio.get_running_loop()
        while ask.payer not in self.silent:
            dearest = self._dearest.get(ask.payer)
            if self._fits(ask, dearest):
                if dearest is None:
                    self._first[ask.payer] = began = loop.time()
                    loop.call_later(LONG_S, self._say_why_slow, ask.payer, began)
                self._in_flight += 1
                if dearest:
                    self._reserved.append(dearest)
                return dearest or 0.0
            if not self._in_flight:
                return None
            turn: asyncio.Future[None] = loop.create_future()
            self._waiting.append(turn)
            await turn
        return None

    def _fits(self, ask: Ask, dearest: float | None) -> bool:
        if dearest is None:
            taken = self.spent_usd + sum(self._reserved)
            is_room = ask.live.costs_nothing or taken < self.cap_usd * (1 - 1e-9)
            return is_room and ask.payer not in self._first
        room = self.cap_usd * (1 + 1e-9) - self.spent_usd
        if dearest == 0 or not self._reserved:
            return dearest <= max(room, 0.0)
        return 2 * (sum(self._reserved) + dearest) <= room

    def _say_why_slow(self, who: str, began: float) -> None:
        is_slow = self._first.get(who) == began and bool(self._waiting)
        if is_slow and self.note is not None and who not in self._told:
            self._told.add(who)
            self.note(
                f"{who}: no reply after {LONG_S:g} s. Until one tells what it costs, --max-cost "
                "lets requests out one at a time"
            )

    def settle(self, ask: Ask, set_aside: float, came: Reply | BackendError) -> None:
        """Take what an admitted ask cost. Raises UsageError where the first reply tells no cost."""
        reply = came if isinstance(came, Reply) else None
        cost = reply.cost_usd if reply else 0.0
        if cost is None:  # later ones are taken to cost as the dearest did
            cost = self._dearest.get(ask.payer, 0.0 if ask.live.costs_nothing else None)
        if cost is None:  # nobody is let in after this: what waits is cancelled
            hint = f": {ask.live.cost_hint}" if ask.live.cost_hint else ""
            raise self._blind(ask.live.name, f"its replies tell no cost_usd{hint}")
        self._in_flight -= 1
        if set_aside:
            self._reserved.remove(set_aside)
        began = self._first.pop(ask.payer, None)
        if began is not None and isinstance(came, BackendError) and not came.is_retryable:
            self._lose(ask.payer, came, after_s=asyncio.get_running_loop().time() - began)
        if reply is not None:
            self.spent_usd += cost
            self._paid[ask.payer] = self._paid.get(ask.payer, 0.0) + cost
            self._learn(ask.payer, cost)
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def take(self, reply: Reply) -> None:
        """Count a reply that was admitted in another way (a batch)."""
        self.spent_usd += reply.cost_usd or 0.0

    def knows_cost(self, ask: Ask) -> bool:
        """Tell whether a reply that came before told what it cost."""
        return ask.payer in self._dearest

    def fault(self, ask: Ask) -> Fault:
        """Return the fault of an ask that was not let out."""
        if ask.payer in self.silent:  # as of a backend that is down
            return Fault(origin="backend", message=self.silent[ask.payer], is_missing=True)
        so_far = f": {self.so_far}" if self.so_far else ""
        return not_asked(
            f"the cost cap of {usd(self.cap_usd)} is reached{so_far}. What was answered is kept: "
            "the same command goes on with the rest, and counts its own cost anew"
        )

    def _lose(self, who: str, error: BackendError, *, after_s: float) -> None:
        """Take a request that failed while nothing tells yet what one costs."""
        is_long = after_s >= LONG_S  # else somebody is there, and said so
        self._lost[who] = self._lost.get(who, 0) + 1 if is_long else 0
        if self._lost[who] >= LOST:
            self.silent[who] = (
                f"{LOST} requests in a row had no reply ({error}), so that nothing tells what one "
                "costs, and with --max-cost nothing more was sent. Where replies only take long, "
                "raise `timeout_s`"
            )

    def _learn(self, who: str, cost: float) -> None:
        self._costs.setdefault(who, []).append(cost)
        self._dearest[who] = max(cost, self._dearest.get(who, 0.0))

    def _blind(self, name: str, why: str) -> UsageError:
        return UsageError(
            f"--max-cost {usd(self.cap_usd)} cannot be held: what {name} costs is not known "
            f'({why}). Give its price, say `costs_nothing = true` under [backends."{name}"] in '
            "task.toml where it costs nothing, or leave --max-cost out."
        )
