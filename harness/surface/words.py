"""Numbers and foreign text as a terminal shows them. Knows nothing of what they mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.money import usd

if TYPE_CHECKING:  # `harness --help` needs no record
    from harness.records import Estimate

# C0 and C1 controls, and the marks that reorder or hide text: data may not drive a terminal
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Return `text` with control and direction characters shown as `�`, new lines kept."""
    text = _UNSAFE.sub("�", text)
    # a CI runner takes a line that starts with two colons for a command
    return re.sub(r"^(\s*)::", r"\1: :", text, flags=re.MULTILINE)


def from_here(text: str) -> str:
    """Return `text` with every path below the working directory as a person there types it."""
    here = str(Path.cwd()).rstrip("/\\")
    return re.sub(rf"(?<![\w./\\~-]){re.escape(here)}[/\\](?=\S)", "", text) if here else text


def escaped(value: Any) -> Any:
    """Return plain data with half surrogate pairs as escapes: UTF-8 cannot hold them."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {k: escaped(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(escaped(v) for v in value)
    return value


def one_line(text: str, *, width: int = 100) -> str:
    """Return `text` on one line of at most `width` characters, its middle left out."""
    text = re.sub(r"\s+", " ", clean(text)).strip()
    if len(text) <= width:
        return text
    head = (width - 3) * 2 // 3
    return f"{text[:head]} … {text[-(width - 3 - head) :]}"


def sentence(text: str) -> str:
    """Return `text` on one line with an end: a full stop where it has none of its own."""
    text = re.sub(r"\s+", " ", text).strip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def percent(share: float, *, digits: int = 0) -> str:
    """Return a share of 1 as per cent."""
    return f"{100 * share:.{digits}f} %"


def interval(estimate: Estimate) -> str:
    """Return `52 % (40–64)`: the mean and its two one-sided bounds; a dash for a mean of none."""
    if not estimate.n:
        return "–"
    return f"{100 * estimate.mean:.0f} % ({100 * estimate.lower:.0f}–{100 * estimate.upper:.0f})"


def points(estimate: Estimate) -> str:
    """Return `+4.1 (+1.2 to +7.0)`: a difference in points of a hundred, with its bounds; a dash
    for a difference of nothing.
    """
    if not estimate.n:
        return "–"
    return (
        f"{100 * estimate.mean:+.1f} ({100 * estimate.lower:+.1f} to {100 * estimate.upper:+.1f})"
    )


def number(value: float | None, *, unit: str = "", digits: int = 0) -> str:
    """Return a number with its unit, or a dash where it is unknown."""
    return "–" if value is None else f"{value:.{digits}f}{unit}"


def money(value: float | None) -> str:
    """Return dollars, or a dash where they are unknown."""
    return "–" if value is None else usd(value)


def seconds(value: float | None) -> str:
    """Return a duration: milliseconds below a tenth of a second."""
    if value is None:
        return "–"
    return f"{1000 * value:.0f} ms" if value < 0.1 else f"{value:.2f} s"
