"""Several checks at once, by their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness import Reply, UsageError, checks
from harness.checks.base import Undecided, Unmeasured
from harness.errors import Miss

A = {"name": "contains", "arguments": {"text": "a"}}
NO_B = {"name": "no.contains", "arguments": {"text": "b"}, "weight": 3}
FAST = {"name": "latency", "arguments": {"at_most_s": 1}}
TOO_DEEP = {"name": "python"}


def test_the_score_is_the_share_by_weight(reason: Callable[..., str]) -> None:
    assert checks.several("a", [A, NO_B]).value == 1
    assert checks.several("c", [A, NO_B], at_least=0.75).value == 0.75
    said = reason(checks.several, "ab", [A, NO_B], at_least=0.75)
    assert said.startswith("several: 0.250 is under at_least=0.75; 1 of 2 checks hold")
    assert "'b' is in 'ab'" in said
    assert checks.no.several("ab", [A, NO_B], at_least=0.75).value == 0.75


def test_what_could_not_be_asked_counts_only_where_it_would_decide() -> None:
    assert checks.several(Reply(text="a"), [{**A, "weight": 9}, FAST], at_least=0.9)
    with pytest.raises(Miss, match="no latency_s"):
        checks.several(Reply(text="c"), [{**A, "weight": 9}, FAST], at_least=0.9)
    with pytest.raises(Unmeasured, match="several: latency: the backend reported no latency_s"):
        checks.several(Reply(text="a"), [A, FAST])
    for check in (checks.several, checks.no.several):
        with pytest.raises(Undecided):
            check("not " * 10_000 + "a", [A, TOO_DEEP])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "at least one"),
        ("contains", "at least one"),
        ([{"arguments": {}}], "has a `name`"),
        ([{**A, "wieght": 2}], "has a `name`"),
        ([{**A, "weight": 0}], "above 0"),
        ([{**A, "weight": True}], "above 0"),
        ([{"name": "contians"}], r"no check 'contians'"),
        ([{"name": "contains"}], "missing a required argument"),
    ],
)
def test_rows_that_ask_for_nothing_are_refused_before_a_reply_is_there(
    rows: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        checks.registry.binding("several", {"checks": rows})


def test_the_names_within_are_known() -> None:
    row = {"name": "no.several", "arguments": {"checks": [A, NO_B]}}
    assert checks.registry.names_in(row) == ["several", "contains", "contains"]
