"""Pairs of dialogues as text, as Anthropic's HH-RLHF has them. Knows no file.

Only read: the prompt stands in both replies, up to the last turn of the assistant, and a row that
ours is written to (`trl-preference`) holds more. Source: https://github.com/anthropics/hh-rlhf and
the script of TRL's examples that takes such rows apart at the last `\\n\\nAssistant:`.
"""

from __future__ import annotations

import re
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, kind_of, meta_of
from harness.engine.data.forms.turns import Role
from harness.records import Message

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")
_KNOWN = frozenset({"chosen", "rejected"})


def parse(row: Object, place: str) -> Example:
    """Return a dialogue with a better and a worse last reply. Raises ValueError."""
    texts = {}
    for key in ("chosen", "rejected"):
        if not isinstance(text := row.get(key), str):
            what = f", not {kind_of(text)}" if key in row else ""
            raise ValueError(f"`{key}` must be a dialogue as text{what}")
        texts[key] = _begun(text)
    asked, better = _halves(texts["chosen"], "chosen")
    if texts["rejected"].startswith(asked + ASSISTANT):
        worse = texts["rejected"].removeprefix(asked + ASSISTANT)
        if HUMAN in worse:
            raise ValueError("user-in-rejected: `rejected` goes on with a turn of the human")
    before, worse = _halves(texts["rejected"], "rejected")
    if before != asked:
        raise ValueError(
            "`chosen` and `rejected` differ before their last turn of the assistant: no common "
            f"prompt ({_first_difference(asked, before)})"
        )
    rest: dict[str, Any] = meta_of(row, _KNOWN)
    messages = _turns(asked)
    return Example(
        place=place, messages=messages, reference=better.strip(), rejected=worse.strip(), **rest
    )


def _begun(text: str) -> str:
    """Return a dialogue whose first turn begins as the others do: dumps may have lost its lines."""
    return text if text.startswith("\n\n") else f"\n\n{text.lstrip()}"


def _halves(text: str, key: str) -> tuple[str, str]:
    """Return what stands before the last turn of the assistant, and that turn."""
    before, sign, last = text.rpartition(ASSISTANT)
    if not sign:
        raise ValueError(f"`{key}` has no turn `Assistant:`")
    if HUMAN in last:
        raise ValueError(f"`{key}` must end with a turn of the assistant")
    if not before.startswith(tuple(f"\n\n{role}:" for role in ROLES)):
        raise ValueError(f"`{key}` must begin with `Human:`")
    return before, last


def _turns(text: str) -> tuple[Message, ...]:
    """Return the turns of a dialogue; a mark begins each."""
    _, *parts = _TURN.split(text)
    return tuple(
        Message(role=ROLES[role], content=said.strip())
        for role, said in zip(parts[::2], parts[1::2], strict=True)
    )


def _first_difference(one: str, other: str) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    turn = len(_TURN.findall(one[:at]))
    return f"from turn {max(turn, 1)} on"


def marks(row: Object) -> float:
    """Tell how sure a row makes us: 0.98, above TRL's 0.97 for `chosen` and `rejected`."""
    if not row.keys() >= _KNOWN or "prompt" in row:
        return 0.0
    texts = [t.lstrip() for key in _KNOWN if isinstance(t := row[key], str)]
    return 0.98 if any(t.startswith(("Human:", "Assistant:")) for t in texts) else 0.0


FORM = Form(
    name="hh-rlhf",
    about="`chosen` and `rejected`, whole dialogues as text "
    "(`\\n\\nHuman: ...\\n\\nAssistant: ...`)",
    carries="(only read) messages, reference, rejected, id, split, cluster, tags, provenance, "
    "further keys",
    parse=parse,
    marks=marks,
    why="rows have dialogues of `Human:` and `Assistant:` as `chosen` and `rejected`",
    aliases=("hh",),
)
