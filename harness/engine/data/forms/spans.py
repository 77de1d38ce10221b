"""What spans tell of a dialogue: messages in parts or in numbered keys, tools. Knows no file.

Source: OpenTelemetry's gen_ai semantic conventions (gen_ai.input.messages, gen_ai.output.messages,
gen_ai.system_instructions, gen_ai.tool.definitions), the events that hold the same before version
1.37 (gen_ai.user.message and its kin), OpenLLMetry's older gen_ai.prompt.N.content, OpenInference's
llm.input_messages and llm.tools.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.core.examples import Example
from harness.engine.data.forms.base import Object, text_of
from harness.engine.data.forms.turns import asked_and_answered, turns
from harness.engine.text_files import strict_json
from harness.records import Json

TAG = "trace"
NUMBERED = re.compile(r"^(.+?)\.(\d+)\.(.+)$")


def example_of(
    place: str,
    said: Sequence[Json],
    reply: Sequence[Json],
    *,
    identity: str,
    trace: str,
    model: Json,
    tools: Sequence[Json] = (),
) -> Example:
    """Return what was asked and answered in a span. Raises ValueError where nothing was."""
    messages, _ = turns([*said, *reply], key="messages")
    given = asked_and_answered(messages) if reply else {"messages": messages}
    if not given.get("messages"):
        raise ValueError("the span holds no messages: content was not recorded")
    if tools:
        given["tools"] = tuple(tools)
    return Example(
        place=place,
        id=identity,
        cluster=trace,
        tags=(TAG,),
        other={"model": model} if isinstance(model, str) else {},
        **given,
    )


def json_of(value: Json) -> Json:
    """Return what a text holds as JSON, or the text."""
    if isinstance(value, str) and value[:1] in {"[", "{"}:
        try:
            return strict_json(value)
        except ValueError:
            return value
    return value


def list_of(value: Json) -> list[Json]:
    """Return a list, or the one that a text holds as JSON; else none."""
    found = json_of(value)
    return found if isinstance(found, list) else []


def message_of_parts(message: Json) -> Json:
    """Return a message of OpenTelemetry's parts as OpenAI writes it; any other as it is.

    Thoughts are no part of what was said. Raises ValueError for a part that no message holds.
    """
    if not isinstance(message, Mapping) or "parts" not in message:
        return message
    parts: list[Json] = []
    calls = []
    found: dict[str, Json] = {"role": message.get("role")}
    for part in list_of(message["parts"]):
        if not isinstance(part, Mapping):
            raise ValueError("a part of a message is no object")
        kind = part.get("type")
        if kind == "text":
            parts.append(text_part(str(part.get("content", ""))))
        elif kind == "tool_call":
            calls.append(call_of(part.get("id"), part.get("name"), part.get("arguments")))
        elif kind == "tool_call_response":
            found["tool_call_id"] = part.get("id")
            parts.append(text_part(text_of(part.get("response", part.get("result", "")))))
        elif kind in {"uri", "blob"} and part.get("modality") == "image":
            parts.append(image_part(_url_of(part)))
        elif kind != "reasoning":
            raise ValueError(f"a message has a part of type {kind!r}, which no form here holds")
    found["content"] = content_of(parts) if parts or not calls else None
    if calls:
        found["tool_calls"] = calls
    return found


def _url_of(part: Object) -> Json:
    if part.get("type") == "uri":
        return part.get("uri")
    return f"data:{part.get('mime_type') or 'image/png'};base64,{part.get('content')}"


def text_part(text: Json) -> dict[str, Json]:
    """Return a part of a message that is text."""
    return {"type": "text", "text": text}


def image_part(url: Json) -> dict[str, Json]:
    """Return a part of a message that is an image."""
    return {"type": "image_url", "image_url": {"url": url}}


def content_of(parts: Sequence[Object]) -> Json:
    """Return text where there is nothing but text, else the parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(str(part["text"]) for part in parts)
    return list(parts)


def call_of(identity: Json, name: Json, arguments: Json) -> Json:
    """Return a tool call as OpenAI writes it."""
    text = arguments if isinstance(arguments, str) else text_of(arguments or {})
    function = {"name": name, "arguments": text}
    return {**({"id": identity} if identity else {}), "type": "function", "function": function}


# ---------------------------------------------------------------- keys with numbers


def numbered_messages(attributes: Object) -> tuple[list[Json], list[Json]]:
    """Return messages whose parts stand in numbered keys, as `gen_ai.prompt.0.content`."""
    ordered = {
        name: [m[n] for n in sorted(m)]
        for name, m in _numbered(attributes).items()
        if name in {"gen_ai.prompt", "gen_ai.completion", *_OPENINFERENCE}
    }
    said = ordered.get("gen_ai.prompt") or ordered.get(_OPENINFERENCE[0]) or []
    reply = ordered.get("gen_ai.completion") or ordered.get(_OPENINFERENCE[1]) or []
    answered = [flat_message(m, "assistant") for m in reply[:1]]
    return [flat_message(m, "user") for m in said], answered


_OPENINFERENCE = ("llm.input_messages", "llm.output_messages")


def _numbered(attributes: Object) -> dict[str, dict[int, dict[str, Json]]]:
    """Return what stands under `NAME.N.`, by name and number."""
    groups: dict[str, dict[int, dict[str, Json]]] = {}
    for key, value in attributes.items():
        match = NUMBERED.match(key)
        if match:
            groups.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = value
    return groups


def flat_message(message: Json, role: str) -> Json:
    """Return a message of OpenLLMetry or OpenInference as OpenAI writes it.

    Raises ValueError where neither words nor a call of it were recorded.
    """
    if not isinstance(message, Mapping):
        raise ValueError("a message of the span is no object")
    plain: dict[str, Json] = {}
    _dotted(message, "", plain)
    plain = {key.removeprefix("message."): value for key, value in plain.items()}
    groups = _numbered(plain)
    content = plain.get("content")
    if content is None and "contents" in groups:
        content = content_of([_part(groups["contents"][n]) for n in sorted(groups["contents"])])
    elif isinstance(json_of(content), list):  # OpenLLMetry writes parts as JSON text
        told = json_of(content)
        is_parts = bool(told) and all(isinstance(p, Mapping) and "type" in p for p in told)
        content = told if is_parts else content
    calls = [_flat_call(groups["tool_calls"][n]) for n in sorted(groups.get("tool_calls", ()))]
    if content is None and not calls:
        raise ValueError("the span holds a message without content: it was not recorded")
    found: dict[str, Json] = {"role": plain.get("role") or role, "content": content}
    if calls:
        found["tool_calls"] = calls
    if plain.get("tool_call_id"):
        found["tool_call_id"] = plain["tool_call_id"]
    return found


def _dotted(value: Mapping[str, Json], before: str, found: dict[str, Json]) -> None:
    """Write objects and lists of objects out as keys with dots and numbers."""
    for key, inner in value.items():
        name = f"{before}{key}"
        if isinstance(inner, Mapping) and key != "arguments":
            _dotted(inner, f"{name}.", found)
        elif isinstance(inner, list) and inner and all(isinstance(i, Mapping) for i in inner):
            for number, one in enumerate(inner):
                _dotted(one, f"{name}.{number}.", found)
        else:
            found[name] = inner


def _part(given: Object) -> Json:
    plain = {key.removeprefix("message_content."): value for key, value in given.items()}
    kind = plain.get("type")
    if kind == "text":
        return text_part(plain.get("text", ""))
    if kind == "image":
        return image_part(plain.get("image.image.url") or plain.get("image.url"))
    raise ValueError(f"a message has a part of type {kind!r}, which no form here holds")


def _flat_call(given: Object) -> Json:
    call = {key.removeprefix("tool_call."): value for key, value in given.items()}
    name = call.get("name") or call.get("function.name")
    return call_of(call.get("id"), name, call.get("arguments") or call.get("function.arguments"))


# ---------------------------------------------------------------- tools


def tools_of_span(attributes: Object, found: Sequence[Json] = ()) -> list[Json]:
    """Return the tools that were offered, as OpenAI writes them; `found` were so by others."""
    groups = _numbered(attributes)
    offered = [*found, *list_of(attributes.get("gen_ai.tool.definitions"))]
    for one in list_of(attributes.get("llm.tools")):
        plain: dict[str, Json] = {}
        if isinstance(one, Mapping):
            _dotted(one, "", plain)
        offered.append(json_of(plain.get("tool.json_schema")))
    tools = groups.get("llm.tools", {})
    offered += [json_of(tools[n].get("tool.json_schema")) for n in sorted(tools)]
    functions = groups.get("llm.request.functions", {})
    for n in sorted(functions):
        given = {key: json_of(value) for key, value in functions[n].items()}
        offered.append({"type": "function", **given})
    return [_tool(one) for one in offered if isinstance(one, Mapping)]


def _tool(tool: Mapping[str, Json]) -> Json:
    """Return a tool whose name stands beside its type as OpenAI's chat API takes it."""
    if "function" in tool or "name" not in tool or tool.get("type", "function") != "function":
        return dict(tool)
    known = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {k: tool[k] for k in known if k in tool}}
