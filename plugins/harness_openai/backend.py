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

from harness import BackendConfig, BackendError, Reply, Request, UsageError
from harness_openai import failures, wire
from harness_openai.connections import Connections
from harness_openai.keys import read_key
from harness_openai.presets import OPENAI, Preset, choose_preset, parse_address
from harness_openai.prices import cost_usd, load_prices

CONCURRENCY = 32
TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.0  # below the 5 s after which uvicorn hangs up
_PRESET_OPTIONS = {"honours", "token_limit", "key_env", "body", "sampled_body"}
_OPTIONS = _PRESET_OPTIONS | {"preset", "timeout_s", "concurrency"}


class OpenAIBackend:
    """A model behind the chat API. Raises UsageError for a bad address, option or missing key.

    `options`: `preset` names an entry of presets.toml; `honours`, `token_limit`, `key_env`,
    `body` and `sampled_body` replace its fields; `timeout_s` and `concurrency` are numbers.
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
        self.concurrency = int(options.get("concurrency", CONCURRENCY))
        self._timeout_s = float(options.get("timeout_s", TIMEOUT_S))
        # the engine's own clock is the backstop for an answer that trickles
        self.timeout_s = self._timeout_s + 30.0
        self._key = read_key(
            self.preset.key_env, header=self.preset.key_header, prefix=self.preset.key_prefix
        )
        self._check_key(is_named="key_env" in options)
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

    async def answer(self, request: Request) -> Reply:
        """Return the reply to `request`. Raises BackendError."""
        # ascii escapes carry lone surrogates too, which raw UTF-8 cannot
        body = json.dumps(wire.to_body(request, model=self.model, preset=self.preset)).encode()
        try:
            async with self._connections.client() as client:
                start = time.perf_counter()
                response = await client.post(self.address.chat, content=body)
        except httpx.HTTPError as exc:
            # `from None`: frames below may hold the header, which --showlocals would print
            raise failures.of_connection(
                exc, address=self.address, key=self._key, timeout_s=self._timeout_s
            ) from None
        latency_s = time.perf_counter() - start
        outcome = self._read(response, stop=request.decoding.stop, latency_s=latency_s)
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        self._connections.close()

    def _read(
        self, response: httpx.Response, *, stop: tuple[str, ...], latency_s: float
    ) -> Reply | BackendError:
        if not response.is_success:
            return failures.of_status(response, address=self.address, key=self._key)
        try:
            payload = json.loads(response.content)
        except (ValueError, RecursionError):
            payload = None
        if not isinstance(payload, Mapping):
            return failures.of_garbage(response, address=self.address, key=self._key)
        error = _error_inside(payload)
        if error is not None:
            return failures.of_complaint(
                failures.complaint_of(error),
                status=_status_inside(error),
                address=self.address,
                key=self._key,
            )
        cost = cost_usd(self._price, wire.usage_of(payload))
        try:
            return wire.to_reply(payload, stop=stop, latency_s=latency_s, cost_usd=cost)
        except ValueError:
            return failures.of_garbage(response, address=self.address, key=self._key)

    def _check_key(self, *, is_named: bool) -> None:
        if self._key.is_set:
            if self.is_external and not self.address.is_encrypted:
                raise UsageError(
                    f"the key in {self._key.name} would travel to {self.address.host} unencrypted. "
                    f"Use https, unset {self._key.name}, or name the kind of server, whose key has "
                    "a variable of its own (the base URL and #vllm, for one)."
                )
        elif self.preset.needs_key or is_named:
            raise UsageError(
                f"openai:{self.model} at {self.address.base} needs a key: "
                f"set the environment variable {self._key.name}."
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
            trust_env=self.is_external,
            verify=self._verify,
        )


def _with_options(preset: Preset, options: Mapping[str, Any]) -> Preset:
    changes = {name: options[name] for name in _PRESET_OPTIONS & set(options)}
    if "honours" in changes:
        changes["honours"] = frozenset(changes["honours"])
    return dataclasses.replace(preset, **changes)


def _error_inside(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """An error that came with HTTP 200, as OpenRouter and some proxies send it."""
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for holder in (payload, first):
        if isinstance(holder, Mapping) and holder.get("error"):
            return holder
    return None


def _status_inside(holder: Mapping[str, Any]) -> int:
    error = holder["error"]
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 502
