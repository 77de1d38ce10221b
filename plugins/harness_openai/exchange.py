"""Asks a server over pooled HTTP connections. Knows nothing of retries, caching or options.

Retries belong to the engine alone: a second retrier below it would hide rate limits from it.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx

from harness import BackendError, Decoding, Reply, Request
from harness_openai import failures, wire
from harness_openai.connections import Connections
from harness_openai.keys import Key
from harness_openai.presets import Address, Preset
from harness_openai.prices import Price, cost_usd
from harness_openai.streaming import END, Joined, events, read_event

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.0  # below the 5 s after which uvicorn hangs up


class Exchange:
    """The requests to one model of one server, and what comes back."""

    def __init__(
        self,
        *,
        model: str,
        address: Address,
        preset: Preset,
        price: Price | None,
        key: Key,
        is_streaming: bool,
        timeout_s: float,
    ) -> None:
        self.model = model
        self.address = address
        self.preset = preset
        self.is_streaming = is_streaming
        self.connections = Connections(self._make_client)
        self._price = price
        self._key = key
        self._timeout_s = timeout_s

    async def answer(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises BackendError."""
        body = wire.to_body(request, model=self.model, preset=self.preset)
        if self.is_streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        exchange = self._stream if self.is_streaming else self._post
        try:
            async with self.connections.client() as client:
                # ascii escapes carry lone surrogates too, which raw UTF-8 cannot
                outcome = await exchange(client, json.dumps(body).encode(), request.decoding)
        except httpx.HTTPError as exc:
            # `from None`: frames below may hold the header, which --showlocals would print
            raise self.lost(exc) from None
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        self.connections.close()

    async def _post(
        self, client: httpx.AsyncClient, body: bytes, decoding: Decoding
    ) -> Reply | BackendError:
        start = time.perf_counter()
        response = await client.post(self.address.chat, content=body)
        return self._read(response, decoding, latency_s=time.perf_counter() - start)

    async def _stream(
        self, client: httpx.AsyncClient, body: bytes, decoding: Decoding
    ) -> Reply | BackendError:
        joined, first_s, latency_s = Joined(), None, 0.0
        start = time.perf_counter()
        async with client.stream("POST", self.address.chat, content=body) as response:
            kind = response.headers.get("content-type", "")
            if not response.is_success or "event-stream" not in kind:
                await response.aread()
                return self._read(response, decoding, latency_s=time.perf_counter() - start)
            try:
                async for data in events(response.aiter_bytes()):
                    if data == END:
                        joined.is_whole = True
                        continue  # to the end, so that the connection can be used again
                    chunk = read_event(data)
                    error = self.error_of(chunk) if chunk is not None else None
                    if chunk is None or error is not None:
                        return error or self._broken("an event is no JSON", joined)
                    now_s = time.perf_counter() - start
                    if joined.add(chunk) and first_s is None:
                        first_s = now_s
                    latency_s = now_s
            except httpx.HTTPError as exc:
                if isinstance(exc, httpx.TimeoutException) and not joined.is_whole:
                    raise
                if not joined.is_whole:
                    return self._broken(str(exc) or type(exc).__name__, joined)
        if not joined.is_whole:
            return self._broken("no finish_reason and no [DONE] came", joined)
        outcome = self.reply(joined.payload(), decoding, latency_s=latency_s)
        if isinstance(outcome, Reply):
            outcome = dataclasses.replace(outcome, first_token_s=first_s)
        return outcome or self._broken("its logprobs are of another shape", joined)

    def _read(
        self, response: httpx.Response, decoding: Decoding, *, latency_s: float
    ) -> Reply | BackendError:
        if not response.is_success:
            return failures.of_status(response, address=self.address, key=self._key)
        payload = read_event(response.content)
        outcome = None
        if payload is not None:
            outcome = self.error_of(payload) or self.reply(payload, decoding, latency_s=latency_s)
        return outcome or failures.of_garbage(response, address=self.address, key=self._key)

    def error_of(self, payload: Mapping[str, Any]) -> BackendError | None:
        """Return the error that came with HTTP 200, as OpenRouter and some proxies send it."""
        inside = failures.error_inside(payload)
        if inside is None:
            return None
        status, complaint = inside
        return failures.of_complaint(complaint, status=status, address=self.address, key=self._key)

    def reply(
        self,
        payload: Mapping[str, Any],
        decoding: Decoding,
        *,
        latency_s: float | None,
        price_ratio: float = 1.0,
    ) -> Reply | BackendError | None:
        """Return the reply in `payload`, None where it is no chat completion."""
        cost = cost_usd(self._price, wire.usage_of(payload))
        try:
            reply = wire.to_reply(
                payload,
                stop=decoding.stop,
                logprobs=decoding.logprobs,
                latency_s=latency_s,
                cost_usd=None if cost is None else cost * price_ratio,
            )
        except ValueError:
            return None
        is_text = bool(reply.text) and not reply.tool_calls
        if decoding.logprobs is not None and is_text and not reply.logprobs:
            return BackendError(
                f"{self.address.base} was asked for logprobs and sent none, though the preset "
                f"{self.preset.name!r} says that it does. Ask for none, or say what it honours: "
                'honours = ["schema", ...] in the options of the backend.'
            )
        return reply

    def _broken(self, reason: str, joined: Joined) -> BackendError:
        return failures.of_break(
            reason, characters=joined.characters, address=self.address, key=self._key
        )

    def lost(self, exc: httpx.HTTPError) -> BackendError:
        """Return the error of a request that got no answer."""
        return failures.of_connection(
            exc, address=self.address, key=self._key, timeout_s=self._timeout_s
        )

    @cached_property
    def _verify(self) -> ssl.SSLContext | bool:
        # loading the certificates takes 0.1 s: once a backend, and not at all for plain http
        return httpx.create_ssl_context() if self.address.is_encrypted else False

    def _make_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            auth=self._key,
            headers={"Content-Type": "application/json", "User-Agent": "tuning-harness"},
            limits=httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S),
            timeout=httpx.Timeout(self._timeout_s, connect=CONNECT_TIMEOUT_S),
            # a proxy from the environment is not on the way to this machine
            trust_env=not self.address.is_private,
            verify=self._verify,
        )
