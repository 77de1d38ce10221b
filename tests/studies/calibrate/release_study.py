"""How often the release gate errs, and how often it sees: through the product's `judge_release`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import stats

from harness.core.pairs import Pair, compare
from harness.core.release import Advantage, Budget, Guard, judge_release
from harness.core.sequences import paired_sequence
from harness.records import ReleaseVerdict
from tests.studies.calibrate.cells import CLAIM, GATE, Cell, Flags
from tests.studies.calibrate.worlds import Array, Data, draw_scores

MEAN = "mean above"
UNPAIRED = "unpaired interval"
PAIRED_T = "paired t"
MCNEMAR = "McNemar"
BLOCK = "BLOCK"


def pair_of(name: str, table: Array, data: Data) -> Pair:
    return Pair(
        name=name, candidate=table[:, 0], baseline=table[:, 1], clusters=data.clusters[: len(table)]
    )


def judged(
    primary: Pair,
    *,
    guards: Sequence[Guard] = (),
    budgets: Sequence[Budget] = (),
    advantages: Sequence[Advantage] = (),
    margin: float | None = None,
    look: int | None = None,
) -> ReleaseVerdict:
    """Return the product's verdict."""
    compared = compare(primary, task="world", split="test", baseline="a", candidate="b")
    return judge_release(
        compared,
        primary=primary,
        guards=guards,
        budgets=budgets,
        advantages=advantages,
        goal="beat" if margin is None else "match",
        margin=margin,
        look=look,
    )


def clear_gain(n: int, data: Data) -> Pair:
    """A primary that ships in any case, so that the verdict hangs on the check beside it."""
    table = np.column_stack([np.ones(n), np.arange(n) % 10 < 3])
    return pair_of("primary", table.astype(float), data)


def naive(d: Array, table: Array, *, margin: float = 0.0) -> Flags:
    """Return what simpler rules say to `better than -margin?`."""
    n, error = len(d), float(d.std(ddof=1)) / np.sqrt(len(d))
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    apart = np.sqrt(table.var(axis=0, ddof=1).sum() / n)
    said = {
        MEAN: bool(d.mean() > -margin),
        UNPAIRED: bool(d.mean() + margin > 1.645 * apart),
        PAIRED_T: bool(d.mean() + margin > stats.t.ppf(0.95, n - 1) * error),
    }
    if not margin:
        said[MCNEMAR] = bool(stats.binom.sf(wins - 1, wins + losses, 0.5) <= 0.05)
    return said


# ---------------------------------------------------------------- no gain


def no_gain(rng: np.random.Generator, *, data: Data, truth: float = 0.75) -> Flags:
    """SHIP of two arms that are truly equal."""
    table = draw_scores(rng, [truth, truth], data)
    found = judged(pair_of("primary", table, data)).answer
    return {**naive(table[:, 0] - table[:, 1], table), GATE: found == "SHIP"}


def misses_missing(rng: np.random.Generator, *, data: Data) -> Flags:
    """Equal arms; 2 % of the cases go missing in the candidate, all of them its misses."""
    table = draw_scores(rng, [0.75, 0.75], data)
    missed = np.flatnonzero(table[:, 0] == 0)
    table[rng.choice(missed, int(0.02 * data.cases), replace=False), 0] = np.nan
    found = judged(pair_of("primary", table, data)).answer
    kept = table[~np.isnan(table[:, 0])]
    dropped = paired_t(kept[:, 0] - kept[:, 1])
    return {"missing dropped, paired t": dropped, GATE: found == "SHIP"}


def paired_t(d: Array) -> bool:
    return bool(d.mean() > stats.t.ppf(0.95, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d)))


def edited(rng: np.random.Generator, *, data: Data, which: str) -> Flags:
    """Equal arms; 6 % of labels wrong, so that right replies miss. Some are mended after a look.

    `blind`: half of the wrong ones, at random. `candidate`: those where the candidate missed and
    was right. The gate is not told.
    """
    right = draw_scores(rng, [0.75, 0.75], data)
    is_wrong = rng.random(data.cases) < 0.06
    if which == "blind":
        is_wrong &= rng.random(data.cases) < 0.5
    if which == "candidate":
        is_wrong &= right[:, 0] == 0
    table = np.where(is_wrong[:, None], 0.0, right)
    found = judged(pair_of("primary", table, data)).answer
    return {**naive(table[:, 0] - table[:, 1], table), GATE: found == "SHIP"}


# ---------------------------------------------------------------- checks beside the primary


def rare_losses(rng: np.random.Generator, *, margin: float, data: Data) -> Flags:
    """SHIP with a guardrail that truly loses its whole margin, in a few cases and with no gain."""
    d = -(rng.random(data.cases) < margin).astype(float)
    table = np.column_stack([1 + d, np.ones(data.cases)])
    guard = Guard(pair=pair_of("guardrail", table, data), margin=margin)
    found = judged(clear_gain(data.cases, data), guards=[guard]).answer
    is_flat = d.std() == 0
    said = naive(d, table, margin=margin) if not is_flat else {MEAN: True, PAIRED_T: True}
    return {MEAN: said[MEAN], PAIRED_T: said[PAIRED_T], GATE: found == "SHIP"}


def with_guardrail(
    rng: np.random.Generator, *, gain: float, data: Data, loss: float = 0.0
) -> Flags:
    """SHIP with a primary at .75 that gains, and a guardrail at .95 with a margin of .03."""
    primary = draw_scores(rng, [0.75 + gain, 0.75], data)
    other = draw_scores(rng, [0.95 - loss, 0.95], data)
    guard = Guard(pair=pair_of("guardrail", other, data), margin=0.03)
    found = judged(pair_of("primary", primary, data), guards=[guard]).answer
    return {GATE: found == "SHIP", BLOCK: found == "BLOCK"}


def with_slices(
    rng: np.random.Generator, *, data: Data, is_one_bad: bool, slices: int = 4
) -> Flags:
    """SHIP with must-hold slices (sizes 1 to 3, margin .05): one loses its margin, or all gain."""
    weights = np.linspace(1, 3, slices)
    ends = np.round(np.cumsum(weights / weights.sum()) * data.cases).astype(int)
    sizes = np.diff(ends, prepend=0)
    gains = np.full(slices, 0.06)
    if is_one_bad:
        gains[1] = -0.05
    parts = [
        draw_scores(rng, [0.75 + gain, 0.75], Data(cases=int(size)))
        for gain, size in zip(gains, sizes, strict=True)
    ]
    guards = [
        Guard(
            pair=pair_of(f"s{k}", part, Data(cases=len(part))), margin=0.05, kind="slice"
        )
        for k, part in enumerate(parts)
    ]  # fmt: skip
    found = judged(pair_of("primary", np.vstack(parts), data), guards=guards).answer
    return {
        "no slice mean below": all((p[:, 0] - p[:, 1]).mean() > -0.05 for p in parts),
        GATE: found == "SHIP",
        BLOCK: found == "BLOCK",
    }


# ---------------------------------------------------------------- looking more than once


def ten_in_turn(rng: np.random.Generator, *, data: Data) -> Flags:
    """SHIP of one of ten candidates that all equal the baseline, each a further look."""
    table = draw_scores(rng, [0.75] * 11, data)
    said = {"each at 5 %": False, "one gate, looks not counted": False, GATE: False}
    for look in range(1, 11):
        arms = table[:, [look, 0]]
        primary = pair_of("primary", arms, data)
        said["each at 5 %"] |= paired_t(arms[:, 0] - arms[:, 1])
        said["one gate, looks not counted"] |= judged(primary).answer == "SHIP"
        said[GATE] |= judged(primary, look=look).answer == "SHIP"
    return said


def growing(rng: np.random.Generator, *, gain: float, data: Data) -> Flags:
    """A gain shown at some of 20 looks at an eval that grows in equal steps."""
    table = draw_scores(rng, [0.75 + gain, 0.75], data)
    d = table[:, 0] - table[:, 1]
    said = {"paired t at each look": False, GATE: False}
    for size in np.linspace(data.cases / 20, data.cases, 20).astype(int).tolist():
        whole = size // data.each * data.each
        said["paired t at each look"] |= paired_t(d[:whole])
        said[GATE] |= paired_sequence(d[:whole], data.clusters[:whole]).lower > 0
    return said


# ---------------------------------------------------------------- match, latency, cost


def matched(rng: np.random.Generator, *, lost: float, ratio: float, data: Data) -> Flags:
    """SHIP by goal `match`, margin .05: truth .85 less `lost`, at `ratio` times the latency."""
    table = draw_scores(rng, [0.85 - lost, 0.85], data)
    times = rng.lognormal(0.0, 0.5, (data.cases, 2)) * [ratio, 1.0]
    faster = Advantage(
        name="latency", candidate=times[:, 0], baseline=times[:, 1], clusters=data.clusters
    )
    found = judged(pair_of("primary", table, data), advantages=[faster], margin=0.05).answer
    return {
        "means alone": bool(
            (table[:, 0] - table[:, 1]).mean() > -0.05 and times[:, 0].mean() < times[:, 1].mean()
        ),
        GATE: found == "SHIP",
    }


def p95_at_limit(rng: np.random.Generator, *, data: Data) -> Flags:
    """SHIP with a p95 budget where the true p95 is a hair above the limit (lognormal times)."""
    between = 0.5 if data.each > 1 else 0.0
    sources = int(data.clusters[-1]) + 1
    log_s = np.sqrt(between) * rng.standard_normal(sources)[data.clusters]
    times = np.exp(log_s + np.sqrt(1 - between) * rng.standard_normal(data.cases))
    limit = float(np.exp(stats.norm.ppf(0.95)))
    budget = Budget(name="latency", values=times, limit=limit, clusters=data.clusters)
    found = judged(clear_gain(data.cases, data), budgets=[budget]).answer
    return {
        "p95 that was seen": bool(np.quantile(times, 0.95) <= limit), GATE: found == "SHIP"
    }  # fmt: skip


def cost_at_limit(rng: np.random.Generator, *, sigma: float, data: Data) -> Flags:
    """SHIP with a budget for the mean cost where the true mean is the limit (lognormal costs)."""
    costs = rng.lognormal(-sigma * sigma / 2, sigma, data.cases)
    budget = Budget(
        name="cost", values=costs, limit=1.0, quantile=None, clusters=data.clusters
    )  # fmt: skip
    found = judged(clear_gain(data.cases, data), budgets=[budget]).answer
    return {"mean that was seen": bool(costs.mean() <= 1.0), GATE: found == "SHIP"}


# ---------------------------------------------------------------- cells


def release_cells() -> list[Cell]:
    """Return every cell of the release gate, in the order of the report."""
    cells = [
        _cell("no gain", "equal arms", data, partial(no_gain, data=data), claim=CLAIM)
        for data in (
            Data(cases=40), Data(cases=200), Data(cases=500, each=10), Data(cases=2000, each=10),
            Data(cases=300, each=25), Data(cases=200, kind="smooth"),
            Data(cases=200, kind="checks"), Data(cases=100, kind="repeats"),
        )
    ]  # fmt: skip
    some = Data(cases=300)
    cells += [
        _cell(
            "no gain", "2 % missing, all of them the candidate's misses", some,
            partial(misses_missing, data=some), claim=CLAIM,
        ),
        _cell(
            "no gain", "6 % of labels wrong, half of them mended blind", some,
            partial(edited, data=some, which="blind"), claim=CLAIM,
        ),
        _cell(
            "no gain", "6 % of labels wrong, mended where the candidate missed", some,
            partial(edited, data=some, which="candidate"),
        ),
    ]  # fmt: skip
    for n, margin in ((30, 0.10), (60, 0.05), (100, 0.03), (200, 0.03), (1000, 0.02)):
        data = Data(cases=n)
        cells.append(
            _cell(
                "guardrail", f"margin {margin:.2f} truly lost, in rare cases", data,
                partial(rare_losses, margin=margin, data=data), claim=CLAIM,
            )
        )  # fmt: skip
    cells += _beside() + _looks() + _match() + _budgets()
    return cells


def _cell(
    section: str,
    world: str,
    data: Data,
    one: Callable[[np.random.Generator], Flags],
    *,
    claim: float | None = None,
    is_power: bool = False,
    times: int = 2,
) -> Cell:
    return Cell(
        section=section, world=world, data=data.text, one=one, claim=claim, is_power=is_power,
        times=times,
    )  # fmt: skip


def _beside() -> list[Cell]:
    cells = [
        _cell(
            "beside", f"primary gains {gain:.2f}, guardrail equal (margin .03)", Data(cases=n),
            partial(with_guardrail, gain=gain, data=Data(cases=n)), is_power=True,
        )
        for gain in (0.03, 0.05, 0.10)
        for n in (100, 400, 1600)
    ]  # fmt: skip
    cells.append(
        _cell(
            "beside", "primary gains 0.10, guardrail loses its margin of .03", Data(cases=800),
            partial(with_guardrail, gain=0.10, loss=0.03, data=Data(cases=800)), claim=CLAIM,
        )
    )  # fmt: skip
    for n in (1000, 4000):
        data = Data(cases=n)
        cells += [
            _cell(
                "beside", "four must-hold slices, one loses its margin of .05", data,
                partial(with_slices, data=data, is_one_bad=True), claim=CLAIM, times=1,
            ),
            _cell(
                "beside", "four must-hold slices, all gain .06", data,
                partial(with_slices, data=data, is_one_bad=False), is_power=True, times=1,
            ),
        ]  # fmt: skip
    return cells


def _looks() -> list[Cell]:
    return [
        _cell(
            "looks", "ten equal candidates in turn", data, partial(ten_in_turn, data=data),
            claim=CLAIM, times=1,
        )
        for data in (Data(cases=300), Data(cases=1000, each=5))
    ] + [
        _cell(
            "growing", "no gain" if not gain else f"a gain of {gain:.2f}", data,
            partial(growing, gain=gain, data=data), claim=None if gain else CLAIM,
            is_power=bool(gain), times=1,
        )
        for gain in (0.0, 0.05)
        for data in (Data(cases=1000), Data(cases=1000, each=5))
    ]  # fmt: skip


def _match() -> list[Cell]:
    cells = [
        _cell(
            "match", "truly .05 worse, twice as fast", Data(cases=n),
            partial(matched, lost=0.05, ratio=0.5, data=Data(cases=n)), claim=CLAIM,
        )
        for n in (150, 1000)
    ]  # fmt: skip
    cells.append(
        _cell(
            "match", "truly equal, no faster", Data(cases=1000),
            partial(matched, lost=0.0, ratio=1.0, data=Data(cases=1000)), claim=CLAIM,
        )
    )  # fmt: skip
    cells += [
        _cell(
            "match", "truly equal, twice as fast", Data(cases=n),
            partial(matched, lost=0.0, ratio=0.5, data=Data(cases=n)), is_power=True,
        )
        for n in (150, 300, 600, 1000)
    ]  # fmt: skip
    return cells


def _budgets() -> list[Cell]:
    cells = [
        _cell(
            "budgets", "p95 latency at the limit", data, partial(p95_at_limit, data=data),
            claim=CLAIM,
        )
        for data in (
            Data(cases=100), Data(cases=300), Data(cases=300, each=4), Data(cases=1000, each=10)
        )
    ]  # fmt: skip
    cells += [
        _cell(
            "budgets", f"mean cost at the limit, {words}", data,
            partial(cost_at_limit, sigma=sigma, data=data),
        )
        for sigma, words in ((0.5, "even"), (1.2, "with a long tail"))
        for data in (Data(cases=100), Data(cases=1000))
    ]  # fmt: skip
    return cells
