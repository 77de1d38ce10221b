"""Tracebacks as they are shown of an eval. Knows nothing of evals."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType


def until(trace: TracebackType | None, folder: Path) -> TracebackType | None:
    """Return `trace` up to its last frame in a file of `folder`; whole where none is there."""
    links = _links(trace)
    ours = [i for i, t in enumerate(links) if folder in Path(t.tb_frame.f_code.co_filename).parents]
    return _made(links[: ours[-1] + 1 if ours else len(links)])


def with_lines(trace: TracebackType | None) -> TracebackType | None:
    """Return `trace` with a line in each frame: pytest fails to show one without, and ends.

    A signal comes between any two instructions, and some of them (the end of a `with` or a
    `finally`) stand on no line.
    """
    links = _links(trace)
    return trace if all(t.tb_lineno is not None for t in links) else _made(links)


def _links(trace: TracebackType | None) -> list[TracebackType]:
    links: list[TracebackType] = []
    while trace is not None:
        links.append(trace)
        trace = trace.tb_next
    return links


def _made(links: Iterable[TracebackType]) -> TracebackType | None:
    made: TracebackType | None = None
    for link in reversed(list(links)):
        line = link.tb_lineno or _line_before(link)
        made = TracebackType(made, link.tb_frame, link.tb_lasti, line)
    return made


def _line_before(link: TracebackType) -> int:
    code = link.tb_frame.f_code
    before = [line for start, _, line in code.co_lines() if line and start <= link.tb_lasti]
    return before[-1] if before else code.co_firstlineno
