"""Remembers replies, runs, artifacts and the ledger in one SQLite file. Knows no clock or model.

Reads and writes use the standard library's sqlite3, the tables come from sqlite-utils migrations
(`schema.py`). A write is one transaction: when a method has returned, what it was given outlives
a kill of the process; a ledger entry outlives a loss of power too.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from harness.errors import StoreError, UsageError
from harness.records import (
    Candidate,
    LedgerEntry,
    Reply,
    Request,
    Run,
    Trial,
    digest,
    to_plain,
)
from harness.store.codec import column, decode, encode, reply_of, trial_of
from harness.store.opening import clean_errors, open_connection
from harness.store.rows import RunRow, StoredReply, request_body, run_row

if TYPE_CHECKING:
    from harness.records import Artifact

__all__ = ["RunRow", "Store", "StoredReply"]

_MANY = 1000
"""Of so many replies the rows are held at a time: a run may ask for 100,000."""
SHOWN = 10
"""How many known names or ids an error lists."""


class Store:
    """One open store; several processes and threads may use the same file at once."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> Store:
        """Open the store at `path`, making or upgrading it where needed (never when `read_only`).

        Raises StoreError where the file is damaged, newer than this program, something else's, or
        on a network file system.
        """
        try:
            place = Path(path).expanduser().resolve()
        except (OSError, RuntimeError, ValueError) as exc:  # a loop of links, ~nobody, a NUL
            raise StoreError(f"{str(path)!r} is no place for a store: {exc}.") from exc
        return cls(place, open_connection(place, read_only=read_only))

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock, clean_errors(self.path):
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to this room, errors made clean."""
        with self._lock, clean_errors(self.path):
            yield self._connection

    @contextmanager
    def writing(self, *, survives_power_loss: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the connection to this room for one transaction."""
        with self._lock, clean_errors(self.path):
            connection = self._connection
            if survives_power_loss:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                if survives_power_loss:
                    connection.execute("PRAGMA synchronous = NORMAL")

    # ------------------------------------------------------------ replies

    def known_replies(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies of those `keys` that have one."""
        found: dict[str, Reply] = {}
        left = iter(keys)
        while some := {column(key): key for key in islice(left, _MANY)}:
            with self.reading() as connection:
                rows = connection.execute(
                    "SELECT key, body FROM replies WHERE key IN (SELECT value FROM json_each(?))",
                    (json.dumps(list(some)),),
                )
                for key, body in rows:
                    found[some[key]] = reply_of(json.loads(body), what=f"reply {key}")
        return found

    def add_replies(self, rows: Iterable[StoredReply]) -> dict[str, Reply]:
        """Store `rows` in one commit; what is stored under a key already is never overwritten.

        Returns the other replies that were stored before for keys of `rows`: score those, so that
        a score and the reply that its key finds are always the same (two processes may have
        asked the same thing at once). Raises StoreError, after the others were stored, where a
        row holds what JSON cannot.
        """
        given, requests, replies, refused = {}, {}, [], []
        for row in rows:
            try:
                name, body = request_body(row)
                reply = encode(row.reply, what=f"reply {row.key}")
            except StoreError as exc:
                refused.append(exc)  # the others were paid for: they are stored all the same
                continue
            given[row.key] = row.reply
            requests[name] = body
            replies.append((column(row.key), name, column(row.backend), reply))
        before: dict[str, Reply] = {}
        with self.writing() as connection:
            connection.executemany(
                "INSERT INTO requests (digest, body) VALUES (?, ?) ON CONFLICT DO NOTHING",
                requests.items(),
            )
            new = connection.executemany(
                "INSERT INTO replies (key, request_digest, backend, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                replies,
            ).rowcount
            if new < len(replies):
                stored = self.known_replies(given)
                before = {key: stored[key] for key, reply in given.items() if stored[key] != reply}
        if refused:
            raise refused[0]
        return before

    def request_of(self, key: str) -> Request | None:
        """Return the request that the reply of `key` answered, None where the key is unknown."""
        with self.reading() as connection:
            row = connection.execute(
                "SELECT requests.body FROM replies JOIN requests "
                "ON requests.digest = replies.request_digest WHERE replies.key = ?",
                (column(key),),
            ).fetchone()
        if row is None:
            return None
        return decode(Request, json.loads(row[0]), what=f"the request of reply {key}")

    # ------------------------------------------------------------ runs

    def add_run(self, run: Run, *, at: str) -> str:
        """Store `run` and return its id. Storing the same content again only notes the time.

        `at` is UTC, ISO 8601, always in the same form: times are compared as text.
        """
        try:
            run_id = run.id
        except (TypeError, ValueError, RecursionError) as exc:
            raise StoreError(f"the run of {run.candidate.name} is not JSON: {exc}") from exc
        body = encode(replace(run, trials=()), what=f"run {run_id}")
        who = run.candidate
        values = {
            "id": run_id,
            "task": column(run.task),
            "split": column(run.split),
            "candidate": column(who.name),
            "candidate_digest": who.digest,
            "backend": column(who.backend),
            "prompt": None if who.prompt is None else column(who.prompt),
            "family": None if who.family is None else column(who.family),
            "artifact": None if who.artifact is None else column(who.artifact),
            "inputs_digest": column(run.inputs_digest),
            "labels_digest": column(run.labels_digest),
            "evals_digest": column(run.evals_digest),
            "is_complete": int(run.is_complete),
            "cases": len({t.case_id for t in run.trials}),
            "at": at,
            "body": body,
        }
        with self.writing() as connection:
            again = connection.execute(
                "UPDATE runs SET last_at = max(last_at, ?) WHERE id = ?", (at, run_id)
            )
            if again.rowcount:
                return run_id
            connection.execute(
                "INSERT INTO runs (id, task, split, candidate, candidate_digest, backend, prompt, "
                "family, artifact, inputs_digest, labels_digest, evals_digest, is_complete, cases, "
                "at, last_at, body) VALUES (:id, :task, :split, :candidate, :candidate_digest, "
                ":backend, :prompt, :family, :artifact, :inputs_digest, :labels_digest, "
                ":evals_digest, :is_complete, :cases, :at, :at, :body)",
                values,
            )
            connection.executemany(
                "INSERT INTO trials (run_id, body) VALUES (?, ?)",
                ((run_id, encode(t, what=f"the trial of case {t.case_id}")) for t in run.trials),
            )
        return run_id

    def run(self, run_id_or_prefix: str) -> Run:
        """Return the run with this id, or the only one whose id begins so.

        Raises UsageError, naming known ids, where none or several do.
        """
        wanted = column(run_id_or_prefix)
        with self.reading() as connection:
            found = connection.execute(
                "SELECT id, body FROM runs WHERE ?1 <> '' AND substr(id, 1, length(?1)) = ?1 "
                "ORDER BY at, seq",
                (wanted,),
            ).fetchall()
            if len(found) == 1:
                return self._load(*found[0])
            known = [id_ for id_, _ in found] or [
                row[0] for row in connection.execute("SELECT id FROM runs ORDER BY at, seq")
            ]
        if found:
            raise UsageError(
                f"run {run_id_or_prefix!r} is ambiguous: {_listed(known)}. Give more digits."
            )
        raise UsageError(f"no run {run_id_or_prefix!r} in {self.path}. Known: {_listed(known)}.")

    def _load(self, run_id: str, body: str) -> Run:
        with self.reading() as connection:
            bodies = connection.execute(
                "SELECT body FROM trials WHERE run_id = ? ORDER BY seq", (run_id,)
            )
            trials: tuple[Trial, ...] = tuple(
                trial_of(json.loads(text), what=f"run {run_id}") for (text,) in bodies
            )
        return replace(decode(Run, json.loads(body), what=f"run {run_id}"), trials=trials)

    def candidate_of(self, run_id: str) -> Candidate:
        """Return whom the run of this whole id asked, without reading its trials."""
        with self.reading() as connection:
            (body,) = connection.execute("SELECT body FROM runs WHERE id = ?", (run_id,)).fetchone()
        return decode(Run, json.loads(body), what=f"run {run_id}").candidate

    def runs(
        self, *, task: str | None = None, split: str | None = None, complete: bool | None = None
    ) -> list[RunRow]:
        """Return the runs that match, the newest last."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT id, task, split, candidate, candidate_digest, backend, prompt, family, "
                "artifact, is_complete, cases, at, first_at, last_at, inputs_digest, "
                "labels_digest, evals_digest FROM (SELECT *, min(at) OVER (PARTITION BY task, "
                "split, candidate_digest, inputs_digest) AS first_at FROM runs) "
                "WHERE (:task IS NULL OR task = :task) AND (:split IS NULL OR split = :split) "
                "AND (:complete IS NULL OR is_complete = :complete) ORDER BY at, seq",
                {
                    "task": None if task is None else column(task),
                    "split": None if split is None else column(split),
                    "complete": complete,
                },
            ).fetchall()
        return [run_row(row) for row in rows]

    def newest_runs(self, task: str, split: str, *, candidate: str) -> Iterator[Run]:
        """Yield the runs of the candidate of this name, complete or not, the last recorded first.

        Each is read only when it is asked for.
        """
        with self.reading() as connection:
            found = connection.execute(
                "SELECT id, body FROM runs WHERE task = ? AND split = ? AND candidate = ? "
                "ORDER BY last_at DESC, seq DESC",
                (column(task), column(split), column(candidate)),
            ).fetchall()
        for run_id, body in found:
            yield self._load(run_id, body)

    # ------------------------------------------------------------ artifacts

    def add_artifact(self, artifact: Artifact, *, at: str) -> None:
        """Store `artifact`. Stored again, it becomes the newest of its name."""
        body = encode(artifact, what=f"artifact {artifact.name}")
        row = (digest(artifact), column(artifact.digest), column(artifact.task))
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO artifacts (id, digest, task, name, at, body) "
                "VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET at = max(at, excluded.at)",
                (*row, column(artifact.name), at, body),
            )

    def artifacts(self, task: str | None = None) -> list[Artifact]:
        """Return the artifacts (of one task), the newest last."""
        from harness.records import Artifact  # the records of tuning: most runs load none

        with self.reading() as connection:
            rows = connection.execute(
                "SELECT body FROM artifacts WHERE ?1 IS NULL OR task = ?1 ORDER BY at, seq",
                (None if task is None else column(task),),
            ).fetchall()
        return [decode(Artifact, json.loads(body), what="an artifact") for (body,) in rows]

    def artifact(self, name_or_digest_prefix: str, *, task: str) -> Artifact:
        """Return the newest artifact of this name in `task`, or the one whose digest begins so.

        A pilot's is found by its digest alone, and never in place of a tuned one with the same
        files. Raises UsageError, listing the known ones, where none or several do.
        """
        wanted, every = name_or_digest_prefix, self.artifacts(task)
        known = [a for a in every if not a.is_pilot]
        named = [a for a in known if a.name == wanted]
        if named:
            return named[-1]
        found = {a.digest: a for a in every if wanted and a.digest.startswith(wanted)}
        found |= {a.digest: a for a in known if a.digest in found}
        if len(found) == 1:
            return next(iter(found.values()))
        what = "is ambiguous" if found else f"is not an artifact of task {task!r}"
        listed = _listed([f"{a.name} ({a.digest[:16]})" for a in found.values() or known])
        raise UsageError(
            f"{wanted!r} {what}. Known: {listed}. Tune one with `harness tune {task}`."
        )

    # ------------------------------------------------------------ the ledger

    def record(self, entry: LedgerEntry) -> None:
        """Append `entry`. Nothing in this program, or in SQL, changes or removes it afterwards."""
        plain = {"kind": entry.kind, "task": entry.task, "at": entry.at, "text": entry.text}
        body = encode(plain | {"payload": to_plain(entry.payload)}, what=f"{entry.kind} entry")
        with self.writing(survives_power_loss=True) as connection:
            connection.execute(
                "INSERT INTO ledger (kind, task, at, body) VALUES (?, ?, ?, ?)",
                (column(entry.kind), column(entry.task), column(entry.at), body),
            )

    def ledger(self, *, task: str | None = None, kind: str | None = None) -> list[LedgerEntry]:
        """Return the entries that match, in the order in which they were recorded."""
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT body FROM ledger WHERE (?1 IS NULL OR task = ?1) "
                "AND (?2 IS NULL OR kind = ?2) ORDER BY seq",
                (None if task is None else column(task), None if kind is None else column(kind)),
            ).fetchall()
        return [decode(LedgerEntry, json.loads(body), what="a ledger entry") for (body,) in rows]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[-SHOWN:]) or "none yet"
    return shown if len(names) <= SHOWN else f"{shown} (and {len(names) - SHOWN} earlier)"
