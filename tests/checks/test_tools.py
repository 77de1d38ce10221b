from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import Message, Reply, UsageError, checks

Reason = Callable[..., str]
PARIS = {"city": "Paris", "unit": "C"}
SHAPES = {
    "plain": {"name": "weather", "arguments": PARIS},
    "openai": {
        "id": "1",
        "type": "function",
        "function": {"name": "weather", "arguments": json.dumps(PARIS)},
    },
    "anthropic": {"type": "tool_use", "id": "1", "name": "weather", "input": PARIS},
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    },
    {"name": "stop", "input_schema": {"type": "object"}},
]


def called(*calls: Any) -> Reply:
    return Reply(text="", tool_calls=calls)


def named(*names: str) -> Reply:
    return called(*({"name": name, "arguments": {}} for name in names))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_is_read_in_every_shape(shape: str) -> None:
    reply = called(SHAPES[shape])
    assert checks.tool_call(reply, "weather", arguments=PARIS)
    assert checks.valid_tool_calls(reply, TOOLS)


def test_a_miss_shows_what_differs_in_the_nearest_call(reason: Reason) -> None:
    far = {"name": "weather", "arguments": {"town": "x"}}
    near = SHAPES["plain"]
    said = reason(
        checks.tool_call, called(far, near), "weather", arguments={"city": "Paris", "unit": "F"}
    )
    assert said.splitlines() == [
        'tool_call: weather({"city": "Paris", "unit": "C"})',
        "  unit: expected 'F', got 'C'",
    ]
    said = reason(checks.tool_call, called(far), "weather", arguments={"city": "Paris"})
    assert "city: missing, expected 'Paris'" in said
    assert "town: not expected, got 'x'" in said


def test_several_values_can_be_good_and_arguments_optional(reason: Reason) -> None:
    reply = called({"name": "weather", "arguments": {"city": "paris"}})
    good = {"city": ["Paris", "paris"], "unit": ["C"]}
    assert checks.tool_call(reply, "weather", accepted=good, optional=["unit"])
    assert "unit: missing" in reason(checks.tool_call, reply, "weather", accepted=good)
    other = called({"name": "weather", "arguments": {"city": "Rome"}})
    said = reason(checks.tool_call, other, "weather", accepted=good, optional=["unit"])
    assert 'city: expected one of ["Paris", "paris"], got \'Rome\'' in said
    assert checks.tool_call(called(SHAPES["plain"]), arguments={"city": "Paris"}, allow_extra=True)
    assert checks.tool_call(
        called({"name": "add", "arguments": {"x": 0.1 + 0.2}}),
        arguments={"x": 0.3},
        absolute=1e-9,
    )


def test_no_call_can_be_asked_for(reason: Reason) -> None:
    assert checks.no.tool_call(Reply(text="hi"))
    assert "it called stop({})" in reason(checks.no.tool_call, named("stop"))
    assert "no call, expected weather" in reason(checks.tool_call, Reply(text="hi"), "weather")
    assert "no call of 'weather'; called: stop({})" in reason(
        checks.tool_call, named("stop"), "weather"
    )


def test_arguments_that_are_no_json_are_a_miss(reason: Reason) -> None:
    broken = called({"function": {"name": "weather", "arguments": '{"city": '}})
    assert "not JSON" in reason(checks.tool_call, broken, "weather", arguments=PARIS)
    assert "not JSON" in reason(checks.valid_tool_calls, broken, TOOLS)
    assert checks.tool_call(called({"function": {"name": "stop", "arguments": ""}}), "stop")


def test_calls_are_valid_under_the_offered_schemas(reason: Reason) -> None:
    wrong = called(
        {"name": "weather", "arguments": {"unit": "K"}},
        {"name": "fly", "arguments": {}},
        {"x": 1},
        3,
    )
    said = reason(checks.valid_tool_calls, wrong, TOOLS)
    assert "'city' is a required property" in said
    assert "$.unit: 'K' is not one of ['C', 'F']" in said
    assert "fly: no such tool; offered: weather, stop" in said
    assert said.count("a call without a name") == 2
    assert checks.valid_tool_calls(Reply(text="hi"), TOOLS)


def test_the_order_of_calls(reason: Reason) -> None:
    reply = named("search", "read", "read", "answer")
    assert checks.tool_sequence(reply, ["search", "read", "read", "answer"])
    assert checks.tool_sequence(reply, ["search", "answer"], order="subsequence")
    assert checks.no.tool_sequence(reply, ["answer", "search"], order="subsequence")
    assert checks.tool_sequence(reply, ["read", "answer", "search", "read"], order="any")
    assert checks.no.tool_sequence(reply, ["read", "answer", "search"], order="any")
    said = reason(checks.tool_sequence, reply, ["search", "answer"])
    assert 'expected ["search", "answer"] (exact), got ["search", "read", "read", "answer"]' in said
    with pytest.raises(UsageError, match="order is"):
        checks.tool_sequence(reply, [], order="some")


def test_a_dialogue_is_several_replies() -> None:
    replies = [named("search"), Reply(text="…"), named("answer")]
    assert checks.tool_sequence(replies, ["search", "answer"])
    with pytest.raises(UsageError, match="takes a Reply or several, not str"):
        checks.tool_sequence("search", ["search"])


def test_tool_f1_counts_names() -> None:
    assert checks.tool_f1(named("a", "b"), ["b", "a"]).value == 1
    assert checks.tool_f1(named("a", "a"), ["a"], at_least=0).value == pytest.approx(2 / 3)


def test_a_tool_was_used_so_often(reason: Reason) -> None:
    several = [named("search", "read"), Reply(text="hm"), named("read")]
    assert checks.tool_used(several, "read", at_least=2)
    assert checks.tool_used(several, ["search", "read"])
    assert checks.no.tool_used(several, "delete")
    said = reason(checks.tool_used, several, ["search", "read"], at_most=1)
    assert "'read' was called 2 times, expected 1 to 1" in said
    assert 'called: {"read": 2, "search": 1}' in said
    assert "was called 0 times, expected at least 1" in reason(checks.tool_used, several, "x")


def test_steps_are_calls_or_turns(reason: Reason) -> None:
    several = [named("search", "read"), Reply(text="hm"), named("read")]
    assert checks.step_count(several, at_most=3).reason == "3 calls"
    assert checks.step_count(several, at_least=3, of="turns").reason == "3 turns"
    said = reason(checks.step_count, several, at_most=2)
    assert said == "step_count: 3 calls, expected at most 2: search, read, read"
    assert "expected at least 4" in reason(checks.step_count, several, at_least=4)
    with pytest.raises(UsageError, match="give at_least"):
        checks.step_count(several)


def test_the_messages_of_a_dialogue_are_a_trajectory_too() -> None:
    call = SHAPES["openai"]
    talk = [
        Message(role="user", content="go"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="18", tool_call_id="1"),
        Message(role="assistant", content="18 C"),
    ]
    assert checks.tool_sequence(talk, ["weather"])
    assert checks.step_count(talk, at_most=2, of="turns").reason == "2 turns"
    with pytest.raises(UsageError, match="takes a Reply or several, not str"):
        checks.step_count(["x"], at_most=1)  # type: ignore[list-item]
