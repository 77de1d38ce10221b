"""Small plots of text: bars of fixed width, and a row of columns. Knows nothing of what they count.

With `plain`, nothing but ASCII: for a dumb terminal, a log, or a screen reader.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harness.surface.words import one_line

WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_COLUMNS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.:-=+*#"


def is_plain() -> bool:
    """Whether the terminal can be trusted with ASCII only."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "")
    return os.environ.get("TERM") == "dumb" or not encoding.startswith("utf")


def bar(share: float, *, width: int = WIDTH, plain: bool = False) -> str:
    """Return a bar for a share of `width`; what is above zero is always seen."""
    if plain:
        filled = round(share * width)
        return ("#" * (filled or (1 if share > 0 else 0))).ljust(width)
    eighths = round(share * width * 8) or (1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def bars(
    counts: Sequence[tuple[str, int]],
    *,
    total: int,
    most: int = 8,
    width: int = WIDTH,
    plain: bool = False,
) -> list[str]:
    """Return a line a class: name, bar, count, share; what is beyond `most` on a line of its own.

    Bars are of the largest class, so that small ones can be told apart.
    """
    shown = list(counts[:most])
    if not shown:
        return []
    top = max(n for _, n in shown)
    names = [one_line(name, width=28) or "(empty)" for name, _ in shown]
    wide = max(map(len, names))
    digits = len(f"{top:,}")
    lines = [
        f"{name.ljust(wide)}  {bar(n / top, width=width, plain=plain)} {n:>{digits},}"
        f"  {_share(n, total)}"
        for name, (_, n) in zip(names, shown, strict=True)
    ]
    if len(counts) > most:
        rest = sum(n for _, n in counts[most:])
        lines.append(f"and {len(counts) - most:,} more, {rest:,} together")
    return lines


def columns(counts: Sequence[int], *, plain: bool = False) -> str:
    """Return one character a count, the largest the highest; an empty bin is a space."""
    top = max(counts, default=0)
    marks = _PLAIN if plain else _COLUMNS
    last = len(marks) - 1
    return "".join(" " if not n else marks[min(last, round(n / top * last))] for n in counts)


def _share(count: int, total: int) -> str:
    share = 100 * count / total if total else 0.0
    return f"{share:3.0f} %" if share >= 1 or not count else " <1 %"
