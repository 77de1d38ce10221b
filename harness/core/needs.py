"""How many cases would settle it. Knows estimates so far, no names; every answer is an "about"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.core.bounds import Array
from harness.core.planning import CLUSTERS_FOR_WALL
from harness.core.words import about

Z_95 = 1.6448536269514722
Z_80 = 0.8416212335729143
SAFETY = 1.5  # estimates plugged in are themselves noisy; simulated in tests/core/test_needs.py
MOST_TIMES = 20  # beyond this the answer is "not with cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Means of the tries in time order with the covariance of their case noise.

    Shapes: K; K x K. `best` is the index of the best try, `window` how many of the last are read.
    """

    means: Array
    cov: Array
    best: int
    window: int


def shrunk_best(pace: Pace) -> float:
    """Return the best try's likely true mean: pulled to its peers by the share that is luck.

    Source: Efron & Morris (1975), JASA 70:311-319, with the noise known from the cases.
    """
    m = pace.window
    peers = pace.means[-m:]
    centre = float(peers.mean())
    if m < 3:
        return float(pace.means[pace.best])
    noise_cov = pace.cov[-m:, -m:]
    own = float(np.trace(noise_cov))
    between = (float(noise_cov.sum()) - own) / (m * (m - 1))
    luck = max(own / m - between, 0.0)
    spread = float(peers.var(ddof=1))
    weight = max(spread - luck, 0.0) / spread if spread > 0 else 0.0
    return centre + weight * (float(pace.means[pace.best]) - centre)


def cases_to_settle(
    pace: Pace,
    *,
    n: int,
    clusters: int,
    target: float,
    limit: float,
    resolution: float | None,
    each_alpha: float,
) -> int:
    """Return about how many cases of this kind would end in WALL or SHIP_PROMPT, at 80 % power.

    Never below 1.5 times, and never above 20 times, the present number.
    """
    from scipy import special

    error = float(np.sqrt(max(pace.cov[pace.best, pace.best], 1 / (4 * n**2))))
    gap = target - shrunk_best(pace)
    z = Z_95 if gap > 0 else -float(special.ndtri(each_alpha))
    times = ((z + Z_80) * error / gap) ** 2 if abs(gap) > 1e-6 else MOST_TIMES
    if gap > 0 and resolution is not None:
        times = max(times, (resolution / limit) ** 2)
    times = max(times, CLUSTERS_FOR_WALL / clusters, 1.0) * SAFETY
    return about(n * min(times, MOST_TIMES))


def cases_for_difference(
    distance: float, *, error: float, n: int, alpha: float = 0.05
) -> int | None:
    """Return about how many cases show a difference that far from its threshold, at 80 % power.

    `error` is the standard error of the difference with `n` cases. None where the distance is not
    above 0, or more than 20 times the cases would be needed: more cases are not the way.
    """
    from scipy import special

    if distance <= 0:
        return None
    times = ((-float(special.ndtri(alpha)) + Z_80) * error / distance) ** 2
    times = max(times, 1.0) * SAFETY
    return about(n * times) if times <= MOST_TIMES else None
