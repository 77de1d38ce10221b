"""Langfuse's exports as data: observations and traces. Only read; knows no server.

The reply that was given is the reference: a recorded answer, not a right one, so each row has the
tag `trace`.
Source: Langfuse's field reference of the blob storage export, its public API (observations, v1 and
v2; traces), and what its pages write at a click on Download JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, text_of
from harness.engine.data.forms.spans import TAG, json_of, message_of_parts
from harness.engine.data.forms.turns import asked_and_answered, turns
from harness.records import Json


def expand_langfuse(export: Object) -> Iterator[tuple[str, Object]]:
    """Yield the observations of a trace that was downloaded, or the rows of an answer of the API.

    A trace that only names its observations is a row itself.
    """
    rows = export.get("observations") or export.get("data")
    if not isinstance(rows, list) or not any(isinstance(row, Mapping) for row in rows):
        yield "", export
        return
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            yield f"#{row.get('id') or number}", row


def parse_langfuse(row: Object, place: str) -> Example | None:
    """Return a generation, or a trace with input and output; None for spans and events."""
    if str(row.get("type") or "GENERATION").upper() not in {"GENERATION", "TRACE"}:
        return None
    question, reply = json_of(row.get("input")), json_of(row.get("output"))
    if question in (None, "", [], {}):
        raise ValueError("there is no input: the export left it out, or it was not recorded")
    tools = question.get("tools") if isinstance(question, Mapping) else None
    if isinstance(question, Mapping) and isinstance(question.get("messages"), list):
        question = question["messages"]
    trace = str(row.get("traceId") or row.get("trace_id") or "")
    trace = trace or str(row.get("sessionId") or row.get("session_id") or "")
    common: dict[str, Any] = {
        "place": place,
        "id": str(row.get("id") or ""),
        "cluster": trace,
        "tags": tuple(dict.fromkeys([TAG, *_texts(row.get("tags"))])),
        "other": _model(row),
    }
    if isinstance(question, list) and all(isinstance(m, Mapping) and "role" in m for m in question):
        if isinstance(reply, Mapping) and isinstance(reply.get("choices"), list):
            reply = (reply["choices"] or [{}])[0].get("message")
        if isinstance(reply, list) and len(reply) == 1:
            reply = reply[0]
        question, reply = [message_of_parts(m) for m in question], message_of_parts(reply)
        if isinstance(reply, Mapping) and "role" in reply:
            said = [*question, reply]
        elif reply is None:
            said = [*question]
        else:
            said = [*question, {"role": "assistant", "content": text_of(reply)}]
        messages, _ = turns(said, key="input")
        given = asked_and_answered(messages) if reply is not None else {"messages": messages}
        if isinstance(tools, list) and tools:
            given["tools"] = tuple(tools)
        return Example(**common, **given)
    inputs = question if isinstance(question, Mapping) else {"input": question}
    return Example(**common, inputs=inputs, reference=reply)


def _model(row: Object) -> dict[str, Json]:
    names = (row.get(key) for key in ("model", "provided_model_name", "providedModelName"))
    return next(({"model": name} for name in names if isinstance(name, str) and name), {})


def _texts(value: Json) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def marks_langfuse(row: Object) -> float:
    """Tell how sure a row makes us."""
    if _is_row(row):
        return 0.96
    for key in ("observations", "data"):
        rows = row.get(key)
        first = rows[0] if isinstance(rows, list) and rows else None
        if isinstance(first, Mapping) and _is_row(first):
            return 0.96
    return 0.0


def _is_row(row: Object) -> bool:
    """Whether a row is an observation or a trace of Langfuse, in either way of writing names."""
    if not {"id", "input", "output"} <= row.keys():
        return False
    return bool(row.keys() & {"traceId", "trace_id"}) or (
        "timestamp" in row and bool(row.keys() & _OF_A_TRACE)
    )


_OF_A_TRACE = frozenset({"bookmarked", "htmlPath", "sessionId", "session_id", "projectId"})


FORM = Form(
    name="langfuse",
    about="Langfuse: exported observations, a downloaded trace, or an answer of its API",
    carries="(only read) messages or input, the output as reference, ids, tags, model",
    parse=parse_langfuse,
    marks=marks_langfuse,
    why="rows have `traceId`, `input` and `output`",
    expand=expand_langfuse,
)
