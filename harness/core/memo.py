"""The page that a lead forwards: an advice as Markdown. Knows no store, and adds no judgement."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from harness.core.advice import Advice
from harness.core.advice_evidence import Evidence, Reason
from harness.core.advice_reasons import span

REASONS = 3
ANSWERS = {
    "SHIP_PROMPT": "No. Ship the prompt.",
    "KEEP_PROMPTING": "Not yet. Keep prompting.",
    "FINE_TUNE": "Yes. Fine-tune.",
    "USE_CLASSICAL": "No. Something simpler does it.",
    "FIX_DATA": "No. Mend the data first.",
    "NARROW_SCOPE": "Not yet. Narrow the scope.",
    "KEEP_MANUAL": "No. Leave it to people.",
    "INSUFFICIENT_EVIDENCE": "It cannot be told yet.",
}
_MARKS = re.compile(r"([\\`*_\[\]#|~])")


def memo(advice: Advice, evidence: Evidence, *, about: str, on: str) -> str:
    """Return the page. `about` is the task in a sentence, `on` the day."""
    lines = [
        f"# Should we fine-tune {_text(evidence.task)}?",
        "",
        f"**{ANSWERS[advice.answer]}** (`{advice.answer}`, {on})",
        "",
        f"{_text(about)} The target is {100 * evidence.target:g} %. {_text(advice.summary)}",
        "",
        "## Why",
        "",
    ]
    shown = main_reasons(advice)
    lines += [
        f"{place}. {_text(r.text)} ({_text(r.evidence)})" for place, r in enumerate(shown, start=1)
    ]
    lines += _table(evidence)
    lines += _section("What would change this", advice.would_change)
    lines += _section("Costs", advice.costs or ("nothing is known of costs",))
    lines += _section("Where it can be tuned, and on whose outputs", advice.provisions)
    facts = [f"{r.text} ({r.evidence})" for r in advice.reasons if r not in shown]
    lines += _section("Also on record", facts)
    lines += _section("Not measured, not stated", advice.not_measured)
    note = "Intervals are one-sided 95 % bounds over clusters of cases."
    return "\n".join([*lines, "", note]) + "\n"


def main_reasons(advice: Advice) -> list[Reason]:
    """Return the three reasons to tell: those that decide, then those with a number."""

    def rank(place: int) -> tuple[bool, bool, bool, int]:
        one = advice.reasons[place]
        has_number = bool(re.search(r"\d", one.text))
        return (not one.decides, one.evidence.startswith("[advise]"), not has_number, place)

    places = sorted(range(len(advice.reasons)), key=rank)[:REASONS]
    return [advice.reasons[place] for place in places]


def _table(e: Evidence) -> list[str]:
    measured = [("best prompt", e.best), ("people", e.people)]
    rows = [
        (f"{what}: {one.name}", span(one.estimate), f"{one.estimate.n}")
        for what, one in [*measured, *(("no language model", c) for c in e.classical)]
        if one is not None
    ]
    if e.release is not None:
        tuned = e.release.comparison
        sealed = tuned.candidate_estimate
        rows.append((f"tuned, sealed cases: {tuned.candidate}", span(sealed), f"{sealed.n}"))
    if not rows:
        return []
    cells = [" | ".join(map(_text, row)) for row in rows]
    return ["", "| measured | score | cases |", "| --- | --- | --- |", *(f"| {c} |" for c in cells)]


def _section(title: str, items: Sequence[str]) -> list[str]:
    told = [item for item in items if item]
    return ["", f"## {title}", "", *(f"* {_text(item)}" for item in told)] if told else []


def _text(text: str) -> str:
    """Return `text` as Markdown that shows it: data brings no markup into the page."""
    line = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
    return _MARKS.sub(r"\\\1", html.escape(line, quote=False))
