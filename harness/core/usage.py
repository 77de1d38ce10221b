"""What replies cost: tokens, seconds, dollars. Knows nothing of who asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median

from harness.records import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Over some replies: mean tokens, median and 95th percentile of seconds, summed dollars.

    A figure is None where no reply tells it; `cost_usd` is None where any reply does not.
    """

    replies: int
    input_tokens: float | None = None
    output_tokens: float | None = None
    latency_s: float | None = None
    latency_p95_s: float | None = None
    cost_usd: float | None = None


def usage(replies: Iterable[Reply]) -> Usage:
    """Return what `replies` cost together."""
    every = list(replies)
    seconds = sorted(r.latency_s for r in every if r.latency_s is not None)
    costs = [r.cost_usd for r in every if r.cost_usd is not None]
    return Usage(
        replies=len(every),
        input_tokens=_mean([r.input_tokens for r in every]),
        output_tokens=_mean([r.output_tokens for r in every]),
        latency_s=median(seconds) if seconds else None,
        latency_p95_s=seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))] if seconds else None,
        cost_usd=sum(costs) if costs and len(costs) == len(every) else None,
    )


def _mean(values: Iterable[int | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
