"""The tables, as named migrations. Knows nothing of records, paths or who opens the file.

A migration that was released is never edited; a new one is added at the end, with a store file
of the release before it as a fixture. The names are read without importing sqlite_utils, which
costs half a second: an up-to-date store is opened by comparing them with the applied ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SET = "harness"

_ORDER: list[tuple[str, Callable[[Any], None]]] = []


def _migration(step: Callable[[Any], None]) -> Callable[[Any], None]:
    _ORDER.append((step.__name__, step))
    return step


@_migration
def m001_replies(db: Any) -> None:
    """Create requests, stored once each, and the replies that answered them."""
    db["requests"].create({"digest": str, "body": str}, pk="digest", not_null={"body"})
    db["replies"].create(
        {"key": str, "request_digest": str, "backend": str, "body": str},
        pk="key",
        not_null={"request_digest", "backend", "body"},
        foreign_keys=[("request_digest", "requests", "digest")],
    )


@_migration
def m002_runs(db: Any) -> None:
    """Create runs (what is searched for in columns, all of it in body) and their trials.

    `at` is when the content was first recorded, `last_at` when it was last recorded again.
    """
    text = [
        "id", "task", "split", "candidate", "candidate_digest", "backend", "prompt", "family",
        "artifact", "inputs_digest", "labels_digest", "evals_digest", "at", "last_at", "body",
    ]  # fmt: skip
    optional = {"prompt", "family", "artifact"}
    db["runs"].create(
        {"seq": int} | dict.fromkeys(text, str) | {"is_complete": int, "cases": int},
        pk="seq",
        not_null={*text, "is_complete", "cases"} - optional,
    )
    db["runs"].create_index(["id"], unique=True)
    db["runs"].create_index(["task", "split", "candidate_digest", "inputs_digest"])
    db["trials"].create(
        {"seq": int, "run_id": str, "body": str},
        pk="seq",
        not_null={"run_id", "body"},
        foreign_keys=[("run_id", "runs", "id")],
    )
    db["trials"].create_index(["run_id"])


@_migration
def m003_artifacts(db: Any) -> None:
    """Create artifacts: one row for each distinct record, so that no lineage is overwritten."""
    text = ["id", "digest", "task", "name", "at", "body"]
    db["artifacts"].create({"seq": int} | dict.fromkeys(text, str), pk="seq", not_null=set(text))
    db["artifacts"].create_index(["id"], unique=True)
    db["artifacts"].create_index(["task", "name"])


@_migration
def m004_ledger(db: Any) -> None:
    """Create the ledger, which SQL itself keeps append-only."""
    text = ["kind", "task", "at", "body"]
    db["ledger"].create({"seq": int} | dict.fromkeys(text, str), pk="seq", not_null=set(text))
    db["ledger"].create_index(["task", "kind"])
    for name, event in (
        ("ledger_no_update", "UPDATE ON ledger"),
        ("ledger_no_delete", "DELETE ON ledger"),
        # INSERT OR REPLACE deletes without firing a delete trigger (recursive_triggers is off).
        ("ledger_no_replace", "INSERT ON ledger WHEN NEW.seq IN (SELECT seq FROM ledger)"),
    ):
        db.execute(
            f"CREATE TRIGGER {name} BEFORE {event} "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        )


@_migration
def m005_batches(db: Any) -> None:
    """Create batches: what was handed in to a provider, and whether it was collected.

    A row is written before the batch is handed in; `id` is the provider's, empty until it is told.
    """
    text = ["id", "backend", "state", "at", "keys"]
    db["batches"].create({"seq": int} | dict.fromkeys(text, str), pk="seq", not_null=set(text))
    db["batches"].create_index(["state"])


@_migration
def m006_estimates(db: Any) -> None:
    """Create estimates: means with bounds, by the digest of what they were computed from."""
    db["estimates"].create({"key": str, "body": str}, pk="key", not_null={"body"})


@_migration
def m007_no_estimates(db: Any) -> None:
    """Drop estimates: they are computed faster than they were found."""
    db["estimates"].drop(ignore=True)


NAMES: tuple[str, ...] = tuple(name for name, _ in _ORDER)


def migrations() -> Any:
    """Return the migrations as sqlite-utils applies them."""
    from sqlite_utils import Migrations

    made = Migrations(SET)
    for name, step in _ORDER:
        made(name=name)(step)
    return made
