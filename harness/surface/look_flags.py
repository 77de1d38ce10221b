"""What the lints say of single rows, so that those can be read first. Knows no rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.core.lints.base import Finding, Place
from harness.core.twins import NEAR
from harness.engine.data.linting import ALL_RULES, Rows, Settings, file_rows, lint, task_rows
from harness.engine.tasks import Task
from harness.errors import UsageError

FLAGGED = "flagged"
ORDERS = ("random", FLAGGED)
Flags = dict[str, tuple[str, ...]]


def check_order(order: str) -> None:
    """Raise UsageError for an order that is neither one of ours nor a lint."""
    names = [rule.name for rule in ALL_RULES]
    if order in ORDERS or order in names:
        return
    import difflib

    near = difflib.get_close_matches(order, [*ORDERS, *names], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join(sorted(names))
    raise UsageError(f"--order {order!r} is none of random, flagged or a lint ({known}).{hint}")


def flags_of(
    path: Path | None,
    task: Task | None,
    *,
    order: str,
    form: str | None = None,
    columns: dict[str, str],
) -> tuple[Flags, dict[str, int]]:
    """Return what was found in rows, by their place, and how many rows each lint found.

    Places of every finding come by turns, so that a common fault does not hide the others.
    """
    rows: Rows = (
        task_rows(task)
        if task is not None
        else file_rows(Path(path or ""), form=form, columns=columns)
    )
    settings = Settings(
        near=task.settings.near if task is not None else NEAR,
        only=() if order == FLAGGED else (order,),
    )
    report = lint([rows], settings=settings, task=task)
    waiting = [iter(_places(f)) for f in report.findings]
    found: dict[str, list[str]] = {}
    names = [f"{f.rule} ({f.severity})" for f in report.findings]
    turns = list(zip(names, report.findings, waiting, strict=True))
    while turns:
        left = []
        for name, finding, places in turns:
            one = next(places, None)
            if one is None:
                continue
            left.append((name, finding, places))
            text = f"{name}: {one.detail or finding.message}"
            if text not in found.setdefault(one.place, []):
                found[one.place].append(text)
        turns = left
    counts: dict[str, int] = {}
    for finding in report.findings:
        counts[finding.rule] = counts.get(finding.rule, 0) + finding.count
    return {place: tuple(texts) for place, texts in found.items()}, counts


def _places(finding: Finding) -> Iterator[Place]:
    yield from finding.rows
    for group in finding.groups:
        yield from group
