"""Checks that a stranger's backend or tuner keeps its promises. Knows no network and no model."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.errors import BackendError, HarnessError, MissingExtra
from harness.ports.backends import BackendConfig, BackendFactory, ShowsTokens
from harness.ports.tuners import TrainProgress, TrainResult, TuneJob, TunerFactory
from harness.records import Decoding, Message, PreparedRow, Reply, Request, canonical_json
from harness.store.artifacts import folder_digest
from harness.testing.scripted import HONOURED

# ---------------------------------------------------------------- conformance of a backend


def conformance(
    backend_factory: BackendFactory,
    *,
    config: BackendConfig | None = None,
    request: Request | None = None,
) -> None:
    """Check that a backend keeps the promises of `harness.ports.backends.Backend`.

    It is built with `config`, asked `request` (a short greeting by default) alone, twice at once
    and with what it says it honours, and closed. Raises AssertionError that lists every broken
    promise. Call it from a plain function, not inside a running event loop.
    """
    config = config or BackendConfig(model="conformance")
    request = request or Request(
        messages=(Message(role="user", content="Say hello."),), decoding=Decoding(max_tokens=8)
    )
    _raise_all(backend_problems(backend_factory, config, request=request))


def _raise_all(problems: Sequence[str]) -> None:
    listed = "".join(f"\n- {problem}" for problem in problems)
    assert not problems, f"{len(problems)} broken promises:{listed}"


def backend_problems(
    backend_factory: BackendFactory, config: BackendConfig, *, request: Request
) -> list[str]:
    """Return the broken promises of a backend, none where it keeps them all."""
    try:
        backend = backend_factory(config)
    except HarnessError as exc:
        return [f"the factory refused {config.model!r}, so nothing could be checked: {exc}"]
    except Exception as exc:  # noqa: BLE001 - border: a stranger's code can raise anything
        return [f"the factory raised {type(exc).__name__} ({exc}), not a HarnessError"]
    if not callable(getattr(backend, "answer", None)):
        return [f"{type(backend).__name__} has no method `answer(request)`"]
    problems = [*_declared(backend)]
    try:
        problems += asyncio.run(_answers(backend, request))
        if isinstance(backend, ShowsTokens):
            problems += _tokens(backend, request)
    finally:
        close = getattr(backend, "close", None)
        if close is not None and not callable(close):
            problems.append("`close` is not a method")
        elif close is not None and inspect.iscoroutinefunction(close):
            problems.append("`close` is a coroutine: it is called once, and not awaited")
        elif close is not None:
            close()
    return problems


def _declared(backend: object) -> Iterable[str]:
    honours: Any = getattr(backend, "honours", ())
    if isinstance(honours, str) or not isinstance(honours, Collection):
        yield f"`honours` is a set of names, not {honours!r}"
    elif set(honours) - HONOURED:
        unknown = sorted(map(repr, set(honours) - HONOURED))
        yield f"`honours` knows {sorted(HONOURED)}, not {', '.join(unknown)}"
    hint: Any = getattr(backend, "honours_hint", "")
    texts = list(hint.values()) if isinstance(hint, Mapping) else [hint]
    if not all(isinstance(text, str) for text in texts):
        yield f"`honours_hint` is a text, or texts by what they are about, not {hint!r}"
    concurrency = getattr(backend, "concurrency", 16)
    if not isinstance(concurrency, int) or isinstance(concurrency, bool) or concurrency < 1:
        yield f"`concurrency` is a whole number of 1 or more, not {concurrency!r}"
    for name in ("is_external", "costs_nothing"):
        if not isinstance(getattr(backend, name, False), bool):
            yield f"`{name}` is True or False"
    identity = getattr(backend, "identity", {})
    if not isinstance(identity, Mapping):
        yield f"`identity` is a mapping of texts, not {identity!r}"
        return
    for name, value in identity.items():
        if not isinstance(name, str) or not isinstance(value, str):
            yield f"`identity` holds texts alone, not {name!r}: {value!r}"


async def _answer(backend: object, request: Request) -> object:
    answer: Callable[[Request], object] = backend.answer  # type: ignore[attr-defined]
    if inspect.iscoroutinefunction(answer):
        return await answer(request)
    value = await asyncio.to_thread(answer, request)
    return await value if isinstance(value, Awaitable) else value


async def _answers(backend: object, request: Request) -> list[str]:
    before = canonical_json(request)
    got = [await _outcome(backend, request)]
    got += await asyncio.gather(_outcome(backend, request), _outcome(backend, request))
    problems = [problem for value in got[:1] for problem in _reply_problems(value)]
    problems += [
        f"two requests at once: {problem}"
        for value in got[1:]
        for problem in _reply_problems(value)
    ]
    if canonical_json(request) != before:
        problems.append("`answer` changed the request it was given")
    problems += [problem async for problem in _undeclared_extras(backend, request)]
    # No message is nothing to answer: a reply will do, or an error that says what to do next.
    empty = await _outcome(backend, Request(messages=()))
    if isinstance(empty, BaseException) and not isinstance(empty, HarnessError):
        problems.append(
            f"a request without messages raised {type(empty).__name__} ({empty}): what goes "
            "wrong is raised as BackendError"
        )
    return list(dict.fromkeys(problems))


async def _undeclared_extras(backend: object, request: Request) -> AsyncIterator[str]:
    """Yield what the backend says that it honours, and cannot for want of a library."""
    honours = getattr(backend, "honours", ())
    needs = {
        "schema": replace(request, schema={"type": "object", "properties": {}}),
        "seed": replace(request, decoding=replace(request.decoding, temperature=1.0, seed=1)),
        "logprobs": replace(request, decoding=replace(request.decoding, logprobs=0)),
    }
    for name, asked in needs.items():
        if not isinstance(honours, Collection) or name not in honours:
            continue
        value = await _outcome(backend, asked)
        if isinstance(value, MissingExtra):
            yield f"`honours` says {name}, which needs what is not installed: {value}"


async def _outcome(backend: object, request: Request) -> object:
    try:
        return await _answer(backend, request)
    except Exception as exc:  # noqa: BLE001 - border: a stranger's code can raise anything
        return exc


def _reply_problems(value: object) -> Iterable[str]:
    if isinstance(value, BackendError):
        yield f"`answer` raised BackendError for an ordinary request: {value}"
        return
    if isinstance(value, BaseException):
        yield (
            f"`answer` raised {type(value).__name__} ({value}): what goes wrong is raised as "
            "BackendError"
        )
        return
    if not isinstance(value, Reply):
        yield f"`answer` returned {type(value).__name__}, not harness.Reply"
        return
    if not isinstance(value.text, str):
        yield f"`Reply.text` is text, not {value.text!r}"
    for name in ("input_tokens", "output_tokens"):
        count = getattr(value, name)
        is_count = isinstance(count, int) and not isinstance(count, bool) and count >= 0
        if count is not None and not is_count:
            yield f"`Reply.{name}` is a whole number of 0 or more, or None where unknown: {count!r}"
    for name in ("latency_s", "cost_usd"):
        amount = getattr(value, name)
        is_amount = isinstance(amount, int | float) and math.isfinite(amount) and amount >= 0
        if amount is not None and not is_amount:
            yield f"`Reply.{name}` is a finite number of 0 or more, or None: {amount!r}"
    try:
        canonical_json(value)
    except (TypeError, ValueError) as exc:
        yield f"the reply cannot be stored as JSON: {exc}"


def _tokens(backend: ShowsTokens, request: Request) -> Iterable[str]:
    try:
        ids, again = list(backend.token_ids(request)), list(backend.token_ids(request))
        stops, text = backend.stop_ids(), backend.decode(ids)
    except Exception as exc:  # noqa: BLE001 - border: a stranger's code can raise anything
        yield f"`token_ids`, `stop_ids` or `decode` raised {type(exc).__name__}: {exc}"
        return
    if not ids or not all(type(i) is int for i in ids):
        yield f"`token_ids` returns whole numbers, at least one, not {ids[:5]!r}"
    if ids != again:
        yield "`token_ids` gave two answers to one request"
    if not isinstance(stops, frozenset) or not stops or not all(type(i) is int for i in stops):
        yield f"`stop_ids` returns a frozenset of whole numbers, at least one, not {stops!r}"
    if not isinstance(text, str):
        yield f"`decode` returns text, not {type(text).__name__}"


# ---------------------------------------------------------------- conformance of a tuner


def tuner_conformance(
    tuner_factory: TunerFactory, *, job: TuneJob, is_trained: bool = True
) -> TrainResult | None:
    """Check that a tuner keeps the promises of `harness.ports.tuners.Tuner` on a small `job`.

    `prepare` is called twice; where `is_trained`, `train` too, and its result is returned. Raises
    AssertionError that lists every broken promise.
    """
    tuner = tuner_factory()
    rows = list(tuner.prepare(job))
    problems = [*prepared_problems(rows, job)]
    if not problems and list(tuner.prepare(job)) != rows:
        problems.append("`prepare` gave two answers to one job")
    result = None
    if not problems and is_trained:
        steps: list[TrainProgress] = []
        job.out_dir.mkdir(parents=True, exist_ok=True)
        result = tuner.train(job, rows, report=steps.append)
        problems += _train_problems(result, steps, out_dir=job.out_dir)
    _raise_all(problems)
    return result


def prepared_problems(rows: Sequence[PreparedRow], job: TuneJob) -> Iterable[str]:
    """Return what is wrong with the rows that a tuner prepared for `job`."""
    if [getattr(row, "case_id", None) for row in rows] != [row.case_id for row in job.rows]:
        yield (
            f"`prepare` returns one row for each training row, in their order: {len(rows)} for "
            f"{len(job.rows)}, or other case ids"
        )
        return
    for row in rows:
        if len(row.input_ids) != len(row.labels):
            yield f"{row.case_id}: {len(row.input_ids)} input_ids and {len(row.labels)} labels"
        elif any(n not in (-100, i) for i, n in zip(row.input_ids, row.labels, strict=True)):
            yield f"{row.case_id}: a label is neither -100 nor the id at its place"
        elif all(label == -100 for label in row.labels):
            yield f"{row.case_id}: no token is supervised, so nothing is learned from it"
        elif not all(type(i) is int for i in (*row.input_ids, *row.labels)):
            yield f"{row.case_id}: ids and labels are whole numbers"


def _train_problems(
    result: object, steps: Sequence[TrainProgress], *, out_dir: Path
) -> Iterable[str]:
    if not isinstance(result, TrainResult):
        yield f"`train` returned {type(result).__name__}, not harness.TrainResult"
        return
    for name in ("base_digest", "template_digest"):
        value = getattr(result, name)
        if not (
            isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
        ):
            yield f"`TrainResult.{name}` is a sha256 in hex, not {value!r}"
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in result.metrics.values()):
        yield f"`TrainResult.metrics` holds finite numbers, not {dict(result.metrics)!r}"
    if not steps:
        yield "`train` reported no progress"
    if any(b.step <= a.step for a, b in pairwise(steps)):
        yield "the steps that `train` reports do not rise"
    if not all(step.loss is None or math.isfinite(step.loss) for step in steps):
        yield "a loss is not a finite number"
    try:
        folder_digest(out_dir)
    except HarnessError as exc:
        yield f"what `train` left in out_dir cannot be an artifact: {exc}"
