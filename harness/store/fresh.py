"""What the migrations make of an empty file, in plain SQL. Knows no store that has a row.

A new store need not import sqlite_utils, which imports numpy and pandas where they are installed:
up to a second. Whatever migrations are newer than `NAMES` are applied on top, so that a forgotten
line here costs time and nothing else; a test says what to write.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from harness.store.schema import SET

NAMES = (
    "m001_replies",
    "m002_runs",
    "m003_artifacts",
    "m004_ledger",
    "m005_batches",
    "m006_estimates",
    "m007_no_estimates",
)

# one statement a paragraph
SQL = """
CREATE TABLE "_sqlite_migrations" ("id" INTEGER PRIMARY KEY, "migration_set" TEXT, "name"
    TEXT, "applied_at" TEXT)

CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name" ON "_sqlite_migrations"
    ("migration_set", "name")

CREATE TABLE "requests" ("digest" TEXT PRIMARY KEY, "body" TEXT NOT NULL)

CREATE TABLE "replies" ("key" TEXT PRIMARY KEY, "request_digest" TEXT NOT NULL REFERENCES
    "requests"("digest"), "backend" TEXT NOT NULL, "body" TEXT NOT NULL)

CREATE TABLE "runs" ("seq" INTEGER PRIMARY KEY, "id" TEXT NOT NULL, "task" TEXT NOT NULL,
    "split" TEXT NOT NULL, "candidate" TEXT NOT NULL, "candidate_digest" TEXT NOT NULL,
    "backend" TEXT NOT NULL, "prompt" TEXT, "family" TEXT, "artifact" TEXT, "inputs_digest" TEXT
    NOT NULL, "labels_digest" TEXT NOT NULL, "evals_digest" TEXT NOT NULL, "at" TEXT NOT NULL,
    "last_at" TEXT NOT NULL, "body" TEXT NOT NULL, "is_complete" INTEGER NOT NULL, "cases"
    INTEGER NOT NULL)

CREATE UNIQUE INDEX "idx_runs_id" ON "runs" ("id")

CREATE INDEX "idx_runs_task_split_candidate_digest_inputs_digest" ON "runs" ("task",
    "split", "candidate_digest", "inputs_digest")

CREATE TABLE "trials" ("seq" INTEGER PRIMARY KEY, "run_id" TEXT NOT NULL REFERENCES
    "runs"("id"), "body" TEXT NOT NULL)

CREATE INDEX "idx_trials_run_id" ON "trials" ("run_id")

CREATE TABLE "artifacts" ("seq" INTEGER PRIMARY KEY, "id" TEXT NOT NULL, "digest" TEXT NOT
    NULL, "task" TEXT NOT NULL, "name" TEXT NOT NULL, "at" TEXT NOT NULL, "body" TEXT NOT NULL)

CREATE UNIQUE INDEX "idx_artifacts_id" ON "artifacts" ("id")

CREATE INDEX "idx_artifacts_task_name" ON "artifacts" ("task", "name")

CREATE TABLE "ledger" ("seq" INTEGER PRIMARY KEY, "kind" TEXT NOT NULL, "task" TEXT NOT
    NULL, "at" TEXT NOT NULL, "body" TEXT NOT NULL)

CREATE INDEX "idx_ledger_task_kind" ON "ledger" ("task", "kind")

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the
    ledger is append-only'); END

CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the
    ledger is append-only'); END

CREATE TRIGGER ledger_no_replace BEFORE INSERT ON ledger WHEN NEW.seq IN (SELECT seq FROM
    ledger) BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END

CREATE TABLE "batches" ("seq" INTEGER PRIMARY KEY, "id" TEXT NOT NULL, "backend" TEXT NOT
    NULL, "state" TEXT NOT NULL, "at" TEXT NOT NULL, "keys" TEXT NOT NULL)

CREATE INDEX "idx_batches_state" ON "batches" ("state")
"""


def create(connection: sqlite3.Connection) -> None:
    """Make every table of `NAMES` in an empty file, within the caller's transaction."""
    for statement in SQL.split("\n\n"):
        connection.execute(statement)
    now = str(datetime.now(UTC))
    connection.executemany(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)",
        [(SET, name, now) for name in NAMES],
    )
