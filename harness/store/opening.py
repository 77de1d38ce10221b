"""Opens the SQLite file, new or old, or says why not. Knows nothing of what the tables hold.

The common case, a store that is up to date, uses the standard library alone: importing
sqlite_utils costs half a second, so it happens only where tables are to be made.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError
from harness.store import fresh, schema
from harness.store.home import make_home

BUSY_S = 30.0
MOUNTS = Path("/proc/self/mountinfo")

# WAL keeps its index in memory shared by the processes of one host: on a file system that several
# hosts mount it is silently corrupted. 9p and virtiofs are left out: sandboxes and containers on
# one machine use them for the root folder.
NETWORK = frozenset({
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.blobfuse", "fuse.blobfuse2",
    "fuse.ceph", "fuse.ceph-fuse", "fuse.cephfs", "fuse.curlftpfs", "fuse.davfs", "fuse.davfs2",
    "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.mfs", "fuse.moosefs",
    "fuse.mount-s3", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs",
    "pvfs2", "smb", "smb2", "smb3", "smbfs", "wekafs",
})  # fmt: skip


def filesystem_of(path: str, mountinfo: str) -> str | None:
    """Return the type of the file system that holds the absolute `path`, None where unlisted.

    Source: proc(5), /proc/PID/mountinfo: the mount point is field 5, with \\040 for a space; the
    type stands after the lone hyphen. A later line covers an earlier one at the same place.
    """
    best, found = -1, None
    for line in mountinfo.splitlines():
        left, hyphen, right = line.partition(" - ")
        parts = left.split()
        if not hyphen or len(parts) < 5 or not right.split():
            continue
        place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), parts[4])
        inside = place in ("/", path) or path.startswith(place + "/")
        if inside and len(place) >= best:
            best, found = len(place), right.split()[0]
    return found


def refuse_network(path: Path, mountinfo: str) -> None:
    """Raise StoreError where `path` lies on a file system that other hosts mount too."""
    kind = filesystem_of(str(path), mountinfo)
    if kind in NETWORK:
        raise StoreError(
            f"the store {path} would lie on a network file system ({kind}), where SQLite's "
            "write-ahead log is silently corrupted. Keep it on a local disk with --store PATH "
            "(one store for each machine), and copy the file when no process uses it."
        )


class OlderStore(StoreError):
    """A store that a reader cannot read before it is upgraded."""


@contextmanager
def clean_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk raise into StoreError that says what to do."""
    try:
        yield
    except sqlite3.Error as exc:
        raise StoreError(f"store {path}: {exc}. {_advice(exc)}") from exc
    except (OSError, UnicodeEncodeError, OverflowError) as exc:
        raise StoreError(
            f"store {path}: {exc}. Check the path and its permissions, or choose another place "
            "with --store PATH."
        ) from exc


def _advice(exc: sqlite3.Error) -> str:
    name = getattr(exc, "sqlite_errorname", "") or ""
    for prefix, advice in (
        ("SQLITE_FULL", "Free some space and run again: what was stored before is kept."),
        ("SQLITE_IOERR", "The disk failed or a quota is full; what was stored before is kept."),
        ("SQLITE_READONLY", "Make the file and its folder writable, or use --store PATH."),
        ("SQLITE_NOTADB", "It is not a store: name another file with --store PATH."),
        ("SQLITE_CORRUPT", "The file is damaged: restore a copy, or move it away and run again."),
        ("SQLITE_CANTOPEN", "Check that the folder exists and is writable, or use --store PATH."),
        ("SQLITE_BUSY", "Another process kept it locked for 30 s: find it, then run again."),
        ("SQLITE_CONSTRAINT_TRIGGER", "Add an entry that corrects the earlier one."),
    ):
        if name.startswith(prefix):
            return advice
    return "If it persists, move the file away and run again: a new store is made."


def open_connection(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection to an up-to-date store at the absolute `path`, making it where needed."""
    with clean_errors(path):
        if MOUNTS.exists():
            refuse_network(path, MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
        if path.is_dir():
            raise StoreError(f"store {path}: it is a folder. Name a file with --store PATH.")
        if read_only:
            return _open_read_only(path)
        make_home(path.parent)
        if path.exists() and path.stat().st_size:
            connection = _connect(str(path))
            try:
                if _is_current(connection, path) and _journal(connection) == "wal":
                    return connection
            except BaseException:
                connection.close()
                raise
            connection.close()
        return _make(path)


def _connect(target: str, *, uri: bool = False) -> sqlite3.Connection:
    # Transactions are begun by hand (BEGIN IMMEDIATE), so that none upgrades from read to write:
    # that is refused at once, without waiting. The Store holds a lock around each use, so that
    # worker threads may share the connection.
    connection = sqlite3.connect(
        target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=uri
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _open_read_only(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise StoreError(f"no store at {path}. Run `harness eval` first, or name it with --store.")
    address = f"{path.as_uri()}?mode=ro"
    try:
        connection, is_current = _read(address, path)
    except sqlite3.OperationalError:
        # A WAL file in a folder that cannot be written needs its -shm, which cannot be made.
        # Where nobody left a log behind, the file alone is the whole store.
        if os.access(path.parent, os.W_OK) or Path(f"{path}-wal").exists():
            raise
        connection, is_current = _read(f"{address}&immutable=1", path)
    if not is_current:
        connection.close()
        raise OlderStore(
            f"store {path}: it was made by an older harness and must be upgraded first. "
            "`harness runs` does that, as does any command that can write to it; a copy is kept."
        )
    return connection


def _read(address: str, path: Path) -> tuple[sqlite3.Connection, bool]:
    connection = _connect(address, uri=True)
    try:
        return connection, _is_current(connection, path)
    except BaseException:
        connection.close()
        raise


def _journal(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def _applied(connection: sqlite3.Connection, path: Path) -> list[str]:
    """Return our applied migrations. Raises StoreError for a stranger's file or a newer store."""
    tables = {
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    names = []
    if "_sqlite_migrations" in tables:
        names = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (schema.SET,)
            )
        ]
    if tables and not names:
        raise StoreError(
            f"store {path}: it is an SQLite file of something else (it has the table "
            f"{min(tables)!r}). Name another file with --store PATH."
        )
    newer = sorted(set(names) - set(schema.NAMES))
    if newer:
        raise StoreError(
            f"store {path}: it was written by a newer harness (it has {', '.join(newer)}). "
            "Run `pip install -U tuning-harness`, or use another store with --store PATH."
        )
    return names


def _is_current(connection: sqlite3.Connection, path: Path) -> bool:
    return len(_applied(connection, path)) == len(schema.NAMES)


def _make(path: Path) -> sqlite3.Connection:
    """Make or upgrade the store: one process at a time, the others then find it made."""
    if not path.exists():
        path.touch()  # the system says more of why it cannot than SQLite does
    connection = _connect(str(path))
    try:
        _use_wal(connection)
        _upgrade(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # Changing the journal mode needs the file alone and does not wait for it as writes do.
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            is_busy = str(getattr(exc, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    """Apply what is missing in one transaction; an older store is copied beside itself first."""
    connection.execute("BEGIN IMMEDIATE")  # nobody writes from here on: the copy is the last state
    try:
        applied = _applied(connection, path)
        if not applied:
            fresh.create(connection)
        elif len(applied) < len(schema.NAMES):
            first = next(name for name in schema.NAMES if name not in applied)
            _back_up(path, Path(f"{path}.before-{first}"))
        if not _is_current(connection, path):
            _migrate(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection) -> None:
    from sqlite_utils import Database

    # sqlite-utils nests its own transactions in ours as savepoints; plugins of it that happen to be
    # installed have no business in this file.
    database = Database(connection, recursive_triggers=False, execute_plugins=False)
    schema.migrations().apply(database)


def _back_up(path: Path, copy: Path) -> None:
    # Through SQLite, not a file copy: rows may still stand in the write-ahead log.
    half = copy.with_name(copy.name + ".half")
    half.unlink(missing_ok=True)
    source, target = sqlite3.connect(path, timeout=BUSY_S), sqlite3.connect(half)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    half.replace(copy)
