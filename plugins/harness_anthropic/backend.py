"""Asks one model of the Messages API over pooled connections. Knows nothing of retries or caching.

Retries belong to the engine alone: a second retrier below it would hide rate limits from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness_http import failures
from harness_http.answers import Answer

from harness import BackendConfig, BackendError, BatchState, Reply, Request, UsageError
from harness_anthropic import wire
from harness_anthropic.doors import BEDROCK, Door, anthropic_door, bedrock_door
from harness_anthropic.tables import (
    PRICES,
    check_choices,
    choose_model,
    cost_usd,
    load_prices,
)

if TYPE_CHECKING:
    from harness_http.client import Client

CONCURRENCY = 16
TIMEOUT_S = 600.0
BATCH_SIZE = 10_000
_MODEL_OPTIONS = {"honours", "schema", "sampling"}
_OPTIONS = _MODEL_OPTIONS | {"body", "key_env", "version", "region", "batch_size"}


class AnthropicBackend:
    """A model behind the Messages API. Raises UsageError for a bad address or option.

    `options`: `honours`, `schema` and `sampling` replace what `models.toml` says; `body` is added
    to every request; `key_env`, `version` and `region` say how to ask; `batch_size` is a number.

    The key is asked for when something is first sent: recorded replies are scored without one.
    """

    only_waits = True

    def __init__(self, config: BackendConfig) -> None:
        self.name = f"anthropic:{config.model}"
        model = config.model.removeprefix(BEDROCK).strip()
        if not model:
            raise UsageError(f"{self.name} needs a model, as in anthropic:claude-haiku-5-5")
        if config.artifact is not None:
            raise UsageError(
                f"{self.name} cannot load the artifact {config.artifact.name}: it is not yours to "
                "change. Take the artifact's own backend."
            )
        options = dict(config.options)
        if set(options) - _OPTIONS:
            raise UsageError(
                f"{self.name}: unknown options {sorted(set(options) - _OPTIONS)}. "
                f"Known: {sorted(_OPTIONS)}."
            )
        self._door = _door(model, config=config, is_bedrock=config.model.startswith(BEDROCK))
        self._model = choose_model(model)
        changes = {name: options[name] for name in _MODEL_OPTIONS & set(options)}
        check_choices(changes, self.name)
        if "honours" in changes:
            changes["honours"] = frozenset(changes["honours"])
        self._model = dataclasses.replace(self._model, **changes)
        self._body = {**self._door.body, **options.get("body", {})}
        self.honours = self._model.honours
        self.is_external = not self._door.place.is_private
        self.concurrency = int(config.concurrency or CONCURRENCY)
        self._timeout_s = float(config.timeout_s or TIMEOUT_S)
        self.batch_size = options.get("batch_size", BATCH_SIZE)
        # the engine's own clock is the backstop for an answer that trickles
        self.timeout_s = self._timeout_s + 30.0
        self._price = (
            load_prices().get((self._door.place.host, model)) if self._door.is_priced else None
        )
        self.costs_nothing = not self.is_external and self._price is None
        self.unpriced = (
            None
            if self._price or self.costs_nothing
            else f"{PRICES} has no price of {model} at {self._door.place.host}"
        )

    def __repr__(self) -> str:
        return f"<{self.name} at {self._door.place.base}>"

    @property
    def identity(self) -> Mapping[str, str]:
        """What else can change an answer: the server, and what is sent beyond the request."""
        return {
            "base_url": self._door.place.base,
            "headers": json.dumps(dict(self._door.headers), sort_keys=True),
            "body": json.dumps(self._body, sort_keys=True),
            "schema": self._model.schema,
            "sampling": self._model.sampling,
        }

    def ready(self) -> None:
        """Raise UsageError where nothing can be sent, for want of a key or credentials."""
        self._door.ready()

    async def answer(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises BackendError, or UsageError without a key."""
        answer = await self._send("POST", self._door.messages, self._whole(request))
        outcome = self._read(answer, request=request)
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        if "_client" in vars(self):
            self._client.close()

    def _whole(self, request: Request) -> dict[str, Any]:
        body = wire.to_body(request, model=self._model, name=self.name)
        for name, more in self._body.items():  # effort, say, stands beside the schema
            is_both = isinstance(body.get(name), dict) and isinstance(more, Mapping)
            body[name] = {**body[name], **more} if is_both else more
        return body

    async def _send(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answer:
        self.ready()
        # ascii escapes carry lone surrogates too, which raw UTF-8 cannot
        content = b"" if body is None else json.dumps(body).encode()
        return await self._client.send(method, url, content)

    def _read(self, answer: Answer, *, request: Request) -> Reply | BackendError:
        payload = self._payload(answer, wanted="a message")
        if isinstance(payload, BackendError):
            return payload
        try:
            return self._reply(payload, request=request, latency_s=answer.latency_s)
        except ValueError:
            return self._garbage(answer, wanted="a message")

    def _reply(
        self,
        payload: Mapping[str, Any],
        *,
        request: Request | None,
        latency_s: float | None = None,
        is_batch: bool = False,
    ) -> Reply:
        # a batch that is collected later has no request at hand; its reply tool has a name
        is_forced = (
            _has_reply_tool(payload) and self._model.schema == "tool"
            if request is None
            else wire.is_forced(request, model=self._model)
        )
        cost = cost_usd(self._price, wire.usage_of(payload), is_batch=is_batch)
        return wire.to_reply(payload, is_forced=is_forced, latency_s=latency_s, cost_usd=cost)

    def _payload(self, answer: Answer, *, wanted: str) -> Mapping[str, Any] | BackendError:
        if not answer.is_success:
            return failures.of_answer(
                answer,
                base=self._door.place.base,
                key=self._door.auth,
                advice=self._advice(answer.status),
            )
        try:
            payload = json.loads(answer.body)
        except (ValueError, RecursionError):
            payload = None
        return payload if isinstance(payload, Mapping) else self._garbage(answer, wanted=wanted)

    def _garbage(self, answer: Answer, *, wanted: str) -> BackendError:
        return failures.of_garbage(
            answer,
            base=self._door.place.base,
            key=self._door.auth,
            wanted=wanted,
            hint="Is the base URL right? It is the part before /v1/messages.",
        )

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            return self._door.advice
        if status == 404:
            return "Is the model's name right, and the base URL? It is the part before /v1."
        return ""

    @cached_property
    def _client(self) -> Client:
        from harness_http.client import Client

        return Client(
            self._door.place,
            auth=self._door.auth,
            timeout_s=self._timeout_s,
            headers=self._door.headers,
        )


class BatchingBackend(AnthropicBackend):
    """The same with the Message Batches API, which Bedrock does not have in this form."""

    batch_poll_s = 30.0

    async def submit_batch(self, requests: Mapping[str, Request]) -> str:
        """Hand in `requests` by name; return the id of the batch. Raises BackendError."""
        rows = [{"custom_id": name, "params": self._whole(r)} for name, r in requests.items()]
        answer = await self._send("POST", f"{self._door.messages}/batches", {"requests": rows})
        payload = self._payload(answer, wanted="a batch")
        if isinstance(payload, BackendError):
            raise payload
        if not isinstance(payload.get("id"), str):
            raise self._garbage(answer, wanted="a batch")
        return str(payload["id"])

    async def collect_batch(self, batch_id: str) -> BatchState:
        """Return how the batch stands, with its replies once it has ended. Raises BackendError."""
        answer = await self._send("GET", f"{self._door.messages}/batches/{batch_id}")
        payload = self._payload(answer, wanted="a batch")
        if isinstance(payload, BackendError):
            raise payload
        counts = payload.get("request_counts")
        counts = {k: v for k, v in dict(counts or {}).items() if isinstance(v, int)}
        total = sum(counts.values())
        done = total - counts.get("processing", 0)
        if payload.get("processing_status") != "ended":
            return BatchState(is_done=False, total=total, done=done)
        url = str(payload.get("results_url") or f"{self._door.messages}/batches/{batch_id}/results")
        # the key goes where the person said, whatever an answer says
        if urlsplit(url)[:2] != urlsplit(self._door.messages)[:2]:
            raise BackendError(f"batch {batch_id}: its results are at {url}: another server")
        answer = await self._send("GET", url)
        if not answer.is_success:
            failure = self._payload(answer, wanted="results")
            assert isinstance(failure, BackendError)
            raise failure
        replies: dict[str, Reply] = {}
        errors: dict[str, BackendError] = {}
        for line in filter(str.strip, answer.text.split("\n")):
            self._sort(line, replies=replies, errors=errors)
        return BatchState(is_done=True, total=total, done=done, replies=replies, errors=errors)

    def _sort(
        self, line: str, *, replies: dict[str, Reply], errors: dict[str, BackendError]
    ) -> None:
        try:
            row = json.loads(line)
            name, result = str(row["custom_id"]), row["result"]
            kind = result["type"]
            if kind == "succeeded":
                replies[name] = self._reply(result["message"], request=None, is_batch=True)
                return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            shown = failures.trim(self._door.auth.scrub(line), failures.FIRST)
            raise BackendError(f"a line of a batch's results is no result: {shown!r}") from exc
        if kind == "errored":
            complaint = failures.complaint_of(result.get("error"))
            invalid = "invalid_request_error" in complaint.codes
            errors[name] = failures.of_complaint(
                complaint,
                status=400 if invalid else 500,
                base=self._door.place.base,
                key=self._door.auth,
            )
        else:
            errors[name] = BackendError(f"the batch's request was {kind}", is_retryable=True)


def _door(model: str, *, config: BackendConfig, is_bedrock: bool) -> Door:
    options = config.options
    version = options.get("version")
    if is_bedrock:
        return bedrock_door(
            model, base_url=config.base_url, version=version, region=options.get("region")
        )
    return anthropic_door(
        model, base_url=config.base_url, version=version, key_env=options.get("key_env")
    )


def _has_reply_tool(payload: Mapping[str, Any]) -> bool:
    content = payload.get("content")
    blocks = content if isinstance(content, list) else []
    return any(isinstance(b, Mapping) and b.get("name") == wire.REPLY_TOOL for b in blocks)
