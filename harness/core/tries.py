"""The tries of a ladder as arrays, and which of them count. Knows no store and no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.bounds import Array, Clusters, as_scores, at_worst, means_bounds
from harness.errors import UsageError
from harness.records import FAMILIES, Estimate, Try


@dataclass(frozen=True, slots=True, kw_only=True)
class TryScores:
    """One run over dev as the gate reads it: a score a case, None or NaN = missing.

    A case that the system under test failed to answer scores 0; only infrastructure trouble is
    missing. `repeats` holds the scores that these are the means of (N x r), where there are more
    than one. Digests say what is the same try. `is_countable` is false for partial runs and other
    models (cases that were not run are None); `note` says why. `is_tuned` and `is_other_model` mark
    what a wall on prompts of one model reads otherwise. `family` is empty where it is unknown. The
    rest is passed on to `Try`.
    """

    name: str
    family: str
    scores: Sequence[float | None] | Array
    repeats: Sequence[Sequence[float | None]] | Array | None = None
    run_id: str = ""
    prompt_digest: str = ""
    decoding_digest: str = ""
    replies_digest: str = ""
    is_countable: bool = True
    is_within_budget: bool = True
    note: str = ""
    is_tuned: bool = False
    is_other_model: bool = False
    faults: int = 0
    unscored: int = 0
    latency_s: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None


Identity = tuple[str, str, str]
"""Digests of prompt, decoding (with grammar and tools) and all replies; empty = unknown."""


def identity_of(rung: TryScores) -> Identity:
    """Return the three digests that tell whether two tries are one."""
    return rung.prompt_digest, rung.decoding_digest, rung.replies_digest


def is_same_try(one: Identity, other: Identity) -> bool:
    """Tell whether two tries are one: same prompt and decoding, or all replies the same.

    Equal scores are not enough: ten different prompts that all score 0 are ten tries.
    """
    return _is_same_question(one, other) or (bool(one[2]) and one[2] == other[2])


def _is_same_question(one: Identity, other: Identity) -> bool:
    return bool(one[0]) and one[:2] == other[:2]


def repeats_of(identities: Sequence[Identity]) -> tuple[int | None, ...]:
    """Return for each try the first try that it repeats, or None: those at None count once."""
    first: list[int | None] = []
    for k, identity in enumerate(identities):
        earlier = next((j for j in range(k) if is_same_try(identities[j], identity)), None)
        root = earlier if earlier is None else first[earlier]
        first.append(earlier if root is None else root)
    return tuple(first)


def echoed_families(tries: Sequence[TryScores], repeats: Sequence[int | None]) -> tuple[str, ...]:
    """Return the family of each try that counts for nothing because to its own question came, case
    by case, the replies of an earlier try. `repeats` is what `repeats_of` says of `tries`.
    """
    return tuple(
        rung.family
        for rung, again in zip(tries, repeats, strict=True)
        if rung.is_countable
        and again is not None
        and not _is_same_question(identity_of(rung), identity_of(tries[again]))
    )


def score_table(tries: Sequence[TryScores], n: int) -> Array:
    """Return N x K scores in time order, missing as NaN. Raises UsageError on a wrong length."""
    table = np.empty((n, len(tries)))
    for k, rung in enumerate(tries):
        if rung.family and rung.family not in FAMILIES:
            raise UsageError(
                f"try {rung.name!r}: family {rung.family!r} is not one of {', '.join(FAMILIES)}"
            )
        if len(rung.scores) != n:
            raise UsageError(
                f"try {rung.name!r} has {len(rung.scores)} scores for {n} cases: align every try "
                "on the same cases, with None where one is missing"
            )
        table[:, k] = np.asarray(rung.scores, dtype=np.float64)
    return as_scores(table, name="tries")


def repeats_table(tries: Sequence[TryScores], n: int) -> Array | None:
    """Return N x K x r scores, missing as NaN; None unless all have r repeats, two or more."""
    tables = [np.asarray(t.repeats, dtype=np.float64) for t in tries if t.repeats is not None]
    if len(tables) < len(tries) or not tables:
        return None
    shapes = {table.shape for table in tables}
    if len(shapes) > 1 or tables[0].ndim != 2 or len(tables[0]) != n or tables[0].shape[1] < 2:
        return None
    return as_scores(np.stack(tables, axis=1), name="repeats")


def mean_or_none(scores: Array) -> float | None:
    """Return the mean of the scores that are there."""
    seen = scores[~np.isnan(scores)]
    return float(seen.mean()) if seen.size else None


def try_estimates(table: Array, clusters: Clusters, *, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """Return an estimate a column that survives the worst case of what is missing. Shape: N x K.

    The mean is over the scores that are there; the lower bound takes missing as 0, the upper as 1.
    """
    low = means_bounds(at_worst(table, missing=0.0), clusters, alpha=alpha)
    if not np.isnan(table).any():
        return low
    high = means_bounds(at_worst(table, missing=1.0), clusters, alpha=alpha)
    found = []
    for column, under, over in zip(table.T, low, high, strict=True):
        mean = mean_or_none(column)
        found.append(
            Estimate(
                mean=under.mean if mean is None else mean,
                lower=under.lower,
                upper=over.upper,
                n=int((~np.isnan(column)).sum()),
                clusters=under.clusters,
                alpha=alpha,
            )
        )
    return tuple(found)


def build_tries(
    tries: Sequence[TryScores],
    clusters: Clusters,
    *,
    best: int | None = None,
    alpha: float = 0.05,
) -> tuple[Try, ...]:
    """Return the ladder's rungs with estimates, and wins and losses against try number `best`.

    Without `best` it is the counted try with the highest mean. Repeats keep their place, uncounted.
    """
    if not tries:
        return ()
    table = score_table(tries, len(tries[0].scores))
    repeats = repeats_of([identity_of(rung) for rung in tries])
    counted = [r.is_countable and again is None for r, again in zip(tries, repeats, strict=True)]
    if best is None:
        means = [mean_or_none(table[:, k]) if counted[k] else None for k in range(len(tries))]
        known = [(m, -k) for k, m in enumerate(means) if m is not None]
        best = -max(known)[1] if known else None
    estimates = try_estimates(table, clusters, alpha=alpha)
    rungs = []
    for k, rung in enumerate(tries):
        again = repeats[k]
        note = rung.note or (f"repeats {tries[again].name}" if again is not None else "")
        rungs.append(
            Try(
                candidate=rung.name,
                family=rung.family,
                run_id=rung.run_id,
                estimate=estimates[k],
                # NaN compares false both ways, so a missing case is neither win nor loss
                wins=0 if best is None else int((table[:, k] > table[:, best]).sum()),
                losses=0 if best is None else int((table[:, k] < table[:, best]).sum()),
                missing=int(np.isnan(table[:, k]).sum()),
                faults=rung.faults,
                unscored=rung.unscored,
                latency_s=rung.latency_s,
                input_tokens=rung.input_tokens,
                output_tokens=rung.output_tokens,
                cost_usd=rung.cost_usd,
                is_counted=counted[k],
                note=note,
            )
        )
    return tuple(rungs)


def failed_by_all(table: Array) -> tuple[int, ...]:
    """Return the rows that no try solved (every score 0): mislabelled, or beyond prompting.

    Shape: N x K. A row with a missing score is not among them.
    """
    return tuple(int(row) for row in np.flatnonzero((table == 0).all(axis=1)))
