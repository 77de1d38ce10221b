"""The nouns of the house, each frozen. Knows nothing of disks, clocks, networks or libraries.

A record's identity is the sha256 of its canonical JSON (`harness.plain`). Those that most runs have
no use for, of tuning and of verdicts, are made when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.plain import (
    Json as Json,
    canonical_json as canonical_json,
    digest as digest,
    digest_rows as digest_rows,
    from_plain as from_plain,
    to_plain as to_plain,
)
from harness.records.asking import (
    HANDLING as HANDLING,
    Candidate as Candidate,
    Decoding as Decoding,
    Message as Message,
    Reply as Reply,
    Request as Request,
)
from harness.records.cases import (
    FAMILIES as FAMILIES,
    SPLITS as SPLITS,
    Case as Case,
    Prompt as Prompt,
    Split as Split,
)
from harness.records.estimates import (
    Condition as Condition,
    Estimate as Estimate,
)
from harness.records.ledger import (
    LedgerEntry as LedgerEntry,
)
from harness.records.runs import (
    Fault as Fault,
    Run as Run,
    Score as Score,
    Trial as Trial,
)

if TYPE_CHECKING:
    from harness.records.tuning import (
        Artifact as Artifact,
        CurvePoint as CurvePoint,
        ParityCheck as ParityCheck,
        ParityFinding as ParityFinding,
        PreparedRow as PreparedRow,
        TrainingRow as TrainingRow,
    )
    from harness.records.verdicts import (
        Check as Check,
        Comparison as Comparison,
        ReleaseAnswer as ReleaseAnswer,
        ReleaseVerdict as ReleaseVerdict,
        Try as Try,
        WallAnswer as WallAnswer,
        WallVerdict as WallVerdict,
    )

_LATER = {
    "harness.records.tuning": (
        "Artifact",
        "CurvePoint",
        "ParityCheck",
        "ParityFinding",
        "PreparedRow",
        "TrainingRow",
    ),
    "harness.records.verdicts": (
        "Check",
        "Comparison",
        "ReleaseAnswer",
        "ReleaseVerdict",
        "Try",
        "WallAnswer",
        "WallVerdict",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'harness.records' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *(name for names in _LATER.values() for name in names)]
