"""A prompt's anatomy, and a slimmer one, as text. Knows nothing of how they were measured."""

from __future__ import annotations

from tabulate import tabulate

from harness.engine.anatomy import Anatomy
from harness.engine.slim import Slim
from harness.surface.words import clean, interval, one_line, points


def anatomy_lines(found: Anatomy) -> list[str]:
    """Return the parts as a table: role, kind, tokens, and what removing each does."""
    rows = [
        [
            cost.part.number,
            cost.part.role,
            cost.part.kind,
            f"{cost.tokens:.0f}",
            "–" if cost.delta is None else points(cost.delta),
            one_line(cost.part.text or "(the examples)", width=60),
        ]
        for cost in found.parts
    ]
    heads = ["part", "section", "", "tokens", "removed, points", "text"]
    e = found.estimate
    return [
        f"{clean(found.prompt)}: {interval(e)} on {e.n} dev cases, {found.tokens:.0f} tokens each",
        "",
        *tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True).split("\n"),
        "",
        f"tokens: means a case, {found.counted}",
        "removed: the prompt without this part, minus the whole, paired on dev; 95 % one-sided",
        "bounds, each for itself. None of these is a try, and none is counted.",
    ]


def slim_lines(found: Slim) -> list[str]:
    """Return each shorter prompt that was compared, and what came of it."""
    rows = [
        [
            s.part.number,
            points(s.delta),
            "removed" if s.is_kept else "kept: not shown to be no worse",
            one_line(s.part.text or "(the examples)", width=60),
        ]
        for s in found.steps
    ]
    rows += [
        [p.number, "", "kept: its removal alone costs too much", one_line(p.text, width=60)]
        for p in found.left
    ]
    heads = ["part", "so far, points", "", "text"]
    lines = tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True).split("\n")
    lines += [
        "",
        f"paired with the whole prompt on dev; {100 * found.margin:g} points may be lost",
        f"each bound at {100 * found.alpha:.2g} %: 5 % over {found.looks} comparisons",
    ]
    if found.prompt is None:
        return [*lines, "no shorter prompt is shown to be no worse"]
    saved = found.tokens_before - found.tokens_after
    share = 100 * saved / found.tokens_before
    told = f"{saved:.0f} of {found.tokens_before:.0f} tokens a case saved ({share:.0f} %)"
    return [*lines, f"{told}, {found.counted}"]
