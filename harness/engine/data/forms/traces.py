"""OpenTelemetry traces as data: OTLP JSON. Only read; knows no server.

The reply that was given is the reference: a recorded answer, not a right one, so each row has the
tag `trace`. Spans that asked no model are skipped.
Source: OpenTelemetry's OTLP/JSON encoding; the attributes are told in `spans`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from harness.core.examples import Example
from harness.engine.data.forms import ai_sdk
from harness.engine.data.forms.base import Form, Object, kind_of
from harness.engine.data.forms.spans import (
    example_of,
    json_of,
    list_of,
    message_of_parts,
    numbered_messages,
    tools_of_span,
)
from harness.records import Json

MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", *ai_sdk.MODELS)


def expand_otlp(export: Object) -> Iterator[tuple[str, Object]]:
    """Yield the spans of an export. A span's attributes become a plain object."""
    if "resourceSpans" not in export:
        yield "", span_of(export)
        return
    for resource in _objects(export, "resourceSpans"):
        for scope in _objects(resource, "scopeSpans"):
            for span in _objects(scope, "spans"):
                yield f"#{span.get('spanId') or span.get('name') or ''}", span_of(span)


def _objects(holder: Object, key: str) -> list[Object]:
    found = holder.get(key) or []
    if not (isinstance(found, list) and all(isinstance(one, Mapping) for one in found)):
        raise ValueError(f"`{key}` must be a list of objects")
    return found


def span_of(span: Object) -> Object:
    """Return a span whose attributes are a plain object, with what its events tell."""
    if not isinstance(span.get("attributes"), list):
        return span
    attributes = {str(a.get("key")): _value(a.get("value")) for a in _objects(span, "attributes")}
    said: list[Json] = []
    reply: list[Json] = []
    for event in _objects(span, "events"):  # where older conventions keep the content
        told = {str(a.get("key")): _value(a.get("value")) for a in _objects(event, "attributes")}
        role = _ROLE.fullmatch(str(event.get("name")))
        if role is None:
            for key, value in told.items():
                attributes.setdefault(key, value)
        elif role[1]:
            said.append(_of_event(told, role[1]))
        else:
            reply.append(_of_event(told, "assistant"))
    if said:
        attributes.setdefault("gen_ai.prompt", said)
        attributes.setdefault("gen_ai.completion", reply)
    return {**span, "attributes": attributes}


_ROLE = re.compile(r"gen_ai\.(?:(system|user|assistant|tool)\.message|choice)")


def _of_event(told: Object, role: str) -> Json:
    """Return the message of an event, as OpenAI writes it: its body, or its attributes."""
    body = json_of(told.get("gen_ai.event.content"))
    plain = dict(body) if isinstance(body, Mapping) else dict(told)
    inner = json_of(plain.get("message"))
    if isinstance(inner, Mapping):  # of a choice
        plain = dict(inner)
    elif isinstance(inner, str):
        plain["content"] = inner
    calls = json_of(plain.get("tool_calls"))
    found: dict[str, Json] = {"role": role, "content": plain.get("content")}
    if isinstance(calls, list) and calls:
        found["tool_calls"] = calls
    if role == "tool" and plain.get("id"):
        found["tool_call_id"] = plain["id"]
    return found


def _value(value: Json) -> Json:
    """Return an OTLP AnyValue as JSON."""
    if not isinstance(value, Mapping):
        return value
    for kind in ("arrayValue", "kvlistValue"):
        inner = value.get(kind)
        if kind not in value:
            continue
        if not isinstance(inner, Mapping):
            raise ValueError(f"`{kind}` must be an object, not {kind_of(inner)}")
        if kind == "kvlistValue":
            return {str(v.get("key")): _value(v.get("value")) for v in _objects(inner, "values")}
        values = inner.get("values") or []
        if not isinstance(values, list):
            raise ValueError(f"`values` must be a list, not {kind_of(values)}")
        return [_value(v) for v in values]
    if isinstance(value.get("intValue"), str | int):
        return int(value["intValue"])  # a text: 64 bits do not fit into JSON's numbers
    return next(iter(value.values()), None)


def parse_otlp(span: Object, place: str) -> Example | None:
    """Return a span that asked a model; None for any other. Raises ValueError."""
    attributes = span.get("attributes") or {}
    if not isinstance(attributes, Mapping):
        raise ValueError(f"`attributes` must be an object, not {kind_of(attributes)}")
    if ai_sdk.is_beside(attributes):
        return None
    said, reply = ai_sdk.ai_sdk_messages(attributes)
    if not said:
        said, reply = _gen_ai(attributes)
    if not said:
        said, reply = numbered_messages(attributes)
    if not said:
        if any(key.startswith(("gen_ai.", "llm.")) for key in attributes):
            raise ValueError(
                "the span has no messages: record content (gen_ai.input.messages) to convert it"
            )
        return None
    model = next((attributes[k] for k in MODELS if k in attributes), None)
    return example_of(
        place,
        said,
        reply,
        identity=str(span.get("spanId") or ""),
        trace=str(span.get("traceId") or ""),
        model=model,
        tools=tools_of_span(attributes, ai_sdk.ai_sdk_tools(attributes)),
    )


def _gen_ai(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return the messages of the conventions: with parts since 1.37, as OpenAI's before."""
    said = list_of(attributes.get("gen_ai.input.messages"))
    reply = list_of(attributes.get("gen_ai.output.messages"))
    if not said:
        said = list_of(attributes.get("gen_ai.prompt"))
        reply = list_of(attributes.get("gen_ai.completion"))
    system = list_of(attributes.get("gen_ai.system_instructions"))
    if system and said:
        said.insert(0, {"role": "system", "parts": system})
    return [message_of_parts(m) for m in said], [message_of_parts(m) for m in reply[:1]]


FORM = Form(
    name="otlp",
    about="OpenTelemetry traces as OTLP JSON, with gen_ai, OpenInference or AI SDK attributes",
    carries="(only read) messages, tools, calls, the reply as reference, span and trace ids, model",
    parse=parse_otlp,
    marks=lambda row: (
        0.99
        if "resourceSpans" in row
        else 0.97
        if "spanId" in row and isinstance(row.get("attributes"), list | dict)
        else 0.0
    ),
    why="rows are `resourceSpans`",
    expand=expand_otlp,
)
