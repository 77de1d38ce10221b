from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from harness.core.money import usd
from harness.engine import spending as spending_of
from harness.engine.backends import describe
from harness.engine.fetch import Ask, Outcome, fetch, was_not_asked
from harness.engine.spending import PILOT, T_95, Spending, forecast
from harness.errors import BackendError, UsageError
from harness.records import Message, Reply, Request
from harness.store.store import Store
from harness.testing import ScriptedBackend, temporary_store
from tests.engine.test_fetch import Told, at_once


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


def priced(cost: Callable[[int], float | None], **more: Any) -> ScriptedBackend:
    """A hosted backend; `cost` gives a reply's price by its number."""

    def answer(request: Request) -> Reply:
        number = int(request.messages[-1].content)
        return Reply(text=str(number), cost_usd=cost(number))

    return ScriptedBackend(answer, **{"is_external": True, "concurrency": 8, **more})


def asks(backend: Any, n: int, *, who: str = "plain", name: str = "s:m") -> list[Ask]:
    live = describe(backend, name=name)
    requests = [Request(messages=(Message(role="user", content=str(k)),)) for k in range(n)]
    return [
        Ask(
            key=live.key(r, base_url=None, repeat=0),
            request=r,
            live=live,
            who=who,
            case=f"c{k}",
        )
        for k, r in enumerate(requests)
    ]


def run(
    store: Store, some: list[Ask], cap: float, told: Told | None = None
) -> tuple[dict[str, Outcome], Spending]:
    spending = Spending(cap_usd=cap)
    found = fetch(some, store=store, progress=told or Told(), wait=at_once, spending=spending)
    return found, spending


# ---------------------------------------------------------------- the forecast


def test_the_quantiles_are_those_of_student() -> None:
    assert [round(stats.t.ppf(0.95, df), 4) for df in range(1, PILOT)] == list(T_95)


def test_the_range_holds_the_true_sum_in_about_nine_of_ten_pilots() -> None:
    source = random.Random(7)
    held = 0
    for _ in range(1000):
        costs = [source.gauss(0.02, 0.004) for _ in range(110)]
        made = forecast("plain", costs[:10], left=100)
        assert made.lower is not None
        assert made.upper is not None
        held += made.lower <= sum(costs[10:]) <= made.upper
    assert 870 <= held <= 930


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0.00"),
        (0.41, "$0.41"),
        (12.3, "$12.30"),
        (0.06, "$0.06"),
        (0.0444, "$0.044"),
        (0.00123, "$0.0012"),
        (0.001, "$0.001"),
        (1234.5, "$1,234.50"),
        (-0.5, "$-0.50"),
    ],
)
def test_dollars_have_cents_and_two_digits_that_say_something(value: float, text: str) -> None:
    assert usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0441, "$0.045"), (0.044, "$0.044"), (0, "$0.00"), (9.999, "$10.00")]
)
def test_dollars_that_are_enough_are_rounded_up(value: float, text: str) -> None:
    assert usd(value, is_enough=True) == text


def test_the_forecast_is_told_in_a_line_after_a_pilot_of_ten(store: Store) -> None:
    told = Told()
    backend = priced(lambda n: 0.001 + 0.0001 * (n % 3))
    found, spending = run(store, asks(backend, 320), 10.0, told)
    assert len(found) == 320
    assert spending.spent_usd == pytest.approx(0.352, abs=0.001)
    [line] = [n for n in told.notes if n.startswith("forecast")]
    assert line.startswith("forecast of plain: 320 requests, about $0.3")
    assert line.endswith("; pilot of 10 asked")
    assert sum(told.spent) == pytest.approx(spending.spent_usd)


def test_a_forecast_above_the_cap_sends_nothing_more_and_keeps_the_pilot(store: Store) -> None:
    backend = priced(lambda n: 0.01)
    some = asks(backend, 300)
    with pytest.raises(UsageError) as caught:
        run(store, some, 1.0)
    assert len(backend.requests) == PILOT
    assert len(store.known_replies([a.key for a in some])) == PILOT
    said = str(caught.value)
    assert "the forecast is $3.00" in said
    assert "--max-cost is $1.00" in said
    assert "--sample 93" in said  # 300 cases, $0.90 of $2.90 left
    assert said.endswith(
        "To go on: --sample 93, a --max-cost of about $2.90 for the rest, or none."
    )
    assert len(said) < 220
    again = asks(backend, 300)
    with pytest.raises(UsageError):
        run(store, again, 1.0)
    assert len(backend.requests) == PILOT  # the same ten, known by now
    run(store, again, 2.90)
    assert len(backend.requests) == 300


@pytest.mark.parametrize("cost", [0.00043, 0.0137, 0.07])
def test_the_cap_that_a_refusal_names_is_one_that_the_forecast_keeps_to(
    store: Store, cost: float
) -> None:
    """Rounded down, it would be refused again, with the same words."""
    some = asks(priced(lambda n: cost), 113)
    with pytest.raises(UsageError) as caught:
        run(store, some, cost * 20)
    named = str(caught.value).partition("a --max-cost of about $")[2].partition(" ")[0]
    found, _ = run(store, some, float(named))
    assert all(o.reply for o in found.values())


def test_what_is_cached_costs_nothing(store: Store) -> None:
    backend = priced(lambda n: 0.01)
    some = asks(backend, 50)
    run(store, some, 1.0)
    told = Told()
    found, spending = run(store, some, 0.0, told)
    assert all(o.is_cached for o in found.values())
    assert (spending.spent_usd, told.notes) == (0.0, [])


def test_each_candidate_has_a_forecast_of_its_own_and_the_cap_is_for_all(store: Store) -> None:
    told = Told()
    cheap = asks(priced(lambda n: 0.001), 100, who="cheap", name="a:m")
    dear = asks(priced(lambda n: 0.1), 100, who="dear", name="b:m")
    with pytest.raises(UsageError, match=r"the forecast is \$10\.10"):
        run(store, cheap + dear, 5.0, told)
    assert [n.split(",")[0] for n in told.notes] == [
        "forecast of cheap: 100 requests",
        "forecast of dear: 100 requests",
    ]


# ---------------------------------------------------------------- the cap while it runs


def test_the_cap_is_never_passed_and_the_rest_is_not_asked_but_resumable(store: Store) -> None:
    """The pilot is cheap by bad luck: the forecast is wrong, and the cap holds all the same."""
    live = describe(priced(lambda n: 0.0), name="s:m")
    keys = sorted((a.key, a.request.messages[-1].content) for a in asks(live.backend, 200))
    cheap = {int(content) for _, content in keys[:PILOT]}
    backend = priced(lambda n: 0.001 if n in cheap else 0.01, latency_s=0.001)
    some = asks(backend, 200)
    found, spending = run(store, some, 0.5)
    held = [o.fault for o in found.values() if o.fault]
    # one dear reply is seen in flight with seven more that were taken for cheap
    assert 0.48 <= spending.spent_usd <= 0.5 + 8 * 0.01
    assert len(held) == 200 - len(backend.requests)
    assert all(was_not_asked(f) and f.is_missing for f in held)
    assert held[0].message == (
        "not asked: the cost cap of $0.50 is reached. What was answered is kept: the same command "
        "goes on with the rest, and counts its own cost anew"
    )
    before = len(backend.requests)
    found, _ = run(store, some, 5.0)
    assert len(backend.requests) - before == len(held)
    assert all(o.reply for o in found.values())


def test_who_asks_first_when_the_cap_is_spent_to_the_cent_is_not_let_in(store: Store) -> None:
    """As a worker that begins when the others have spent it all."""
    for spent in (sum([0.01] * 25), 0.25 - 3e-17):
        backend = priced(lambda n: 0.01)
        spending = Spending(cap_usd=0.25, is_forecast=True, spent_usd=spent)
        fetch(asks(backend, 3), store=store, progress=Told(), spending=spending)
        assert backend.requests == []


def test_what_is_known_of_costs_is_handed_on_to_another_process(store: Store) -> None:
    """It found out by a request what one costs, beyond the cap."""
    backend = priced(lambda n: 0.02)
    one = Spending(cap_usd=0.05, is_forecast=True)
    fetch(asks(backend, 9), store=store, progress=Told(), spending=one)
    other = Spending(cap_usd=0.05)
    other.known = json.loads(json.dumps(one.known))
    fetch(asks(backend, 9), store=store, progress=Told(), spending=other)
    assert (len(backend.requests), other.spent_usd) == (2, 0.04)


def test_what_was_dear_before_is_known_when_the_command_goes_on(store: Store) -> None:
    """The pilot's draw is cheap: the recorded replies beside it tell that others are not."""
    live = describe(priced(lambda n: 0.0), name="s:m")
    keys = sorted((a.key, a.request.messages[-1].content) for a in asks(live.backend, 40))
    cheap = {int(content) for _, content in keys[:PILOT]}
    backend = priced(lambda n: 0.01 if n in cheap else 1.0)
    some = asks(backend, 40)
    run(store, some, 2.0)
    before = len(backend.requests)
    assert before > PILOT
    with pytest.raises(UsageError, match="the forecast is"):
        run(store, some, 0.5)
    assert len(backend.requests) == before


def test_a_pilot_that_the_cap_cuts_short_counts_what_was_sent(store: Store) -> None:
    told = Told()
    backend = priced(lambda n: 0.08)
    with pytest.raises(UsageError, match=r"a --max-cost of about \$[23]\."):
        run(store, asks(backend, 40), 0.15, told)
    assert len(backend.requests) == 1
    assert "pilot of 1 asked" in "".join(told.notes)


def test_a_reply_without_a_cost_is_told_once_and_counts_as_the_dearest(store: Store) -> None:
    told = Told()
    backend = priced(lambda n: 0.01 if n < 5 else None, concurrency=1)
    spending = Spending(cap_usd=5.0, is_forecast=True)
    fetch(asks(backend, 20), store=store, progress=told, spending=spending)
    assert spending.spent_usd == pytest.approx(0.2)
    assert sum("without a cost" in note for note in told.notes) == 1


def test_known_costs_hold_the_cap_to_the_cent_at_full_concurrency(store: Store) -> None:
    backend = priced(lambda n: 0.01, latency_s=0.002)
    spending = Spending(cap_usd=0.35, is_forecast=True)
    found = fetch(asks(backend, 100), store=store, progress=Told(), spending=spending)
    assert len(backend.requests) == 35
    assert spending.spent_usd == pytest.approx(0.35)
    assert Counter(o.reply is None for o in found.values()) == {True: 65, False: 35}
    assert backend.max_in_flight == 8


def test_the_cap_is_passed_by_no_more_than_what_one_reply_costs_beyond_the_dearest(
    store: Store,
) -> None:
    """Near the cap few are in flight: each may come twice as dear as the dearest before it."""
    backend = priced(lambda n: 0.01 if n < 150 else 0.02, latency_s=0.002, concurrency=32)
    spending = Spending(cap_usd=1.6, is_forecast=True)
    fetch(asks(backend, 300), store=store, progress=Told(), spending=spending)
    assert backend.max_in_flight == 32
    assert 1.58 < spending.spent_usd <= 1.6 + 0.01 + 1e-9


def test_who_costs_nothing_and_tells_a_cost_all_the_same_is_held_to_the_cap(store: Store) -> None:
    backend = priced(lambda n: 0.01, is_external=False, latency_s=0.002, concurrency=32)
    found, spending = run(store, asks(backend, 40), 0.20)
    assert len(backend.requests) == 20
    assert spending.spent_usd == pytest.approx(0.20)
    assert Counter(o.reply is None for o in found.values()) == {True: 20, False: 20}


def test_a_request_that_is_tried_again_keeps_its_place_under_the_cap(store: Store) -> None:
    seen: Counter[str] = Counter()

    def answer(request: Request) -> Reply:
        name = request.messages[-1].content
        seen[name] += 1
        if seen[name] == 1:
            raise BackendError("429", is_retryable=True)
        return Reply(text=name, cost_usd=0.01)

    backend = ScriptedBackend(answer, is_external=True, concurrency=4)
    found, spending = run(store, asks(backend, 30), 0.31)
    assert all(o.reply for o in found.values())
    assert spending.spent_usd == pytest.approx(0.30)


# ---------------------------------------------------------------- costs that are not known


def test_an_unpriced_backend_is_refused_before_the_first_request(store: Store) -> None:
    backend = priced(lambda n: 0.01)
    backend.unpriced = "no price for m at api.example.com; add it to prices.toml"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"s:m costs .*no price for m .* prices\.toml"):
        run(store, asks(backend, 20), 1.0)
    assert backend.requests == []


def test_a_reply_without_a_cost_stops_after_one_request_which_is_kept(store: Store) -> None:
    backend = priced(lambda n: None)
    some = asks(backend, 20)
    with pytest.raises(UsageError, match="what s:m costs is not known"):
        run(store, some, 1.0)
    assert len(backend.requests) == 1
    assert len(store.known_replies([a.key for a in some])) == 1


def test_who_says_that_it_stays_on_this_machine_costs_nothing_and_who_is_silent_is_unknown(
    store: Store,
) -> None:
    found, spending = run(store, asks(priced(lambda n: None, is_external=False), 30), 0.0)
    assert all(o.reply for o in found.values())
    assert spending.spent_usd == 0

    class Silent:
        async def answer(self, request: Request) -> Reply:
            return Reply(text="?")

    with pytest.raises(UsageError, match="is not known"):
        run(store, asks(Silent(), 3, name="silent:m"), 1.0)


def test_where_requests_go_and_what_they_cost_are_two_facts() -> None:
    at_home = priced(lambda n: None, is_external=False)
    live = describe(at_home, name="s:m")
    assert (live.stays_inside, live.costs_nothing) == (True, True)
    at_home.costs_nothing = False  # type: ignore[attr-defined]
    live = describe(at_home, name="s:m")
    assert (live.stays_inside, live.costs_nothing) == (True, False)
    outside = priced(lambda n: None)
    assert not describe(outside, name="s:m").costs_nothing
    free = describe(outside, name="s:m", options={"costs_nothing": True})
    assert (free.is_external, free.stays_inside, free.costs_nothing) == (True, False, True)
    assert free.identity == describe(outside, name="s:m").identity
    with pytest.raises(UsageError, match="s:m: costs_nothing is 'yes', not true or false"):
        describe(outside, name="s:m", options={"costs_nothing": "yes"})


def test_a_person_may_say_that_a_hosted_backend_costs_nothing(store: Store) -> None:
    backend = priced(lambda n: None)
    backend.unpriced = "no price for m at api.example.com"  # type: ignore[attr-defined]
    some = asks(backend, 20)
    with pytest.raises(UsageError, match=r'`costs_nothing = true` under \[backends."s:m"\]'):
        run(store, some, 1.0)
    free = describe(backend, name="s:m", options={"costs_nothing": True})
    told = Told()
    found, spending = run(store, [replace(ask, live=free) for ask in some], 0.0, told)
    assert all(o.reply for o in found.values())
    assert (spending.spent_usd, told.notes) == (0.0, [])


def test_what_a_reply_without_a_cost_is_told_with_is_told_once(store: Store) -> None:
    backend = priced(lambda n: None)
    backend.cost_hint = "return it as cost_usd"  # type: ignore[attr-defined]
    told = Told()
    fetch(asks(backend, 5), store=store, progress=told)
    assert told.notes == ["what s:m costs is not known: return it as cost_usd"]
    told = Told()
    with pytest.raises(UsageError, match=r"tell no cost_usd: return it as cost_usd\)"):
        run(store, asks(backend, 9), 1.0, told)
    assert told.notes == []  # the refusal says it


def test_one_reply_without_a_cost_among_others_counts_as_the_dearest(store: Store) -> None:
    backend = priced(lambda n: None if n == 5 else 0.01, concurrency=1)
    some = [a for a in asks(backend, 20) if a.case != "c5"] + [asks(backend, 20)[5]]
    spending = Spending(cap_usd=1.0, is_forecast=True)
    fetch(some, store=store, progress=Told(), spending=spending)
    assert spending.spent_usd == pytest.approx(0.20)


@pytest.mark.parametrize("cap", [-1.0, float("nan"), float("inf")])
def test_a_cap_that_is_no_sum_of_dollars_is_refused(cap: float) -> None:
    with pytest.raises(UsageError, match="--max-cost"):
        Spending(cap_usd=cap)


def test_a_waiting_request_that_is_cancelled_takes_nothing_with_it() -> None:
    [ask] = asks(priced(lambda n: 0.01), 1)

    async def one() -> Spending:
        spending = Spending(cap_usd=1.0)
        room = await spending.admit(ask)
        waiting = asyncio.create_task(spending.admit(replace(ask, key="other")))
        await asyncio.sleep(0)
        waiting.cancel()
        spending.settle(ask, room or 0.0, Reply(text="", cost_usd=0.4))
        assert await spending.admit(ask) == 0.4
        return spending

    assert asyncio.run(one()).spent_usd == 0.4


def test_what_costs_nothing_is_asked_though_the_cap_was_passed() -> None:
    """A reply that cost more than the dearest before it holds up no model of this machine."""
    [ask] = asks(priced(lambda n: None, is_external=False), 1)

    async def two() -> list[float | None]:
        spending = Spending(cap_usd=1.0, spent_usd=1.2)
        first = await spending.admit(ask)
        spending.settle(ask, first or 0.0, Reply(text=""))
        return [first, await spending.admit(ask)]

    assert asyncio.run(two()) == [0.0, 0.0]


# ---------------------------------------------------------------- who does not answer


@dataclass(frozen=True)
class Step:
    """What comes of one request, and after which time."""

    is_reply: bool = True
    after_s: float = 0.0
    is_retryable: bool = False


REPLIES, FAILS = Step(), Step(is_reply=False)


class Scripted:
    """A hosted backend that takes one step a request, and replies once there are no more."""

    is_external, concurrency = True, 8

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = iter(steps)
        self.asked = self._open = self.most = 0

    async def answer(self, request: Request) -> Reply:
        step = next(self._steps, REPLIES)
        self.asked += 1
        self._open += 1
        self.most = max(self.most, self._open)
        await asyncio.sleep(step.after_s)
        self._open -= 1
        if not step.is_reply:
            is_retryable = step.is_retryable
            raise BackendError(
                "no answer within 9 s", is_systemic=not is_retryable, is_retryable=is_retryable
            )
        return Reply(text="?", cost_usd=0.01)


def test_three_that_wait_in_vain_before_a_cost_is_known_are_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending_of, "LONG_S", 0.02)
    backend, told = Scripted(repeat(replace(FAILS, after_s=0.05))), Told()
    some = asks(backend, 40)
    found, spending = run(store, some, 1.0, told)
    assert (backend.asked, backend.most) == (3, 1)
    faults = Counter(o.fault for o in found.values())
    [(fault, times), (_, others)] = faults.most_common()
    assert (times, others) == (37, 3)
    assert fault is not None
    assert (fault.origin, fault.is_missing) == ("backend", True)
    assert fault.message.startswith("3 requests in a row had no reply (no answer within 9 s), so")
    slow = "plain: no reply after 0.02 s. Until one tells what it costs, --max-cost lets requests"
    assert [note.startswith(slow) for note in told.notes] == [True]
    fetch(some, store=store, progress=told, spending=spending)  # a turn of the same command
    assert backend.asked == 3
    found, _ = run(store, asks(Scripted([]), 40), 1.0)
    assert all(o.reply for o in found.values())


@pytest.mark.parametrize("third", ["replies", "fails at once"])
def test_only_those_in_a_row_count_and_none_once_a_cost_is_known(
    store: Store, monkeypatch: pytest.MonkeyPatch, third: str
) -> None:
    monkeypatch.setattr(spending_of, "LONG_S", 0.02)
    slow = replace(FAILS, after_s=0.05)
    scripts = {"replies": [REPLIES, *[slow] * 17], "fails at once": [FAILS, slow, slow]}
    backend = Scripted([slow, slow, *scripts[third]])
    found, _ = run(store, asks(backend, 20), 1.0)
    assert backend.asked == 20
    assert sum(o.reply is not None for o in found.values()) == {"replies": 1}.get(third, 15)


def test_the_tries_of_one_request_are_no_requests_in_a_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending_of, "LONG_S", 0.01)
    backend = Scripted(repeat(replace(FAILS, after_s=0.02, is_retryable=True)))
    found, _ = run(store, asks(backend, 40), 1.0)
    assert backend.asked == 8 * 4  # as without a cap: who is down is found out by tries
    assert not any("in a row" in o.fault.message for o in found.values() if o.fault)


def test_an_error_that_comes_at_once_is_an_answer(store: Store) -> None:
    """As of a case that is too long: the ten of a pilot are the same in the next command."""
    backend, told = Scripted([FAILS] * 9), Told()
    found, _ = run(store, asks(backend, 40), 1.0, told)
    assert backend.asked == 40
    assert sum(o.reply is not None for o in found.values()) == 31
    assert not any("no reply after" in note for note in told.notes)
