"""What a model is asked, and what it answers. Knows no case and no score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.plain import Json, digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `content` is text; `tool_calls` holds what an assistant turn asked to run;
    `images` are `data:` URLs, as `data:image/png;base64,...`, shown after the text.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[Json, ...] = ()
    tool_call_id: str | None = None
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How a reply is drawn. `temperature` 0 is greedy; `max_tokens` counts output tokens;
    `logprobs` asks for each token's log probability and those of so many alternatives.
    """

    temperature: float = 0.0
    max_tokens: int = 256
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """All that a backend is given. `schema` asks for constrained decoding to a JSON schema."""

    messages: tuple[Message, ...]
    decoding: Decoding = field(default_factory=Decoding)
    schema: Json = None
    tools: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a backend returned. Times in seconds; unknown is `None`.

    `latency_s` is the time of this reply alone where the backend can tell, else its share of the
    batch that it was answered in; `first_token_s` the time to its first token, where it streamed.
    `logprobs` has one `{"token", "logprob", "top": [[token, logprob], ...]}` an output token.
    `spans` are those of an application's own trace (harness.checks.traces says their shapes).
    """

    text: str
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    cost_usd: float | None = None
    model: str | None = None
    tool_calls: tuple[Json, ...] = ()
    first_token_s: float | None = None
    logprobs: tuple[Json, ...] = ()
    spans: tuple[Json, ...] = ()


HANDLING = frozenset({"batch_size", "concurrency", "costs_nothing", "stream", "timeout_s"})
"""Options that change how a backend is asked, or paid, and no answer of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A backend, a prompt and a decoding, perhaps with an artifact: what is measured.

    `backend` is `scheme:model`; `artifact` is a digest. `reference` and `replay:FILE` candidates
    have no prompt. `options` are the backend's own settings; `epoch` is raised by a person to ask
    everything anew. Identity leaves out `name`, which is only what people call it.
    """

    name: str
    backend: str
    prompt: str | None = None
    prompt_digest: str | None = None
    family: str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    artifact: str | None = None
    base_url: str | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    epoch: int | None = None

    @property
    def digest(self) -> str:
        """Identity of what answers, whatever it is called."""
        parts = [self.backend, self.prompt_digest, self.decoding, self.artifact, self.base_url]
        options = {k: v for k, v in self.options.items() if k not in HANDLING}
        later = [options, self.epoch]  # left out where unset: older digests stand
        return digest(parts + later if options or self.epoch else parts)
