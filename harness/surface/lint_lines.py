"""Findings as lines of text, worst first. Knows no rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.core.lints.base import Finding, Place
from harness.core.words import count
from harness.engine.data.linting import Report
from harness.surface.words import clean, one_line

FIRST = 100
"""Rules that do not name all of their rows name so many, or more."""


def report_lines(report: Report, *, most: int) -> Iterator[str]:
    """Yield a report for people, at most `most` rows of each finding."""
    for finding in report.findings:
        yield f"{finding.severity:<5}  {finding.rule}: {one_line(finding.message, width=400)}"
        groups: Sequence[Sequence[Place]] = finding.groups or [[row] for row in finding.rows]
        for group in groups[:most]:
            yield f"         {group_text(group)}"
        more = len(groups) - most
        if more > 0 and most:
            plus = "+" if _is_cut(finding) else ""
            yield f"         and {more}{plus} more"
        yield f"       → {finding.fix}"
    for note in report.notes:
        yield f"note   {one_line(note, width=300)}"
    yield summary(report)


def summary(report: Report) -> str:
    """Return the end line: rows, and findings by severity."""
    names = (("error", "error"), ("warn", "warning"), ("note", "note"))
    said = [
        f"{n} {word}{'s' * (n != 1)}" for severity, word in names if (n := report.count(severity))
    ]
    bad = f", {report.bad} not readable" if report.bad else ""
    rows = f"{count(report.rows, 'row')}{bad}"
    return f"{clean(report.name)}: {rows}; {', '.join(said) or 'nothing found'}"


def group_text(group: Sequence[Place]) -> str:
    """Return rows that belong together on one line, by id and place."""
    shown = " = ".join(_row(place) for place in group[:4])
    return shown + (f" = and {len(group) - 4} more" if len(group) > 4 else "")


def _row(place: Place) -> str:
    where = clean(place.place)
    name = f"{clean(place.id)} ({where})" if place.id and where else clean(place.id) or where
    return f"{name}: {one_line(place.detail, width=120)}" if place.detail else name


def _is_cut(finding: Finding) -> bool:
    """Whether a finding names the first of its rows alone; of words it names each."""
    return finding.count > len(finding.rows) >= FIRST and not finding.groups
