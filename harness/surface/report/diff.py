"""Says word by word where a reply leaves its reference. Knows nothing of HTML."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import Literal

MOST_WORDS = 300
LEAST_LIKENESS = 0.4
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of text: in both, `extra` in the reply, or `missing` from it."""

    kind: Literal["same", "extra", "missing"]
    text: str


def word_diff(reference: str, reply: str) -> tuple[Piece, ...] | None:
    """Return the reply in pieces, or None where comparing words would tell nothing.

    That is where they are equal, too long (the search is quadratic), or hardly alike.
    """
    if reference == reply:
        return None
    old, new = _WORD.findall(reference), _WORD.findall(reply)
    if not old or not new or max(len(old), len(new)) > MOST_WORDS:
        return None
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.real_quick_ratio() < LEAST_LIKENESS or matcher.quick_ratio() < LEAST_LIKENESS:
        return None
    if matcher.ratio() < LEAST_LIKENESS:
        return None
    pieces: list[Piece] = []
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            pieces.append(Piece(kind="same", text="".join(new[c:d])))
            continue
        if b > a:
            pieces.append(Piece(kind="missing", text="".join(old[a:b])))
        if d > c:
            pieces.append(Piece(kind="extra", text="".join(new[c:d])))
    return tuple(pieces)


def likeness(reference: str | None, reply: str) -> str:
    """Return in words how a reply stands to the reference, where that is plain; else nothing."""
    if reference is None:
        return ""
    if reference == reply:
        return "identical to the reference"
    if reference.strip() == reply.strip():
        return "the reference, but for space around it"
    if reference[:1] in "{[":
        try:
            if json.loads(reference) == json.loads(reply):
                return "the same JSON, written differently"
        except (ValueError, RecursionError):
            return ""
    return ""
