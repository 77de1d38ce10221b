"""Sets of rows with known faults: who plants a fault knows what a rule should find."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from harness.core.examples import Example
from harness.core.lints import lints
from harness.core.lints.base import Finding, Lint, row_of
from harness.core.wording import wording_of


def _words(text: str) -> list[str]:
    return text.split()


TOPICS = _words("parcel invoice refund address delivery driver customs label pallet warehouse scan")
VERBS = _words("arrived broke moved stopped closed opened failed waited returned changed vanished")
PLACES = _words("Berlin Lyon Porto Gdansk Turin Malmo Graz Bergen Cork Tartu Brno Ghent Basel")


def sentence(rng: random.Random, *, words: int = 4) -> str:
    """A sentence that hardly any other is like."""
    parts = [
        f"the {rng.choice(TOPICS)} {rng.randrange(10**6)} {rng.choice(VERBS)} near "
        f"{rng.choice(PLACES)} before {rng.randrange(10**4)} o'clock"
        for _ in range(words)
    ]
    return " and ".join(parts)


def clean_rows(n: int, *, seed: int = 0, split: str = "") -> list[Example]:
    """Rows without a fault: every question and every answer its own."""
    rng = random.Random(seed)
    return [
        Example(
            place=f"rows.jsonl:{i + 1}",
            id=f"c{seed}-{i}",
            inputs={"text": sentence(rng)},
            reference=f"Thank you, case {rng.randrange(10**9)} was passed on to our "
            f"{rng.choice(TOPICS)} desk in {rng.choice(PLACES)} today.",
            split=split,
        )
        for i in range(n)
    ]


def edited(rng: random.Random, text: str) -> str:
    """The text with one word changed: still nearly the same."""
    words = text.split()
    words[rng.randrange(len(words))] = f"x{rng.randrange(10**6)}"
    return " ".join(words)


def run(rows: Iterable[Example], some: list[Lint] | None = None, **settings: Any) -> list[Finding]:
    """Let the rules see rows as the engine does: once, and again those that are asked for."""
    examples = list(rows)
    used = some if some is not None else lints(**settings)
    wording = wording_of(examples)
    seen = [row_of(n, e, wording) for n, e in enumerate(examples)]
    for one in used:
        for row in seen:
            one.see(row)
        wanted = set(one.wanted())
        for row in seen:
            if row.number in wanted:
                one.again(row)
    return [f for one in used for f in one.findings()]


def named(findings: Iterable[Finding], rule: str) -> set[str]:
    """The ids of the rows that findings of one rule name."""
    return {p.id for f in findings if f.rule == rule for p in f.rows}


def rules_of(findings: Iterable[Finding]) -> set[str]:
    return {f.rule for f in findings}


def moved(example: Example, **new: Any) -> Example:
    return replace(example, **new)
