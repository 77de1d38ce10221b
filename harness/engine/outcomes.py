"""From the end of an eval function to a score: one rule for pytest and for plain calls.

Knows nothing of pytest but the name of what `pytest.skip` raises, and of no store.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.checks.base import Unmeasured
from harness.engine.views import NoReference
from harness.errors import HarnessError, Miss, words_of
from harness.records import Score

ASSERTION_LIBRARIES = ("numpy.testing", "numpy.testing._private", "unittest", "pandas._testing")
REASON_LENGTH = 2000
ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


def is_miss(error: BaseException, *, folder: Path | None) -> bool:
    """Tell a measurement from a broken eval: a Miss, or an AssertionError that the task's own
    files (those below `folder`) or an assertion library raised.
    """
    if isinstance(error, Miss):
        return True
    frame = raising_frame(error)
    if not isinstance(error, AssertionError) or frame is None:
        return False
    module = str(frame.f_globals.get("__name__", ""))
    if any(module == m or module.startswith(f"{m}.") for m in ASSERTION_LIBRARIES):
        return True
    return folder is not None and Path(frame.f_code.co_filename).is_relative_to(folder)


def raising_frame(error: BaseException) -> FrameType | None:
    """Return the innermost frame of the error's traceback, or None where it was never raised."""
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame


def is_unscored(error: BaseException) -> bool:
    """Tell whether an eval found nothing to score: no reference, a fact that the backend did not
    report, or `pytest.skip(...)`.
    """
    # an eval that skips has imported pytest; nobody else shall pay for it
    skipped = getattr(sys.modules.get("_pytest.outcomes"), "Skipped", ())
    return isinstance(error, (NoReference, Unmeasured, skipped))


def reason_of(error: BaseException) -> str:
    """Return what an error says, bounded, without what differs from run to run."""
    text = words_of(error).strip() or type(error).__name__  # numpy's begin with an empty line
    failed = getattr(sys.modules.get("_pytest.outcomes"), "Failed", ())
    if not isinstance(error, (AssertionError, HarnessError, failed)):
        text = f"{type(error).__name__}: {text}"
    text = ADDRESS.sub("0x…", text)  # an address would make every run a different one
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]} …"


JOIN = "+"
"""Between the judges of a score that several gave together."""


def judges_in(score: Score) -> list[str]:
    """Return the identities of the judges that a score rests on."""
    return score.judge.split(JOIN) if score.judge else []


def merged(scores: Sequence[Score]) -> Sequence[Score]:
    """Return one score a name: an eval with parameters of its own gives the mean of its items, and
    none where one of them broke.
    """
    if len({s.name for s in scores}) == len(scores):
        return scores
    by_name: dict[str, list[Score]] = {}
    for score in scores:
        by_name.setdefault(score.name, []).append(score)
    found = []
    for name, some in by_name.items():
        values = [s.value for s in some if s.value is not None]
        reason = "; ".join(dict.fromkeys(s.reason for s in some if s.reason))
        is_fault = any(s.is_fault for s in some) or None
        found.append(
            some[0]
            if len(some) == 1
            else Score(
                name=name,
                value=math.fsum(values) / len(values) if values and not is_fault else None,
                reason=reason,
                judge=JOIN.join(sorted({j for s in some for j in judges_in(s)})) or None,
                is_fault=is_fault,
            )
        )
    return found
