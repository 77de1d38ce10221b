"""The sides of a parity check, and what a backend tells of its tokens by optional methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from harness.engine.backends import LiveBackend
from harness.records import PreparedRow, Request, TrainingRow

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What is compared: prepared rows, the requests of their cases, and who would answer them.

    `trained` is the base on this machine that the rows were prepared for, with the artifact;
    `served` is the runtime. They may be one. A request may be a text: the whole prompt, of which no
    messages are known. `template` is the digest that was trained with;
    `fingerprint` what the artifact recorded of its tokens.
    """

    rows: tuple[TrainingRow, ...] = field(repr=False)
    prepared: tuple[PreparedRow, ...] = field(repr=False)
    requests: Mapping[str, Request | str] = field(repr=False)
    trained: LiveBackend
    served: LiveBackend
    template: str | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)


def spread(some: Sequence[T], most: int) -> list[T]:
    """Return at most so many of `some`, evenly from end to end, the same ones every time."""
    many = min(len(some), most)
    return [some[n * len(some) // many] for n in range(many)]


def prompt_ids(live: LiveBackend, request: Request | str) -> tuple[int, ...]:
    """Return the ids that `live` would send for a request, or makes of a whole prompt's text."""
    backend: Any = live.backend
    if isinstance(request, str):
        return tuple(backend.encode(request, with_specials=True))
    return tuple(backend.token_ids(request))


def pixels(live: LiveBackend, requests: Mapping[str, Request | str]) -> dict[str, str]:
    """Return digests of what images become, by case id; nothing of a backend that tells none."""
    tell = getattr(live.backend, "pixel_digest", None)
    if not callable(tell):
        return {}
    return {
        case_id: tell(request)
        for case_id, request in requests.items()
        if not isinstance(request, str) and any(m.images for m in request.messages)
    }


def said(live: LiveBackend, name: str) -> Any:
    """What a backend tells by an optional method; None where it has none."""
    tell = getattr(live.backend, name, None)
    return tell() if callable(tell) else None


def template_digest(text: object) -> str | None:
    """Return the sha256 of a chat template's source, None where it is not told."""
    return sha256(text.encode()).hexdigest() if isinstance(text, str) else None
