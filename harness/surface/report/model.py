"""What a report shows, as records. Knows nothing of HTML, of the store, or of how it was measured.

Whoever fills a `ReportData` decides nothing about looks, and whoever draws it reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.records import (
    Artifact,
    Case,
    Comparison,
    Estimate,
    LedgerEntry,
    ParityCheck,
    ParityFinding,
    ReleaseVerdict,
    Reply,
    Request,
    Split,
    Trial,
    Try,
    WallVerdict,
)

if TYPE_CHECKING:
    from harness.surface.report.forms import FormTable

RungKind = Literal["prompt", "tuned", "reference", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One row of the ladder: a try, and what kind of candidate made it.

    `reference` is the positive control; `other` is what the wall does not count (another model,
    replayed human replies, the same answer to all). The order of rungs is the order on the page.
    """

    result: Try
    kind: RungKind = "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyView:
    """What one candidate was sent for one case, what came back, and how it was judged.

    `request` holds the messages exactly as sent (`None`: nothing was, as for the reference);
    `primary` is the primary score of the trial, `None` where it is unscored.
    """

    candidate: str
    trial: Trial
    request: Request | None = None
    reply: Reply | None = None
    primary: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """One case with every candidate's reply to it; repeats stand as further replies."""

    case: Case
    replies: tuple[ReplyView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRow:
    """The primary score over the cases of one tag, a cell a candidate; None: none was scored.
    `faults` counts the trials of each that ended in one; empty where none did.
    """

    tag: str
    cases: int
    cells: tuple[Estimate | None, ...]
    faults: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTable:
    """The best prompt and what was tuned, by tag of the dev cases; origin first, where made."""

    candidates: tuple[str, ...]
    rows: tuple[TagRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What one candidate costs a case. Tokens are means, latencies of one reply, cost a sum."""

    candidate: str
    split: Split
    cases: int
    input_tokens: float | None = None
    output_tokens: float | None = None
    p50_latency_s: float | None = None
    p95_latency_s: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBin:
    """How many cases have inputs of `low` to `high` characters, `high` not included."""

    low: int
    high: int
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitData:
    """One split: cases, clusters, cases with a reference, characters of the inputs of a case."""

    split: Split
    cases: int
    clusters: int
    labelled: int
    median_chars: int
    longest_chars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPage:
    """The data in numbers. `tags` counts cases; `findings` are what `harness data lint` said."""

    splits: tuple[SplitData, ...] = ()
    tags: Mapping[str, int] = field(default_factory=dict)
    lengths: tuple[LengthBin, ...] = ()
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityView:
    """How many rows were compared, token by token, between training and serving; what differed."""

    rows: int
    findings: tuple[ParityFinding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """All that a report shows.

    `generated_at` is UTC, ISO 8601. `comparisons` are those over dev; the one on the sealed cases
    is in `release`. `min_gain` is the least gain that matters, drawn in every comparison.
    `parity_checks` are the last of each artifact with each runtime that was asked; `forms` the last
    measurement of each artifact's other forms.
    `commands` reproduce the report, in order; a line that begins with `#` is a remark.
    """

    task: str
    about: str
    generated_at: str
    harness_version: str
    primary: str
    model: str = ""
    git_sha: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    target: float | None = None
    target_reason: str = ""
    min_gain: float = 0.02
    wall: WallVerdict | None = None
    release: ReleaseVerdict | None = None
    comparisons: tuple[Comparison, ...] = ()
    rungs: tuple[Rung, ...] = ()
    tags: TagTable | None = None
    cases: tuple[CaseView, ...] = ()
    costs: tuple[CostRow, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    parity: ParityView | None = None
    parity_checks: tuple[ParityCheck, ...] = ()
    forms: tuple[FormTable, ...] = ()
    waivers: Mapping[str, str] = field(default_factory=dict)
    ledger: tuple[LedgerEntry, ...] = ()
    data: DataPage | None = None
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
