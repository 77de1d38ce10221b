"""What a plugin must offer, as protocols. Knows nothing of who implements them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.errors import BackendError
from harness.records import Case, Json, PreparedRow, Reply, Request, TrainingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What a backend is built from. `model` is what stands after `scheme:`; `artifact` is the
    folder of an adapter or model; `cache_dir` is where converted weights may be kept; `folder` is
    the task's (a factory with a true attribute `by_folder` is called anew for each task's).
    `timeout_s` and `concurrency` are a person's wishes; the engine keeps them by itself, so that
    only a backend with a clock of its own need read them. They are not among the `options`.
    """

    model: str
    base_url: str | None = None
    artifact: Path | None = None
    cache_dir: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    timeout_s: float | None = None
    concurrency: int | None = None
    folder: Path | None = None


class Backend(Protocol):
    """Answers requests. A plain `def answer` is accepted and run in a thread.

    Optional attributes, each with the default that the engine assumes:

    * `honours: frozenset[str]` (empty): which of `schema`, `seed`, `tools`, `stop`, `logprobs`,
      `images` it obeys; a request that needs another is refused before it is sent.
    * `identity: Mapping[str, str]` (empty): what else can change an answer (weights digest,
      template digest, dtype); part of the cache key.
    * `concurrency: int` (16): how many requests it likes in flight.
    * `timeout_s: float` (600): how long one answer may take. Both are what the task file's
      `[backends.*]` may replace, and neither is identity.
    * `is_external: bool` (False): requests leave this machine. Where it says False itself, a
      reply without `cost_usd` costs nothing; where it says nothing, such a cost is unknown.
    * `unpriced: str | None` (None): why the cost of its replies will be unknown, and the file to
      edit (`--max-cost` is refused with this text before anything is sent).
    * `submit_batch` and `collect_batch`: see `AnswersBatches`.
    * `def token_ids(request) -> Sequence[int]`: the ids that the model would be sent (parity).
    * `def stop_ids() -> frozenset[int]`: the ids that end its replies (parity).
    * `def decode(ids) -> str`: ids as text, for error messages (parity).
    * `def context_tokens() -> int | None`: how many tokens prompt and reply may have together
      (`harness data lint --candidate`).
    * More for parity, each where it can be told: `special_ids() -> frozenset[int]`, `pad_id() ->
      int | None`, `encode(text, with_specials=False) -> Sequence[int]`, `chat_template() -> str |
      None` (its source), `count_tokens(request) -> int | None` (of a server that shows no ids, and
      what its ids are checked by), `sampling_defaults() -> Mapping[str, float]` (what it was
      started with), `greedy_logprobs(request, tokens=, top=)` (steps as in `Reply.logprobs`, and
      the step that ended the reply, with its `id` and by what `margin` in nats it was preferred
      to going on, or None), `pixel_digest(request) -> str` (of what its images become),
      `read_rows(folder)` (rows that a trainer prepared).
    * `def ready() -> None`: called before a first request is sent to any backend; raises
      UsageError where nothing can be sent, as for want of a key. Not called where every reply is
      recorded, so that scoring anew needs no key.
    * `def close() -> None`: called once, at the end.
    """

    def answer(self, request: Request) -> Reply | Awaitable[Reply]:
        """Return the reply, or raise BackendError."""
        ...


@runtime_checkable
class ShowsTokens(Protocol):
    """A backend whose parity with training can be checked."""

    def token_ids(self, request: Request) -> Sequence[int]:
        """Return the ids that `answer` would send to the model."""
        ...

    def stop_ids(self) -> frozenset[int]:
        """Return the ids at which generation ends."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens shown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """How a batch stands. `replies` and `errors` are by the names that `submit_batch` was given.

    Each collected reply or error may be told again and again; what is in `replies` may be stored
    before the batch is done. Where `is_done`, every name should be in one of them: one that is in
    neither counts as lost. An error's `is_systemic` tells an answer of the system under test (a
    refused prompt) from trouble (expired, cancelled), whose requests the next run sends again.
    `done` of `total` requests are finished, well or badly.
    """

    is_done: bool
    total: int
    done: int = 0
    replies: Mapping[str, Reply] = field(default_factory=dict)
    errors: Mapping[str, BackendError] = field(default_factory=dict)


@runtime_checkable
class AnswersBatches(Protocol):
    """A backend with a provider's batch API (cheaper, within hours): what `--batch` asks for.

    Both methods may be plain or async, and raise BackendError: after one in `collect_batch` the
    batch stays open and is looked at again (now where `is_retryable`, else by the next run). For
    a batch that exists no more return `is_done` without its names: they are submitted anew by the
    next run. Costs are the batch tariff's. Optional: `batch_size: int` (10,000), the most
    requests of one batch.
    """

    def submit_batch(self, requests: Mapping[str, Request]) -> str | Awaitable[str]:
        """Hand in `requests` by name (64 hex digits); return the provider's id of the batch."""
        ...

    def collect_batch(self, batch_id: str) -> BatchState | Awaitable[BatchState]:
        """Return how the batch stands, by an id that this or an earlier process was given."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training under way: an artifact as it would be left now, whole, in `folder`."""

    step: int
    steps: int
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneJob:
    """What a tuner is given. `base` is the model name after the scheme; rows are rendered already,
    by the renderer that inference uses; files go to `out_dir` and nowhere else.

    * `start`: the folder of an artifact to go on from (SFT before DPO); None: from the base.
    * `task_folder`: where the task is, for a tuner whose reward is the task's own evals
      (`harness.reward`).
    * `options`: the task's `[backends."SCHEME:MODEL"]`, as a base model's `chat_template`.
    * `devices`: how many processes train together. A tuner that knows one refuses more.
    * `state_dir`: a folder of this very job that outlives the process: what is needed to go on
      after a kill is kept there, and found there again. None: nothing is kept.
    * `check_every`, `check`: call `check` after each so many steps and after the last one, with a
      whole artifact in a folder that may be gone afterwards; stop where it returns False. The
      caller keeps the best; a tuner leaves the last in `out_dir`.
    """

    base: str
    rows: tuple[TrainingRow, ...]
    recipe: Mapping[str, Json]
    out_dir: Path
    seed: int = 0
    cache_dir: Path | None = None
    start: Path | None = None
    task_folder: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    base_url: str | None = None
    devices: int = 1
    state_dir: Path | None = None
    check_every: int | None = None
    check: Callable[[Checkpoint], bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """One step. `loss` is the mean over its supervised tokens, None where there are none (a
    classical model); `seconds` and `tokens` since the start; `memory_gb` is the peak of the process
    or device so far; `numbers` are others of the method, as the mean reward."""

    step: int
    steps: int
    loss: float | None
    tokens: int
    seconds: float
    memory_gb: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a tuner made in `out_dir`. Digests are sha256; `metrics` are numbers for the report.

    `backend` names what answers with it where that is not the base (`openai:ft:...`, `sklearn:`);
    a hosted model leaves no files. `cost_usd` is None where it is not known.
    """

    base_digest: str
    template_digest: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]
    backend: str | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneEstimate:
    """What a training would need, before it: None where it is not known, with a note that says why.

    `seconds` is as busy as the machine is now, `least_seconds` on it alone, where the two were told
    apart. `facts` are lines for a person: what was chosen for this model's size, and how it was
    reckoned.
    """

    steps: int
    seconds: float | None = None
    memory_gb: float | None = None
    cost_usd: float | None = None
    facts: tuple[str, ...] = ()
    least_seconds: float | None = None


class Tuner(Protocol):
    """Makes an artifact. `prepare` shows the ids and labels exactly as they will be trained.

    Optional attributes, each with the default that the engine assumes:

    * `needs: str` ("completions"): the rows that it learns from. `preferences`: each has a
      `rejected` reply; `prompts`: a completion may be missing.
    * `makes: str` ("replies"): `scorer` for a reward model, which gives numbers for replies: dev is
      not looked at while it is trained, and it is no candidate.
    * `has_tokens: bool` (True): rows become token ids, so parity with serving can be checked. Where
      False (a classical model, a hosted one) `prepare` returns nothing and parity is not checked:
      it is said so, with `why_no_tokens: str`.
    * `shows_checkpoints: bool` (True): whether it calls `job.check`; where False, dev is not looked
      at while it trains.
    * `schemes: frozenset[str]` (any): the schemes of the models that it tunes, as `{"openai"}`; a
      task's model of another is refused. An artifact without files, made by one of these, is gone
      on from by its name.
    * `def sends_rows_to(job) -> str | None` (None): the host outside this machine that would be
      given the rows: internal ones stop it, before `prepare`, unless a person overrides it.
    * `knows_devices: bool` (False): whether it trains on `job.devices` processes; else more than
      one is refused before it is asked.
    * `def steps(job, rows) -> int`: how many steps a training will have, told at once; dev is
      looked at about five times in them. Without it, only where `check_every` asks for it.
    * `def estimate(job, rows) -> TuneEstimate`: what `harness tune --plan` prints.

    What a recipe says wrong is a RecipeError that names its `keys`: the engine, which knows the
    file, puts file and lines before it. An error of `prepare` may have the attribute
    `case_ids`, a tuple of the rows that it is about: so many may be left out as the task's
    `max_cut` allows.
    """

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return one prepared row for each training row, or raise BackendError."""
        ...

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Train on `rows`, write the artifact to `job.out_dir`, and return what was made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantJob:
    """What a maker of variants is given: `base` is the model name after the scheme, `artifact` the
    folder of the tuned artifact. Files go to `out_dir` and nowhere else; `options` are the task's
    `[backends."SCHEME:MODEL"]`.
    """

    base: str
    artifact: Path
    out_dir: Path
    cache_dir: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantResult:
    """What a maker of variants wrote. `template_digest` is that of the chat template in it,
    `metrics` are numbers for the report, `notes` lines for a person.
    """

    template_digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeJob:
    """What a server is to be started for: the files of an artifact in `folder`, to answer as `name`
    at 127.0.0.1 and `port`. `base` is the model name after the scheme. `context` is how many tokens
    a prompt and its reply may have, None where the model's own limit holds; `slots` how many
    requests are answered at once, where the server wants to know.
    """

    name: str
    folder: Path
    base: str
    port: int
    context: int | None = None
    slots: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """How a server is started. It must listen at 127.0.0.1 alone, and end when it is told to.

    `model` is what the server calls what it serves; `preset` the kind of server, as it stands at
    the end of a base URL; `health` answers 200 once requests are. `links` are made in the folder
    that it is started in, for servers that name a model by its path. `notes` are lines for a
    person.
    """

    argv: tuple[str, ...]
    model: str
    preset: str
    health: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredReply:
    """What came of asking one case under one prompt. `score` is the task's primary score in [0, 1],
    None where nothing was measured; `reasons` say why it is not 1. `is_asked` is false where no
    request was made: the budget is spent, or the prompt cannot be filled in (that scores 0).
    """

    case_id: str
    reply: str = ""
    score: float | None = None
    reasons: tuple[str, ...] = ()
    is_asked: bool = True


Sections = Mapping[str, str]
"""The texts of a prompt, by section: `system`, `user`, ...; a role's second one is `user-2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseJob:
    """What an optimiser is given: never a case of the test split, nor one with the same inputs.

    * `about` is the task in one sentence; `sections` are the texts of the seed prompt, Jinja
      templates. `marks` are what they fill in, as `{{ question }}`: a prompt must hold each of
      them, and no other. A `system` text may be given though the seed has none.
    * `train` may be shown to `reflect`, references too. `dev` is what prompts are judged by: show
      it to nobody, or the wall will read what the prompt was told.
    * `ask` fills in, asks and scores: pairs of sections and case, one ScoredReply each, in order,
      all at once and from the store where known. Each new pair is one call of the budget.
    * `reflect` asks the reflection model, and returns what it said. Raises BackendError.
    * `calls_left` tells how many calls remain, of `max_calls`; 0 too where the money is spent.
      What is asked for beyond is not asked.
    * `note` tells a person something. `seed` fixes every draw.
    """

    about: str
    sections: Sections
    marks: tuple[str, ...]
    train: tuple[Case, ...]
    dev: tuple[Case, ...]
    ask: Callable[[Sequence[tuple[Sections, Case]]], Sequence[ScoredReply]]
    reflect: Callable[[str], str]
    calls_left: Callable[[], int]
    note: Callable[[str], None]
    max_calls: int
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimisedPrompt:
    """A prompt that an optimiser made. `note` says how, in one line; it stands in the file."""

    sections: Sections
    note: str = ""


class Optimizer(Protocol):
    """Makes prompts out of a prompt. What it makes is run again, as any other try."""

    def optimise(self, job: OptimiseJob) -> Sequence[OptimisedPrompt]:
        """Return the prompts that are worth a try, the best first; none where none was found.

        Raises UsageError where the job cannot be done (too few cases, too small a budget).
        """
        ...


BackendFactory = Callable[[BackendConfig], Backend]
TunerFactory = Callable[[], Tuner]
OptimizerFactory = Callable[[], Optimizer]
VariantMaker = Callable[[VariantJob], VariantResult]
ServerMaker = Callable[[ServeJob], ServerCommand]
CheckFunction = Callable[..., Any]
