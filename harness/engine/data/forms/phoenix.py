"""Phoenix's exports as data: spans with OpenInference's attributes. Only read; knows no server.

The reply that was given is the reference: a recorded answer, not a right one, so each row has the
tag `trace`.
Source: the client's types (Span, SpansResponseBody, OtlpSpan) and its data frames of spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object
from harness.engine.data.forms.spans import (
    TAG,
    example_of,
    flat_message,
    json_of,
    list_of,
    numbered_messages,
    tools_of_span,
)
from harness.engine.data.forms.traces import span_of
from harness.records import Json


def expand_phoenix(export: Object) -> Iterator[tuple[str, Object]]:
    """Yield the spans of an answer of the API; those of its OTLP kind with plain attributes."""
    rows = export.get("data")
    for number, row in enumerate(rows if isinstance(rows, list) else [export], start=1):
        if isinstance(row, Mapping):
            name = row.get("span_id") or row.get("id") or number
            yield (f"#{name}" if isinstance(rows, list) else ""), span_of(row)


def parse_phoenix(row: Object, place: str) -> Example | None:
    """Return an LLM span of Phoenix; None for any other kind. Raises ValueError."""
    attributes = _attributes(row)
    kind = row.get("span_kind") or attributes.get("openinference.span.kind")
    if kind is not None and str(kind).upper() != "LLM":
        return None
    said = [flat_message(m, "user") for m in list_of(attributes.get("llm.input_messages"))]
    reply = [flat_message(m, "assistant") for m in list_of(attributes.get("llm.output_messages"))][
        :1
    ]
    if not said:
        said, reply = numbered_messages(attributes)
    context = row.get("context") if isinstance(row.get("context"), Mapping) else {}
    assert isinstance(context, Mapping)
    identity = row.get("context.span_id") or context.get("span_id") or row.get("span_id") or ""
    trace = row.get("context.trace_id") or context.get("trace_id") or row.get("trace_id") or ""
    tools = tools_of_span(attributes)
    if not said:  # a table that keeps the lists as text has the request itself, as JSON
        said, reply = _request(attributes)
    if not said:
        question = attributes.get("input.value")
        if question in (None, ""):
            raise ValueError("the span has neither llm.input_messages nor input.value")
        answered = attributes.get("output.value")
        return Example(
            place=place,
            id=str(identity),
            cluster=str(trace),
            tags=(TAG,),
            inputs={"input": question},
            reference=answered,
        )
    return example_of(
        place,
        said,
        reply,
        identity=str(identity),
        trace=str(trace),
        model=attributes.get("llm.model_name"),
        tools=tools,
    )


def _request(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return the messages of a request to a chat API and of its answer, where they are that."""
    asked, answered = (json_of(attributes.get(f"{side}.value")) for side in ("input", "output"))
    said = asked.get("messages") if isinstance(asked, Mapping) else None
    if not isinstance(said, list) or not all(isinstance(m, Mapping) and "role" in m for m in said):
        return [], []
    choices = answered.get("choices") if isinstance(answered, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    reply = first.get("message") if isinstance(first, Mapping) else None
    return list(said), [reply] if isinstance(reply, Mapping) else []


def _attributes(row: Object) -> dict[str, Json]:
    """Return the attributes of a span: nested, or columns that begin with `attributes.`."""
    found: dict[str, Json] = {}
    inner = row.get("attributes")
    if isinstance(inner, str):
        inner = json_of(inner)
    if isinstance(inner, Mapping):
        _flatten(inner, "", found)
    for key, value in row.items():
        if key.startswith("attributes."):
            found[key.removeprefix("attributes.")] = value
    return found


def _flatten(inner: Mapping[str, Json], before: str, found: dict[str, Json]) -> None:
    for key, value in inner.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and name.count(".") < 3:
            _flatten(value, f"{name}.", found)
        else:
            found[name] = value


def marks_phoenix(row: Object) -> float:
    """Tell how sure a row makes us."""
    if any(k.startswith(("attributes.llm.", "attributes.openinference.")) for k in row):
        return 0.97
    rows = row.get("data")
    first = rows[0] if isinstance(rows, list) and rows else None
    if isinstance(first, Mapping) and "data" not in first:
        return marks_phoenix(span_of(first))
    attributes = _attributes(row) if "attributes" in row else {}
    return 0.97 if any(k.startswith(("llm.", "openinference.")) for k in attributes) else 0.0


FORM = Form(
    name="phoenix",
    about="Phoenix (OpenInference): exported spans",
    carries="(only read) messages or input, calls, the output as reference, ids, model",
    expand=expand_phoenix,
    parse=parse_phoenix,
    marks=marks_phoenix,
    why="rows are spans with OpenInference attributes",
)
