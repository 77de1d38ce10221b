"""The prompt optimiser `gepa`. Knows nothing of the library until it is asked for.

GEPA rewrites a prompt by reflection: a model reads a few replies with what was wrong about them and
writes the instructions anew; a rewrite that does better on those cases is scored on more, and the
next parent is drawn from those that are best somewhere (a Pareto front over cases).
Source: Agrawal et al. (2025), GEPA, arXiv 2507.19457.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness_gepa.optimiser import Gepa


def make_gepa() -> Gepa:
    """Return the optimiser. Raises MissingExtra where the library is absent."""
    if importlib.util.find_spec("gepa") is None:
        raise harness.MissingExtra("the optimiser gepa", extra="gepa")
    from harness_gepa.optimiser import Gepa

    return Gepa()


@harness.hookimpl
def harness_optimizers() -> Mapping[str, Any]:
    """Offer the optimiser `gepa`."""
    return {"gepa": make_gepa}
