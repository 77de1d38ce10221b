"""Remembers which requests wait in a provider's batch. Knows no backend, clock or reply.

A batch outlives the process that handed it in: what is written here outlives a loss of power too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from harness.store.codec import column, from_column
from harness.store.store import Store

BatchPlace = Literal["submitting", "open", "done", "unknown"]
"""`submitting`: about to be handed in, or the process died at it; `unknown`: given up on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """One batch. `id` is the provider's (empty while `submitting`), `keys` those of its replies."""

    seq: int
    id: str
    backend: str
    state: BatchPlace
    at: str
    keys: tuple[str, ...]


def begin_batch(store: Store, *, backend: str, keys: Sequence[str], at: str) -> int:
    """Write down that a batch is about to be handed in; return its number here."""
    with store.writing(survives_power_loss=True) as connection:
        row = ("", column(backend), "submitting", at, json.dumps(list(keys)))
        found = connection.execute(
            "INSERT INTO batches (id, backend, state, at, keys) VALUES (?, ?, ?, ?, ?)", row
        )
        return int(found.lastrowid or 0)


def open_batch(store: Store, seq: int, *, id: str) -> None:  # noqa: A002 - the field's own name
    """Write down the provider's id of a batch: from here on it is waited for."""
    with store.writing(survives_power_loss=True) as connection:
        connection.execute(
            "UPDATE batches SET id = ?, state = 'open' WHERE seq = ?", (column(id), seq)
        )


def end_batch(store: Store, seq: int, *, state: BatchPlace) -> None:
    """Write down that a batch is no longer waited for."""
    with store.writing(survives_power_loss=True) as connection:
        connection.execute("UPDATE batches SET state = ? WHERE seq = ?", (state, seq))


def waiting_batches(store: Store) -> list[BatchRow]:
    """Return the batches that are open, or were being handed in when a process died."""
    with store.reading() as connection:
        rows = connection.execute(
            "SELECT seq, id, backend, state, at, keys FROM batches "
            "WHERE state IN ('open', 'submitting') ORDER BY seq"
        ).fetchall()
    return [
        BatchRow(
            seq=seq,
            id=from_column(name),
            backend=from_column(backend),
            state=cast(BatchPlace, state),
            at=at,
            keys=tuple(json.loads(keys)),
        )
        for seq, name, backend, state, at, keys in rows
    ]
