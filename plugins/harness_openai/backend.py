"""What one model of one server is, honours and costs. Knows nothing of how requests are sent.

So recorded replies are scored without a client: `exchange.py` is imported when something is sent.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness_http.keys import Key, read_key

from harness import BackendConfig, Reply, Request, UsageError
from harness_openai.presets import OPENAI, Preset, choose_preset, parse_address
from harness_openai.prices import FILE as PRICES, load_prices

if TYPE_CHECKING:
    from harness_openai.exchange import Exchange

CONCURRENCY = 32
TIMEOUT_S = 300.0
_PRESET_OPTIONS = {"honours", "token_limit", "key_env", "body", "sampled_body"}
_OPTIONS = _PRESET_OPTIONS | {"preset", "timeout_s", "concurrency", "stream", "batch_size"}


class OpenAIBackend:
    """A model behind the chat API. Raises UsageError for a bad address or option.

    `options`: `preset` names an entry of presets.toml; `honours`, `token_limit`, `key_env`,
    `body` and `sampled_body` replace its fields; `timeout_s`, `concurrency` and `batch_size` are
    numbers; `stream = true` streams, so that a reply's `first_token_s` is known.

    The key is read when something is first sent: recorded replies are scored without one.
    """

    only_waits = True

    def __init__(self, config: BackendConfig) -> None:
        if not config.model.strip():
            raise UsageError("openai: needs a model, as in openai:gpt-4.1-mini")
        named = (config.base_url or os.environ.get("OPENAI_BASE_URL", "")).strip()
        if config.artifact is not None and config.artifact.is_dir() and not named:
            # The artifact says what the server's model of that name is. Its files were never
            # given to OpenAI: without an address it would be a claim about another model.
            raise UsageError(
                f"openai:{config.model} cannot load the artifact {config.artifact.name}: a server "
                "loads its own. Serve it under that name, and say where: --base-url URL."
            )
        options = dict(config.options)
        if set(options) - _OPTIONS:
            raise UsageError(
                f"openai:{config.model}: unknown options {sorted(set(options) - _OPTIONS)}. "
                f"Known: {sorted(_OPTIONS)}."
            )
        self.model = config.model
        self.address = parse_address(named or OPENAI)
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
        self.costs_nothing = not self.is_external and self._price is None

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
        if self._price is not None or self.costs_nothing:
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
        return await self._exchange.answer(request)

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        if "_exchange" in vars(self):
            self._exchange.close()

    @cached_property
    def _key(self) -> Key:
        preset = self.preset
        return read_key(preset.key_env, header=preset.key_header, prefix=preset.key_prefix)

    @cached_property
    def _exchange(self) -> Exchange:
        from harness_openai.exchange import Exchange

        return Exchange(
            model=self.model,
            address=self.address,
            preset=self.preset,
            price=self._price,
            key=self._key,
            is_streaming=self.is_streaming,
            timeout_s=self._timeout_s,
        )


def _with_options(preset: Preset, options: Mapping[str, Any]) -> Preset:
    changes = {name: options[name] for name in _PRESET_OPTIONS & set(options)}
    if "honours" in changes:
        changes["honours"] = frozenset(changes["honours"])
    return dataclasses.replace(preset, **changes)
