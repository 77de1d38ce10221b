"""The bounds of one mean, in plain Python: what ends every eval run needs no numpy and no scipy.

The formula is that of `bounds.mean_bounds`, which computes many at once for the gates; both give
the same numbers (tests/core/test_means.py). To import scipy takes a third of a recorded run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, fsum, isfinite, lgamma, log, log1p, pi, sqrt
from statistics import NormalDist

from harness.errors import UsageError
from harness.records import Estimate

NO_SPREAD = 1e-9  # a standard error below this is rounding, not information
ROUNDING = 1e-9  # how far outside [0, 1] a mean of repeats may land
PRECISION = 1e-15
EPSILON = 2.0**-53
TINY = 1e-300
LARGEST = 700.0  # e to this is still a float
MOST_TERMS = 100_000
MOST_STEPS = 200
LARGE = 100.0


def mean_estimate(
    values: Sequence[float], clusters: Sequence[str], *, alpha: float = 0.05
) -> Estimate:
    """Return the mean of scores in [0, 1] with one-sided bounds, each at `alpha`.

    Shapes: N, N; an empty name makes the case a cluster of its own. Raises UsageError on values
    that are no scores, or none at all. Source: Korn & Graubard (1998), Survey Methodology
    24:193-201, with the clustered error of Liang & Zeger (1986), Biometrika 73:13-22.
    """
    if not values:
        raise UsageError("no cases: a mean needs at least one")
    scores = [_score(value) for value in values]
    n = len(scores)
    mean = fsum(scores) / n
    sums: dict[object, float] = {}
    for place, (score, cluster) in enumerate(zip(scores, clusters, strict=True)):
        key: object = cluster or place
        sums[key] = sums.get(key, 0.0) + (score - mean) / n
    groups = len(sums)
    lower, upper = 0.0, 1.0
    if groups > 1:
        error = sqrt(fsum(s * s for s in sums.values()) * groups / (groups - 1))
        lower, upper = _share_bounds(mean, error, groups=groups, alpha=alpha)
    return Estimate(mean=mean, lower=lower, upper=upper, n=n, clusters=groups, alpha=alpha)


def _score(value: float) -> float:
    if not (isfinite(value) and -ROUNDING <= value <= 1 + ROUNDING):
        raise UsageError(
            f"{value:g} is not a score: scores lie in [0, 1]; rescale it in the eval, where the "
            "reader can see how"
        )
    return min(max(value, 0.0), 1.0)


def _share_bounds(p: float, error: float, *, groups: int, alpha: float) -> tuple[float, float]:
    size = groups if error <= NO_SPREAD else p * (1 - p) / error**2
    size *= (NormalDist().inv_cdf(1 - alpha) / t_quantile(1 - alpha, groups - 1)) ** 2
    hits = p * size
    misses = size - hits
    lower = min(beta_quantile(alpha, hits, misses + 1), p) if hits > 0 else 0.0
    upper = max(beta_quantile(1 - alpha, hits + 1, misses), p) if misses > 0 else 1.0
    return lower, upper


# ---------------------------------------------------------------- quantiles


def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t above its median. Source: DLMF 8.17, with t^2 an F."""
    # of the small side: 1 - x would lose its digits where there are many degrees of freedom
    y = beta_quantile(2 * probability - 1, 0.5, freedom / 2)
    return sqrt(freedom * y / (1 - y))


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return the quantile of the beta distribution; `a` and `b` above 0, `probability` in (0, 1).

    Newton's steps on the distribution function, kept within a bracket that halves.
    """
    low, high = 0.0, 1.0
    x = min(max(a / (a + b), TINY), 1 - EPSILON)  # rounding may leave nothing of a small side
    scale = lgamma(a + b) - lgamma(a) - lgamma(b)
    for _ in range(MOST_STEPS):
        off = beta_share(x, a, b) - probability
        low, high = (low, x) if off > 0 else (x, high)
        density = exp(min(scale + (a - 1) * log(x) + (b - 1) * log1p(-x), LARGEST))
        step = off / density if density > TINY else 1.0
        following = x - step
        if not low < following < high:
            following = (low + high) / 2
        if not low < following < high or abs(following - x) <= PRECISION * x:
            return x
        x = following
    return x


def beta_share(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b).

    Its continued fraction (DLMF 8.17.22, https://dlmf.nist.gov/8.17), evaluated from the front
    (Thompson & Barnett (1986), Journal of Computational Physics 64:490-509).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = _front(x, a, b)
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side converges
        return 1.0 - front / (b * _fraction(_terms(1 - x, b, a)))
    return front / (a * _fraction(_terms(x, a, b)))


def _front(x: float, a: float, b: float) -> float:
    """Return x^a (1 - x)^b / B(a, b).

    The logarithms of large gammas have few digits after the point (scores that differ by 1e-5 are
    worth 5e9 cases): there it goes by how far x is from a / (a + b). Source: Stirling's series,
    DLMF 5.11.1.
    """
    if min(a, b) < LARGE:
        return exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    middle = a / (a + b)
    off = x - middle
    power = a * log1p(off / middle) + b * log1p(-off / (1 - middle))
    rest = _stirling(a + b) - _stirling(a) - _stirling(b)
    return exp(power + rest) * sqrt(a / (a + b) * b / (2 * pi))


def _stirling(z: float) -> float:
    return (1 - (1 / 30 - 1 / (105 * z * z)) / (z * z)) / (12 * z)


def _terms(x: float, a: float, b: float) -> Iterable[float]:
    for m in range(MOST_TERMS):
        if m:
            yield m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        yield -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))


def _fraction(terms: Iterable[float]) -> float:
    """Return 1 + t1 / (1 + t2 / (1 + ...))."""
    value = front = 1.0
    back = 0.0
    for term in terms:
        back = 1.0 / (1.0 + term * back or TINY)
        front = 1.0 + term / front or TINY
        value *= front * back
        if abs(front * back - 1.0) < PRECISION:
            break
    return value
