"""Asserts of promptfoo as checks: what decides a test there decides the case here."""

from __future__ import annotations

from typing import Any

import pytest

from harness import Miss, Reply, checks
from harness.checks.registry import binding, names_in
from harness.engine.data.forms.promptfoo import parse, write
from harness.engine.data.forms.promptfoo_asserts import assert_of, check_of
from harness.records import Json

HELLO = {"type": "icontains", "value": "hello"}
BYE = {"type": "not-contains", "value": "bye", "weight": 3, "metric": "tone"}


def of(*asserts: Json, **more: Json) -> dict[str, Any]:
    """What a test with these asserts brings beside its inputs."""
    return dict(parse({"vars": {"q": "?"}, "assert": list(asserts), **more}, "x:1").other)


def holds(check: Json, text: str) -> bool:
    try:
        checks.run(
            check["name"], Reply(text=text, latency_s=0.2, cost_usd=0.01), check["arguments"]
        )
    except Miss:
        return False
    return True


def test_without_a_threshold_every_assert_must_hold_and_the_name_of_a_score_is_told() -> None:
    found = of(HELLO, BYE)
    assert [c["name"] for c in found["checks"]] == ["contains", "no.contains"]
    assert found["metric"] == ["tone"]
    assert "assert" not in found


def test_with_a_threshold_the_weights_decide() -> None:
    found = of(HELLO, BYE, threshold=0.7)
    assert found.keys() == {"checks", "metric"}
    [check] = found["checks"]
    assert [holds(check, t) for t in ("Hello", "nothing", "Hello, bye", "bye")] == [
        True,
        True,  # 3 of 4 by weight
        False,
        False,
    ]
    [told] = write(parse({"vars": {"q": "?"}, "assert": [HELLO, BYE], "threshold": 0.7}, "x"))[
        "assert"
    ]
    assert of(told)["checks"] == [check]  # written as a set, and read again


def test_what_weighs_nothing_cannot_fail_and_is_told_as_not_carried() -> None:
    idle = {**BYE, "weight": 0}
    found = of(HELLO, idle)
    assert [c["name"] for c in found["checks"]] == ["contains"]
    assert found["assert"] == [idle]
    assert found.keys() == {"checks", "assert"}
    only = of({"type": "equals", "value": "x", "weight": 0})
    assert "checks" not in only
    within = {"type": "assert-set", "assert": [HELLO, idle]}
    for whole in (of(within), of(within | {"threshold": 1}), of(HELLO, idle, threshold=0.5)):
        assert [name for one in whole["checks"] for name in names_in(one)][-1] == "contains"
        assert whole["assert"] == [idle]
    inside = {"type": "assert-set", "assert": [idle]}
    assert of(inside) == {"assert": [idle]}


def test_a_threshold_over_an_assert_that_is_no_check_of_ours_is_left_whole() -> None:
    rubric = {"type": "llm-rubric", "value": "is polite"}
    found = of(HELLO, rubric, threshold=0.5)
    assert found == {"threshold": 0.5, "assert": [HELLO, rubric]}  # a miss of ours is no miss there
    scored = of(HELLO, BYE, threshold=1, assertScoringFunction="file://score.js")
    assert scored["assert"] == [HELLO, BYE]
    every = of(HELLO, rubric, threshold=1)
    assert ([c["name"] for c in every["checks"]], every["assert"]) == (["contains"], [rubric])
    idle = {**rubric, "weight": 0}
    beside = of(HELLO, idle, threshold=0.5)
    assert ([c["name"] for c in beside["checks"]], beside["assert"]) == (["several"], [idle])


def test_a_set_of_asserts_is_one_check_or_all_of_its_own() -> None:
    inner = [HELLO, {**BYE, "metric": "x"}]
    assert [c["name"] for c in of({"type": "assert-set", "assert": inner})["checks"]] == [
        "contains",
        "no.contains",
    ]
    [check] = of({"type": "assert-set", "assert": inner, "threshold": 0.75})["checks"]
    assert holds(check, "nothing")
    assert not holds(check, "Hello, bye")
    kept = of({"type": "assert-set", "assert": [HELLO, {"type": "javascript", "value": "1"}]})
    assert [one["type"] for one in kept["assert"]] == ["assert-set"]


@pytest.mark.parametrize(
    ("one", "right", "wrong"),
    [
        ({"type": "levenshtein", "value": "kitten"}, "sitting", "a hippopotamus"),
        ({"type": "levenshtein", "value": "kitten", "threshold": 2}, "mitten", "sitting"),
        ({"type": "not-levenshtein", "value": "kitten", "threshold": 2}, "sitting", "mitten"),
        ({"type": "not-equals", "value": "no"}, "yes", "no"),
    ],
)
def test_thresholds_of_single_asserts_are_arguments(one: Json, right: str, wrong: str) -> None:
    check = check_of(one)
    assert holds(check, right)
    assert not holds(check, wrong)
    told = assert_of(check)
    assert told is not None
    assert check_of(told) == check


def test_milliseconds_and_dollars() -> None:
    assert holds(check_of({"type": "latency", "threshold": 250}), "")
    assert not holds(check_of({"type": "latency", "threshold": 150}), "")
    assert not holds(check_of({"type": "cost", "threshold": 0.001}), "")
    assert assert_of(check_of({"type": "latency", "threshold": 250})) == {
        "type": "latency",
        "threshold": 250,
    }


HUGGING = "huggingface:text-classification:org/tone-1.5"
TONE = {"type": "classifier", "provider": HUGGING, "value": "positive", "threshold": 0.8}


def test_a_classifier_is_asked_with_the_same_weights_and_written_back() -> None:
    check = check_of({**TONE, "weight": 2, "metric": "tone"})
    arguments = {"label": "positive", "model": "org/tone-1.5", "at_least": 0.8}
    assert check == {"name": "classifier", "arguments": arguments}
    assert binding(check["name"], check["arguments"])
    assert assert_of(check) == TONE
    bare = {"type": "not-classifier", "provider": "hf:text-classification:tone", "value": "rude"}
    check = check_of(bare)
    assert check["name"] == "no.classifier"
    assert check["arguments"]["at_least"] == 1  # theirs where none is given
    told = {**bare, "provider": "huggingface:text-classification:tone", "threshold": 1}
    assert assert_of(check) == told
    ours = {"name": "classifier", "arguments": {"label": "rude", "model": "org/tone"}}
    assert assert_of(ours)["threshold"] == 0.5


def test_a_classifier_of_the_case_is_filled_in_from_its_vars() -> None:
    row = {"vars": {"q": "?", "mood": "calm"}, "assert": [{**TONE, "value": "{{ mood }}"}]}
    [check] = parse(row, "x:1").other["checks"]
    assert check["arguments"]["label"] == "calm"


@pytest.mark.parametrize(
    "change",
    [
        {"value": None},
        {"provider": None},
        {"provider": {"id": HUGGING}},
        {"provider": "huggingface:token-classification:org/pii"},
        {"provider": "huggingface:text-classification:{{ model }}"},
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"transform": "output.trim()"},
    ],
)
def test_a_classifier_that_is_asked_otherwise_is_no_check(change: Json) -> None:
    assert check_of({**TONE, **change}) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"label": ["rude", "mean"], "model": "org/tone"},
        {"label": "rude", "model": "./models/tone"},
        {"label": "rude", "model": "/models/tone"},
        {"label": "rude"},
    ],
)
def test_a_classifier_that_promptfoo_cannot_ask_is_not_written(arguments: Json) -> None:
    assert assert_of({"name": "classifier", "arguments": arguments}) is None


@pytest.mark.parametrize(
    "one",
    [
        {"type": "latency"},
        {"type": "similar", "value": "x", "threshold": 0.8},
        {"type": "contains", "value": "x", "threshold": 0.8},
        {"type": "contains", "value": "x", "transform": "output.trim()"},
        {"type": "levenshtein", "value": "x", "threshold": -1},
    ],
)
def test_what_means_something_else_is_no_check(one: Json) -> None:
    assert check_of(one) is None
