"""Reads a streamed chat completion and joins its pieces. Knows nothing of sockets or clocks.

The joined pieces have the shape of an answer that came whole, so that both are read by one
function.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness_openai import wire

END = "[DONE]"


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield the data of each server-sent event.

    Bytes are split here: a text's own lines end at U+2028 too, which JSON may hold as it is.
    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    rest, data = b"", list[str]()
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode("utf-8", "replace")
            name, _, value = text.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
            elif not text and data:
                yield "\n".join(data)
                data = []
    name, _, value = rest.decode("utf-8", "replace").strip().partition(":")
    if name == "data":  # some servers leave the last line's end out
        data.append(value.removeprefix(" "))
    if data:
        yield "\n".join(data)


@dataclass(slots=True, kw_only=True)
class Joined:
    """What has come of an answer. `is_whole` is true once the server said that it was all;
    `first_s` is when the model first wrote something, `last_s` when the last chunk came.
    """

    is_whole: bool = False
    first_s: float | None = None
    last_s: float = 0.0
    _texts: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _calls: list[dict[str, Any]] = field(default_factory=list)
    _logprobs: list[Any] = field(default_factory=list)
    _model: str | None = None
    _finish: str | None = None
    _usage: Any = None

    def add(self, chunk: Mapping[str, Any], *, since_s: float) -> None:
        """Take in one chunk, which came so long after the request."""
        self.last_s = since_s
        if self._add(chunk) and self.first_s is None:
            self.first_s = since_s

    def _add(self, chunk: Mapping[str, Any]) -> bool:
        """Whether the model wrote something in it."""
        self._model = self._model or chunk.get("model")
        self._usage = chunk.get("usage") or self._usage
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, Mapping):
            return False
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            self._finish, self.is_whole = finish, True
        logprobs = choice.get("logprobs")
        content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
        self._logprobs += content if isinstance(content, list) else []
        delta = choice.get("delta")
        return self._add_delta(delta) if isinstance(delta, Mapping) else False

    def _add_delta(self, delta: Mapping[str, Any]) -> bool:
        text, refusal = wire.text_of(delta.get("content")), delta.get("refusal")
        calls = delta.get("tool_calls")
        self._texts.append(text)
        self._refusals.append(refusal if isinstance(refusal, str) else "")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, Mapping):
                self._add_call(call)
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        return bool(text or refusal or calls or thought)

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        call = self._call_of(piece)
        for name, value in piece.items():
            if name != "function" and value is not None:
                call.setdefault(name, value)
        function, new = call.setdefault("function", {}), piece.get("function")
        for name, value in new.items() if isinstance(new, Mapping) else ():
            if name == "arguments" and isinstance(value, str):
                function[name] = function.get(name, "") + value
            elif value:
                function.setdefault(name, value)

    def _call_of(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        """Return the call that `piece` goes on with, or a new one.

        By index; but some servers number every call 0, and tell them apart by id alone.
        """
        index, known = piece.get("index"), piece.get("id")
        alike = [c for c in self._calls if index is None or c.get("index") == index]
        if alike and (not known or alike[-1].get("id") in (None, known)):
            return alike[-1]
        self._calls.append({})
        return self._calls[-1]

    def payload(self) -> dict[str, Any]:
        """Return the pieces as the chat completion that they would have been."""
        message: dict[str, Any] = {"content": "".join(self._texts)}
        if any(self._refusals):
            message["refusal"] = "".join(self._refusals)
        if self._calls:
            calls = [{k: v for k, v in call.items() if k != "index"} for call in self._calls]
            message["tool_calls"] = calls
        logprobs = {"content": self._logprobs} if self._logprobs else None
        choice = {"message": message, "finish_reason": self._finish, "logprobs": logprobs}
        return {"model": self._model, "choices": [choice], "usage": self._usage}

    @property
    def characters(self) -> int:
        """How many characters of text have come."""
        return sum(map(len, self._texts))


def read_event(data: str | bytes) -> Mapping[str, Any] | None:
    """Return the JSON object in one event's data (or in a whole answer), or None."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, Mapping) else None
