"""Remembers means with their bounds, so that a run seen before needs no statistics to be shown.

Knows nothing of how a bound is computed: whoever asks names what it was computed from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.records import Estimate
from harness.store.codec import column, decode, encode
from harness.store.store import Store


def known_estimate(store: Store, key: str) -> Estimate | None:
    """Return what was remembered under `key`, or None."""
    with store.reading() as connection:
        row = connection.execute("SELECT body FROM estimates WHERE key = ?", (key,)).fetchone()
    return decode(Estimate, json.loads(row[0]), what=f"estimate {key}") if row else None


def remember_estimates(store: Store, estimates: Mapping[str, Estimate]) -> None:
    """Remember `estimates` by key."""
    if not estimates:
        return
    with store.writing() as connection:
        connection.executemany(
            "INSERT INTO estimates (key, body) VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(column(k), encode(e, what=f"estimate {k}")) for k, e in estimates.items()],
        )
