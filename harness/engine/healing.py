"""From a reply that is not good to the request that asks again. Knows no backends and no evals.

What the model said goes back as the assistant's turn and nowhere else: reasons quote replies, and
a reply can hold what an attacker wrote into the inputs, so every longer quotation is taken out of
the reasons before they become a user's turn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from harness.core.prompts import fill_text
from harness.records import Json, Message, Reply, Request

HEAL = """\
Your reply did not pass these automatic checks:
{% for reason in reasons %}
- {{ reason }}
{% endfor %}

Answer the request again. Give the corrected reply alone, without apology or comment.
"""
"""The template of the user's turn: it may name `reasons`, `inputs` and `tries_left`."""
LONGEST_QUOTATION = 16
"""So many characters in a row of a reply may stand in a reason, enough to name a value."""
LONGEST_REASON = 800
QUOTED = "[of your reply]"
NOT_RUN = "Not run: the call did not pass a check; the next message says why."


@dataclass(frozen=True, slots=True, kw_only=True)
class Healer:
    """How is asked again. `template` is a Jinja text, HEAL by default."""

    template: str = HEAL

    def request(
        self,
        asked: Request,
        reply: Reply,
        reasons: Sequence[str],
        *,
        inputs: Mapping[str, Json],
        tries_left: int,
    ) -> Request:
        """Return the request that goes on from `asked` and the bad `reply` to it.

        Raises TaskError where the template names what it is not given.
        """
        told = fill_text(
            self.template,
            {
                "reasons": [shown(reason, reply) for reason in reasons],
                "inputs": dict(inputs),
                "tries_left": tries_left,
            },
            place="guard: heal",
        ).strip("\n")
        turns = (*_assistant(reply), Message(role="user", content=told))
        return replace(asked, messages=asked.messages + turns)


def _assistant(reply: Reply) -> tuple[Message, ...]:
    """Return the reply as turns. Each tool call is answered, as servers ask for it."""
    if not reply.tool_calls:
        return (Message(role="assistant", content=reply.text),)
    ids = [c.get("id") if isinstance(c, Mapping) else None for c in reply.tool_calls]
    if not all(isinstance(i, str) and i for i in ids):
        # nothing could answer such a call: it is told as the text that it is
        calls = json.dumps(list(reply.tool_calls), ensure_ascii=False, default=str)
        return (Message(role="assistant", content=f"{reply.text}\n{calls}".strip()),)
    said = Message(role="assistant", content=reply.text, tool_calls=reply.tool_calls)
    return (said, *(Message(role="tool", content=NOT_RUN, tool_call_id=i) for i in ids))


def shown(reason: str, reply: Reply) -> str:
    """Return `reason` as the model may read it: on indented lines, bounded, and without more of
    the reply than a short value.
    """
    said = [reply.text]
    if reply.tool_calls:
        said.append(json.dumps(list(reply.tool_calls), ensure_ascii=False, default=str))
    forms = [form for text in said if text for form in _forms(text)]
    plain = _without_quotations(reason[: 4 * LONGEST_REASON], dict.fromkeys(forms))
    if len(plain) > LONGEST_REASON:
        plain = f"{plain[:LONGEST_REASON]} …"
    return "\n  ".join(plain.splitlines())


def _forms(text: str) -> tuple[str, ...]:
    """Return a text as reasons show it: as it is, in quotes of Python, in quotes of JSON."""
    return (text, repr(text), json.dumps(text), json.dumps(text, ensure_ascii=False))


def _without_quotations(text: str, sources: Mapping[str, None]) -> str:
    """Return `text` with every run that a source holds too, and that is too long, replaced."""
    width = LONGEST_QUOTATION + 1
    block = width // 2  # a run holds one of these whole, so most runs need not be looked for
    is_quoted = bytearray(len(text))
    for source in sources:
        is_there = cache(source.__contains__)
        has = [is_there(text[at : at + block]) for at in range(0, len(text), block)]
        for start in range(len(text) - width + 1):
            if has[-(-start // block)] and is_there(text[start : start + width]):
                is_quoted[start : start + width] = b"\x01" * width
    parts = []
    place = 0
    while place < len(text):
        end = place
        while end < len(text) and is_quoted[end] == is_quoted[place]:
            end += 1
        parts.append(QUOTED if is_quoted[place] else text[place:end])
        place = end
    return "".join(parts)
