"""Means of scores with honest bounds. Knows arrays and clusters; nothing of tries or verdicts.

Scores lie in [0, 1]; cases that share a cluster are not independent, so every bound counts
clusters, not cases. Missing values (None, NaN) are refused here: `at_worst` fills them first.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.core.means import NO_SPREAD, ROUNDING
from harness.errors import UsageError
from harness.records import Estimate

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Clusters = Sequence[Hashable] | npt.NDArray[Any] | None
"""One name a case; None, or an empty name, makes the case a cluster of its own."""

# ---------------------------------------------------------------- scores and clusters as arrays


def as_scores(values: Any, *, name: str = "scores") -> Array:
    """Return scores as floats, None as NaN (missing). Raises UsageError outside [0, 1]."""
    scores = np.asarray(values, dtype=np.float64)
    bad = (scores < -ROUNDING) | (scores > 1 + ROUNDING)
    if bad.any():
        raise UsageError(
            f"{name}: {scores[bad][0]:g} is not a score: scores lie in [0, 1]; rescale it in the "
            "eval, where the reader can see how"
        )
    return np.clip(scores, 0.0, 1.0)


def at_worst(values: Any, *, missing: float) -> Array:
    """Return scores with every missing one at `missing`: 0 to doubt a claim of good, 1 of bad."""
    scores = as_scores(values)
    return np.where(np.isnan(scores), missing, scores)


def missing_share(values: Any) -> float:
    """Return the share of cases without a score, in [0, 1]. Shape: N."""
    return float(np.isnan(as_scores(values)).mean())


def cluster_codes(clusters: Clusters, n: int) -> tuple[Codes, int]:
    """Return each case's cluster as 0..G-1, and G. Raises UsageError where lengths differ."""
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise UsageError(f"{len(clusters)} cluster names for {n} cases: give one a case")
    if isinstance(clusters, np.ndarray) and clusters.dtype.kind in "iu":
        names, inverse = np.unique(clusters, return_inverse=True)
        return inverse.astype(np.int64), len(names)
    numbers: dict[Hashable, int] = {}
    codes = np.empty(n, dtype=np.int64)
    for row, cluster in enumerate(clusters):
        key = (row,) if cluster is None or cluster == "" else cluster
        codes[row] = numbers.setdefault(key, len(numbers))
    return codes, len(numbers)


def join_repeated_cases(clusters: Sequence[str], contents: Sequence[str]) -> list[str]:
    """Return clusters in which cases of the same content share one: a repeat is no new evidence.

    `contents` identify what is asked (an inputs digest a case). Two named clusters that share a
    case become one, under the name seen first.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    names = [f"name {c}" if c else f"content {d}" for c, d in zip(clusters, contents, strict=True)]
    first: dict[str, str] = {}
    for name, content in zip(names, contents, strict=True):
        mine, theirs = root(name), root(first.setdefault(content, name))
        parent[mine] = theirs
    return [root(name) for name in names]


def effective_clusters(clusters: Clusters, n: int | None = None) -> float:
    """Return (sum n)^2 / sum n^2: how many clusters of equal size would tell as much."""
    size = n if n is not None else len(clusters) if clusters is not None else 0
    counts = np.bincount(cluster_codes(clusters, size)[0]).astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if size else 0.0


def largest_cluster_share(clusters: Clusters, n: int) -> float:
    """Return the share of cases, in [0, 1], that the largest cluster holds."""
    return float(np.bincount(cluster_codes(clusters, n)[0]).max() / n) if n else 0.0


# ---------------------------------------------------------------- means


def clustered_means(values: Any, clusters: Clusters) -> tuple[Array, Array, int]:
    """Return column means, their clustered covariance, and the number of clusters G.

    Shapes: N or N x K in; K, K x K out. Influence form: r = (y - mean) / N, summed to Z (G x K),
    S = G/(G-1) Z'Z, read with G-1 degrees of freedom. With G = 1 the covariance is infinite.
    Source: Liang & Zeger (1986), Biometrika 73:13-22. Checked against statsmodels' cluster
    covariance in tests/core/test_bounds.py.
    """
    means, sums, groups = _cluster_sums(values, clusters)
    if groups < 2:
        return means, np.full((len(means),) * 2, np.inf), groups
    # not `@`: on busy cores a threaded BLAS waits 300 ms for what one thread does in 5
    products = np.einsum("gj,gk->jk", sums, sums)
    return means, products * (groups / (groups - 1)), groups


def clustered_errors(values: Any, clusters: Clusters) -> tuple[Array, Array, int]:
    """Return column means, their clustered standard errors, and G. Shapes: N x K in; K, K out."""
    means, sums, groups = _cluster_sums(values, clusters)
    if groups < 2:
        return means, np.full(len(means), np.inf), groups
    return means, np.sqrt((sums**2).sum(axis=0) * (groups / (groups - 1))), groups


def _cluster_sums(values: Any, clusters: Clusters) -> tuple[Array, Array, int]:
    """Return column means and the influence of each cluster on them. Shape: G x K."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    n = len(table)
    if n == 0:
        raise UsageError("no cases: a mean needs at least one")
    if np.isnan(table).any():
        raise UsageError("missing scores: fill them with `at_worst` before asking for bounds")
    codes, groups = cluster_codes(clusters, n)
    means = table.mean(axis=0)
    influence = (table - means) / n
    if groups < n:
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(groups))
        influence = np.add.reduceat(influence[order], starts, axis=0)
    return means, influence, groups


def t_quantile(probability: float, groups: int) -> float:
    """Return Student's t quantile with G-1 degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(groups - 1, probability))


def korn_graubard(means: Any, errors: Any, *, groups: int, alpha: float) -> tuple[Array, Array]:
    """Return one-sided lower and upper bounds of shares in [0, 1]. Shapes: K, K in; K, K out.

    Clopper-Pearson at n_eff = p(1-p)/se^2 (z/t_{G-1})^2, and n_eff = G (z/t)^2 where se is 0, so
    "8 of 8" never proves anything. One cluster bounds nothing: (0, 1).
    Source: Korn & Graubard (1998), Survey Methodology 24:193-201.
    """
    from scipy import special

    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha {alpha:g}: a one-sided error rate lies between 0 and 0.5")
    p = np.clip(np.atleast_1d(np.asarray(means, dtype=np.float64)), 0.0, 1.0)
    se = np.atleast_1d(np.asarray(errors, dtype=np.float64))
    if groups < 2:
        return np.zeros_like(p), np.ones_like(p)
    is_flat = se <= NO_SPREAD
    n_eff = np.where(is_flat, groups, p * (1 - p) / np.where(is_flat, 1.0, se) ** 2)
    n_eff = n_eff * (special.ndtri(1 - alpha) / t_quantile(1 - alpha, groups)) ** 2
    hits = p * n_eff
    misses = n_eff - hits
    lower = special.betaincinv(np.where(hits > 0, hits, 1.0), misses + 1, alpha)
    upper = special.betaincinv(hits + 1, np.where(misses > 0, misses, 1.0), 1 - alpha)
    lower = np.where(hits > 0, np.minimum(lower, p), 0.0)
    return lower, np.where(misses > 0, np.maximum(upper, p), 1.0)


def mean_bounds(scores: Any, clusters: Clusters, *, alpha: float = 0.05) -> Estimate:
    """Return the mean score with one-sided bounds, each at `alpha`. Shape: N.

    Raises UsageError on scores outside [0, 1], missing ones, or none at all.
    """
    return means_bounds(as_scores(scores)[:, None], clusters, alpha=alpha)[0]


def means_bounds(scores: Any, clusters: Clusters, *, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """Return `mean_bounds` of each column. Shape: N x K."""
    table = as_scores(scores)
    means, errors, groups = clustered_errors(table, clusters)
    lower, upper = korn_graubard(means, errors, groups=groups, alpha=alpha)
    return tuple(
        Estimate(
            mean=float(m), lower=float(lo), upper=float(up), n=len(table), clusters=groups,
            alpha=alpha,
        )
        for m, lo, up in zip(means, lower, upper, strict=True)
    )  # fmt: skip


def paired_bounds(differences: Any, clusters: Clusters, *, alpha: float = 0.05) -> Estimate:
    """Return the mean difference with one-sided bounds, each at `alpha`. Shape: N, in [-1, 1].

    MOVER over Korn-Graubard: gains w and losses l are bounded apart and put together, so "no
    losses in 100" still allows 3 points. Works for 0/1 and [0, 1] scores, clusters, ties, all
    equal. Sources: Newcombe (1998), Stat. Med. 17:2635-2650; Zou & Donner (2008), Stat. Med.
    27:1693-1702.
    """
    d = np.asarray(differences, dtype=np.float64)
    if (np.abs(d) > 1 + ROUNDING).any():
        raise UsageError("differences of scores lie in [-1, 1]; rescale the scores in the eval")
    parts = np.column_stack([np.clip(d, 0, 1), np.clip(-d, 0, 1)])
    means, cov, groups = clustered_means(parts, clusters)
    se = np.sqrt(np.diag(cov))
    (w_low, l_low), (w_up, l_up) = korn_graubard(means, se, groups=groups, alpha=alpha)
    w, loss = means
    r = 0.0
    if groups > 1 and (se > NO_SPREAD).all():
        r = min(float(cov[0, 1] / (se[0] * se[1])), 0.0)
    down = _mover(w - w_low, l_up - loss, r)
    up = _mover(w_up - w, loss - l_low, r)
    return Estimate(
        mean=float(w - loss),
        lower=float(max(w - loss - down, -1.0)) if groups > 1 else -1.0,
        upper=float(min(w - loss + up, 1.0)) if groups > 1 else 1.0,
        n=len(d),
        clusters=groups,
        alpha=alpha,
    )


def _mover(a: float, b: float, r: float) -> float:
    return float(np.sqrt(max(a * a + b * b - 2 * r * a * b, 0.0)))


def paired_error(differences: Any, clusters: Clusters) -> float:
    """Return the clustered standard error of a mean difference; infinite with one cluster."""
    _, errors, _ = clustered_errors(differences, clusters)
    return float(errors[0])


# ---------------------------------------------------------------- the best of many


def max_t_alpha(
    cov: Array,
    groups: int,
    *,
    alpha: float = 0.05,
    planned: int = 50,
    draws: int = 2000,
    seed: int = 0,
) -> float:
    """Return the error rate for each of `planned` tries that keeps all together at `alpha`.

    Shape: K x K covariance of the means of the tries made so far. The best of many looks better
    than it is. A multiplier bootstrap over clusters is exactly N(0, Z'Z), so draws come from the
    K x K correlation; tries not yet made are taken to correlate like those made. The quantile of
    the largest t becomes an alpha for each try. Source: Romano & Wolf (2005), Econometrica
    73:1237-1282; the Bonferroni bound caps it.
    """
    from scipy import special

    made = len(cov)
    total = max(planned, made)
    if total == 1:
        return alpha
    se = np.sqrt(np.diag(cov))
    known = np.outer(se, se)
    corr = np.divide(cov, known, out=np.zeros_like(cov), where=known > NO_SPREAD**2)
    between = corr[~np.eye(made, dtype=bool)]
    rho = float(np.clip(between.mean(), 0.0, 1.0)) if made > 1 else 0.0
    full = np.full((total, total), rho)
    full[:made, :made] = corr
    np.fill_diagonal(full, 1.0)
    values, vectors = np.linalg.eigh(full)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    root /= np.sqrt((root**2).sum(axis=1, keepdims=True))  # clipping raises the diagonal
    rng = np.random.default_rng(seed)
    scale = np.sqrt(rng.chisquare(groups - 1, size=draws) / (groups - 1))
    normal = np.einsum("bj,kj->bk", rng.standard_normal((draws, total)), root)
    largest = normal.max(axis=1) / scale
    each = float(special.stdtr(groups - 1, -np.quantile(largest, 1 - alpha)))
    return float(np.clip(each, alpha / total, alpha))


# ---------------------------------------------------------------- latency and cost


def quantile_upper(
    values: Any, clusters: Clusters = None, *, q: float = 0.95, alpha: float = 0.05
) -> float | None:
    """Return an upper bound of the q-quantile, or None where there are too few. Shape: N, any unit.

    Each case a cluster of its own: the order statistic x_(r), r the smallest with
    P(Bin(n, q) <= r-1) >= 1-alpha; it exists from n = 59 for p95 and n = 299 for p99. Source:
    Conover (1999), Practical Nonparametric Statistics, section 3.2. With clusters: the smallest
    value that is exceeded by a share of at most 1-q, by the bound of `korn_graubard`; it exists
    from about as many clusters as cases.
    """
    from scipy import special

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    _, groups = cluster_codes(clusters, n)
    if groups == n:
        enough = special.bdtr(np.arange(n, dtype=np.float64), n, q) >= 1 - alpha
        return float(ordered[int(np.argmax(enough))]) if enough.any() else None
    table = np.asarray(values, dtype=np.float64)

    def is_enough(at: float) -> bool:
        return mean_bounds(table > at, clusters, alpha=alpha).upper <= 1 - q

    # A single slow case says nothing of how they clump: the sources alone must be enough.
    if not n or not is_enough(ordered[-1]):
        return None
    return float(ordered[bisect.bisect_left(ordered, True, key=is_enough)])


def quantile_lower(
    values: Any, clusters: Clusters = None, *, q: float = 0.95, alpha: float = 0.05
) -> float | None:
    """Return a lower bound of the q-quantile, or None where there are too few, as the upper one."""
    upper = quantile_upper(-np.asarray(values, dtype=np.float64), clusters, q=1 - q, alpha=alpha)
    return None if upper is None else -upper


def mean_t_bounds(values: Any, clusters: Clusters, *, alpha: float = 0.05) -> Estimate | None:
    """Return the mean of an unbounded quantity with one-sided t bounds; None with one cluster.

    Shape: N, any unit (cost in USD, log-ratio of costs).
    """
    means, errors, groups = clustered_errors(values, clusters)
    if groups < 2:
        return None
    reach = t_quantile(1 - alpha, groups) * float(errors[0])
    mean = float(means[0])
    n = len(np.asarray(values))
    return Estimate(
        mean=mean, lower=mean - reach, upper=mean + reach, n=n, clusters=groups, alpha=alpha
    )


def log_ratio_bounds(
    candidate: Any, baseline: Any, clusters: Clusters, *, alpha: float = 0.05
) -> Estimate | None:
    """Return the mean of log(candidate / baseline) with t bounds: below 0 is cheaper or faster.

    Shapes: N and N, aligned, any unit. None where a value is not above 0, or with one cluster.
    """
    top, bottom = np.asarray(candidate, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if not ((top > 0) & (bottom > 0)).all():
        return None
    return mean_t_bounds(np.log(top / bottom), clusters, alpha=alpha)
