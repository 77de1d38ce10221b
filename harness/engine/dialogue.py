"""A dialogue with a candidate over several turns, tool calls included. Knows no pytest or store.

Whoever opens one says how a request is answered; so a turn is found or asked, and recorded, as
any other request is.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from harness.checks.schema import problems_of
from harness.checks.tools import Call, calls_of
from harness.engine.views import NoReference
from harness.errors import Miss, UsageError
from harness.records import Json, Message, Reply, Request

ROUNDS = 8
"""So many times a model may call tools before it answers."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """One tool call of a dialogue, and what the model was told. `error` is empty, or says why the
    call could not be run (then the model was told that).
    """

    id: str
    name: str
    arguments: Json = None
    result: Json = None
    error: str = ""


class Dialogue:
    """Turns of one case with one candidate: `ask()`, `ask("text")`, `ask(results={...})`.

    `messages` is all that was said and goes on with each turn, `replies` the candidate's, `calls`
    the tools that it called. `opening` is the candidate's request for the case; its decoding,
    schema and tools hold for every turn. `only_turn_of` names a candidate whose replies are
    recorded: it has an answer to the first turn alone.
    """

    def __init__(
        self,
        opening: Request,
        *,
        answer: Callable[[Request], Reply],
        images: Sequence[str] = (),
        only_turn_of: str = "",
    ) -> None:
        self.messages: list[Message] = []
        self.replies: list[Reply] = []
        self.calls: list[ToolRun] = []
        self._opening = opening
        self._answer = answer
        self._images = tuple(images)
        self._only_turn_of = only_turn_of
        self._open: dict[str, Call] = {}

    def __call__(
        self,
        text: str | None = None,
        *,
        results: Mapping[str, Json] | None = None,
        tools: Mapping[str, Callable[..., Any]] | None = None,
        rounds: int = ROUNDS,
    ) -> Reply:
        """Say `text` (or, to begin, what the candidate's prompt says) and return the reply.

        `results` answers the open tool calls by their ids; `tools` runs the functions that the
        model calls and asks again until it answers without a call. Raises Miss where it still
        calls after `rounds` rounds, or was asked something else while a call of its was open.
        """
        if rounds < 1:
            raise UsageError(f"ask(rounds={rounds}): at least one round")
        had_open = bool(self._open)
        if results is not None:
            self._feed(results)
        elif had_open and tools is not None:
            self._run(tools)
        if self._open:
            raise Miss(f"it called {self._called()}, and was given no result but another turn")
        if text is not None:
            self._say(text)
        elif not self.messages:
            self.messages += self._opening.messages
        elif self.replies and not had_open:
            raise UsageError("ask() begins a dialogue, and this one has begun: ask('a text')")
        reply = self._turn()
        for _ in range(rounds if tools is not None else 0):
            if not self._open:
                return reply
            self._run(tools or {})
            reply = self._turn()
        if tools is not None and self._open:
            raise Miss(f"still calling tools after {rounds} rounds: {self._called()}")
        return reply

    @property
    def text(self) -> str:
        """The text of the last reply. Raises UsageError where nothing was asked yet."""
        if not self.replies:
            raise UsageError("ask.text: nothing was asked yet")
        return self.replies[-1].text

    def _say(self, text: str) -> None:
        if not self.messages:
            self.messages += [m for m in self._opening.messages if m.role == "system"]
            self.messages.append(Message(role="user", content=text, images=self._images))
        else:
            self.messages.append(Message(role="user", content=text))

    def _turn(self) -> Reply:
        if self._only_turn_of and self.replies:
            raise NoReference(f"{self._only_turn_of} answers one turn")
        reply = self._answer(replace(self._opening, messages=tuple(self.messages)))
        reply = replace(reply, tool_calls=self._with_ids(reply.tool_calls))
        calls = calls_of(reply, name="ask")
        self._open = {
            plain["id"]: call for plain, call in zip(reply.tool_calls, calls, strict=True)
        }
        self.replies.append(reply)
        self.messages.append(
            Message(role="assistant", content=reply.text, tool_calls=reply.tool_calls)
        )
        return reply

    def _with_ids(self, calls: Sequence[Json]) -> tuple[Json, ...]:
        """Return the calls, each with an id of its own: some servers give none, or one to all."""
        made: dict[str, Json] = {}
        for number, call in enumerate(calls, start=len(self.calls)):
            plain = dict(call) if isinstance(call, Mapping) else {"name": str(call)}
            name = plain.get("id")
            if not isinstance(name, str) or not name or name in made:
                name = f"call_{number}"
                while name in made:
                    name += "_"
            made[name] = plain | {"id": name}
        return tuple(made.values())

    def _called(self) -> str:
        return ", ".join(map(str, self._open.values()))

    # ------------------------------------------------------------ tools

    def _feed(self, results: Mapping[str, Json]) -> None:
        if set(results) != set(self._open):
            is_open = ", ".join(f"{name} ({call})" for name, call in self._open.items())
            raise UsageError(
                f"ask(results=...): got {sorted(map(str, results))}; the calls that wait for a "
                f"result: {is_open or 'none'}. Answer each of them, by its id."
            )
        for name, call in list(self._open.items()):
            self._tell(name, call, result=results[name])

    def _run(self, tools: Mapping[str, Callable[..., Any]]) -> None:
        for name, call in list(self._open.items()):
            error = self._problem(call, tools)
            if error:
                self._tell(name, call, error=error)
            else:
                self._tell(name, call, result=_value(tools[call.name](**call.arguments)))

    def _problem(self, call: Call, tools: Mapping[str, Callable[..., Any]]) -> str:
        """Return why a call cannot be run, in words for the model; empty where it can."""
        if call.problem:
            return call.problem
        if call.name not in tools:
            return f"no tool {call.title!r}; there are: {', '.join(tools) or 'none'}"
        if call.name in self._schemas and (
            wrong := problems_of(call.arguments, self._schemas[call.name])
        ):
            return f"invalid arguments: {wrong}"
        try:
            inspect.signature(tools[call.name]).bind(**call.arguments)
        except TypeError as exc:
            return f"invalid arguments: {exc}"
        except ValueError:  # a function of C tells no signature
            pass
        return ""

    @cached_property
    def _schemas(self) -> dict[str, Json]:
        inner = [tool.get("function", tool) for tool in self._opening.tools]
        return {tool["name"]: tool["parameters"] for tool in inner if "parameters" in tool}

    def _tell(self, name: str, call: Call, *, result: Json = None, error: str = "") -> None:
        self.messages.append(
            Message(
                role="tool",
                content=_text({"error": error} if error else result, call.title),
                tool_call_id=name,
            )
        )
        self.calls.append(
            ToolRun(id=name, name=call.name, arguments=call.arguments, result=result, error=error)
        )
        del self._open[name]


def outside_of_loops(function: Callable[[], T]) -> T:
    """Return what `function` gives, which may run an event loop of its own: in a thread where one
    is running here already, as in an async eval.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()


def _value(returned: Any) -> Any:
    if not inspect.isawaitable(returned):
        return returned

    async def awaited() -> Any:
        return await returned

    return outside_of_loops(lambda: asyncio.run(awaited()))


def _text(value: Json, name: str) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(
            f"the result of the tool {name!r} is neither text nor JSON: {exc}"
        ) from exc
