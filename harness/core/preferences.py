"""Which of two is preferred: counts, a test, a bound, and how many comparisons it takes.

Knows comparisons as 1 (won), 0.5 (tie) and 0 (lost); not who compared, people or a judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from harness.core.words import percent
from harness.errors import UsageError
from harness.records import Estimate

if TYPE_CHECKING:  # numpy stays out of an end table that only counts
    from harness.core.bounds import Array, Clusters

MOST_COMPARISONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """How often one side won, tied and lost; what could not be read is not among them."""

    wins: int
    ties: int
    losses: int

    @property
    def n(self) -> int:
        """All comparisons."""
        return self.wins + self.ties + self.losses

    @property
    def rate(self) -> float | None:
        """The win rate (W + T/2) / N, in [0, 1]; None of no comparison."""
        return (self.wins + self.ties / 2) / self.n if self.n else None

    @property
    def p_value(self) -> float:
        """One-sided, that the winner's side wins no more than half of the decisive ones."""
        return sign_test(max(self.wins, self.losses), min(self.wins, self.losses))

    @property
    def text(self) -> str:
        """`won 31, tied 9, lost 20: win rate 59.2 % (sign test, one-sided p .08)`."""
        if self.rate is None:
            return "no comparison"
        p = self.p_value
        shown = "below .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")
        return (
            f"won {self.wins}, tied {self.ties}, lost {self.losses}: win rate "
            f"{percent(self.rate)} (sign test, one-sided p {shown})"
        )


def count_preferences(outcomes: Sequence[float | None] | Array) -> Preferences:
    """Return wins, ties and losses of 1, 0.5 and 0; None and NaN are no comparison."""
    seen = [float(value) for value in outcomes if value is not None and not math.isnan(value)]
    if any(not 0 <= value <= 1 for value in seen):
        raise UsageError("comparisons lie in [0, 1]: 1 won, 0.5 a tie, 0 lost")
    return Preferences(
        wins=sum(value > 0.5 for value in seen),
        ties=sum(value == 0.5 for value in seen),
        losses=sum(value < 0.5 for value in seen),
    )


def sign_test(wins: int, losses: int) -> float:
    """Return P(as many wins or more | each decisive comparison is a toss), one-sided, exact.

    Ties say nothing and are left out. Source: Conover (1999), Practical Nonparametric Statistics,
    section 3.4. Checked against scipy's binomtest in tests/core/test_preferences.py.
    """
    n = wins + losses
    if wins < 0 or losses < 0:
        raise UsageError(f"{wins} wins and {losses} losses: counts are not negative")
    tail = sum(math.comb(n, k) for k in range(wins, n + 1))
    return float(Fraction(tail, 2**n))


def net_preference(
    outcomes: Sequence[float | None] | Array, clusters: Clusters, *, alpha: float = 0.05
) -> Estimate:
    """Return (W - L) / N with one-sided bounds at `alpha`. Shape: N, in [0, 1], aligned clusters.

    MOVER over Korn-Graubard on d = 2 x - 1, so ties count and clusters (a prompt, an annotator)
    are honoured; several annotators of a pair are averaged to one number first. What is missing is
    left out.
    """
    import numpy as np

    from harness.core.bounds import as_scores, paired_bounds

    values = as_scores(outcomes, name="comparisons")
    kept = np.flatnonzero(~np.isnan(values))
    if not len(kept):
        raise UsageError("no comparison could be read")
    groups = None if clusters is None else [clusters[row] for row in kept.tolist()]
    return paired_bounds(2 * values[kept] - 1, groups, alpha=alpha)


def decisive_needed(
    true_ratio: float, *, beyond: float = 1.0, alpha: float = 0.05, power: float = 0.80
) -> int | None:
    """Return how many decisive comparisons show `more than beyond : 1`, when the truth is
    `true_ratio : 1`; None where no number does.

    From this n on, the exact binomial test has this power (it saws up and down before). Divide by
    1 - tie rate, and multiply by the design effect 1 + (m - 1) ICC of clusters of m.
    """
    import numpy as np
    from scipy import stats

    if true_ratio <= beyond:
        return None
    null, truth = beyond / (1 + beyond), true_ratio / (1 + true_ratio)
    reach = -stats.norm.ppf(alpha) * math.sqrt(null * (1 - null))
    reach += stats.norm.ppf(power) * math.sqrt(truth * (1 - truth))
    guess = (float(reach) / (truth - null)) ** 2
    if guess > MOST_COMPARISONS:
        return None
    n = np.arange(1, int(1.5 * guess) + 50)
    least = stats.binom.ppf(1 - alpha, n, null) + 1  # the fewest wins that the test calls shown
    is_enough = stats.binom.sf(least - 1, n, truth) >= power
    return int(n[~is_enough].max()) + 1
