"""Made cases in a release: their slice is judged beside that of the collected ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.records import ReleaseVerdict
from tests.engine.small import Plugin, Workshop, rows
from tests.engine.test_release import echo, verdict

Make = Callable[..., Workshop]


def released(make: Make, *, made_pass: bool, **settings: Any) -> ReleaseVerdict:
    """120 sealed cases, every second one made. The baseline passes half of either kind; the
    candidate passes the collected ones, and the made ones where `made_pass`.
    """
    some = rows(test=120)
    for number, row in enumerate(some):
        if row["split"] == "test" and number % 2:
            row |= {"tags": ["synthetic"], "provenance": {"made_by": "perturb"}}
    workshop = make(some=some, plugin=Plugin(knows=echo), **settings)
    cases = {c.id: (k, "synthetic" in c.tags) for k, c in enumerate(workshop.task.split("test"))}
    workshop.run("plain", split="test", score=lambda c, r: float(cases[c.id][0] // 2 % 2))
    workshop.run("terse", split="test", score=lambda c, r: float(made_pass or not cases[c.id][1]))
    return verdict(workshop)


@pytest.mark.parametrize(("made_pass", "answer"), [(True, "SHIP"), (False, "BLOCK")])
def test_a_must_hold_slice_of_made_cases_decides(make: Make, made_pass: bool, answer: str) -> None:
    found = released(make, made_pass=made_pass, must_hold_slices=["synthetic"])
    [check] = [c for c in found.checks if "synthetic" in c.name]
    assert (found.answer, check.answer) == (answer, answer)
    assert check.delta is not None
    assert check.delta.n == 60


def test_without_must_hold_the_slice_of_made_cases_is_watched(make: Make) -> None:
    found = released(make, made_pass=False)
    [check] = [c for c in found.checks if "synthetic" in c.name]
    assert check.delta is not None
    assert check.delta.mean == pytest.approx(-0.5)
