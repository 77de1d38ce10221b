"""What a tuner must offer, and is given. Knows nothing of who implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.records import Json, PreparedRow, TrainingRow


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


TunerFactory = Callable[[], Tuner]
