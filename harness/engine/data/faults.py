"""Where, in one long JSON text, stands what strict reading refuses; and the rows of Inspect's logs,
in whose scores NaN is no fault. Knows no file.

A decoder tells the place of broken syntax alone: of NaN, a key that stands twice, an endless number
or a bomb of brackets it knows that they are there, and not on which line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.engine.data.lines import Refusal
from harness.engine.text_files import DEEPEST, strict_json
from harness.records import Json

CARRIED = ("id", "epoch", "input", "choices", "target", "metadata")
"""What a row takes from a sample of Inspect; the rest is what was measured."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
_KEY, _DEEP = "the key ", "nested deeper"


def line_of(reason: str, text: str) -> int:
    """Return the line of what `strict_json` refused for this reason, 1 where it cannot be told."""
    for kind, at in _faults(text):
        if reason.startswith(kind):
            return text.count("\n", 0, at) + 1
    return 1


def _faults(text: str) -> Iterator[tuple[str, int]]:
    """Yield what is refused, as reasons begin, and where it stands."""
    open_: list[set[str] | None] = []  # the keys of each object that is open; None for a list
    is_key = False
    for found in _TOKEN.finditer(text):
        mark, at = found[0], found.start()
        if mark in "{[":
            open_.append(set() if mark == "{" else None)
            if len(open_) > DEEPEST:
                yield _DEEP, at
                return
        elif mark in "}]":
            if open_:
                open_.pop()
        elif mark.startswith('"'):
            keys = open_[-1] if open_ else None
            if is_key and keys is not None:
                key = str(json.loads(mark, strict=False))
                if key in keys:
                    yield f"{_KEY}{key!r}", at
                keys.add(key)
        elif mark in {"NaN", "Infinity", "-Infinity"}:
            yield mark, at
        elif mark not in ":,":
            yield from _number(mark, at)
        is_key = mark in "{,"


def _number(mark: str, at: int) -> Iterator[tuple[str, int]]:
    if mark.lstrip("-").isdecimal():
        if len(mark) > 4300:
            yield "a number of more", at
    elif mark[:1] in "-0123456789" and len(mark) < 4300:
        try:
            if math.isinf(float(mark)):
                yield mark, at
        except ValueError:
            return


def sample_of(text: str) -> Json | Refusal:
    """Return what a row takes from a sample of an Inspect log, or what is wrong with it."""
    try:
        return _plain(strict_json(text, has_constants=True))
    except ValueError as exc:
        return Refusal(str(exc))


def log_of(text: str) -> Json:
    """Return an Inspect log of one JSON object with NaN in its scores, without them; None where
    it is another file. Raises ValueError where NaN stands in a sample's own fields.
    """
    try:
        log = strict_json(text, has_constants=True)
    except ValueError:
        return None
    samples = log.get("samples") if isinstance(log, Mapping) and "eval" in log else None
    if not isinstance(samples, list):
        return None
    plain: list[Json] = []
    for number, sample in enumerate(samples, start=1):
        try:
            plain.append(_plain(sample))
        except ValueError as exc:
            raise ValueError(f"sample {number}: {exc}") from None
    return {"eval": {}, "samples": plain}


def _plain(sample: Json) -> Json:
    if not isinstance(sample, Mapping):
        return sample
    found: dict[str, Any] = {key: sample[key] for key in CARRIED if key in sample}
    try:
        json.dumps(found, allow_nan=False)
    except ValueError:
        raise ValueError("NaN is not JSON; write null") from None
    return found
