"""What a plugin must offer, as protocols. Knows nothing of who implements them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from harness.records import Json, PreparedRow, Reply, Request, TrainingRow


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What a backend is built from. `model` is what stands after `scheme:`; `artifact` is the
    folder of an adapter or model; `cache_dir` is where converted weights may be kept.
    """

    model: str
    base_url: str | None = None
    artifact: Path | None = None
    cache_dir: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)


class Backend(Protocol):
    """Answers requests. A plain `def answer` is accepted and run in a thread.

    Optional attributes, each with the default that the engine assumes:

    * `honours: frozenset[str]` (empty): which of `schema`, `seed`, `tools`, `stop`, `logprobs`,
      `images` it obeys; a request that needs another is refused before it is sent.
    * `identity: Mapping[str, str]` (empty): what else can change an answer (weights digest,
      template digest, dtype); part of the cache key.
    * `concurrency: int` (16): how many requests it likes in flight.
    * `is_external: bool` (False): requests leave this machine.
    * `def token_ids(request) -> Sequence[int]`: the ids that the model would be sent (parity).
    * `def stop_ids() -> frozenset[int]`: the ids that end its replies (parity).
    * `def decode(ids) -> str`: ids as text, for error messages (parity).
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
class TuneJob:
    """What a tuner is given. `base` is the model name after the scheme; rows are rendered already,
    by the renderer that inference uses; files go to `out_dir` and nowhere else.
    """

    base: str
    rows: tuple[TrainingRow, ...]
    recipe: Mapping[str, Json]
    out_dir: Path
    seed: int = 0
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """One step. `loss` is the mean over its supervised tokens; `seconds` since the start."""

    step: int
    steps: int
    loss: float
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a tuner made in `out_dir`. Digests are sha256; `metrics` are numbers for the report."""

    base_digest: str
    template_digest: str
    metrics: Mapping[str, float]
    environment: Mapping[str, str]


class Tuner(Protocol):
    """Makes an artifact. `prepare` shows the ids and labels exactly as they will be trained."""

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


BackendFactory = Callable[[BackendConfig], Backend]
TunerFactory = Callable[[], Tuner]
CheckFunction = Callable[..., Any]
Optimizer = Callable[..., Any]
