"""Asks one model of one server over pooled HTTP connections. Knows nothing of retries or caching.

Retries belong to the engine alone: a second retrier below it would hide rate limits from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import ssl
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx

from harness import BackendConfig, BackendError, Decoding, Reply, Request, UsageError
from harness_openai import failures, wire
from harness_openai.connections import Connections
from harness_openai.keys import Key, read_key
from harness_openai.presets import OPENAI, Preset, choose_preset, parse_address
from harness_openai.prices import FILE as PRICES, cost_usd, load_prices
from harness_openai.streaming import END, Joined, events, read_event

CONCURRENCY = 32
TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.0  # below the 5 s after which uvicorn hangs up
_PRESET_OPTIONS = {"honours", "token_limit", "key_env", "body", "sampled_body"}
_OPTIONS = _PRESET_OPTIONS | {"preset", "timeout_s", "concurrency", "stream", "batch_size"}


class OpenAIBackend:
    """A model behind the chat API. Raises UsageError for a bad address or option.

    `options`: `preset` names an entry of presets.toml; `honours`, `token_limit`, `key_env`,
    `body` and `sampled_body` replace its fields; `timeout_s`, `concurrency` and `batch_size` are
    numbers; `stream = true` streams, so that a reply's `first_token_s` is known.

    The key is read when something is first sent: recorded replies are scored without one.
    """

    def __init__(self, config: BackendConfig) -> None:
        if not config.model.strip():
            raise UsageError("openai: needs a model, as in openai:gpt-4.1-mini")
        if config.artifact is not None:
            raise UsageError(
                f"openai:{config.model} cannot load the artifact {config.artifact.name}: a server "
                "loads its own. Serve it, and name it as the model."
            )
        options = dict(config.options)
        if set(options) - _OPTIONS:
            raise UsageError(
                f"openai:{config.model}: unknown options {sorted(set(options) - _OPTIONS)}. "
                f"Known: {sorted(_OPTIONS)}."
            )
        self.model = config.model
        self.address = parse_address(
            config.base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI
        )
        self.preset = _with_options(
            choose_preset(self.address, name=options.get("preset")), options
        )
        self.honours = self.preset.honours
        self.honours_hint = (
            "its kind is not known: where it does, say what it is at the end of the URL, as #vllm"
            if self.preset.name == "default"
            else ""
        )
        self.is_external = not self.address.is_private
        self.concurrency = int(options.get("concurrency", config.concurrency or CONCURRENCY))
        self._timeout_s = float(options.get("timeout_s", config.timeout_s or TIMEOUT_S))
        # the engine's own clock is the backstop for an answer that trickles
        self.timeout_s = self._timeout_s + 30.0
        self.is_streaming = options.get("stream", False)
        if not isinstance(self.is_streaming, bool):
            raise UsageError(
                f"openai:{config.model}: stream = {self.is_streaming!r}; true or false is known"
            )
        self._must_have_key = self.preset.needs_key or "key_env" in options
        self._price = load_prices().get((self.address.host, self.model))
        self._connections = Connections(self._make_client)

    def __repr__(self) -> str:
        return f"<openai:{self.model} at {self.address.base}, preset {self.preset.name}>"

    @property
    def identity(self) -> Mapping[str, str]:
        """What else can change an answer: the server, and what is sent beyond the request."""
        return {
            "base_url": self.address.base,
            "token_limit": self.preset.token_limit,
            "body": json.dumps([self.preset.body, self.preset.sampled_body], sort_keys=True),
        }

    @property
    def unpriced(self) -> str | None:
        """Why the cost of replies is not known, where it is not. A server at hand costs nothing."""
        if self._price is not None or not self.is_external:
            return None
        return f"no price for openai:{self.model} at {self.address.host}: cost unknown; {PRICES}"

    def ready(self) -> None:
        """Read the key. Raises UsageError where it is missing, or must not be sent."""
        if not self._key.is_set and self._must_have_key:
            raise UsageError(
                f"openai:{self.model} at {self.address.base} needs a key: "
                f"set the environment variable {self._key.name}."
            )
        if self._key.is_set and self.is_external and not self.address.is_encrypted:
            raise UsageError(
                f"the key in {self._key.name} would travel to {self.address.host} unencrypted. "
                f"Use https, unset {self._key.name}, or name the kind of server, whose key has "
                "a variable of its own (the base URL and #vllm, for one)."
            )

    async def answer(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises BackendError, or UsageError where a key lacks."""
        self.ready()
        body = wire.to_body(request, model=self.model, preset=self.preset)
        if self.is_streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        exchange = self._stream if self.is_streaming else self._post
        try:
            async with self._connections.client() as client:
                # ascii escapes carry lone surrogates too, which raw UTF-8 cannot
                outcome = await exchange(client, json.dumps(body).encode(), request.decoding)
        except httpx.HTTPError as exc:
            # `from None`: frames below may hold the header, which --showlocals would print
            raise self._lost(exc) from None
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        self._connections.close()

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
                    error = self._error_of(chunk) if chunk is not None else None
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
        outcome = self._reply(joined.payload(), decoding, latency_s=latency_s)
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
            outcome = self._error_of(payload) or self._reply(payload, decoding, latency_s=latency_s)
        return outcome or failures.of_garbage(response, address=self.address, key=self._key)

    def _error_of(self, payload: Mapping[str, Any]) -> BackendError | None:
        """Return the error that came with HTTP 200, as OpenRouter and some proxies send it."""
        inside = failures.error_inside(payload)
        if inside is None:
            return None
        status, complaint = inside
        return failures.of_complaint(complaint, status=status, address=self.address, key=self._key)

    def _reply(
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

    def _lost(self, exc: httpx.HTTPError) -> BackendError:
        return failures.of_connection(
            exc, address=self.address, key=self._key, timeout_s=self._timeout_s
        )

    @cached_property
    def _key(self) -> Key:
        preset = self.preset
        return read_key(preset.key_env, header=preset.key_header, prefix=preset.key_prefix)

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
            trust_env=self.is_external,
            verify=self._verify,
        )


def _with_options(preset: Preset, options: Mapping[str, Any]) -> Preset:
    changes = {name: options[name] for name in _PRESET_OPTIONS & set(options)}
    if "honours" in changes:
        changes["honours"] = frozenset(changes["honours"])
    return dataclasses.replace(preset, **changes)
