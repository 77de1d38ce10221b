"""What a server shows of its tokens, for parity with training. Knows nothing of training.

No part of OpenAI's API tells ids; llama.cpp's server and vLLM have endpoints of their own beside
it, which a preset names by `tokens`. Of any other server only a prompt's length is seen.

Source: llama.cpp, tools/server/README.md (`/apply-template`, `/tokenize`, `/detokenize`, `/props`;
run here); vLLM, entrypoints/serve/tokenize/protocol.py (`/tokenize` with messages, `/detokenize`,
and `/tokenizer_info` where --enable-tokenizer-info-endpoint was given; not run here).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness import BackendConfig, BackendError, Decoding, Request
from harness_openai.backend import OpenAIBackend

_NEUTRAL = {
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
}


class CountingBackend(OpenAIBackend):
    """Tells how many tokens a prompt has, by asking for one token of a reply."""

    def count_tokens(self, request: Request) -> int | None:
        """Return the length of the prompt of `request`, None where the server does not tell."""
        short = Decoding(temperature=0.0, max_tokens=1)
        self.ready()
        reply = asyncio.run(self.answer(replace(request, decoding=short, schema=None)))
        return reply.input_tokens

    def served_names(self) -> tuple[str, ...]:
        """Return the names of the models that the server says it has."""
        listed = self._told("GET", self.address.at("/models")).get("data")
        rows = listed if isinstance(listed, list) else []
        names = [row.get("id") for row in rows if isinstance(row, Mapping)]
        return tuple(name for name in names if isinstance(name, str))

    def _told(
        self, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Return what the server answers as JSON. Raises BackendError."""
        from harness_openai import failures  # nothing that sends is imported for recorded replies
        from harness_openai.streaming import read_event

        self.ready()
        data = b"" if body is None else json.dumps(body).encode()
        answer = asyncio.run(self._exchange.client.send(method, url, data))
        if not answer.is_success:
            raise failures.of_status(answer, address=self.address, key=self._key)
        found = read_event(answer.body)
        if found is None:
            raise failures.of_garbage(answer, address=self.address, key=self._key)
        return found

    def _beside(self, path: str) -> str:
        """The address of `path` at the server's root: these endpoints stand beside `/v1`."""
        parts = urlsplit(self.address.base)
        return urlunsplit(parts._replace(path=parts.path.removesuffix("/v1") + path, query=""))

    def _rendering(self, request: Request) -> dict[str, Any]:
        """What decides how a request becomes a prompt."""
        from harness_openai import wire

        body = wire.to_body(request, model=self.model, preset=self.preset)
        named = ("messages", "tools", "chat_template_kwargs", "chat_template")
        return {name: body[name] for name in named if name in body}


class LlamaCppBackend(CountingBackend):
    """llama.cpp's server: a prompt is what `/apply-template` says, cut up by `/tokenize`."""

    def token_ids(self, request: Request) -> Sequence[int]:
        """Return the ids that the model would be sent."""
        rendered = self._told("POST", self._beside("/apply-template"), self._rendering(request))
        return self._ids({"content": rendered.get("prompt"), "add_special": True})

    def encode(self, text: str, *, with_specials: bool = False) -> Sequence[int]:
        """Return the ids of `text` alone; control tokens in it are read as such, or as text."""
        return self._ids({"content": text, "add_special": False, "parse_special": with_specials})

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens shown."""
        return self._texts(tuple(ids))

    def stop_ids(self) -> frozenset[int]:
        """Return the id of the model's end of text; the server knows others too, and tells none."""
        end = self._props.get("eos_token")
        ids = self._ids({"content": end, "add_special": False}) if end else []
        return frozenset(ids) if len(ids) == 1 else frozenset()

    def chat_template(self) -> str | None:
        """Return the source of the chat template in use."""
        text = self._props.get("chat_template")
        return text if isinstance(text, str) else None

    def sampling_defaults(self) -> Mapping[str, float]:
        """Return what the server was started with that bends even a greedy reply."""
        settings = self._props.get("default_generation_settings")
        params = settings.get("params") if isinstance(settings, Mapping) else None
        params = params if isinstance(params, Mapping) else {}
        return {
            name: params[name]
            for name, neutral in _NEUTRAL.items()
            if isinstance(params.get(name), int | float) and params[name] != neutral
        }

    @cached_property
    def _props(self) -> Mapping[str, Any]:
        return self._told("GET", self._beside("/props"))

    @cached_property
    def _texts(self) -> Callable[[tuple[int, ...]], str]:
        @cache
        def text(ids: tuple[int, ...]) -> str:
            said = self._told("POST", self._beside("/detokenize"), {"tokens": ids})
            return str(said.get("content", ""))

        return text

    def _ids(self, body: Mapping[str, Any]) -> list[int]:
        said = self._told("POST", self._beside("/tokenize"), {"parse_special": True, **body})
        return _whole_numbers(said.get("tokens"), self.address.base)


class VllmBackend(CountingBackend):
    """vLLM: `/tokenize` takes messages, and renders them as the chat API does."""

    def token_ids(self, request: Request) -> Sequence[int]:
        """Return the ids that the model would be sent."""
        return self._ids({**self._rendering(request), "add_generation_prompt": True})

    def encode(self, text: str, *, with_specials: bool = False) -> Sequence[int]:
        """Return the ids of `text` alone; vLLM always reads control tokens as such."""
        return self._ids({"prompt": text, "add_special_tokens": False})

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens shown."""
        return self._texts(tuple(ids))

    def stop_ids(self) -> frozenset[int]:
        """Return nothing: vLLM takes them from generation_config.json, and does not tell."""
        return frozenset()

    def chat_template(self) -> str | None:
        """Return the source of the chat template, where the server was started so as to tell."""
        try:
            text = self._told("GET", self._beside("/tokenizer_info")).get("chat_template")
        except BackendError:
            return None
        return text if isinstance(text, str) else None

    @cached_property
    def _texts(self) -> Callable[[tuple[int, ...]], str]:
        @cache
        def text(ids: tuple[int, ...]) -> str:
            body = {"model": self.model, "tokens": ids}
            return str(self._told("POST", self._beside("/detokenize"), body).get("prompt", ""))

        return text

    def _ids(self, body: Mapping[str, Any]) -> list[int]:
        said = self._told("POST", self._beside("/tokenize"), {"model": self.model, **body})
        return _whole_numbers(said.get("tokens"), self.address.base)


SHOWN_BY: Mapping[str, type[CountingBackend]] = {
    "": CountingBackend,
    "llama.cpp": LlamaCppBackend,
    "vllm": VllmBackend,
}


def make_showing(config: BackendConfig, *, tokens: str) -> CountingBackend:
    """Return the backend whose preset shows its tokens in the way `tokens` names."""
    return SHOWN_BY[tokens](config)


def _whole_numbers(value: Any, base: str) -> list[int]:
    ids = [t for t in value if type(t) is int] if isinstance(value, list) else []
    if not isinstance(value, list) or len(ids) != len(value):
        raise BackendError(f"the /tokenize of {base} answered without a list of token ids")
    return ids
