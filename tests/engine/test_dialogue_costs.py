from __future__ import annotations

import json

import pytest

from harness.engine.dialogue_costs import DialogueCosts
from harness.engine.fetch import Outcome, not_asked
from harness.engine.spending import PILOT, Spending
from harness.errors import UsageError
from harness.records import Reply


def planned(*evals: str, cases: int = 40) -> DialogueCosts:
    costs = DialogueCosts()
    for eval_ in evals:
        for _ in range(cases):
            costs.plan("plain", eval_)
    return costs


def said(key: str, cost: float | None = 0.1, *, is_cached: bool = False) -> Outcome:
    return Outcome(key=key, reply=Reply(text="", cost_usd=cost), is_cached=is_cached)


def talk(
    costs: DialogueCosts, cases: range, *turns: str, eval_: str = "a", is_cached: bool = False
) -> None:
    for n in cases:
        for turn in turns:
            costs.begin("plain", eval_, f"{eval_}{n}")
            costs.take(said(f"{n} {turn}", is_cached=is_cached))


def lines(costs: DialogueCosts, *, spent: float, cap: float = 100.0) -> list[str]:
    told: list[str] = []
    costs.stop_above(Spending(cap_usd=cap, spent_usd=spent), note=told.append)
    return told


def test_the_pilot_is_over_when_ten_came_to_their_end_and_is_told_once() -> None:
    costs = planned("a")
    talk(costs, range(PILOT), "one", "two")
    assert not costs.is_due  # the tenth may go on
    costs.begin("plain", "a", "a10")
    assert costs.is_due
    assert lines(costs, spent=2.0) == [
        "forecast of plain: 40 cases, about $8.00 (8.00-8.00); pilot of 10 asked"
    ]
    assert not costs.is_due


def test_what_two_evals_ask_alike_costs_once_recorded_or_not() -> None:
    for is_cached in (False, True):
        costs = planned("a", "b")
        talk(costs, range(PILOT), "one", "two", is_cached=is_cached)
        talk(costs, range(PILOT), "one", eval_="b", is_cached=True)
        costs.begin("plain", "a", "a10")
        [line] = lines(costs, spent=2.0)
        left, about = (30, "6.00") if is_cached else (40, "8.00")
        assert line.startswith(f"forecast of plain in a: {left} cases, about ${about}")


def test_a_dialogue_that_sent_something_costs_what_it_sent() -> None:
    costs = planned("a")
    for n in range(PILOT):
        costs.begin("plain", "a", f"a{n}")
        costs.take(said(f"{n} one", 5.0, is_cached=True))
        costs.take(said(f"{n} two", 0.1))
    costs.begin("plain", "a", "a10")
    assert "about $4.00" in lines(costs, spent=1.0)[0]


def test_what_another_worker_has_under_way_is_not_counted_twice() -> None:
    mine, other = planned("a"), planned("a")
    talk(mine, range(PILOT), "one", "two")
    mine.begin("plain", "a", "a10")
    other.known = json.loads(json.dumps(mine.known))
    other.begin("plain", "a", "a11")
    other.take(said("11 one"))
    mine.known = json.loads(json.dumps(other.known))
    lines(mine, spent=2.1, cap=8.0)
    with pytest.raises(UsageError, match=r"the forecast is \$8\.00"):
        lines(other, spent=2.1, cap=7.9)


def test_what_was_refused_is_refused_to_every_worker_from_then_on() -> None:
    mine, other = planned("a"), planned("a")
    talk(mine, range(PILOT), "one")
    mine.begin("plain", "a", "a10")
    with pytest.raises(UsageError) as caught:
        lines(mine, spent=1.0, cap=2.0)
    other.known = json.loads(json.dumps(mine.known))
    other.begin("plain", "a", "a11")
    assert other.is_due
    with pytest.raises(UsageError) as again:
        lines(other, spent=1.1)
    assert str(again.value) == str(caught.value)


def test_a_dialogue_under_way_may_end_when_the_rest_is_refused() -> None:
    """Half of one is worth nothing, and the next forecast would count it as a whole one to come."""
    mine, other = planned("a"), planned("a")
    talk(mine, range(PILOT), "one")
    other.begin("plain", "a", "a11")
    other.take(said("11 one"))
    mine.begin("plain", "a", "a10")
    with pytest.raises(UsageError):
        lines(mine, spent=1.1, cap=2.0)
    other.known = json.loads(json.dumps(mine.known))
    assert not other.is_due


def test_one_that_was_cut_short_tells_nothing_of_what_others_cost() -> None:
    costs = planned("a")
    talk(costs, range(2), "one", "two")
    costs.begin("plain", "a", "a2")
    costs.take(said("2 one"))
    costs.take(Outcome(key="2 two", fault=not_asked("the cap")))
    costs.begin("plain", "a", "a3")
    assert costs.so_far == "2 of 40 cases cost $0.40, so that all would cost about $8.00"


def test_what_costs_nothing_has_no_forecast() -> None:
    costs = planned("a")
    for n in range(PILOT + 1):
        costs.begin("plain", "a", f"a{n}")
        costs.take(said(f"{n}", 0.0 if n % 2 else None))
    costs.begin("plain", "a", "a11")
    assert lines(costs, spent=0.0) == []
    assert costs.so_far == ""
