"""Verdicts in plain words for a terminal. Knows nothing of how they were reached."""

from __future__ import annotations

from harness.records import ReleaseVerdict, WallVerdict
from harness.surface.tables import comparison_lines, ladder_table
from harness.surface.words import clean, percent

MARKS = {True: "✓", False: "✗", None: "–"}
ANSWERS = {"SHIP": "✓", "BLOCK": "✗", "INSUFFICIENT_EVIDENCE": "?"}


def wall_lines(verdict: WallVerdict, *, is_recorded: bool = True) -> list[str]:
    """Return a wall verdict: the answer, the evidence, each condition, and what to do next."""
    lines = ["", *ladder_table(verdict.tries, target=verdict.target), ""]
    lines += [f"{verdict.answer}  ({verdict.profile} profile, target {percent(verdict.target)})"]
    lines += [clean(verdict.reason), ""]
    if verdict.answer != "WALL" and verdict.conditions:
        lines.append("what a wall would need:")
    lines += [f"  {MARKS[c.holds]} {c.name}: {clean(c.text)}" for c in verdict.conditions]
    lines += [f"  note: {clean(note)}" for note in verdict.notes]
    if verdict.next_step:
        lines += ["", f"next: {clean(verdict.next_step)}"]
    return [*lines, _recorded(verdict.id, is_recorded=is_recorded)]


def release_lines(verdict: ReleaseVerdict, *, is_recorded: bool = True) -> list[str]:
    """Return a release verdict: the comparison, each check, the look that it spent."""
    lines = ["", *comparison_lines(verdict.comparison), ""]
    lines += [verdict.answer, clean(verdict.reason), ""]
    lines += [f"  {ANSWERS[c.answer]} {clean(c.text)}  [{c.kind}]" for c in verdict.checks]
    if verdict.need_cases is not None:
        lines.append(f"  about {verdict.need_cases} cases in all would settle it")
    lines += [f"  override on record: {clean(text)}" for text in verdict.overrides]
    lines += [f"  note: {clean(text)}" for text in verdict.notes]
    spent, left = percent(verdict.alpha, digits=2), percent(verdict.alpha_left, digits=2)
    look = f"look {verdict.look} at the sealed cases, judged at {spent}; {left} remains"
    if not verdict.look:
        why = (
            "no look is spent on so few" if is_recorded else "looks are not counted without --store"
        )
        look = f"{why}: judged at {spent}, as if it were the only one"
    lines += [f"  {look}", ""]
    return [*lines, _recorded(verdict.id, is_recorded=is_recorded)]


def _recorded(verdict_id: str, *, is_recorded: bool) -> str:
    return f"verdict {verdict_id}, {'recorded in the ledger' if is_recorded else 'not recorded'}"
