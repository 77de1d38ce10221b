"""Builds each backend once, and asks it only for what it honours. Knows nothing of tasks."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.core.frames import under
from harness.engine.pulse import Asked, HeldUp, LetGo
from harness.engine.reins import NAMED, REINS
from harness.engine.threads import Threads
from harness.errors import BackendError, HarnessError, UsageError, words_of
from harness.ports.backends import AnswersBatches, Backend, BackendConfig, BatchState
from harness.ports.manager import Plugins, PluginWarning
from harness.records import HANDLING, Candidate, Json, Reply, Request, canonical_json, digest

CONCURRENCY = 16
TIMEOUT_S = 600.0
BATCH_CALL_S = 900.0  # to hand in or fetch a file of thousands of requests
BATCH_SIZE = 10_000
_AMOUNTS = ("input_tokens", "output_tokens", "latency_s", "cost_usd", "first_token_s")
_CARRIED = frozenset({"concurrency", "costs_nothing", "timeout_s"})  # in other ways than as options


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBackend:
    """A backend with what it declares, defaults filled in. `name` is `scheme:model`.

    `stays_inside` where it says that its requests stay on this machine; `costs_nothing` where a
    reply that tells no cost is free; `only_waits` where others do its work; `unpriced` says why
    what its replies cost will not be known, `cost_hint` what to do where one did not tell it.
    """

    name: str
    backend: Backend
    honours: frozenset[str]
    identity: Mapping[str, str]
    concurrency: int
    timeout_s: float
    artifact: str | None = None
    is_external: bool = False
    stays_inside: bool = False
    costs_nothing: bool = False
    only_waits: bool = False
    unpriced: str | None = None
    cost_hint: str = ""
    batch_size: int | None = None
    threads: Threads = field(default_factory=Threads, repr=False, compare=False)
    told: set[str] = field(default_factory=set, repr=False, compare=False)

    def key(
        self, request: Request, *, base_url: str | None, repeat: int, epoch: int | None = None
    ) -> str:
        """Return the cache key: everything that can change the answer."""
        parts = [self.name, base_url, self.artifact, dict(self.identity), request, repeat]
        return digest([*parts, epoch] if epoch else parts)

    def refuse(self, request: Request) -> str | None:
        """Return why the backend would not honour `request`, or None."""
        needs = {
            "schema": request.schema is not None,
            "tools": bool(request.tools),
            "seed": request.decoding.seed is not None,
            "stop": bool(request.decoding.stop),
            "logprobs": request.decoding.logprobs is not None,
            "images": any(m.images for m in request.messages),
        }
        lacking = [n for n, needed in needs.items() if needed and n not in self.honours]
        if not lacking:
            return None
        told = getattr(self.backend, "honours_hint", "")
        if isinstance(told, Mapping):
            told = "; ".join(filter(None, (told.get(name) for name in lacking)))
        hint = str(told)
        return f"{self.name} does not honour {', '.join(lacking)}{f' ({hint})' if hint else ''}"

    def tell_once(self, why: str | None, note: Callable[[str], None]) -> None:
        """Say `why` the cost of replies is unknown, where it is and this was not said yet."""
        if why and not self.costs_nothing and why not in self.told:
            self.told.add(why)
            note(why)

    def ready(self) -> None:
        """Raise UsageError where nothing can be sent, as for want of a key."""
        ready = getattr(self.backend, "ready", None)
        if not callable(ready):
            return
        try:
            ready()
        except HarnessError:
            raise
        except Exception as exc:  # border: a stranger's backend can raise anything
            raise BackendError(f"{self.name}: {type(exc).__name__}: {words_of(exc)}") from exc

    async def answer(self, request: Request, *, name: str = "") -> Reply:
        """Return the reply, from an async or a plain `answer`; `name` tells a request that may hold
        this process from others under way. Raises BackendError.
        """
        reply = await self._call(self.backend.answer, request, limit_s=self.timeout_s, name=name)
        return self._checked(reply)

    async def submit_batch(self, requests: Mapping[str, Request]) -> str:
        """Hand in a batch and return its id. Raises BackendError."""
        assert isinstance(self.backend, AnswersBatches)
        name = await self._call(self.backend.submit_batch, requests, limit_s=BATCH_CALL_S)
        if not (isinstance(name, str) and name):
            raise BackendError(f"{self.name}: submit_batch returned {name!r:.80}, not an id")
        return name

    async def collect_batch(self, batch_id: str) -> BatchState:
        """Return how a batch stands, its replies checked. Raises BackendError."""
        assert isinstance(self.backend, AnswersBatches)
        state = await self._call(self.backend.collect_batch, batch_id, limit_s=BATCH_CALL_S)
        if not isinstance(state, BatchState):
            raise BackendError(f"{self.name}: collect_batch returned a {type(state).__name__}")
        replies, errors = {}, dict(state.errors)
        for name, reply in state.replies.items():
            try:
                replies[name] = self._checked(reply)
            except BackendError as exc:
                errors[name] = exc
        return replace(state, replies=replies, errors=errors)

    async def _call(
        self, function: Callable[..., Any], argument: Any, *, limit_s: float, name: str = ""
    ) -> Any:
        import asyncio  # a run from the cache needs none

        limit = asyncio.timeout(limit_s)
        asked = Asked(self.name, limit, asyncio.get_running_loop(), self.told)
        late = f"{self.name}: no reply within {limit_s:g} s"
        called: Callable[[], Any] = partial(function, argument)
        if name:
            called = under(name, called, name=NAMED)
        try:
            async with limit:
                with asked.under_way(), REINS.hold(name, limit.when) if name else nullcontext():
                    if inspect.iscoroutinefunction(function):
                        return await called()
                    found = await self.threads.run(partial(REINS.call, called) if name else called)
                    return await found if inspect.isawaitable(found) else found
        except HarnessError:
            raise
        except LetGo:
            raise HeldUp(f"{late}{asked.why_late}", is_systemic=True) from None
        except (Exception, SystemExit) as exc:  # border: a stranger's backend can raise anything
            if isinstance(exc, TimeoutError) and limit.expired():  # not a time-out of its own
                raise BackendError(f"{late}{asked.why_late}", is_systemic=True) from exc
            raise BackendError(f"{self.name}: {type(exc).__name__}: {words_of(exc)}") from exc

    def _checked(self, reply: object) -> Reply:
        """Return `reply` if it can be stored and read again, as a stranger's may not."""
        if not isinstance(reply, Reply):
            raise BackendError(f"{self.name}: answered a {type(reply).__name__}, not a Reply")
        if not isinstance(reply.text, str):
            raise BackendError(f"{self.name}: the reply's text is {reply.text!r:.80}, not a text")
        for name in _AMOUNTS:
            value = getattr(reply, name)
            if value is not None and not _is_amount(value):
                raise BackendError(f"{self.name}: the reply's {name} is {value!r:.80}, no amount")
        for name in ("tool_calls", "spans"):
            rows: object = getattr(reply, name)
            if not isinstance(rows, list | tuple) or not all(isinstance(r, Mapping) for r in rows):
                raise BackendError(f"{self.name}: the reply's {name} are no objects")
        if _is_plain(reply):
            return reply
        try:
            canonical_json(reply)
        except (TypeError, ValueError, RecursionError) as exc:
            raise BackendError(f"{self.name}: the reply is not JSON: {exc}") from exc
        return reply


def _is_plain(reply: Reply) -> bool:
    """Tell a reply of texts and numbers alone: no other needs to be tried as JSON."""
    texts = (reply.text, reply.finish_reason, reply.model)
    return not (reply.tool_calls or reply.logprobs or reply.spans) and all(
        text is None or type(text) is str for text in texts
    )


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max  # not NaN, nor a whole number that no float can hold


class BackendPool:
    """The backends of one process, made when first asked for."""

    def __init__(self, plugins: Plugins, *, artifact_folder: Callable[[str], Path]) -> None:
        self._plugins = plugins
        self._artifact_folder = artifact_folder
        self._live: dict[str, LiveBackend] = {}

    def get(self, candidate: Candidate, *, folder: Path | None = None) -> LiveBackend:
        """Return the backend of `candidate`, of the task in `folder`.

        Raises UsageError, MissingExtra or BackendError.
        """
        scheme, _, model = candidate.backend.partition(":")
        if not model:
            raise UsageError(f"candidate {candidate.name!r}: no model after {scheme!r}:")
        factory = self._plugins.owner("harness_backends", scheme)
        timeout_s, wished = _wish(candidate, "timeout_s"), _wish(candidate, "concurrency")
        parts = [candidate.backend, candidate.base_url, candidate.artifact, candidate.options]
        if getattr(factory, "by_folder", False):  # the others are one for every task
            parts.append(str(folder))
        place = digest(parts)
        if place not in self._live:
            artifact = self._artifact_folder(candidate.artifact) if candidate.artifact else None
            config = BackendConfig(
                model=model,
                base_url=candidate.base_url,
                artifact=artifact,
                folder=folder,
                options={k: v for k, v in candidate.options.items() if k not in _CARRIED},
                timeout_s=timeout_s,
                concurrency=None if wished is None else int(wished),
            )
            try:
                backend = factory(config)
            except HarnessError:
                raise
            except Exception as exc:  # border: a stranger's factory can raise anything
                raise BackendError(
                    f"{candidate.backend} cannot be made: {type(exc).__name__}: {words_of(exc)}"
                ) from exc
            self._live[place] = describe(
                backend,
                name=candidate.backend,
                artifact=candidate.artifact,
                options=candidate.options,
            )
        return self._live[place]

    def lacking(self, backend: str) -> str:
        """Return what must be installed before `backend` can be made, as its factory says without
        making it, with what to type; "" where nothing is known to lack.
        """
        scheme, _, model = backend.partition(":")
        lacks = getattr(self._plugins.table("harness_backends").get(scheme), "lacks", None)
        if not callable(lacks):
            return ""
        try:
            return str(lacks(model))
        except Exception as exc:  # border: a stranger's factory can raise anything
            raise BackendError(f"{backend}: {type(exc).__name__}: {words_of(exc)}") from exc

    def close(self) -> None:
        """Close every backend that was made; one that cannot be closed holds up no other."""
        for live in self._live.values():
            live.threads.close()
            close = getattr(live.backend, "close", None)
            if not callable(close):
                continue
            try:
                close()
            except Exception as exc:  # noqa: BLE001 - border: a stranger's backend
                warnings.warn(
                    f"{live.name} could not be closed: {type(exc).__name__}: {words_of(exc)}. "
                    "What it answered is kept.",
                    PluginWarning,
                    stacklevel=2,
                )
        self._live.clear()


def _wish(candidate: Candidate, name: str) -> float | None:
    """Return a positive number of a candidate's options. Raises UsageError for anything else."""
    value = candidate.options.get(name)
    if value is None:
        return None
    if not _is_amount(value) or value == 0:
        raise UsageError(
            f"{candidate.backend}: option {name} = {value!r} is not a positive number (task.toml, "
            "[backends] or the candidate's options)"
        )
    if name == "concurrency" and not isinstance(value, int):
        raise UsageError(f"{candidate.backend}: option concurrency = {value!r} is not a whole one")
    return float(value)


def describe(
    backend: Backend,
    *,
    name: str,
    artifact: str | None = None,
    options: Mapping[str, Json] | None = None,
) -> LiveBackend:
    """Return `backend` with its declarations. Raises BackendError where one is malformed."""
    wishes = options or {}
    concurrency = wishes.get("concurrency", getattr(backend, "concurrency", CONCURRENCY))
    if not isinstance(concurrency, int) or concurrency < 1:
        raise BackendError(f"{name}: `concurrency` is {concurrency!r}, not a positive number")
    identity = dict(getattr(backend, "identity", {}))
    said = {k: v for k, v in wishes.items() if k not in HANDLING}
    if said:  # a stranger's backend may forget that they change its answers
        identity["options"] = canonical_json(said)
    return LiveBackend(
        name=name,
        backend=backend,
        honours=frozenset(getattr(backend, "honours", ())),
        identity=identity,
        is_external=bool(getattr(backend, "is_external", False)),
        concurrency=concurrency,
        timeout_s=float(wishes.get("timeout_s", getattr(backend, "timeout_s", TIMEOUT_S))),
        artifact=artifact,
        stays_inside=_says_inside(backend),
        costs_nothing=_costs_nothing(backend, wishes, name=name),
        only_waits=bool(getattr(backend, "only_waits", False)),
        unpriced=getattr(backend, "unpriced", None),
        cost_hint=getattr(backend, "cost_hint", ""),
        batch_size=_batch_size(backend, name),
    )


def _says_inside(backend: Backend) -> bool:
    return getattr(backend, "is_external", None) is False


def _costs_nothing(backend: Backend, wishes: Mapping[str, Json], *, name: str) -> bool:
    """Return what a person says, else what the backend does, else whether it stays inside."""
    said = getattr(backend, "costs_nothing", _says_inside(backend))
    said = wishes.get("costs_nothing", said)
    if not isinstance(said, bool):
        raise UsageError(f"{name}: costs_nothing is {said!r}, not true or false")
    return said


def _batch_size(backend: Backend, name: str) -> int | None:
    """Return the most requests of one batch, None where the backend takes no batches."""
    if not isinstance(backend, AnswersBatches):
        return None
    size = getattr(backend, "batch_size", BATCH_SIZE)
    if not isinstance(size, int) or size < 1:
        raise BackendError(f"{name}: `batch_size` is {size!r}, not a positive number")
    return size
