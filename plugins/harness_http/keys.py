"""A key that can be sent but not shown. Knows nothing of requests or servers."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote, quote_plus

from harness import UsageError

HIDDEN = "[key hidden]"
_SHOWN = 8  # servers that echo a key often leave so many of its first characters


class Scrubs(Protocol):
    """Takes secrets out of a text."""

    def scrub(self, text: str) -> str:
        """Return `text` with every secret replaced."""
        ...


class Key:
    """The key in the environment variable `name`; it gives the header that holds it.

    What asks for the header passes it straight on: no frame of ours holds it in a variable.
    """

    def __init__(self, value: str, *, name: str, header: str, prefix: str) -> None:
        self.name = name
        self.is_set = bool(value)
        self._header = header
        # in closures, whose repr shows nothing
        self._send: Callable[[], str] = lambda: prefix + value
        self._hide: Callable[[str, str], str] | None = _pattern(value).sub if value else None

    def __repr__(self) -> str:
        return f"<Key from {self.name}: {'set' if self.is_set else 'not set'}>"

    def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the header, where there is a key. It is the same for every request."""
        return {self._header: self._send()} if self.is_set else {}

    def scrub(self, text: str) -> str:
        """Return `text` without the key, its first characters, or its usual encodings."""
        return self._hide(HIDDEN, text) if self._hide else text


class Keys:
    """Several keys, each in a header of its own."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"<Keys: {', '.join(map(repr, self._keys)) or 'none'}>"

    def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return every header."""
        return {k: v for key in self._keys for k, v in key.headers(method, url, body).items()}

    def scrub(self, text: str) -> str:
        """Return `text` without any of the keys."""
        for key in self._keys:
            text = key.scrub(text)
        return text


def hide(values: Sequence[str], text: str) -> str:
    """Return `text` without the secrets `values`, in any of their usual encodings."""
    for value in filter(None, values):
        text = _pattern(value).sub(HIDDEN, text)
    return text


def read_key(name: str, *, header: str, prefix: str) -> Key:
    """Return the key in the environment variable `name`, set or not. Raises UsageError."""
    if not _is_sendable(name):  # asked elsewhere, so that this frame never holds the key
        raise UsageError(f"{name} holds characters that an HTTP header cannot carry")
    return Key(os.environ.get(name, "").strip(), name=name, header=header, prefix=prefix)


def _is_sendable(name: str) -> bool:
    value = os.environ.get(name, "").strip()
    return value.isascii() and value.isprintable()


def _pattern(value: str) -> re.Pattern[str]:
    forms = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]}
    forms |= {repr(value)[1:-1], value.encode().hex(), *_base64_cores(value)}
    ordered = sorted(forms, key=len, reverse=True)
    if len(value) < 2 * _SHOWN:  # a placeholder such as "x" or "EMPTY": only as a word of its own
        return re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in ordered))
    return re.compile(
        "|".join(map(re.escape, ordered)) + "|" + re.escape(value[:_SHOWN]) + r"[^\s\"'<>,;)}\]]*"
    )


def _base64_cores(value: str) -> set[str]:
    """The part of the key's base64 that is the same wherever it stands in a longer text."""
    cores = set()
    for offset in range(3):
        data = b"\0" * offset + value.encode()
        head = (0, 2, 3)[offset]
        tail = (0, 1, 1)[len(data) % 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(data).decode().rstrip("=")
            cores.add(text[head : len(text) - tail])
    return {core for core in cores if len(core) >= _SHOWN}
