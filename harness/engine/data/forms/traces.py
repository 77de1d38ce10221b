"""Traces as data: OTLP JSON, Langfuse and Phoenix exports. Only read; knows no server.

The reply that was given is the reference: a recorded answer, not a right one, so each row has the
tag `trace`. Spans that asked no model are skipped.
Source: OpenTelemetry's gen_ai semantic conventions (gen_ai.input.messages, gen_ai.output.messages,
gen_ai.system_instructions, gen_ai.tool.definitions), OpenLLMetry's older gen_ai.prompt.N.content,
OpenInference's llm.input_messages (Phoenix), Langfuse's observations (input, output, type).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, text_of
from harness.engine.data.forms.turns import asked_and_answered, turns
from harness.records import Json

TAG = "trace"
MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
NUMBERED = re.compile(r"^(.+?)\.(\d+)\.(.+)$")


def _example(
    place: str,
    said: Sequence[Json],
    reply: Sequence[Json],
    *,
    identity: str,
    trace: str,
    model: Json,
    tools: Json = None,
) -> Example:
    messages, _ = turns([*said, *reply], key="messages")
    given = asked_and_answered(messages) if reply else {"messages": messages}
    if not given.get("messages"):
        raise ValueError("the span holds no messages: content was not recorded")
    if isinstance(tools, list) and tools:
        given["tools"] = tuple(tools)
    return Example(
        place=place,
        id=identity,
        cluster=trace,
        tags=(TAG,),
        other={"model": model} if isinstance(model, str) else {},
        **given,
    )


def _json(value: Json) -> Json:
    """Return what a text holds as JSON, or the text."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


# ---------------------------------------------------------------- OTLP


def expand_otlp(export: Object) -> Iterator[tuple[str, Object]]:
    """Yield the spans of an export. A span's attributes become a plain object."""
    if "resourceSpans" not in export:
        yield "", _span(export)
        return
    for resource in _objects(export, "resourceSpans"):
        for scope in _objects(resource, "scopeSpans"):
            for span in _objects(scope, "spans"):
                yield f"#{span.get('spanId') or span.get('name') or ''}", _span(span)


def _objects(holder: Object, key: str) -> list[Object]:
    found = holder.get(key) or []
    if not (isinstance(found, list) and all(isinstance(one, Mapping) for one in found)):
        raise ValueError(f"`{key}` must be a list of objects")
    return found


def _span(span: Object) -> Object:
    if not isinstance(span.get("attributes"), list):
        return span
    attributes = {str(a.get("key")): _value(a.get("value")) for a in _objects(span, "attributes")}
    for event in _objects(span, "events"):  # where older conventions keep the content
        for a in _objects(event, "attributes"):
            attributes.setdefault(str(a.get("key")), _value(a.get("value")))
    return {**span, "attributes": attributes}


def _value(value: Json) -> Json:
    """Return an OTLP AnyValue as JSON."""
    if not isinstance(value, Mapping):
        return value
    if "arrayValue" in value:
        return [_value(v) for v in value["arrayValue"].get("values") or ()]
    if "kvlistValue" in value:
        return {v["key"]: _value(v.get("value")) for v in value["kvlistValue"].get("values") or ()}
    if "intValue" in value:
        return int(value["intValue"])  # a text: 64 bits do not fit into JSON's numbers
    return next(iter(value.values()), None)


def parse_otlp(span: Object, place: str) -> Example | None:
    """Return a span that asked a model; None for any other. Raises ValueError."""
    attributes = span.get("attributes") or {}
    said, reply = _gen_ai(attributes)
    if not said:
        said, reply = _numbered(attributes)
    if not said:
        if any(key.startswith(("gen_ai.", "llm.")) for key in attributes):
            raise ValueError(
                "the span has no messages: record content (gen_ai.input.messages) to convert it"
            )
        return None
    model = next((attributes[k] for k in MODELS if k in attributes), None)
    return _example(
        place,
        said,
        reply,
        identity=str(span.get("spanId") or ""),
        trace=str(span.get("traceId") or ""),
        model=model,
        tools=_json(attributes.get("gen_ai.tool.definitions")),
    )


def _gen_ai(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return the messages of the current conventions: parts with types."""
    said = [_of_parts(m) for m in _list(attributes.get("gen_ai.input.messages"))]
    reply = [_of_parts(m) for m in _list(attributes.get("gen_ai.output.messages"))][:1]
    system = _list(attributes.get("gen_ai.system_instructions"))
    if system and said:
        said.insert(0, _of_parts({"role": "system", "parts": system}))
    return said, reply


def _list(value: Json) -> list[Json]:
    found = _json(value)
    return found if isinstance(found, list) else []


def _of_parts(message: Json) -> Json:
    if not isinstance(message, Mapping) or "parts" not in message:
        return message
    texts, calls = [], []
    found: dict[str, Json] = {"role": message.get("role")}
    for part in message["parts"] or ():
        kind = part.get("type")
        if kind == "text":
            texts.append(str(part.get("content", "")))
        elif kind == "tool_call":
            arguments = part.get("arguments")
            calls.append(_call(part.get("id"), part.get("name"), arguments))
        elif kind == "tool_call_response":
            found["tool_call_id"] = part.get("id")
            texts.append(text_of(part.get("response", part.get("result", ""))))
    found["content"] = "\n".join(texts) if texts or not calls else None
    if calls:
        found["tool_calls"] = calls
    return found


def _call(identity: Json, name: Json, arguments: Json) -> Json:
    text = arguments if isinstance(arguments, str) else text_of(arguments or {})
    function = {"name": name, "arguments": text}
    return {**({"id": identity} if identity else {}), "type": "function", "function": function}


def _numbered(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return messages whose parts stand in numbered keys, as `gen_ai.prompt.0.content`."""
    groups: dict[str, dict[int, dict[str, Json]]] = {}
    for key, value in attributes.items():
        match = NUMBERED.match(key)
        if match:
            inner = groups.setdefault(match[1], {}).setdefault(int(match[2]), {})
            inner[match[3].removeprefix("message.")] = value
    ordered = {name: [m[n] for n in sorted(m)] for name, m in groups.items()}
    said = ordered.get("gen_ai.prompt") or ordered.get("llm.input_messages") or []
    reply = ordered.get("gen_ai.completion") or ordered.get("llm.output_messages") or []
    return [_flat(m, "user") for m in said], [_flat(m, "assistant") for m in reply[:1]]


def _flat(message: Mapping[str, Json], role: str) -> Json:
    """Return a message of OpenLLMetry or OpenInference as OpenAI writes it."""
    plain = {k.removeprefix("message."): v for k, v in message.items()}
    found: dict[str, Json] = {"role": plain.get("role") or role, "content": plain.get("content")}
    calls = _calls(plain)
    if calls:
        found["tool_calls"] = calls
    elif found["content"] is None:
        found["content"] = ""
    if plain.get("tool_call_id"):
        found["tool_call_id"] = plain["tool_call_id"]
    return found


def _calls(plain: Mapping[str, Json]) -> list[Json]:
    given = plain.get("tool_calls")
    if isinstance(given, list):
        calls = [{k.removeprefix("tool_call."): v for k, v in c.items()} for c in given]
    else:
        numbered: dict[int, dict[str, Json]] = {}
        for key, value in plain.items():
            match = re.match(r"^tool_calls\.(\d+)\.(?:tool_call\.)?(.+)$", key)
            if match:
                numbered.setdefault(int(match[1]), {})[match[2]] = value
        calls = [numbered[n] for n in sorted(numbered)]
    found = []
    for call in calls:
        inner = call.get("function")
        function = inner if isinstance(inner, Mapping) else {}
        name = call.get("name") or call.get("function.name") or function.get("name")
        arguments = (
            call.get("arguments") or call.get("function.arguments") or function.get("arguments")
        )
        found.append(_call(call.get("id"), name, arguments))
    return found


# ---------------------------------------------------------------- Langfuse


def expand_langfuse(export: Object) -> Iterator[tuple[str, Object]]:
    """Yield the observations of a trace that was downloaded, or of an answer of the API."""
    rows = export.get("observations") or export.get("data")
    if not isinstance(rows, list) or not rows:
        yield "", export
        return
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Mapping):
            yield f"#{row.get('id') or number}", row


def parse_langfuse(row: Object, place: str) -> Example | None:
    """Return a generation, or a trace with input and output; None for spans and events."""
    if str(row.get("type") or "GENERATION").upper() not in {"GENERATION", "TRACE"}:
        return None
    question, reply = _json(row.get("input")), _json(row.get("output"))
    if question in (None, "", [], {}):
        raise ValueError("there is no input: the export left it out, or it was not recorded")
    tools = question.get("tools") if isinstance(question, Mapping) else None
    if isinstance(question, Mapping) and isinstance(question.get("messages"), list):
        question = question["messages"]
    trace = str(row.get("traceId") or row.get("trace_id") or "")
    common: dict[str, Any] = {
        "place": place,
        "id": str(row.get("id") or ""),
        "cluster": trace,
        "tags": tuple(dict.fromkeys([TAG, *_texts(row.get("tags"))])),
        "other": {"model": row["model"]} if isinstance(row.get("model"), str) else {},
    }
    if isinstance(question, list) and all(isinstance(m, Mapping) and "role" in m for m in question):
        if isinstance(reply, Mapping) and isinstance(reply.get("choices"), list):
            reply = (reply["choices"] or [{}])[0].get("message")
        if isinstance(reply, list) and len(reply) == 1:
            reply = reply[0]
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


def _texts(value: Json) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def marks_langfuse(row: Object) -> float:
    """Tell how sure a row makes us."""
    if {"traceId", "input", "output"} <= row.keys() or {
        "trace_id",
        "input",
        "output",
    } <= row.keys():
        return 0.96
    if isinstance(row.get("observations"), list):
        return 0.96
    data = row.get("data")
    first = data[0] if isinstance(data, list) and data else None
    return 0.96 if isinstance(first, Mapping) and "traceId" in first else 0.0


# ---------------------------------------------------------------- Phoenix


def parse_phoenix(row: Object, place: str) -> Example | None:
    """Return an LLM span of Phoenix; None for any other kind. Raises ValueError."""
    attributes = _attributes(row)
    kind = row.get("span_kind") or attributes.get("openinference.span.kind")
    if kind is not None and str(kind).upper() != "LLM":
        return None
    said = [_flat(m, "user") for m in _list(attributes.get("llm.input_messages"))]
    reply = [_flat(m, "assistant") for m in _list(attributes.get("llm.output_messages"))][:1]
    if not said:
        said, reply = _numbered(attributes)
    context = row.get("context") if isinstance(row.get("context"), Mapping) else {}
    assert isinstance(context, Mapping)
    identity = row.get("context.span_id") or context.get("span_id") or row.get("span_id") or ""
    trace = row.get("context.trace_id") or context.get("trace_id") or row.get("trace_id") or ""
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
    return _example(
        place,
        said,
        reply,
        identity=str(identity),
        trace=str(trace),
        model=attributes.get("llm.model_name"),
    )


def _attributes(row: Object) -> dict[str, Json]:
    """Return the attributes of a span: nested, or columns that begin with `attributes.`."""
    found: dict[str, Json] = {}
    inner = row.get("attributes")
    if isinstance(inner, str):
        inner = _json(inner)
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
    attributes = _attributes(row) if "attributes" in row else {}
    return 0.97 if any(k.startswith(("llm.", "openinference.")) for k in attributes) else 0.0


OTLP = Form(
    name="otlp",
    about="OpenTelemetry traces as OTLP JSON, with gen_ai (or OpenInference) attributes",
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
LANGFUSE = Form(
    name="langfuse",
    about="Langfuse: exported observations, a downloaded trace, or an answer of its API",
    carries="(only read) messages or input, the output as reference, ids, tags, model",
    parse=parse_langfuse,
    marks=marks_langfuse,
    why="rows have `traceId`, `input` and `output`",
    expand=expand_langfuse,
)
PHOENIX = Form(
    name="phoenix",
    about="Phoenix (OpenInference): exported spans",
    carries="(only read) messages or input, calls, the output as reference, ids, model",
    parse=parse_phoenix,
    marks=marks_phoenix,
    why="rows are spans with OpenInference attributes",
)
