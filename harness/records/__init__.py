"""The nouns of the house, each frozen. Knows nothing of disks, clocks, networks or libraries.

A record's identity is the sha256 of its canonical JSON (`harness.plain`).
"""

from __future__ import annotations

from harness.plain import (
    Json as Json,
    canonical_json as canonical_json,
    digest as digest,
    digest_rows as digest_rows,
    from_plain as from_plain,
    to_plain as to_plain,
)
from harness.records.asking import (
    SPEED as SPEED,
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
from harness.records.ledger import (
    LedgerEntry as LedgerEntry,
)
from harness.records.runs import (
    Fault as Fault,
    Run as Run,
    Score as Score,
    Trial as Trial,
)
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
    Condition as Condition,
    Estimate as Estimate,
    ReleaseAnswer as ReleaseAnswer,
    ReleaseVerdict as ReleaseVerdict,
    Try as Try,
    WallAnswer as WallAnswer,
    WallVerdict as WallVerdict,
)
