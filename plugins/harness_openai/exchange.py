"""Asks a server over pooled HTTP connections. Knows nothing of retries, caching or options.

Retries belong to the engine alone: a second retrier below it would hide rate limits from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from harness_http.answers import Answer
from harness_http.arriving import Arriving
from harness_http.client import Client
from harness_http.keys import Key

from harness import BackendError, Decoding, Reply, Request
from harness_openai import failures, wire
from harness_openai.presets import Address, Preset
from harness_openai.prices import Price, cost_usd
from harness_openai.streaming import END, Joined, events, read_event


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
        check = f"Check: curl {address.at('/models')}"
        self.client = Client(address, auth=key, timeout_s=timeout_s, check=check)
        self._price = price
        self._key = key

    async def answer(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises BackendError."""
        body = wire.to_body(request, model=self.model, preset=self.preset)
        if self.is_streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        # ascii escapes carry lone surrogates too, which raw UTF-8 cannot
        data = json.dumps(body).encode()
        if self.is_streaming:
            outcome = await self._stream(data, request.decoding)
        else:
            outcome = self._read(
                await self.client.send("POST", self.address.chat, data), request.decoding
            )
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        self.client.close()

    async def _stream(self, body: bytes, decoding: Decoding) -> Reply | BackendError:
        joined = Joined()
        async with await self.client.open("POST", self.address.chat, body) as arriving:
            try:
                if not arriving.is_success or not arriving.is_events:
                    return self._read(await arriving.whole(), decoding)
                error = await self._join(joined, arriving)
            except BackendError as exc:
                # a stream that stalls had its time; what is lost after its end is no loss
                stalled = exc.with_traceback(None) if exc.is_systemic else None
                error = stalled or self._broken(str(exc), joined)
                error = None if joined.is_whole else error
        if error is not None:
            return error
        if not joined.is_whole:
            return self._broken("no finish_reason and no [DONE] came", joined)
        outcome = self.reply(joined.payload(), decoding, latency_s=joined.last_s)
        if isinstance(outcome, Reply):
            outcome = dataclasses.replace(outcome, first_token_s=joined.first_s)
        return outcome or self._broken("its logprobs are of another shape", joined)

    async def _join(self, joined: Joined, arriving: Arriving) -> BackendError | None:
        """Join what comes, to its end. Return what an event says went wrong."""
        async for data in events(arriving.pieces()):
            if data == END:
                joined.is_whole = True
                continue  # to the end, so that the connection can be used again
            chunk = read_event(data)
            error = self.error_of(chunk) if chunk is not None else None
            if chunk is None or error is not None:
                return error or self._broken("an event is no JSON", joined)
            joined.add(chunk, since_s=arriving.since_s)
        return None

    def _read(self, answer: Answer, decoding: Decoding) -> Reply | BackendError:
        if not answer.is_success:
            return failures.of_status(answer, address=self.address, key=self._key)
        payload = read_event(answer.body)
        outcome = None
        if payload is not None:
            outcome = self.error_of(payload) or self.reply(
                payload, decoding, latency_s=answer.latency_s
            )
        return outcome or failures.of_garbage(answer, address=self.address, key=self._key)

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
