"""A 2 x 2 as tables of text. Knows nothing of where the runs came from."""

from __future__ import annotations

from tabulate import tabulate

from harness.engine.two_by_two import TwoByTwo
from harness.surface.words import clean, interval, points


def two_by_two_lines(found: TwoByTwo) -> list[str]:
    """Return the four means as a square, and each effect with its bounds in words."""
    neither, first, second, both = (clean(run.candidate.name) for run in found.runs)
    shown = [interval(e) for e in found.means]
    square = [
        [f"{neither}: {shown[0]}", f"{first}: {shown[1]}"],
        [f"{second}: {shown[2]}", f"{both}: {shown[3]}"],
    ]
    f = found.effects
    rows = [
        [f"{first} for {neither}", points(f.first_alone.estimate)],
        [f"{second} for {neither}", points(f.second_alone.estimate)],
        [f"{both} for {second}", points(f.first_given_second.estimate)],
        [f"{both} for {first}", points(f.second_given_first.estimate)],
        [f"{both} for {neither}", points(f.both.estimate)],
        ["interaction", points(f.interaction.estimate)],
    ]
    n, clusters = f.both.estimate.n, f.both.estimate.clusters
    left_out = f"; {found.unscored} unscored cases left out" if found.unscored else ""
    return [
        *tabulate(square, tablefmt="plain", disable_numparse=True).split("\n"),
        "",
        *tabulate(
            rows,
            headers=["what changes", "points"],
            tablefmt="simple",
            disable_numparse=True,
        ).split("\n"),
        "",
        f"paired over {n} cases in {clusters} clusters{left_out}; 95 % one-sided bounds",
        _said(found),
    ]


def _said(found: TwoByTwo) -> str:
    e = found.effects.interaction.estimate
    if e.lower > 0:
        return "together they do more than the sum of each alone"
    if e.upper < 0:
        return "together they do less than the sum of each alone: in part they do the same work"
    return "no interaction is shown: with these cases they may as well simply add up"
