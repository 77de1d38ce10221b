"""How often the wall errs, and how often it sees: worlds put through the product's `judge_wall`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import betaincinv

from harness.core.bounds import mean_bounds, means_bounds
from harness.core.wall import Confirmation, TryScores, WallInput, judge_wall, nominee
from harness.records import WallVerdict
from tests.studies.calibrate.cells import CLAIM, GATE, Cell, Flags
from tests.studies.calibrate.worlds import (
    FAMILIES,
    SPREAD,
    TARGET,
    Array,
    Data,
    climbing,
    draw_scores,
    jumping,
    plateau,
    saturating,
    steady,
)

MOST = 21
"""Tries after which nobody goes on."""
SHIP_LOOKS = (1, 2, 3, 5, 7, 10, 13, 16, 20)
NO_GAIN = "no gain in the last 3"
BEST_BELOW = "best mean below"
BINOMIAL = "binomial bound of the best"
LEVEL = "(a) alone"
Truths = Callable[[np.random.Generator, int], Array]
Spoil = Callable[[np.random.Generator, Array], Array]


def judged(
    table: Array,
    data: Data,
    *,
    families: Sequence[str] = FAMILIES,
    profile: str = "standard",
    confirmation: Confirmation | None = None,
) -> WallVerdict:
    """Return the product's verdict on a table of tries."""
    evidence = evidence_of(table, data, families=families, profile=profile, look=confirmation)
    return judge_wall(evidence)


def evidence_of(
    table: Array,
    data: Data,
    *,
    families: Sequence[str] = FAMILIES,
    profile: str = "standard",
    look: Confirmation | None = None,
) -> WallInput:
    tries = [
        TryScores(name=f"p{k}", family=families[k % len(families)], scores=table[:, k])
        for k in range(table.shape[1])
    ]
    return WallInput(
        task="world",
        tries=tries,
        target=TARGET,
        clusters=data.clusters,
        profile=profile,
        reference_scores=np.ones(len(table)),
        waivers={"labels": "right by construction"},
        confirmation=look,
    )


def naive(table: Array, data: Data) -> Flags:
    """Return what simpler rules say to `is this a wall?`."""
    solved = np.where(np.isnan(table), 0.0, table)
    means = solved.mean(axis=0)
    n, best = len(table), float(means.max())
    hits = best * n
    upper = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 0.95))
    uppers = [e.upper for e in means_bounds(solved, data.clusters)]
    return {
        NO_GAIN: bool(means[-3:].max() <= means[:-3].max()) and best < TARGET,
        BEST_BELOW: best < TARGET,
        BINOMIAL: upper < TARGET,
        LEVEL: max(uppers) < TARGET,
    }


# ---------------------------------------------------------------- false walls


def next_reaches(
    rng: np.random.Generator,
    *,
    truths: Truths,
    data: Data,
    tries: int = 14,
    ahead: int = 2,
    profile: str = "standard",
) -> Flags | None:
    """WALL after `tries`, given that none of them is at the target and one of the next is."""
    true = truths(rng, tries + ahead)
    if (true[:tries] >= TARGET).any() or (true[tries:] < TARGET).all():
        return None
    table = draw_scores(rng, true[:tries], data)
    return {
        **naive(table, data), GATE: judged(table, data, profile=profile).answer == "WALL"
    }  # fmt: skip


def at_some_look(
    rng: np.random.Generator,
    *,
    truths: Truths,
    data: Data,
    families: Sequence[str] = FAMILIES,
    spoil: Spoil | None = None,
) -> Flags:
    """A wrong wall, judged again after every try from the 14th to the 21st, as somebody who peeks.

    The first wall ends the search, so it is the one that counts: wrong where a prompt that was
    tried, or one of the next K // 7, is truly at the target.
    """
    true = truths(rng, MOST + MOST // 7)
    table = draw_scores(rng, true[:MOST], data)
    if spoil is not None:
        table = spoil(rng, table)
    if not (true >= TARGET).any():  # no wall can be wrong
        return dict.fromkeys((NO_GAIN, BEST_BELOW, BINOMIAL, LEVEL, GATE), False)
    wrong: Flags = {}
    for k in range(14, MOST + 1):
        is_wrong = bool((true[: k + k // 7] >= TARGET).any())
        said = naive(table[:, :k], data)
        if GATE not in wrong:
            said[GATE] = judged(table[:, :k], data, families=families).answer == "WALL"
        for rule, is_wall in said.items():
            if is_wall:
                wrong.setdefault(rule, is_wrong)
    return {rule: wrong.get(rule, False) for rule in (NO_GAIN, BEST_BELOW, BINOMIAL, LEVEL, GATE)}


def one_at_target(rng: np.random.Generator, tries: int) -> Array:
    """One prompt exactly at the target, the others 10 points below."""
    true = np.full(tries, TARGET - 0.10)
    true[rng.integers(3, 12)] = TARGET
    return true


def last_family(rng: np.random.Generator, tries: int) -> Array:
    """Eighteen tries 6 points below; then the family that was left out reaches the target."""
    true = np.minimum(TARGET - 0.06 + SPREAD * rng.standard_normal(tries), TARGET - 0.005)
    true[18:] = TARGET + 0.01
    return true


LAST_LEFT_OUT = tuple(FAMILIES[k % 6] for k in range(18)) + ("optimised",) * 6


def hard_ones_missing(rng: np.random.Generator, table: Array) -> Array:
    """Take away up to 2 % of each try's cases, those that it solved: as bad as it can be."""
    spoilt = table.copy()
    for k in range(table.shape[1]):
        solved = np.flatnonzero(table[:, k] > 0)
        spoilt[rng.choice(solved, int(0.02 * len(table)), replace=False), k] = np.nan
    return spoilt


def wrong_labels(rng: np.random.Generator, table: Array, *, share: float, mended: str) -> Array:
    """Make labels wrong, so that a right reply misses; then mend none, or those that all miss."""
    is_wrong = rng.random(len(table)) < share
    if mended == "all":
        is_wrong[:] = False
    if mended == "missed by all":
        seen = np.where(is_wrong[:, None], 0.0, table)
        missed = np.flatnonzero((seen[:, :14] == 0).all(axis=1))
        is_wrong[rng.permutation(missed)[:25]] = False
    return np.where(is_wrong[:, None], 0.0, table)


# ---------------------------------------------------------------- power and shipping


def walls_by_the_end(rng: np.random.Generator, *, gap: float, data: Data) -> Flags:
    """WALL on a true plateau by the 21st try; or not enough evidence at the last."""
    table = draw_scores(rng, plateau(rng, MOST, gap=gap), data)
    answer = ""
    for k in range(14, MOST + 1):
        answer = judged(table[:, :k], data).answer
        if answer == "WALL":
            return {GATE: True, "not enough evidence": False}
    return {GATE: False, "not enough evidence": answer == "INSUFFICIENT_EVIDENCE"}


def quick_walls(rng: np.random.Generator, *, gap: float, data: Data) -> Flags:
    """The same with profile quick, after seven tries."""
    table = draw_scores(rng, plateau(rng, 7, gap=gap), data)
    return {GATE: judged(table, data, profile="quick").answer == "WALL"}


def ships(
    rng: np.random.Generator, *, first: float, last: float, fixed: float, data: Data
) -> Flags:
    """SHIP_PROMPT at some of nine looks on dev; and by one sealed look at the end, on 40 %.

    True means run from `first` to `last`. With `fixed`, each prompt is the one before with that
    share of its failing dev cases mended, and truly no better.
    """
    true = np.linspace(first, last, 20)
    table = draw_scores(rng, true, data)
    sealed_from = int(0.6 * data.cases) // data.each * data.each
    dev = Data(cases=sealed_from, each=data.each, kind=data.kind)
    if fixed:
        table[:, 1:] = table[:, :1]  # one prompt, and what is written onto it
        for k in range(1, 20):
            is_mended = (rng.random(data.cases) < fixed) & (table[:, k - 1] < 1)
            table[:, k] = np.where(is_mended, 1.0, table[:, k - 1])
    means = table.mean(axis=0)
    said = {
        "best mean": bool((means >= TARGET).any()),
        "clustered bound of the best": any(
            e.lower >= TARGET for e in means_bounds(table, data.clusters)
        ),
        "gate on dev, unconfirmed": any(
            judged(table[:, :k], data).answer == "SHIP_PROMPT" for k in SHIP_LOOKS
        ),
        GATE: False,
    }
    written = table[:sealed_from]
    name = nominee(evidence_of(written, dev))
    if name is not None:
        fresh = table[sealed_from:, 0 if fixed else int(name[1:])]
        sources = np.arange(len(fresh)) // data.each
        look = Confirmation(name=name, scores=fresh, clusters=sources, alpha=0.04)
        said[GATE] = judged(written, dev, confirmation=look).answer == "SHIP_PROMPT"
    return said


def bound_errs(rng: np.random.Generator, *, truth: float, data: Data) -> Flags:
    """The lower, or the upper, bound of one mean on the wrong side."""
    found = mean_bounds(draw_scores(rng, [truth], data)[:, 0], data.clusters)
    return {"lower bound above": found.lower > truth, GATE: found.upper < truth}


# ---------------------------------------------------------------- cells


def wall_cells() -> list[Cell]:
    """Return every cell of the wall, in the order of the report."""
    big, small, sources = Data(cases=4000), Data(cases=300), Data(cases=1000, each=5)
    given = []
    ways: list[tuple[str, Truths, Sequence[Data], float | None]] = [
        ("steady, 1 in 5 reaches it", partial(steady, chance=0.2), (small, big), CLAIM),
        ("the same, wide", partial(steady, chance=0.2, spread=0.05), (small, big), CLAIM),
        ("steady, 1 in 20 reaches it", partial(steady, chance=0.05), (small, big), None),
        ("climbing", climbing, (small, big), CLAIM),
        ("saturating above", saturating, (big,), CLAIM),
        ("a jump that nothing announces", jumping, (big,), None),
    ]
    for world, truths, datas, claim in ways:
        given += [
            Cell(
                section="next", world=world, data=data.text, claim=claim,
                one=partial(next_reaches, truths=truths, data=data),
            )
            for data in datas
        ]  # fmt: skip
    given.append(
        Cell(
            section="next", world="profile quick, 7 tries, 1 in 5 reaches it", data=big.text,
            one=partial(
                next_reaches, truths=partial(steady, chance=0.2), data=big, tries=7, ahead=1,
                profile="quick",
            ),
        )
    )  # fmt: skip
    return [*given, *_joint_cells(small, sources), *_power_cells(), *_ship_cells()]


def _joint_cells(small: Data, sources: Data) -> list[Cell]:
    few = Data(cases=200)
    ways: list[tuple[str, Truths, Sequence[Data]]] = [
        ("one prompt exactly at the target", one_at_target, (few, sources)),
        ("steady, 1 in 5 reaches it", partial(steady, chance=0.2), (sources,)),
        ("climbing", climbing, (few, sources)),
        ("saturating above", saturating, (sources,)),
        ("a jump that nothing announces", jumping, (sources,)),
    ]
    cells = [
        Cell(
            section="joint", world=world, data=data.text, claim=CLAIM,
            one=partial(at_some_look, truths=truths, data=data),
        )
        for world, truths, datas in ways
        for data in datas
    ]  # fmt: skip
    cells += [
        Cell(
            section="joint", world="the last family reaches it", data=data.text, claim=CLAIM,
            one=partial(at_some_look, truths=last_family, data=data, families=LAST_LEFT_OUT),
        )
        for data in (few, sources)
    ]  # fmt: skip
    cells += [
        Cell(
            section="joint", world="one prompt exactly at the target", data=data.text, claim=CLAIM,
            one=partial(at_some_look, truths=one_at_target, data=data),
        )
        for data in (
            Data(cases=300, kind="smooth"), Data(cases=300, kind="checks"),
            Data(cases=200, kind="repeats"), Data(cases=1000, each=5, kind="repeats"),
        )
    ]  # fmt: skip
    spoilt: list[tuple[str, Spoil, float | None]] = [
        ("2 % missing, all of them solved", hard_ones_missing, CLAIM),
        ("6 % of labels wrong, none mended", partial(wrong_labels, share=0.06, mended=""), None),
        (
            "6 % of labels wrong, 25 that all miss mended",
            partial(wrong_labels, share=0.06, mended="missed by all"), None,
        ),
        (
            "6 % of labels wrong, all mended",
            partial(wrong_labels, share=0.06, mended="all"), CLAIM,
        ),
    ]  # fmt: skip
    cells += [
        Cell(
            section="joint", world=f"one exactly at the target; {what}", data=small.text,
            claim=claim, one=partial(at_some_look, truths=one_at_target, data=small, spoil=spoil),
        )
        for what, spoil, claim in spoilt
    ]  # fmt: skip
    return cells


def _power_cells() -> list[Cell]:
    kinds = [Data(cases=n, each=each) for each in (1, 5) for n in (100, 300, 1000)]
    cells = [
        Cell(
            section="power", world=f"{round(100 * gap)} points below", data=data.text,
            one=partial(walls_by_the_end, gap=gap, data=data), is_power=True,
        )
        for gap in (0.05, 0.10, 0.15)
        for data in kinds
    ]  # fmt: skip
    cells += [
        Cell(
            section="power", world="10 points below", data=data.text,
            one=partial(walls_by_the_end, gap=0.10, data=data), is_power=True,
        )
        for data in (
            Data(cases=300, kind="smooth"), Data(cases=300, kind="checks"),
            Data(cases=300, kind="repeats"),
        )
    ]  # fmt: skip
    cells += [
        Cell(
            section="power", world=f"{round(100 * gap)} points below, profile quick",
            data="300", one=partial(quick_walls, gap=gap, data=Data(cases=300)), is_power=True,
        )
        for gap in (0.05, 0.10, 0.15)
    ]  # fmt: skip
    return cells


def _ship_cells() -> list[Cell]:
    at, below = TARGET, TARGET - 0.05
    worlds = [
        ("all exactly at the target", at, at, 0.0, Data(cases=500)),
        ("all exactly at the target", at, at, 0.0, Data(cases=1000, each=5)),
        ("5 points below; each fixes 3 % of failing dev cases", below, below, 0.03,
         Data(cases=500)),
        ("5 points below; each fixes 8 % of failing dev cases", below, below, 0.08,
         Data(cases=500)),
    ]  # fmt: skip
    cells = [
        Cell(
            section="ship", world=world, data=data.text, claim=CLAIM,
            one=partial(ships, first=first, last=last, fixed=fixed, data=data),
        )
        for world, first, last, fixed, data in worlds
    ]  # fmt: skip
    cells += [
        Cell(
            section="ship", world=f"climbs to {points} points above", data=data.text,
            is_power=True,
            one=partial(ships, first=at - 0.10, last=at + points / 100, fixed=0.0, data=data),
        )
        for points in (5, 8)
        for data in (Data(cases=300), Data(cases=1000))
    ]  # fmt: skip
    cells += [
        Cell(
            section="bounds", world=f"true mean {truth:g}", data=data.text, times=5, claim=CLAIM,
            one=partial(bound_errs, truth=truth, data=data),
        )
        for truth in (0.5, 0.8, 0.97)
        for data in (
            Data(cases=40), Data(cases=300), Data(cases=300, kind="smooth"),
            Data(cases=300, each=10), Data(cases=1000, each=5), Data(cases=100, each=10),
        )
    ]  # fmt: skip
    return cells
