"""Scripted backends, temporary stores and small records. Knows no network and no model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import BackendError
from harness.records import (
    Candidate,
    Case,
    Decoding,
    Fault,
    Json,
    Reply,
    Request,
    Run,
    Score,
    Split,
    Trial,
    digest,
)
from harness.store.store import Store

HONOURED = frozenset({"schema", "seed", "tools", "stop", "logprobs", "images"})
"""What a request can need of a backend."""

Scripted = str | Reply | BaseException
"""One scripted answer: a text, a whole reply, or an error that is raised."""

Script = Sequence[Scripted] | Mapping[str, Scripted] | Callable[[Request], object]


# ---------------------------------------------------------------- scripted backends


class ScriptedBackend:
    """A backend that answers from a script, and remembers what it was asked.

    A sequence is answered in order of arrival; a mapping by the last message, whole or (the
    longest key first) by a text within it; a function by what it returns, which may be awaited.
    An item that is an exception is raised. A request that the script has no answer for is a
    BackendError. `requests` lists what came, `max_in_flight` how many were open at once.
    """

    def __init__(
        self,
        replies: Script,
        *,
        latency_s: float = 0.0,
        honours: Collection[str] = HONOURED,
        concurrency: int = 16,
        identity: Mapping[str, str] | None = None,
        is_external: bool = False,
    ) -> None:
        self._replies = replies
        self.latency_s = latency_s
        self.honours = frozenset(honours)
        self.concurrency = concurrency
        self.identity = dict(identity or {})
        self.is_external = is_external
        self.requests: list[Request] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.is_closed = False

    async def answer(self, request: Request) -> Reply:
        """Return the scripted reply after `latency_s`, or raise the scripted error."""
        number = len(self.requests)
        self.requests.append(request)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
            item = self._item(request, number)
            if isinstance(item, Awaitable):
                item = await item
        finally:
            self.in_flight -= 1
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, Reply):
            return item
        if isinstance(item, str):
            return Reply(text=item, finish_reason="stop", latency_s=self.latency_s)
        raise TypeError(f"a script holds texts, replies and exceptions, not {item!r}")

    def close(self) -> None:
        """Remember that the engine closed this backend."""
        self.is_closed = True

    def _item(self, request: Request, number: int) -> object:
        script = self._replies
        if callable(script):
            return script(request)
        if isinstance(script, Mapping):
            asked = request.messages[-1].content if request.messages else ""
            for key in (asked, *sorted(script, key=lambda k: (-len(k), k))):
                if key in script and key in asked:
                    return script[key]
            raise BackendError(f"the script has no answer to {asked!r}")
        if number >= len(script):
            raise BackendError(
                f"the script holds {len(script)} replies, and this is request {number + 1}"
            )
        return script[number]


def temporary_store(tmp_path: Path) -> Store:
    """Return a new, real store below `tmp_path`; use it in a `with`."""
    return Store.open(tmp_path / "harness.db")


# ---------------------------------------------------------------- small records


def make_case(
    id: str = "c-001",  # noqa: A002 - the field's own name
    *,
    inputs: Mapping[str, Json] | None = None,
    reference: Json = "yes",
    split: Split = "dev",
    cluster: str = "",
    tags: Iterable[str] = (),
) -> Case:
    """Return a case; without `inputs`, one that asks a question that names its id."""
    return Case(
        id=id,
        inputs={"question": f"What is {id}?"} if inputs is None else inputs,
        split=split,
        reference=reference,
        cluster=cluster,
        tags=tuple(tags),
        line=f"cases.jsonl:{id}",
    )


def make_candidate(name: str = "zero-shot", *, backend: str = "scripted:tiny") -> Candidate:
    """Return a candidate whose prompt is known by `name`; another name is another prompt."""
    return Candidate(
        name=name,
        backend=backend,
        prompt=name,
        prompt_digest=digest(name),
        family="zero-shot",
        decoding=Decoding(max_tokens=32),
    )


def make_run(
    scores: Sequence[float | BaseException | None] = (1.0, 0.0),
    *,
    cases: Sequence[Case] | None = None,
    candidate: Candidate | None = None,
    task: str = "task",
    split: Split = "dev",
    is_complete: bool = True,
    score_name: str = "right",
    labels_digest: str = "labels-1",
    evals_digest: str = "evals-1",
) -> Run:
    """Return a run with one trial for each score: a number, None (unscored) or an exception (a
    backend fault, missing unless the error `is_systemic`).
    """
    asked = (
        [make_case(f"c-{n:03}", split=split) for n in range(1, len(scores) + 1)]
        if cases is None
        else list(cases)
    )
    who = candidate or make_candidate()
    return Run(
        task=task,
        split=split,
        candidate=who,
        inputs_digest=digest([[c.id, dict(c.inputs), c.cluster] for c in asked]),
        labels_digest=labels_digest,
        evals_digest=evals_digest,
        is_complete=is_complete,
        trials=tuple(
            _trial(case.id, score, name=score_name, key=digest([who, case.id]))
            for case, score in zip(asked, scores, strict=True)
        ),
    )


def _trial(case_id: str, score: float | BaseException | None, *, name: str, key: str) -> Trial:
    if isinstance(score, BaseException):
        missing = not getattr(score, "is_systemic", False)
        fault = Fault(origin="backend", message=str(score), is_missing=missing)
        return Trial(case_id=case_id, fault=fault)
    reason = {None: "no reference", 1.0: ""}.get(score, "not equal")
    return Trial(
        case_id=case_id,
        reply_key=key,
        scores=(Score(name=name, value=score, reason=reason),),
    )
