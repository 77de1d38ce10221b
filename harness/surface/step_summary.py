"""Markdown for a pull request's summary page. Knows no verdict; what data says is shown as text."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from pathlib import Path

from harness.surface.words import clean

VARIABLE = "GITHUB_STEP_SUMMARY"
_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")


def plain(text: str) -> str:
    """Return `text` as Markdown that shows it, on one line: no markup, link, mention or HTML."""
    line = re.sub(r"\s+", " ", clean(text)).strip()
    return _MARKS.sub(r"\\\1", html.escape(line, quote=False))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table; every cell is shown as text."""
    lines = [heads, ["---"] * len(heads)]
    shown = [list(map(plain, heads)), lines[1], *([plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(row)} |" for row in shown]


def folded(title: str, items: Sequence[str]) -> list[str]:
    """Return a list that opens on a click; nothing where it is empty."""
    if not items:
        return []
    head = f"<details><summary>{html.escape(clean(title))} ({len(items)})</summary>"
    return ["", head, "", *(f"* {plain(item)}" for item in items), "", "</details>"]


def write_summary(lines: Sequence[str]) -> Path | None:
    """Append `lines` to the file that a CI runner names; None where none does."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("\n".join(lines) + "\n")
    return Path(path)
