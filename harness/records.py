"""The nouns of the house, each frozen. Knows nothing of disks, clocks, networks or libraries.

A record's identity is the sha256 of its canonical JSON (`harness.plain`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from harness.plain import (
    Json as Json,
    canonical_json as canonical_json,
    digest as digest,
    from_plain as from_plain,
    to_plain as to_plain,
)

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

FAMILIES = (
    "zero-shot",
    "instructions",
    "few-shot",
    "dynamic-few-shot",
    "chain-of-thought",
    "rag",
    "constrained",
    "optimised",
)


@lru_cache(maxsize=4096)
def _image_digest(url: str) -> str:
    """A case is identified many times in a run; its megabytes are read once."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `content` is text; `tool_calls` holds what an assistant turn asked to run;
    `images` are `data:` URLs, as `data:image/png;base64,...`, shown after the text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[Json, ...] = ()
    tool_call_id: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How a reply is drawn. `temperature` 0 is greedy; `max_tokens` counts output tokens;
    `logprobs` asks for each token's log probability and those of so many alternatives.
    """

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that a backend is given. `schema` asks for constrained decoding to a JSON schema."""

    messages: tuple[Message, ...]
    decoding: Decoding = field(default_factory=Decoding)
    schema: Json = None
    tools: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input with, where known, a reference answer.

    `reference` is text or a JSON value; `cluster` names the source that the case shares with
    others (the statistics draw clusters, not cases). `line` is where it stands, as `file:line`.
    `images` are `data:` URLs; `checks` are checks of its own, `{"name": ..., "arguments": {...}}`;
    `documents` name what it needs to be answered: it measures retrieval, and scores no reply.
    `rejected` is a worse reply than the reference: together they are a preference to train on.
    `provenance` says how a case was made, empty for one that was collected; no score reads it.
    """

    id: str
    inputs: Mapping[str, Json]
    split: Split
    reference: Json = None
    cluster: str = ""
    tags: tuple[str, ...] = ()
    line: str = ""
    images: tuple[str, ...] = ()
    checks: tuple[Json, ...] = ()
    documents: tuple[str, ...] = ()
    rejected: Json = None
    provenance: Mapping[str, Json] = field(default_factory=dict)

    @property
    def inputs_digest(self) -> str:
        """Identity of what the model is asked about: the inputs and images alone."""
        if not self.images:
            return digest(dict(self.inputs))
        return digest([dict(self.inputs), [_image_digest(image) for image in self.images]])

    @property
    def digest(self) -> str:
        """Identity of all that a score may depend on: inputs, reference and own checks."""
        return digest([self.inputs_digest, self.reference, self.checks])

    @property
    def reference_text(self) -> str | None:
        """The reference as a reply would say it: text as it is, any other value as compact JSON."""
        return _as_reply(self.reference)

    @property
    def rejected_text(self) -> str | None:
        """The worse reply as a reply would say it."""
        return _as_reply(self.rejected)


def _as_reply(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A template with a family. `sections` are (role, Jinja source); role `examples` marks where
    example cases are laid out, each as the user section and its reference.

    `shots` examples are drawn from train: by `seed` for every case alike, or, where `retrieve`
    is true, the nearest to the case that is asked, among the rows without the tag `without` (where
    it names one). `schema` constrains the reply; `tools` are what
    the model may call, in OpenAI's shape. `documents` of the task's passages, the nearest to the
    case, fill the variable of that name. Evals see what follows the last `answer_after` of a
    reply, or what its JSON object holds at `answer_key`; `decoding` differs from the task's.
    """

    name: str
    family: str
    sections: tuple[tuple[str, str], ...]
    shots: int = 0
    retrieve: bool = False
    seed: int = 0
    schema: Json = None
    path: str = ""
    tools: tuple[Json, ...] = ()
    documents: int = 0
    answer_after: str = ""
    answer_key: str = ""
    decoding: Mapping[str, Json] = field(default_factory=dict)
    without: str = ""

    @property
    def digest(self) -> str:
        """Identity of the template: everything but its name, family and place."""
        parts = [self.sections, self.shots, self.retrieve, self.seed, self.schema]
        later: list[Json] = [self.tools] if self.tools else []  # older digests stand
        later += [{"documents": self.documents}] if self.documents else []
        answer = {"answer_after": self.answer_after, "answer_key": self.answer_key}
        later += [{k: v for k, v in answer.items() if v}] if any(answer.values()) else []
        later += [{"without": self.without}] if self.without else []
        return digest([*parts, *later])


SPEED = frozenset({"batch_size", "concurrency", "stream", "timeout_s"})
"""Options that change how fast a backend is asked, and no answer of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend, a prompt and a decoding, perhaps with an artifact: what is measured.

    `backend` is `scheme:model`; `artifact` is a digest. `reference` and `replay:FILE` candidates
    have no prompt. `options` are the backend's own settings; `epoch` is raised by a person to ask
    everything anew. Identity leaves out `name`, which is only what people call it.
    """

    name: str
    backend: str
    prompt: str | None = None
    prompt_digest: str | None = None
    family: str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    artifact: str | None = None
    base_url: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    epoch: int | None = None

    @property
    def digest(self) -> str:
        """Identity of what answers, whatever it is called."""
        parts = [self.backend, self.prompt_digest, self.decoding, self.artifact, self.base_url]
        options = {k: v for k, v in self.options.items() if k not in SPEED}
        later = [options, self.epoch]  # left out where unset: older digests stand
        return digest(parts + later if options or self.epoch else parts)


# ---------------------------------------------------------------- what came back


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a backend returned. Times in seconds; unknown is `None`.

    `latency_s` is the time of this reply alone where the backend can tell, else its share of the
    batch that it was answered in; `first_token_s` the time to its first token, where it streamed.
    `logprobs` has one `{"token", "logprob", "top": [[token, logprob], ...]}` an output token.
    """

    text: str
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    cost_usd: float | None = None
    model: str | None = None
    tool_calls: tuple[Json, ...] = ()
    first_token_s: float | None = None
    logprobs: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An error of backend, eval or harness, never a measurement.

    `is_missing` tells infrastructure trouble (no answer to judge) from a failure of the system
    under test (no answer is its answer, so the case is failed).
    """

    origin: Literal["backend", "eval", "harness"]
    message: str
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number in [0, 1], or `None` = unscored; `reason` says why where it is not 1.

    `judge` is the identity of the judge that gave it (model, prompt, rubric), where one did.
    """

    name: str
    value: float | None
    reason: str = ""
    judge: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Case x candidate x repeat, with its reply, scores and fault. `reply_key` finds the reply;
    `case_digest` is what the case was when it was scored.
    """

    case_id: str
    repeat: int = 0
    reply_key: str | None = None
    scores: tuple[Score, ...] = ()
    fault: Fault | None = None
    case_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One candidate's trials on one case set.

    `inputs_digest` covers case ids, inputs and clusters; `labels_digest` the references;
    `evals_digest` the eval files. `is_complete` is true where every case and every eval ran.
    `repeat_verdict` says how a case's repeats become one number (None: their mean).
    """

    task: str
    split: Split
    candidate: Candidate
    inputs_digest: str
    labels_digest: str
    evals_digest: str
    is_complete: bool
    trials: tuple[Trial, ...]
    repeats: int = 1
    aggregates: tuple[Score, ...] = ()
    repeat_verdict: str | None = None
    _id: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits, computed once: a run may hold 100,000 trials."""
        if self._id is None:
            object.__setattr__(self, "_id", digest(self)[:16])
        assert self._id is not None
        return self._id


# ---------------------------------------------------------------- what it means


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with one-sided bounds, each at level `alpha`, from `n` cases in `clusters`."""

    mean: float
    lower: float
    upper: float
    n: int
    clusters: int
    alpha: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of a verdict. `holds` is `None` where it was not checked."""

    name: str
    holds: bool | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One rung of the ladder: a complete run over dev, with its estimate.

    `wins` and `losses` are cases against the best try. `input_tokens`, `output_tokens` and
    `latency_s` are means a case, `cost_usd` the sum over the run; `missing` cases had no answer.
    """

    candidate: str
    family: str
    run_id: str
    estimate: Estimate
    wins: int = 0
    losses: int = 0
    missing: int = 0
    faults: int = 0
    unscored: int = 0
    latency_s: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_usd: float | None = None
    is_counted: bool = True
    note: str = ""


WallAnswer = Literal["SHIP_PROMPT", "KEEP_PROMPTING", "WALL", "INSUFFICIENT_EVIDENCE", "FIX_DATA"]
ReleaseAnswer = Literal["SHIP", "BLOCK", "INSUFFICIENT_EVIDENCE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WallVerdict:
    """Has prompting hit a wall? `reason` is one plain sentence, `conditions` the evidence.

    `reach` is the chance that one of the next `horizon` tries reaches the target; `resolution`
    the paired difference that this eval could have seen with 80 % power; `need_cases` how many
    cases would settle it, where more would. `id` is the digest of all of it.
    """

    task: str
    answer: WallAnswer
    reason: str
    conditions: tuple[Condition, ...]
    tries: tuple[Try, ...]
    target: float
    mid: float
    profile: str
    best: str | None = None
    horizon: int = 0
    reach: float | None = None
    resolution: float | None = None
    is_climbing: bool = False
    need_cases: int | None = None
    next_step: str = ""
    alpha: float = 0.05
    inputs_digest: str = ""
    labels_digest: str = ""
    evals_digest: str = ""
    policy_digest: str = ""
    waivers: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits."""
        return digest(self)[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate minus baseline on the same cases. `delta` is of the primary score."""

    task: str
    split: Split
    baseline: str
    candidate: str
    baseline_run: str
    candidate_run: str
    baseline_estimate: Estimate
    candidate_estimate: Estimate
    delta: Estimate
    wins: int
    losses: int
    ties: int
    newly_missed: tuple[str, ...] = ()
    newly_passed: tuple[str, ...] = ()
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a release. `threshold` is what the lower bound of `delta` must exceed."""

    name: str
    kind: Literal["primary", "guardrail", "slice", "budget", "condition"]
    answer: ReleaseAnswer
    text: str
    delta: Estimate | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseVerdict:
    """Does the candidate ship? `look` counts the looks at the sealed cases, `alpha` what this
    one spent, `alpha_left` what remains for later ones.
    """

    task: str
    answer: ReleaseAnswer
    reason: str
    checks: tuple[Check, ...]
    comparison: Comparison
    goal: str
    min_gain: float
    look: int
    alpha: float
    alpha_left: float
    need_cases: int | None = None
    overrides: tuple[str, ...] = ()
    policy_digest: str = ""
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Identity by content: 16 hex digits."""
        return digest(self)[:16]


# ---------------------------------------------------------------- tuning


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
    training. `cost_usd` is None where unknown. A model without files has the digest of its name.
    `makes` is `scorer` for a reward model: it gives a number for a reply, and is no candidate.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One line of the append-only record. `at` is UTC, ISO 8601; `payload` is the record told."""

    kind: Literal[
        "wall",
        "release",
        "look",
        "override",
        "waiver",
        "label-edit",
        "audit",
        "policy",
        "pilot",
        "tune",
        "adopt",
        "parity",
        "certificate",
    ]
    task: str
    at: str
    payload: Json
    text: str = ""
