"""Builds each backend once, and asks it only for what it honours. Knows nothing of tasks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.engine.threads import Threads
from harness.errors import BackendError, HarnessError, UsageError
from harness.ports.manager import Plugins
from harness.ports.protocols import Backend, BackendConfig
from harness.records import Candidate, Json, Reply, Request, canonical_json, digest

CONCURRENCY = 16
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBackend:
    """A backend with what it declares, defaults filled in. `name` is `scheme:model`."""

    name: str
    backend: Backend
    honours: frozenset[str]
    identity: Mapping[str, str]
    concurrency: int
    timeout_s: float
    artifact: str | None = None
    threads: Threads = field(default_factory=Threads, repr=False, compare=False)

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
            "seed": request.decoding.seed is not None and request.decoding.temperature > 0,
            "stop": bool(request.decoding.stop),
            "logprobs": request.decoding.logprobs is not None,
            "images": any(m.images for m in request.messages),
        }
        lacking = [n for n, needed in needs.items() if needed and n not in self.honours]
        if not lacking:
            return None
        hint = getattr(self.backend, "honours_hint", "")
        return f"{self.name} does not honour {', '.join(lacking)}{f' ({hint})' if hint else ''}"

    async def _ask(self, request: Request) -> Any:
        function: Callable[[Request], Any] = self.backend.answer
        if inspect.iscoroutinefunction(function):
            return await function(request)
        reply = await self.threads.run(partial(function, request))
        return await reply if inspect.isawaitable(reply) else reply

    async def answer(self, request: Request) -> Reply:
        """Return the reply, from an async or a plain `answer`. Raises BackendError."""
        limit = asyncio.timeout(self.timeout_s)
        try:
            async with limit:
                reply = await self._ask(request)
        except HarnessError:
            raise
        except (Exception, SystemExit) as exc:  # border: a stranger's backend can raise anything
            if isinstance(exc, TimeoutError) and limit.expired():  # not a time-out of its own
                raise BackendError(
                    f"{self.name}: no reply within {self.timeout_s:g} s", is_systemic=True
                ) from exc
            raise BackendError(f"{self.name}: {type(exc).__name__}: {exc}") from exc
        return self._checked(reply)

    def _checked(self, reply: object) -> Reply:
        """Return `reply` if it can be stored and read again, as a stranger's may not."""
        if not isinstance(reply, Reply):
            raise BackendError(f"{self.name}: answered a {type(reply).__name__}, not a Reply")
        if not isinstance(reply.text, str):
            raise BackendError(f"{self.name}: the reply's text is {reply.text!r:.80}, not a text")
        try:
            canonical_json(reply)
        except (TypeError, ValueError, RecursionError) as exc:
            raise BackendError(f"{self.name}: the reply is not JSON: {exc}") from exc
        return reply


class BackendPool:
    """The backends of one process, made when first asked for."""

    def __init__(self, plugins: Plugins, *, artifact_folder: Callable[[str], Path]) -> None:
        self._plugins = plugins
        self._artifact_folder = artifact_folder
        self._live: dict[str, LiveBackend] = {}

    def get(self, candidate: Candidate) -> LiveBackend:
        """Return the backend of `candidate`. Raises UsageError, MissingExtra or BackendError."""
        place = digest(
            [candidate.backend, candidate.base_url, candidate.artifact, candidate.options]
        )
        if place not in self._live:
            scheme, _, model = candidate.backend.partition(":")
            if not model:
                raise UsageError(f"candidate {candidate.name!r}: no model after {scheme!r}:")
            factory = self._plugins.owner("harness_backends", scheme)
            folder = self._artifact_folder(candidate.artifact) if candidate.artifact else None
            config = BackendConfig(
                model=model,
                base_url=candidate.base_url,
                artifact=folder,
                options=dict(candidate.options),
            )
            try:
                backend = factory(config)
            except HarnessError:
                raise
            except Exception as exc:  # border: a stranger's factory can raise anything
                raise BackendError(
                    f"{candidate.backend} cannot be made: {type(exc).__name__}: {exc}"
                ) from exc
            self._live[place] = describe(
                backend,
                name=candidate.backend,
                artifact=candidate.artifact,
                options=candidate.options,
            )
        return self._live[place]

    def close(self) -> None:
        """Close every backend that was made."""
        for live in self._live.values():
            live.threads.close()
            close = getattr(live.backend, "close", None)
            if callable(close):
                close()
        self._live.clear()


SPEED = frozenset({"concurrency", "timeout_s"})
"""Options that change how fast a backend is asked, and no answer of it."""


def describe(
    backend: Backend,
    *,
    name: str,
    artifact: str | None = None,
    options: Mapping[str, Json] | None = None,
) -> LiveBackend:
    """Return `backend` with its declarations. Raises BackendError where one is malformed."""
    concurrency = getattr(backend, "concurrency", CONCURRENCY)
    if not isinstance(concurrency, int) or concurrency < 1:
        raise BackendError(f"{name}: `concurrency` is {concurrency!r}, not a positive number")
    identity = dict(getattr(backend, "identity", {}))
    said = {k: v for k, v in (options or {}).items() if k not in SPEED}
    if said:  # a stranger's backend may forget that they change its answers
        identity["options"] = canonical_json(said)
    return LiveBackend(
        name=name,
        backend=backend,
        honours=frozenset(getattr(backend, "honours", ())),
        identity=identity,
        concurrency=concurrency,
        timeout_s=float(getattr(backend, "timeout_s", TIMEOUT_S)),
        artifact=artifact,
    )
