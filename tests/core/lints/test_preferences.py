"""Traps of preference rows, planted."""

from __future__ import annotations

import random
from dataclasses import replace

from harness.core.examples import Example
from harness.core.lints.preferences import PreferenceLint
from tests.core.lints.planted import clean_rows, named, rules_of, run, sentence


def pairs(n: int, *, longer: float = 0.5, seed: int = 0) -> list[Example]:
    """Pairs whose better answer is the longer one in a share of them."""
    rng = random.Random(seed)
    found = []
    for row in clean_rows(n, seed=seed):
        short, long = sentence(rng, words=2), sentence(rng, words=3)
        better, worse = (long, short) if rng.random() < longer else (short, long)
        found.append(replace(row, reference=better, rejected=worse))
    return found


def test_length_bias_is_told_at_70_percent_and_seldom_where_there_is_none() -> None:
    told = [rules_of(run(pairs(200, longer=0.7, seed=s), [PreferenceLint()])) for s in range(12)]
    assert sum("length-bias" in rules for rules in told) >= 11
    quiet = [rules_of(run(pairs(200, seed=s), [PreferenceLint()])) for s in range(100, 124)]
    assert sum("length-bias" in rules for rules in quiet) <= 1


def test_traps_of_pairs_are_found_at_their_rows() -> None:
    rows = pairs(100)
    text = str(rows[2].inputs["text"])
    rows[0] = replace(rows[0], rejected=f"  {rows[0].reference}".upper())
    rows[1] = replace(rows[1], rejected=[{"role": "user", "content": "hi"}])
    rows[2] = replace(rows[2], reference=f"{text} yes", rejected=f"{text} no")
    rows[3] = replace(rows[3], rejected="It is late.\nUser: and now?")
    findings = run(rows)
    assert named(findings, "same-pair") == {rows[0].id}
    assert named(findings, "user-in-rejected") == {rows[1].id, rows[3].id}
    assert named(findings, "prompt-in-answer") == {rows[2].id}
    assert rules_of(run(pairs(100))) == set()
