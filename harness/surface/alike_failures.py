"""Of failures that are alike, the terminal shows a few and counts the others. Knows no scores.

A bug in an eval fails at every case: a thousand tracebacks for a thousand cases hide the one that
tells why. pytest's own count, JUnit and exit codes are as they were; `-v`, and a `--tb` other than
`short`, show all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from harness.surface.eval_outcomes import said_by
from harness.surface.words import from_here

SHOWN = 3
"""How many of the failures that are alike are shown."""
BRIEF = ("auto", "short")
FAILURES = ("failed", "error")


class _Alike(NamedTuple):
    """What failures have in common: the eval, and where which error came up."""

    name: str
    error: str
    path: str
    line: int


def fold_alike(config: pytest.Config) -> None:
    """Let the terminal of this session show failures of evals that are alike a few times."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.verbose > 0 or config.option.tbstyle not in BRIEF:
        return
    for name in ("summary_errors", "summary_failures", "short_test_summary"):
        shown = getattr(reporter, name, None)
        if shown is not None:  # a reporter of somebody else's
            is_last = name == "short_test_summary"
            setattr(reporter, name, partial(_folded, reporter, shown, is_last=is_last))


def _folded(reporter: Any, shown: Callable[[], None], *, is_last: bool) -> None:
    """Call `shown`; what others read in `stats` before and after is whole."""
    whole = {c: reporter.stats[c] for c in FAILURES if c in reporter.stats}
    seen: Counter[_Alike] = Counter()
    for category, reports in whole.items():
        reporter.stats[category] = [r for r in reports if _is_shown(r, seen)]
    try:
        shown()
    finally:
        reporter.stats.update(whole)
    for alike, n in seen.items() if is_last else ():
        if n > SHOWN:
            reporter.write_line(
                f"and {n - SHOWN} more of {alike.name}, each with {alike.error} at "
                f"{from_here(alike.path)}:{alike.line} (pytest -v shows all)"
            )


def _is_shown(report: Any, seen: Counter[_Alike]) -> bool:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None or said_by(getattr(report, "user_properties", ())) is None:
        return True
    name = report.nodeid.partition("[")[0].rpartition("::")[2]
    head = crash.message.partition("\n")[0].partition(":")[0]  # of an assert, pytest drops the name
    error = "AssertionError" if head.startswith("assert ") else head.rpartition(".")[2]
    alike = _Alike(name, error, crash.path, crash.lineno)
    seen[alike] += 1
    return seen[alike] <= SHOWN
