"""Rows and facts as lines of a terminal. Knows nothing of where they came from."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.core.examples import Example
from harness.core.fields import Field, Sample, histogram
from harness.surface.domains import Block, blocks
from harness.surface.look import MOST_CLUSTERS, Look, Part
from harness.surface.plots import bars, columns
from harness.surface.words import clean, one_line

LINES = 12
"""Lines of one part of a row; what is longer is cut in the middle."""
BESIDE = 2
"""Lines of what a row holds besides what is asked and answered."""
FIELDS = 24
"""Parts of one row that are shown."""
LABEL = 14
READABLE = 40
"""Characters of a class, in the middle, up to which many classes are worth their bars."""
BINS = 20


def row_lines(
    example: Example,
    *,
    folder: Path | None = None,
    flags: Sequence[str] = (),
    width: int = 100,
    is_full: bool = False,
    plain: bool = False,
) -> list[str]:
    """Return one row as a person reads it."""
    place = example.place.rpartition("/")[2]
    facts = [example.id or place, example.split]
    facts += [f"cluster {example.cluster}"] if example.cluster else []
    facts += [f"tags {', '.join(example.tags)}"] if example.tags else []
    facts += [place] if example.id else []
    rule = "--" if plain else "──"
    lines = [f"{rule} {'  '.join(one_line(f, width=60) for f in facts if f)}"]
    lines += [f"   {'!' if plain else '⚑'} {one_line(flag, width=width - 5)}" for flag in flags]
    every = blocks(example, folder=folder)
    none = example.reference is None and not example.calls and example.is_good is None
    for block in every if is_full else every[:FIELDS]:
        if none and block.part == "beside":
            lines += _labelled("answer", ["none"], plain=plain, mark=True)
            none = False
        lines += _block_lines(block, width=width, is_full=is_full, plain=plain)
    if len(every) > FIELDS and not is_full:
        more = f"{len(every) - FIELDS} more parts (--full shows them)"
        lines += _labelled("", [more], plain=plain)
    if example.provenance:
        made = ", ".join(f"{k} {v}" for k, v in example.provenance.items())
        lines += _labelled("made", [one_line(made, width=width - LABEL - 5)], plain=plain)
    if none:
        lines += _labelled("answer", ["none"], plain=plain, mark=True)
    return lines


def _block_lines(block: Block, *, width: int, is_full: bool, plain: bool) -> list[str]:
    room = max(20, width - LABEL - 5)
    text = [f"{name}: {value}" for name, value in block.headers]
    text += [""] if block.headers and block.text else []
    text += (clean(block.text) if block.text.strip() else "(empty)").split("\n")
    wrapped: list[str] = []
    for raw in text:
        line = clean(raw.expandtabs(4)).rstrip()
        if block.kind in {"json", "sql"}:
            wrapped += _cut(line, room)
        else:
            wrapped += textwrap.wrap(line, room, replace_whitespace=False) or [""]
    if not is_full and block.label == "beside" and len(wrapped) > BESIDE:
        wrapped = [*wrapped[: BESIDE - 1], f"{wrapped[BESIDE - 1][: room - 2]} …"]
    if not is_full and len(wrapped) > LINES:
        head, left = wrapped[: LINES - 3], len(wrapped) - LINES + 1
        wrapped = [*head, f"… {left} more lines (--full shows them)", *wrapped[-2:]]
    if plain:
        wrapped = [line.replace("…", "...") for line in wrapped]
    return _labelled(block.label, wrapped, plain=plain, mark=block.part == "answer")


def _cut(line: str, room: int) -> list[str]:
    """Return a line in pieces, every word kept: code is no prose. Cut at a space where there is
    one, and indented below the line's own beginning.
    """
    indent = " " * min(len(line) - len(line.lstrip()) + 2, room // 2)
    pieces = []
    while len(line) > room:
        at = line.rfind(" ", len(indent) + room // 3, room) + 1 or room
        pieces.append(line[:at])
        line = indent + line[at:]
    return [*pieces, line]


def _labelled(label: str, lines: Sequence[str], *, plain: bool, mark: bool = False) -> list[str]:
    arrow = ("> " if plain else "→ ") if mark else "  "
    name = one_line(label, width=LABEL)
    first = f" {arrow}{name.ljust(LABEL)} {lines[0]}"
    return [first, *(f"   {' ' * LABEL} {line}".rstrip() for line in lines[1:])]


# ---------------------------------------------------------------- all rows


def part_lines(parts: dict[str, Part], *, is_task: bool) -> list[str]:
    """Return a line a split: how much there is of what."""
    lines = []
    for name, part in parts.items():
        fact = part.facts()
        noun, sources = "case" if is_task else "row", fact["clusters"]
        more = "at least " if len(part.clusters) >= MOST_CLUSTERS else ""
        lines.append(
            f"{clean(name) or 'no split'}: {part.cases:,} {noun}{'s' * (part.cases != 1)} in "
            f"{more}{sources:,} cluster{'s' * (sources != 1)}, "
            f"{part.references:,} with {'a reference' if is_task else 'an answer'}; "
            f"median {fact['input_characters']:,} characters in, "
            f"{fact['reference_characters']:,} out"
            + (f"; {part.same_inputs:,} repeat another" if part.same_inputs else "")
        )
    return lines


def tag_lines(look: Look, *, plain: bool) -> list[str]:
    """Return the tags with their bars, and which of them a split lacks."""
    tags = sum((part.tags for part in look.parts.values()), start=Counter[str]())
    if not tags:
        return []
    total = sum(part.cases for part in look.parts.values())
    lines = ["tags, of all rows"]
    lines += [f"  {line}" for line in bars(tags.most_common(), total=total, plain=plain)]
    for name, part in look.parts.items():
        lacking = [t for t in tags if t not in part.tags]
        if part.cases and lacking and len(look.parts) > 1:
            shown = ", ".join(one_line(t, width=30) for t in lacking[:5])
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            lines.append(f"  {clean(name) or 'no split'} has none of: {shown}{more}")
    return lines


def field_lines(look: Look, *, plain: bool) -> list[str]:
    """Return what the fields hold: plots of lengths, numbers and classes."""
    lines = [f"what the fields hold, over {look.described:,} rows"] if look.described else []
    for found in look.fields.by_name.values():
        lines += [f"  {line}" for line in _field_lines(found, rows=look.described, plain=plain)]
    if look.fields.left_out:
        lines.append(f"  and {len(look.fields.left_out):,} more fields")
    return lines


def _field_lines(found: Field, *, rows: int, plain: bool) -> list[str]:
    dash = "-" if plain else "–"
    name, kind = one_line(found.name, width=30), KINDS.get(found.kind, "nothing")
    gone = rows - found.seen + found.absent
    remarks = [f"{found.kinds.total() - n:,} are not" for n in [found.kinds[found.kind]]]
    remarks = remarks if found.kinds.total() > found.kinds[found.kind] else []
    remarks += [f"{gone:,} without"] if gone else []
    remarks += [f"{found.empty:,} empty"] if found.empty else []
    tail = f"  ({', '.join(remarks)})" if remarks else ""
    classes = readable_classes(found)
    few = found.kind != "number" or len(classes) <= 12
    if found.kind == "number" and not (classes and few):
        spread = found.numbers
        plot = columns([n for _, _, n in histogram(spread.kept, BINS)], plain=plain)
        lines = [f"{name}  {kind}  {plot}  {span_text(spread, dash)}{tail}"]
        return [*lines, *([f"  heaps: {heap_text(found)}"] if found.heaps else [])]
    lengths = found.lengths
    if lengths.count and lengths.high > lengths.low:
        plot = columns([n for _, _, n in histogram(lengths.kept, BINS)], plain=plain)
        unit = "items" if found.kind == "list" else "characters"
        said = f"{plot}  {span_text(lengths, dash)} {unit}"
    else:
        unit = "items" if found.kind == "list" else "characters"
        said = f"all of {lengths.high:.0f} {unit}" if lengths.count else ""
    if classes and few:
        noun = {"list": " item" if len(classes) == 1 else " items"}.get(found.kind, "")
        head = f"{name}  {kind}, {len(classes):,} different{noun}{tail}"
        total = found.kinds.total()
        return [head, *(f"  {line}" for line in bars(classes, total=total, plain=plain))]
    if (
        found.has_classes
        and found.counts.total() > 1.5 * len(found.counts)
        and found.kind == "text"
    ):
        said += f", {len(found.counts):,} different"
    return [f"{name}  {kind}  {said}{tail}".rstrip()]


def readable_classes(found: Field) -> list[tuple[str, int]]:
    """Return the classes of a field, unless they are long texts that happen to come back."""
    # a space at an end is not to be seen otherwise, and two classes would look alike
    classes = [(repr(name) if name != name.strip() else name, n) for name, n in found.classes]
    longest = sorted(len(name) for name, _ in classes)
    if not any(n > 1 for _, n in classes) and found.seen <= 1:
        return []
    return classes if len(classes) <= 8 or longest[len(longest) // 2] <= READABLE else []


def heap_text(found: Field) -> str:
    """Return the single numbers that many values sit on, with their shares."""
    total = found.counts.total()
    return ", ".join(f"{value} {100 * n / total:.0f} %" for value, n in found.heaps)


KINDS = {
    "text": "text",
    "number": "numbers",
    "bool": "yes or no",
    "list": "lists",
    "object": "objects",
}


def span_text(spread: Sample, dash: str) -> str:
    """Return median, where nine in ten lie, and the extremes."""
    low, high = spread.quantile(0.05), spread.quantile(0.95)
    return (
        f"median {_short(spread.quantile(0.5))}, nine in ten {_short(low)}{dash}{_short(high)}, "
        f"all {_short(spread.low)}{dash}{_short(spread.high)}"
    )


def _short(value: float) -> str:
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.3g}"
