"""Records as ASCII JSON and names as column values. Knows nothing of SQL, files or tasks.

JSON is written with every character outside ASCII escaped: a lone surrogate (a model can send
one) has no UTF-8 form and SQLite would refuse it, while its escape survives the round trip.
"""

from __future__ import annotations

import json
import sys
from typing import Any, TypeVar

from harness.errors import StoreError
from harness.records import Fault, Json, Reply, Score, Trial, from_plain, to_plain

R = TypeVar("R")
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def encode(value: object, *, what: str) -> str:
    """Return the ASCII JSON of a record or plain value.

    NaN is kept: a reply that was paid for is not lost to it. Raises StoreError, naming `what`,
    where the value is not JSON.
    """
    try:
        return _ENCODER.encode(to_plain(value))
    except (TypeError, ValueError, RecursionError) as exc:
        raise StoreError(
            f"{what} cannot be stored: {type(exc).__name__}: {exc}. A stored record holds only "
            "what JSON can hold (text, numbers, lists, objects); repair the backend or eval."
        ) from exc


def decode(kind: type[R], plain: Json, *, what: str) -> R:
    """Return the record of `kind` that `encode` wrote. Raises StoreError where it does not fit."""
    try:
        return from_plain(kind, plain)
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise _misfit(what, exc) from exc


def _misfit(what: str, exc: Exception) -> StoreError:
    return StoreError(
        f"{what} does not fit this program: {exc}. It was probably written by a newer one: "
        "run `pip install -U tuning-harness`, or use another store with --store PATH."
    )


def reply_of(plain: dict[str, Any], *, what: str) -> Reply:
    """Return a reply: `decode` without its reflection, five times as fast (10,000 at a time)."""
    try:
        for several in ("tool_calls", "logprobs", "spans"):
            if several in plain:
                plain[several] = tuple(plain[several])
        for alike in ("finish_reason", "model"):
            if type(plain.get(alike)) is str:
                plain[alike] = sys.intern(plain[alike])  # one object, of however many replies
        return Reply(**plain)
    except TypeError as exc:
        raise _misfit(what, exc) from exc


def trial_of(plain: dict[str, Any], *, what: str) -> Trial:
    """Return a trial: `decode` without its reflection (a run may hold 100,000)."""
    try:
        if "scores" in plain:
            # a score that is None was left out by `to_plain`, though it is a required field
            plain["scores"] = tuple(Score(**{"value": None, **s}) for s in plain["scores"])
        if "fault" in plain:
            plain["fault"] = Fault(**plain["fault"])
        return Trial(**plain)
    except TypeError as exc:
        raise _misfit(what, exc) from exc


def column(text: str) -> str:
    """Return `text` as a column can hold it: as it is, or as JSON where SQLite would harm it.

    NUL ends a text inside SQL functions and lone surrogates have no UTF-8 form. A value that
    begins with a quote is written as JSON too, so that two names never share one form.
    """
    if text.isascii() and "\0" not in text and not text.startswith('"'):
        return text
    if "\0" in text or text.startswith('"') or any("\ud800" <= c <= "\udfff" for c in text):
        return json.dumps(text)
    return text


def from_column(value: str) -> str:
    """Return the text that `column` wrote."""
    if value.startswith('"'):
        return str(json.loads(value))
    return value
