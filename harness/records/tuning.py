"""What is trained, what came of it, and whether it is what is served. Knows no tuner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.plain import Json
from harness.records.asking import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """What is trained: the messages (and tools) that inference will send, and the reply to learn.

    `rejected` is the worse reply of a preference. Where a tuner needs prompts alone, `completion`
    is "" if there is no reference. `calls` are the tool calls of the reply, beside its text.
    """

    case_id: str
    messages: tuple[Message, ...]
    completion: str
    rejected: str | None = None
    tools: tuple[Json, ...] = ()
    calls: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRow:
    """A training row as token ids. `labels` equals `input_ids` where supervised, else -100.

    `rejected_ids` and `rejected_labels` are the same for the worse reply of a preference. A row
    without a completion is its prompt, with every label masked. `pixels` is the sha256 of what the
    row's images became, which is made anew when a batch needs it.
    """

    case_id: str
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    rejected_ids: tuple[int, ...] = ()
    rejected_labels: tuple[int, ...] = ()
    pixels: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityFinding:
    """One difference between what is trained and what is served. `detail` shows the tokens."""

    severity: Literal["fail", "warn"]
    name: str
    case_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCheck:
    """What was trained against what one runtime makes of the same cases, when it was last asked.

    `runtime` is who serves: a backend, and where. `rows` and `probes` were compared in the ways
    that `compared` lists; `unknown` says what the runtime cannot show, and what that leaves open.
    """

    task: str
    candidate: str
    runtime: str
    rows: int
    probes: int = 0
    artifact: str | None = None
    compared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    findings: tuple[ParityFinding, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing was found that must stop a release."""
        return not any(f.severity == "fail" for f in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A look at a training under way: the task's primary score on dev, as `score`, with the mean
    supervised loss since the point before. `seconds` and `tokens` are since the start."""

    step: int
    loss: float | None = None
    score: float | None = None
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A tuned model with its lineage. `digest` covers its files; `wall_verdict` or `override`
    allowed it; `template_digest` is of the chat template it was trained with. `is_pilot` marks one
    that was trained to draw a learning curve: it is never gated or released.

    `start` is the digest of the artifact that it went on from; `variant_of` that of the artifact
    whose weights it holds in another form, named by `variant` (merged, int8, gguf-q8_0, ...).
    `origin` says who made it where it was adopted. `backend` is what answers with it, as
    `sklearn:` or `openai:ft:...`; empty where that is its base. `curve` are the looks during
    training. `cost_usd` is what its training cost, None where that is unknown and for a form, which
    was not trained. A model without files has the digest of its name. `makes` is `scorer` for a
    reward model: it gives a number for a reply, and is no candidate. `planned` is the digest of the
    plan that it was trained by, on the base as it was then: with every row that was meant to be
    trained, where `rows` and `data_digest` are of those that were.
    """

    digest: str
    name: str
    task: str
    tuner: str
    base: str
    base_digest: str
    template_digest: str
    prompt: str
    prompt_digest: str
    data_digest: str
    rows: int
    recipe: Mapping[str, Json]
    seed: int
    wall_verdict: str | None = None
    override: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parity: tuple[ParityFinding, ...] = ()
    folder: str = ""
    is_pilot: bool | None = None
    start: str | None = None
    variant_of: str | None = None
    variant: str | None = None
    origin: str | None = None
    backend: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    cost_usd: float | None = None
    makes: str | None = None
    planned: str | None = None
