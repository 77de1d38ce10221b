"""Turns, tools and their results, with a model that is a function of the messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine.dialogue import Dialogue, outside_of_loops
from harness.engine.views import NoReference
from harness.errors import Miss, UsageError
from harness.records import Message, Reply, Request

SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}},
            "required": ["query"],
        },
    },
}
OPENING = Request(
    messages=(
        Message(role="system", content="Be kind."),
        Message(role="user", content="Capital of France?"),
    ),
    tools=(SEARCH,),
)


def calling(name: str = "search", arguments: Any = None, **more: Any) -> Reply:
    given = {"query": "x"} if arguments is None else arguments
    return Reply(text="", tool_calls=({"function": {"name": name, "arguments": given}, **more},))


def dialogue(*replies: Reply | str, **more: Any) -> tuple[Dialogue, list[Request]]:
    """A dialogue that is answered with `replies` in turn, and what was asked."""
    left, asked = list(replies), []

    def answer(request: Request) -> Reply:
        asked.append(request)
        reply = left.pop(0)
        return Reply(text=reply) if isinstance(reply, str) else reply

    return Dialogue(OPENING, answer=answer, **more), asked


def test_the_first_turn_is_the_candidates_own_request_and_the_next_ones_go_on() -> None:
    ask, asked = dialogue("Paris.", "In euros.")
    assert ask().text == ask.text == "Paris."
    assert ask("How does one pay there?").text == ask.text == "In euros."
    assert asked[0] == OPENING
    assert asked[1].tools == OPENING.tools
    assert [(m.role, m.content) for m in ask.messages[2:]] == [
        ("assistant", "Paris."),
        ("user", "How does one pay there?"),
        ("assistant", "In euros."),
    ]
    assert asked[1].messages == tuple(ask.messages[:4])


def test_a_dialogue_that_a_user_opens_keeps_the_system_turns_and_the_images() -> None:
    ask, asked = dialogue("Hello.", images=("data:image/png;base64,AA",))
    ask("Hi.")
    assert asked[0].messages == (
        Message(role="system", content="Be kind."),
        Message(role="user", content="Hi.", images=("data:image/png;base64,AA",)),
    )


def test_results_answer_the_open_calls_by_id() -> None:
    ask, asked = dialogue(calling(id="c1"), "Paris.")
    first = ask()
    assert first.tool_calls[0]["id"] == "c1"
    assert ask(results={"c1": {"capital": "Paris"}}).text == "Paris."
    assert asked[1].messages[-1] == Message(
        role="tool", content='{"capital":"Paris"}', tool_call_id="c1"
    )
    assert [(c.name, c.arguments, c.result, c.error) for c in ask.calls] == [
        ("search", {"query": "x"}, {"capital": "Paris"}, "")
    ]


def test_calls_without_an_id_of_their_own_get_one() -> None:
    same = {"id": "0", "name": "search", "arguments": {"query": "x"}}
    ask, asked = dialogue(Reply(text="", tool_calls=(same, same, "?", {**same, "id": ""})), "ok")
    ids = [call["id"] for call in ask().tool_calls]
    assert ids == ["0", "call_1", "call_2", "call_3"]
    ask(results=dict.fromkeys(ids, "none"))
    assert [m.tool_call_id for m in asked[1].messages if m.role == "tool"] == ids


def test_results_for_other_calls_are_told_with_those_that_are_open() -> None:
    ask, _ = dialogue(calling(id="c1"))
    ask()
    with pytest.raises(UsageError, match=r"got \['c2'\].*c1 \(search"):
        ask(results={"c2": ""})


def test_functions_run_until_the_model_answers_without_a_call() -> None:
    ask, asked = dialogue(
        calling(arguments='{"query": "a"}'), calling(arguments={"query": "b"}), "ab"
    )
    found = ask("Find both.", tools={"search": lambda query: {"found": query}})
    assert (found.text, len(ask.replies), len(asked)) == ("ab", 3, 3)
    assert [c.result for c in ask.calls] == [{"found": "a"}, {"found": "b"}]


def test_an_async_function_is_awaited_within_a_loop_and_without() -> None:
    async def search(query: str) -> str:
        await asyncio.sleep(0)
        return query * 2

    async def within() -> str:
        ask, _ = dialogue(calling(), "done")
        ask(tools={"search": search})
        return str(ask.calls[0].result)

    assert asyncio.run(within()) == "xx"
    ask, _ = dialogue(calling(), "done")
    ask(tools={"search": search})
    assert ask.calls[0].result == "xx"
    assert outside_of_loops(lambda: 1) == 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (calling("delete"), "no tool 'delete'; there are: search"),
        (calling(arguments="{nope"), "not JSON"),
        (calling(arguments={"query": 1}), "query: 1 is not of type 'string'"),
        (calling(arguments={"query": "x", "limit": 3}), "unexpected keyword argument 'limit'"),
    ],
)
def test_what_cannot_be_run_is_told_to_the_model_which_may_recover(reply: Reply, says: str) -> None:
    ask, asked = dialogue(reply, "sorry")
    assert ask(tools={"search": lambda query: query}).text == "sorry"
    assert says in ask.calls[0].error
    assert says in json.loads(asked[1].messages[-1].content)["error"]


def test_what_a_function_of_the_eval_raises_is_the_evals_own() -> None:
    def search(query: str) -> str:
        raise ZeroDivisionError(query)

    ask, _ = dialogue(calling())
    with pytest.raises(ZeroDivisionError):
        ask(tools={"search": search})


def test_a_function_whose_result_is_no_json_is_told() -> None:
    ask, _ = dialogue(calling())
    with pytest.raises(UsageError, match="result of the tool 'search' is neither text nor JSON"):
        ask(tools={"search": lambda query: {query}})


def test_a_model_that_never_answers_misses_after_the_rounds() -> None:
    ask, asked = dialogue(*[calling()] * 4)
    with pytest.raises(Miss, match="still calling tools after 3 rounds: search"):
        ask(tools={"search": lambda query: query}, rounds=3)
    assert len(asked) == 4


def test_another_turn_while_a_call_is_open_is_a_miss_of_the_model() -> None:
    ask, asked = dialogue(calling(), "never")
    ask()
    with pytest.raises(Miss, match=r"it called search\(.*was given no result"):
        ask("And in euros?")
    assert len(asked) == 1


def test_a_recorded_candidate_answers_one_turn() -> None:
    ask, _ = dialogue("Paris.", "never", only_turn_of="reference")
    assert ask("Where?").text == "Paris."
    with pytest.raises(NoReference, match="reference answers one turn"):
        ask("And then?")


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda ask: ask.text, "nothing was asked yet"),
        (lambda ask: ask(rounds=0), "at least one round"),
        (lambda ask: (ask(), ask()), "begins a dialogue"),
    ],
)
def test_misuse_is_told(misuse: Callable[[Dialogue], Any], says: str) -> None:
    ask, _ = dialogue("a", "b")
    with pytest.raises(UsageError, match=says):
        misuse(ask)
