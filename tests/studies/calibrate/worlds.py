"""Seeded worlds whose truth is known: true means of tries, and scores drawn from them.

Scores come from a probit model with exact means. Its shares of the latent variance are those of a
correlation of about .25 between two prompts on a case, and of .25 between cases of one source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

TARGET = 0.80
SPREAD = 0.02
"""Standard deviation of the true means of prompts, in score."""
FAMILIES = (
    "zero-shot", "instructions", "few-shot", "dynamic-few-shot", "chain-of-thought", "constrained",
    "optimised",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """How cases come: how many, in sources of `each`, and what a score looks like.

    `kind`: `binary`; `checks` (share of four checks that passed); `smooth` (any number in [0, 1]);
    `repeats` (mean of three binary answers).
    """

    cases: int
    each: int = 1
    kind: str = "binary"

    @property
    def clusters(self) -> Codes:
        """The source of each case."""
        return np.arange(self.cases) // self.each

    @property
    def text(self) -> str:
        """`1,000 cases, 5 a source, three repeats`."""
        kinds = {
            "binary": "",
            "checks": ", share of four checks",
            "smooth": ", smooth scores",
            "repeats": ", three repeats",
        }
        sources = "" if self.each == 1 else f", {self.each} a source"
        return f"{self.cases:,}{sources}{kinds[self.kind]}"


def draw_scores(rng: np.random.Generator, truths: Sequence[float] | Array, data: Data) -> Array:
    """Return N x K scores whose true column means are `truths`."""
    truths = np.clip(np.asarray(truths, dtype=np.float64), 0.001, 0.999)
    n, k = data.cases, len(truths)
    if data.each == 1:
        parts = {"case": 0.42, "own": 0.58}
    else:
        parts = {"cluster": 0.27, "case": 0.15, "own cluster": 0.13, "own": 0.45}
    sources = n if data.each == 1 else int(data.clusters[-1]) + 1
    latent = np.sqrt(parts["case"]) * rng.standard_normal((n, 1))
    if data.each > 1:
        shared = np.sqrt(parts["cluster"]) * rng.standard_normal((sources, 1))
        shared = shared + np.sqrt(parts["own cluster"]) * rng.standard_normal((sources, k))
        latent = latent + shared[data.clusters]
    bar = ndtri(truths)
    if data.kind == "smooth":  # U^((1-p)/p) has the mean p
        latent = latent + np.sqrt(parts["own"]) * rng.standard_normal((n, k))
        return np.asarray(ndtr(-latent) ** ((1 - truths) / truths))
    draws = {"binary": 1, "checks": 4, "repeats": 3}[data.kind]
    if draws == 1:
        return (latent + np.sqrt(parts["own"]) * rng.standard_normal((n, k)) < bar).astype(float)
    half = np.sqrt(parts["own"] / 2)  # half of a prompt's own luck with a case comes back each time
    latent = latent + half * rng.standard_normal((n, k))
    hits = [latent + half * rng.standard_normal((n, k)) < bar for _ in range(draws)]
    return np.asarray(np.mean(hits, axis=0, dtype=np.float64))


# ---------------------------------------------------------------- how tries come


def steady(rng: np.random.Generator, tries: int, *, chance: float, spread: float = SPREAD) -> Array:
    """Return true means of exchangeable tries, each at the target with this chance."""
    level = TARGET - spread * float(ndtri(1 - chance))
    return level + spread * rng.standard_normal(tries)


def climbing(rng: np.random.Generator, tries: int) -> Array:
    """Return a line of .4 to 1.5 points a try that meets the target at a try from 10 to 20."""
    slope, meets = rng.uniform(0.004, 0.015), rng.uniform(10, 20)
    return TARGET + slope * (np.arange(tries) - meets) + 0.01 * rng.standard_normal(tries)


def saturating(rng: np.random.Generator, tries: int) -> Array:
    """Return a curve that flattens .5 to 3 points above the target."""
    top, below = TARGET + rng.uniform(0.005, 0.03), rng.uniform(0.10, 0.20)
    curve = top - (top - TARGET + below) * np.exp(-np.arange(tries) / 8)
    return curve + 0.01 * rng.standard_normal(tries)


def jumping(rng: np.random.Generator, tries: int) -> Array:
    """Return a plateau 8 points below, of which each try leaps over the target in 5 %."""
    plateau = np.minimum(TARGET - 0.08 + SPREAD * rng.standard_normal(tries), TARGET - 0.01)
    leaps = TARGET + rng.uniform(0.01, 0.05, tries)
    return np.where(rng.random(tries) < 0.05, leaps, plateau)


def plateau(rng: np.random.Generator, tries: int, *, gap: float) -> Array:
    """Return exchangeable tries of which the best of 13 is expected `gap` below the target."""
    return TARGET - gap - 1.668 * SPREAD + SPREAD * rng.standard_normal(tries)
