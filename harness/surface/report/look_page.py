"""Draws what `data look` shows as one self-contained page. Knows nothing of where rows came from.

Rows are untrusted: they reach the page as escaped text only, and the page holds no script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.examples import Example
from harness.core.fields import Field, histogram
from harness.surface.domains import Block, blocks
from harness.surface.look import Look
from harness.surface.look_text import BINS, KINDS, heap_text, readable_classes, span_text
from harness.surface.report.page import still_page, write_page

MOST_CLASSES = 12
HEIGHT = 40
STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One column of a histogram, or one class."""

    name: str
    count: int
    share: float
    length: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldView:
    """One field, ready to be drawn."""

    name: str
    kind: str
    text: str
    columns: tuple[Bar, ...] = ()
    classes: tuple[Bar, ...] = ()
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One row, ready to be drawn."""

    example: Example
    blocks: tuple[Block, ...]
    flags: tuple[str, ...]
    place: str


def render_look(
    name: str,
    look: Look,
    *,
    flags: Mapping[str, tuple[str, ...]] | None = None,
    counts: Mapping[str, int] | None = None,
    folder: Path | None = None,
) -> str:
    """Return the whole page. The same rows give the same text."""
    tags = sum((part.tags for part in look.parts.values()), start=Counter[str]())
    total = sum(part.cases for part in look.parts.values())
    rows = [
        RowView(
            example=row,
            blocks=blocks(row, folder=folder),
            flags=(flags or {}).get(row.place, ()),
            place=row.place.rpartition("/")[2],
        )
        for row in look.rows
    ]
    return still_page(
        "look.html.j2",
        style_sheets=("report.css", "look.css"),
        name=name,
        look=look,
        total=total,
        rows=rows,
        parts={part: found.facts() for part, found in look.parts.items() if found.cases},
        fields=[field_view(f, rows=look.described) for f in look.fields.by_name.values()],
        tags=_classes(tags.most_common(), total=total),
        counts=counts or {},
        height=HEIGHT,
        step=STEP,
    )


def write_look(
    name: str,
    look: Look,
    path: Path,
    *,
    flags: Mapping[str, tuple[str, ...]] | None = None,
    counts: Mapping[str, int] | None = None,
    folder: Path | None = None,
) -> None:
    """Write the page, whole or not at all. Raises StoreError where it cannot be."""
    write_page(render_look(name, look, flags=flags, counts=counts, folder=folder), path)


def field_view(found: Field, *, rows: int) -> FieldView:
    """Return how a field is drawn: classes where values come back, else a histogram."""
    kind = KINDS.get(found.kind, "nothing")
    gone = rows - found.seen + found.absent
    remarks = [f"{gone:,} row{'s' * (gone != 1)} without"] if gone else []
    remarks += [f"{found.empty:,} empty"] if found.empty else []
    classes = readable_classes(found)
    few = bool(classes) and (found.kind != "number" or len(classes) <= MOST_CLASSES)
    if few:
        shown = _classes(classes, total=found.kinds.total())
        left = len(classes) - len(shown)
        return FieldView(
            name=found.name,
            kind=kind,
            text=", ".join([f"{len(classes):,} different", *remarks]),
            classes=shown,
            more=f"and {left:,} more" if left else "",
        )
    spread = found.numbers if found.kind == "number" else found.lengths
    if not spread.count:
        return FieldView(name=found.name, kind=kind, text=", ".join(remarks))
    unit = {"number": "", "list": " items"}.get(found.kind, " characters")
    is_one = found.kind != "number" and spread.high == spread.low
    said = [(f"all of {spread.high:.0f}" if is_one else span_text(spread, "–")) + unit, *remarks]
    if found.kind == "number" and found.heaps:
        said.append(f"heaps: {heap_text(found)}")
    bins = histogram(spread.kept, BINS) if spread.high > spread.low else []
    top = max((n for _, _, n in bins), default=1)
    columns = tuple(
        Bar(
            name=f"{low:.3g} to {high:.3g}",
            count=n,
            share=n / spread.count,
            length=HEIGHT * n / top,
        )
        for low, high, n in bins
    )
    return FieldView(name=found.name, kind=kind, text="; ".join(said), columns=columns)


def _classes(counts: list[tuple[str, int]], *, total: int) -> tuple[Bar, ...]:
    shown = counts[:MOST_CLASSES]
    top = max((n for _, n in shown), default=1)
    return tuple(
        Bar(name=name or "(empty)", count=n, share=n / total if total else 0, length=100 * n / top)
        for name, n in shown
    )
