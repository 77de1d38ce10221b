"""Tells whether enough of several checks hold, by their weights. Knows what none of them does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.checks.base import CheckResult, Undecided, Unmeasured, lines, scored, undecided
from harness.errors import Miss, UsageError
from harness.records import Case, Json, Reply

_KEYS = {"name", "arguments", "weight"}


def several(
    reply: Reply | str,
    checks: Sequence[Mapping[str, Json]],
    *,
    at_least: float = 1.0,
    case: Case | None = None,
) -> CheckResult:
    """Score the share, by weight, of `checks` that hold: `{"name": "no.contains", "arguments":
    {"text": "sorry"}, "weight": 2}`; arguments may lack, a weight is 1 unless said.

    Where one could not be asked, and it would decide, the score is unknown. `case` is given on to
    a check that takes it.
    """
    from harness.checks.registry import run

    rows = rows_of(checks)
    whole = math.fsum(float(row.get("weight", 1)) for row in rows)
    held, open_, told, unknown = 0.0, 0.0, [], []
    for row in rows:
        weight = float(row.get("weight", 1))
        try:
            run(row["name"], reply, row.get("arguments"), case=case)
        except (Undecided, Unmeasured) as exc:
            open_ += weight
            unknown.append(exc)
        except Miss as exc:
            told.append(str(exc))
        else:
            held += weight
    if unknown and held / whole < at_least - 1e-9 <= (held + open_) / whole:
        if any(isinstance(exc, Unmeasured) for exc in unknown):
            raise Unmeasured(f"several: {lines([str(exc) for exc in unknown])}")
        raise undecided("several", lines([str(exc) for exc in unknown]))
    missed = [*told, *map(str, unknown)]
    reason = f"{len(rows) - len(missed)} of {len(rows)} checks hold"
    reason += f"\n  {lines(missed)}" if missed else ""
    return scored("several", min(1.0, held / whole), at_least=at_least, reason=reason)


several.takes_case = True  # type: ignore[attr-defined]


def rows_of(checks: Any) -> list[Mapping[str, Any]]:
    """Return the rows of checks. Raises UsageError for what is none."""
    rows = list(checks) if isinstance(checks, list | tuple) else []
    for row in rows:
        is_named = isinstance(row, Mapping) and isinstance(row.get("name"), str)
        if not is_named or row.keys() - _KEYS:
            raise UsageError(
                f"several: a check has a `name`, `arguments` and a `weight`; got {row}"
            )
        weight = row.get("weight", 1)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise UsageError(f"several: a weight is a number above 0, not {weight!r}")
        if not isinstance(row.get("arguments") or {}, Mapping):
            raise UsageError(f"several: `arguments` are an object, not {row['arguments']!r}")
    if not rows:
        raise UsageError("several: `checks` are a list of checks, at least one")
    return rows
