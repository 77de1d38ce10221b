"""How the repeats of a case become one number. Knows nothing of runs, evals or who asked.

A repeat passes where its value is 1. `mean` keeps partial scores; the other verdicts count passes.
An unscored repeat says nothing; a missing one (NaN) is left out where the rest still decides, and
makes the case missing where it does not. A failure of the system under test is a 0 like any other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from harness.errors import UsageError

FORMS = "mean, `K of N`, pass@K or pass^K"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatVerdict:
    """`K of N` needs `k` passes of `n`; `pass@K` and `pass^K` estimate any and all of `k`."""

    kind: Literal["mean", "of", "any", "all"] = "mean"
    k: int = 1
    n: int | None = None


@cache
def parse_verdict(text: str | None) -> RepeatVerdict:
    """Return what `repeat_verdict` says; None is the mean. Raises UsageError."""
    if text is None or text.strip() == "mean":
        return RepeatVerdict()
    found = re.fullmatch(r"\s*(?:(\d+)\s+of\s+(\d+)|pass\s*([@^])\s*(\d+))\s*", text, re.ASCII)
    if found is None:
        raise UsageError(f"{text!r} is not one of {FORMS}, as in `2 of 3`, pass@5 or pass^3")
    passes, repeats, sign, size = found.groups()
    verdict = (
        RepeatVerdict(kind="of", k=int(passes), n=int(repeats))
        if sign is None
        else RepeatVerdict(kind="any" if sign == "@" else "all", k=int(size))
    )
    if verdict.k < 1:
        raise UsageError(f"{text!r}: K counts from 1")
    if verdict.n is not None and verdict.k > verdict.n:
        raise UsageError(f"{text!r}: {verdict.k} of {verdict.n} repeats can never pass")
    return verdict


def check_verdict(text: str | None, *, repeats: int) -> RepeatVerdict:
    """Return the verdict if `repeats` repeats can give it. Raises UsageError."""
    verdict = parse_verdict(text)
    if verdict.n is not None and verdict.n != repeats:
        raise UsageError(
            f"{text!r} speaks of {verdict.n} repeats, and there are {repeats}: make the two agree"
        )
    if verdict.k > repeats:
        raise UsageError(
            f"{text!r} needs {verdict.k} repeats or more, and there are {repeats}: "
            f"raise `repeats` or lower K"
        )
    return verdict


def case_value(values: Sequence[float | None], verdict: RepeatVerdict) -> float | None:
    """Return the number of a case from those of its repeats: NaN missing, None unscored.

    Source: pass@k = 1 - C(n-c, k) / C(n, k), unbiased, Chen et al. (2021), arXiv 2107.03374, eq. 1;
    pass^k = C(c, k) / C(n, k), Yao et al. (2024), arXiv 2406.12045, section 4; n counts the repeats
    that answered, c those that passed.
    """
    scored = [v for v in values if v is not None]
    if not scored:
        return None
    present = [v for v in scored if not math.isnan(v)]
    if verdict.kind == "mean":
        return math.fsum(present) / len(present) if present else math.nan
    n, k = len(present), verdict.k
    passed = sum(v >= 1 for v in present)
    if verdict.kind == "of":
        assert verdict.n is not None
        unknown = max(0, verdict.n - n)
        if passed >= k:
            return 1.0
        return 0.0 if passed + unknown < k else math.nan
    if n < k:
        return math.nan
    if verdict.kind == "any":
        return 1.0 - math.comb(n - passed, k) / math.comb(n, k)
    return math.comb(passed, k) / math.comb(n, k)
