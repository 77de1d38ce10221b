"""Runs the checks that a case carries itself, as one score. Knows nothing of pytest.

A row's `checks` are `{"name": ..., "arguments": {...}}`, as `no.contains` and `{"text": "sorry"}`.
"""

from __future__ import annotations

from harness.checks import registry
from harness.checks.base import Unmeasured
from harness.errors import Miss, UsageError
from harness.records import Case, Reply


def run_case_checks(case: Case, reply: Reply) -> None:
    """Run every check of `case` on `reply`.

    Raises Miss naming each that did not hold; Unmeasured where none missed and one could not be
    asked, or where the case carries none; UsageError, naming the case's line, for a check or an
    argument that does not exist.
    """
    if not case.checks:
        raise Unmeasured("no checks of its own")
    missed: list[str] = []
    unknown: list[str] = []
    for row in case.checks:
        try:
            registry.run(row["name"], reply, row.get("arguments"), case=case)
        except Miss as exc:
            missed.append(str(exc))
        except Unmeasured as exc:
            unknown.append(str(exc))
        except UsageError as exc:
            raise UsageError(f"{case.line or case.id}: checks: {exc}") from exc
    if missed:
        raise Miss("\n".join([*missed, *unknown]))
    if unknown:
        raise Unmeasured("\n".join(unknown))
