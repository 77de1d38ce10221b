"""A body with places to fill in, and paths into an answer. Knows no server, and runs no code.

In a template a text that is one placeholder and nothing else (`"$messages"`) becomes the value
itself; `$last_user` and `$system` may also stand within a longer text. `$$` is a dollar sign. What
is filled in is never looked at again, so that no input can ask for another placeholder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import Message, Request, UsageError

TEXTS = ("last_user", "system")
VALUES = (
    *TEXTS, "messages", "temperature", "max_tokens", "top_p", "seed", "stop", "tools", "schema",
)  # fmt: skip
_MARK = re.compile(r"\$(\$|[a-z_]+)")


class Nothing:
    """What a placeholder becomes that the request says nothing of: its key is left out."""


def placeholders(template: Any) -> frozenset[str]:
    """Return the placeholders of `template`. Raises UsageError for one that cannot be filled."""
    found = set()
    for text in _texts(template):
        names = [m[1] for m in _MARK.finditer(text) if m[1] != "$"]
        is_whole = len(names) == 1 and text == f"${names[0]}"
        for name in names:
            if name not in VALUES:
                raise UsageError(
                    f"the body's {text!r}: no placeholder ${name}. Known: "
                    f"{', '.join(f'${v}' for v in VALUES)}; a dollar sign is $$."
                )
            if not is_whole and name not in TEXTS:
                raise UsageError(
                    f"the body's {text!r}: ${name} is no text, so it stands alone, as in "
                    f'"${name}". Within a text: {", ".join(f"${t}" for t in TEXTS)}.'
                )
        found |= set(names)
    return frozenset(found)


def fill(template: Any, request: Request) -> Any:
    """Return `template` with the values of `request`; what it does not say is left out."""
    return _filled(template, values_of(request))


def values_of(request: Request) -> dict[str, Any]:
    """Return what each placeholder stands for."""
    decoding = request.decoding
    return {
        "messages": [_plain(m) for m in request.messages],
        "last_user": next((m.content for m in reversed(request.messages) if m.role == "user"), ""),
        "system": "\n\n".join(m.content for m in request.messages if m.role == "system"),
        "temperature": decoding.temperature,
        "max_tokens": decoding.max_tokens,
        "top_p": Nothing if decoding.top_p is None else decoding.top_p,
        "seed": Nothing if decoding.seed is None else decoding.seed,
        "stop": list(decoding.stop) or Nothing,
        "tools": list(request.tools) or Nothing,
        "schema": Nothing if request.schema is None else request.schema,
    }


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        if template[1:] in values and template[0] == "$":
            return values[template[1:]]
        return _MARK.sub(lambda m: "$" if m[1] == "$" else str(values[m[1]]), template)
    if isinstance(template, Mapping):
        filled = ((str(k), _filled(v, values)) for k, v in template.items())
        return {k: v for k, v in filled if v is not Nothing}
    if isinstance(template, list):
        return [v for v in (_filled(item, values) for item in template) if v is not Nothing]
    return template


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from _texts(value)
    elif isinstance(template, list):
        for value in template:
            yield from _texts(value)


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.images:
        plain["images"] = list(message.images)
    return plain


def steps_of(path: Any, *, option: str) -> tuple[str | int, ...]:
    """Return the steps of a path: `"choices.0.text"`, or a list where a key holds a dot.

    Raises UsageError.
    """
    steps: Sequence[Any] = path.split(".") if isinstance(path, str) else path
    if not isinstance(steps, list | tuple) or not all(
        isinstance(s, str | int) and s != "" for s in steps
    ):
        raise UsageError(f'{option} is {path!r}, no path as in "choices.0.text"')
    return tuple(steps)


def find(answer: Any, steps: Sequence[str | int]) -> Any:
    """Return what stands at `steps` in `answer`. Raises LookupError saying what is there."""
    here, gone = answer, "the answer"
    for step in steps:
        if isinstance(here, list) and str(step).lstrip("-").isdigit() and _has(here, int(step)):
            here = here[int(step)]
        elif isinstance(here, Mapping) and str(step) in here:
            here = here[str(step)]
        else:
            raise LookupError(f"nothing at {step!r} of {gone}, which is {_shape(here)}")
        gone = f"{gone}.{step}" if gone != "the answer" else str(step)
    return here


def _has(values: list[Any], index: int) -> bool:
    return -len(values) <= index < len(values)


def _shape(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = ", ".join(map(repr, list(value)[:8])) or "nothing"
        return f"an object with {keys}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return json.dumps(value)[:60]
