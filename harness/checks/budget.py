"""Tells whether a reply kept to its time, price and length. Knows nothing of its text.

What the backend did not report raises `Unmeasured`: unknown is neither a miss nor a fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from harness.checks.base import CheckResult, Unmeasured, held, listed, miss, show
from harness.errors import UsageError
from harness.records import Reply


def _known(name: str, reply: Reply, field: str) -> float:
    if not isinstance(reply, Reply):
        raise UsageError(f"{name}: takes a Reply, not {type(reply).__name__}")
    value = getattr(reply, field)
    if value is None:
        raise Unmeasured(f"{name}: the backend reported no {field}, so this check cannot be asked")
    return float(value)


def latency(reply: Reply, at_most_s: float) -> CheckResult:
    """Hold where the reply took at most `at_most_s` seconds."""
    took = _known("latency", reply, "latency_s")
    if took > at_most_s:
        raise miss("latency", f"{took:.3f} s is over {at_most_s:g} s")
    return held("latency", f"{took:.3f} s is within {at_most_s:g} s")


def cost(reply: Reply, at_most_usd: float) -> CheckResult:
    """Hold where the reply cost at most `at_most_usd` dollars."""
    paid = _known("cost", reply, "cost_usd")
    if paid > at_most_usd:
        raise miss("cost", f"{paid:.6g} USD is over {at_most_usd:g} USD")
    return held("cost", f"{paid:.6g} USD is within {at_most_usd:g} USD")


def tokens(
    reply: Reply, at_most: int, *, of: Literal["input", "output", "total"] = "output"
) -> CheckResult:
    """Hold where the reply took at most `at_most` tokens of input, output or both."""
    if of not in ("input", "output", "total"):
        raise UsageError(f"tokens: of is 'input', 'output' or 'total', not {of!r}")
    sides = ("input", "output") if of == "total" else (of,)
    used = int(sum(_known("tokens", reply, f"{side}_tokens") for side in sides))
    if used > at_most:
        raise miss("tokens", f"{used} {of} tokens are over {at_most}")
    return held("tokens", f"{used} {of} tokens are within {at_most}")


def finish_reason(reply: Reply, expected: str | Iterable[str] = "stop") -> CheckResult:
    """Hold where the reply ended for one of the `expected` reasons ('stop' by default)."""
    if not isinstance(reply, Reply):
        raise UsageError(f"finish_reason: takes a Reply, not {type(reply).__name__}")
    wanted = listed(expected, name="finish_reason", what="expected")
    if reply.finish_reason is None:
        raise Unmeasured("finish_reason: the backend reported none, so this check cannot be asked")
    if reply.finish_reason not in wanted:
        raise miss(
            "finish_reason", f"it ended with {show(reply.finish_reason)}, not {show(wanted)}"
        )
    return held("finish_reason", f"it ended with {show(reply.finish_reason)}")


def first_token(reply: Reply, at_most_s: float) -> CheckResult:
    """Hold where the first token of the reply came within `at_most_s` seconds (it was streamed)."""
    took = _known("first_token", reply, "first_token_s")
    if took > at_most_s:
        raise miss("first_token", f"{took:.3f} s is over {at_most_s:g} s")
    return held("first_token", f"{took:.3f} s is within {at_most_s:g} s")


def perplexity(reply: Reply, at_most: float) -> CheckResult:
    """Hold where the model's perplexity of its own reply is at most `at_most`: e to the mean
    negative log probability of a token. The candidate's decoding asks for `logprobs`.

    Source: Jelinek, Mercer, Bahl & Baker (1977), JASA 62 S63.
    """
    if not isinstance(reply, Reply):
        raise UsageError(f"perplexity: takes a Reply, not {type(reply).__name__}")
    found = [row.get("logprob") if isinstance(row, Mapping) else None for row in reply.logprobs]
    known = [float(p) for p in found if isinstance(p, int | float) and math.isfinite(p)]
    if not known or len(known) < len(found):
        raise Unmeasured(
            "perplexity: the backend reported no log probability of every token "
            "(`decoding.logprobs = 0` asks for them)"
        )
    mean = -sum(min(0.0, p) for p in known) / len(known)
    value = math.exp(min(mean, 700.0))  # beyond it no float can hold
    reason = f"perplexity {value:.4g} over {len(known)} tokens"
    if value > at_most:
        raise miss("perplexity", f"{reason} is over {at_most:g}")
    return held("perplexity", reason)
