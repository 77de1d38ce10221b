"""What a backend must offer, as protocols. Knows nothing of who implements them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.errors import BackendError
from harness.records import Json, Reply, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """What a backend is built from. `model` is what stands after `scheme:`; `artifact` is the
    folder of an adapter or model; `cache_dir` is where converted weights may be kept; `folder` is
    the task's (a factory with a true attribute `by_folder` is called anew for each task's; one with
    `lacks(model) -> str` says what must be installed before that model can be made, with what to
    type, "" for nothing: `init` and `doctor` show it, so it only looks).
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
    """Answers requests. A plain `def answer` is accepted and run in a thread. An `async` one should
    not block (`time.sleep`, `requests`): it holds up every other request. One that does is told by
    file and line, and ended at its `timeout_s`; not so on Windows, beside the main thread, under
    somebody else's alarm (SIGALRM), or in C that does not let Python hear signals: there its
    process is ended, ten seconds later (docs/decisions/0021).

    Optional attributes, each with the default that the engine assumes:

    * `honours: frozenset[str]` (empty): which of `schema`, `seed`, `tools`, `stop`, `logprobs`,
      `images` it obeys; a request that needs another is refused before it is sent. What an extra
      brings is declared only where it is installed.
    * `honours_hint: str | Mapping[str, str]` (""): said with a refusal; as a mapping, of what was
      refused alone, by its name.
    * `identity: Mapping[str, str]` (empty): what else can change an answer (weights digest,
      template digest, dtype); part of the cache key.
    * `concurrency: int` (16): how many requests it likes in flight.
    * `timeout_s: float` (600): how long one answer may take. Both are what the task file's
      `[backends.*]` may replace, and neither is identity.
    * `is_external: bool` (False): requests leave this machine. Where it says nothing, nobody
      knows, and a release that must stay inside says so.
    * `costs_nothing: bool` (True where it says `is_external = False` itself): a reply without
      `cost_usd` is free; else its cost is unknown. A `cost_usd` that is told counts either way. A
      person's `costs_nothing` in `[backends.*]` wins.
    * `only_waits: bool` (False): the work is done in another process, and its `async def answer`
      waits for it, so that evals may run meanwhile.
    * `unpriced: str | None` (None): why the cost of its replies will be unknown, and the file to
      edit (`--max-cost` is refused with this text before anything is sent).
    * `cost_hint: str` (""): how to have the cost told, said after a first reply without one
      (`--max-cost` is refused with it then).
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


BackendFactory = Callable[[BackendConfig], Backend]
