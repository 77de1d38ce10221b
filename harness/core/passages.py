"""Documents cut into passages. Knows nothing of files, and of what is searched for.

Paragraphs stay whole, and those of one heading together, as long as a passage is not longer than
asked for; each passage begins with the heading that it stands under. The same text gives the same
passages on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A piece of a document. `id` is `DOCUMENT#n`, n from 1."""

    id: str
    text: str

    @property
    def document(self) -> str:
        """The name of the document that it is a piece of."""
        return self.id.rpartition("#")[0]


def split_passages(name: str, text: str, *, characters: int) -> tuple[Passage, ...]:
    """Return the passages of a document, each of at most about `characters` (and its heading)."""
    pieces = [
        f"{heading}\n\n{piece}" if heading and piece else heading or piece
        for heading, paragraphs in _under_headings(text)
        for piece in _joined(paragraphs, characters) or [""]
        if heading or piece
    ]
    # a heading alone says nothing, unless the document is nothing else
    told = [p for p in pieces if "\n" in p or not _HEADING.match(p)] or pieces
    return tuple(Passage(id=f"{name}#{n}", text=piece) for n, piece in enumerate(told, start=1))


def is_named(passage: Passage, needed: str) -> bool:
    """Tell whether `needed`, a passage's id or a document's name, means this passage."""
    return needed in {passage.id, passage.document}


def recall(found: Sequence[Passage], needed: Collection[str]) -> float:
    """Return the share of `needed` that is among the passages found, in [0, 1]."""
    return sum(any(is_named(p, one) for p in found) for one in needed) / len(needed)


def _under_headings(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading (empty before the first) with the paragraphs under it. A line that looks
    like a heading inside a code fence is code.
    """
    heading, paragraphs, lines, fence = "", [], [], ""  # type: str, list[str], list[str], str
    for line in [*text.replace("\r\n", "\n").split("\n"), ""]:
        mark = _FENCE.match(line)
        if mark:
            fence = "" if fence == mark[1] else fence or mark[1]
        is_heading = not fence and _HEADING.match(line) is not None
        if is_heading or (not fence and not line.strip()):
            if lines:
                paragraphs.append("\n".join(lines))
            lines = []
        else:
            lines.append(line.rstrip())
        if is_heading:
            yield heading, paragraphs
            heading, paragraphs = line.strip(), []
    if lines:  # a fence that is never closed
        paragraphs.append("\n".join(lines).rstrip())
    yield heading, paragraphs


def _joined(paragraphs: Sequence[str], characters: int) -> list[str]:
    """Return paragraphs put together as far as they fit; longer ones cut between words."""
    pieces: list[str] = []
    for paragraph in paragraphs:
        for part in _cut(paragraph, characters):
            if pieces and len(pieces[-1]) + 2 + len(part) <= characters:
                pieces[-1] += f"\n\n{part}"
            else:
                pieces.append(part)
    return pieces


def _cut(text: str, characters: int) -> Iterator[str]:
    while len(text) > characters:
        window = text[: characters + 1]
        ends = [m.end() for m in re.finditer(r"[.!?]\s|\n", window)]
        # at the end of a sentence where that leaves no stump, else between words, else anywhere
        place = next((e for e in reversed(ends) if e > characters // 3), 0)
        place = place or window.rfind(" ") + 1 or characters
        yield text[:place].rstrip()
        text = text[place:].lstrip()
    if text:
        yield text
