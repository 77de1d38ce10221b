"""A store is opened, made, upgraded or refused, and the refusal says what to do."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.records import LedgerEntry, Message, Reply, Request
from harness.store import opening, schema
from harness.store.opening import NETWORK, filesystem_of
from harness.store.store import Store, StoredReply

MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2
24 23 8:2 / /home/me/local rw - xfs /dev/sdb1 rw
25 22 0:6 / /mnt/my\040share rw master:1 propagate_from:2 - cifs //server/share rw
26 22 0:7 / /scratch rw - tmpfs tmpfs rw
27 26 0:8 / /scratch rw - lustre mds@tcp:/scratch rw
28 22 0:9 / /cloud rw - fuse.sshfs me@host:/ rw
broken line
29 22 0:9 / /cut
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/h.db", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/h.db", "nfs4"),
        ("/homework/h.db", "ext4"),
        ("/home/me/local/h.db", "xfs"),
        ("/mnt/my share/h.db", "cifs"),
        ("/scratch/h.db", "lustre"),
        ("/cloud/a/b/h.db", "fuse.sshfs"),
    ],
)
def test_the_file_system_is_the_one_mounted_nearest_and_last(path: str, kind: str) -> None:
    assert filesystem_of(path, MOUNTINFO) == kind


def test_an_unreadable_mount_table_refuses_nothing() -> None:
    assert filesystem_of("/srv/h.db", "") is None
    opening.refuse_network(Path("/srv/h.db"), "")


@pytest.mark.parametrize("kind", sorted(NETWORK))
def test_a_store_on_a_network_file_system_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - {kind} server:/ rw\n")
    monkeypatch.setattr(opening, "MOUNTS", table)
    with pytest.raises(StoreError, match=rf"network file system \({kind}\).*--store PATH"):
        Store.open(tmp_path / "deep" / "h.db")
    assert not (tmp_path / "deep").exists()


def row(key: str = "k") -> StoredReply:
    request = Request(messages=(Message(role="user", content="?"),))
    return StoredReply(key=key, request=request, reply=Reply(text="yes"), backend="a:b")


def older_store(path: Path, *, stop_before: str) -> None:
    """Make what an earlier release would have made: the first migrations alone."""
    from sqlite_utils import Database

    database = Database(path)
    database.execute("PRAGMA journal_mode = WAL")
    schema.migrations().apply(database, stop_before=stop_before)
    database["requests"].insert({"digest": "d", "body": '{"messages":[]}'})
    database["replies"].insert(
        {"key": "old", "request_digest": "d", "backend": "a:b", "body": '{"text":"kept"}'}
    )
    database.close()


def migrations_of(path: Path) -> list[str]:
    raw = sqlite3.connect(path)
    names = [name for (name,) in raw.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    raw.close()
    return names


def test_a_new_store_is_made_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a b%?#é" / ".harness" / "harness.db"
    with Store.open(path) as store:
        store.add_replies([row()])
        assert store.path == path
    assert migrations_of(path) == list(schema.NAMES)
    with Store.open(path, read_only=True) as store:
        assert store.known_replies(["k"]) == {"k": Reply(text="yes")}
    assert not list(path.parent.glob("*.before-*"))


def test_an_open_store_has_the_promised_settings(tmp_path: Path) -> None:
    with Store.open(tmp_path / "h.db") as store:
        asked = {
            name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
        assert asked == {
            "journal_mode": "wal",
            "busy_timeout": 30000,
            "foreign_keys": 1,
            "synchronous": 1,
        }


def test_a_ledger_entry_is_flushed_to_the_disk_and_a_reply_is_not(tmp_path: Path) -> None:
    seen: set[tuple[str, int]] = set()
    with Store.open(tmp_path / "h.db") as store:
        connection = store._connection

        def note(statement: str) -> None:
            if statement.startswith(("INSERT INTO ledger", "INSERT INTO replies")):
                seen.add((statement.split()[2], level[0]))
            elif statement.startswith("PRAGMA synchronous ="):
                level[0] = {"FULL": 2, "NORMAL": 1}[statement.rpartition(" ")[2]]

        level = [1]
        connection.set_trace_callback(note)
        store.record(LedgerEntry(kind="look", task="t", at="now", payload=1))
        store.add_replies([row()])
    assert seen == {("ledger", 2), ("replies", 1)}


def test_an_up_to_date_store_is_opened_without_importing_sqlite_utils(tmp_path: Path) -> None:
    """It costs half a second, more than all of a small cached run."""
    path = tmp_path / "h.db"
    with Store.open(path) as store:
        store.add_replies([row()])
    code = (
        "import sys; from harness.store.store import Store\n"
        f"with Store.open({str(path)!r}) as store: assert store.known_replies(['k'])\n"
        "print([m for m in ('sqlite_utils', 'filelock') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "[]\n"


def tables_of(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every table, index and trigger, with its SQL on one line, as `fresh.SQL` is written."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    squeezed = ((n, " ".join(sql.split())) for n, sql in rows)
    return sorted((n, sql.replace("( ", "(").replace(" )", ")")) for n, sql in squeezed)


def test_a_new_store_is_what_the_migrations_make_and_imports_no_sqlite_utils(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.store.store import Store\n"
        f"Store.open(Path({str(tmp_path / 'h.db')!r})).close()\n"
        "print({'sqlite_utils', 'numpy', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()", "add what the newest migration makes to fresh.SQL"
    migrated = sqlite3.connect(":memory:", isolation_level=None)
    opening._migrate(migrated)
    with closing(migrated), closing(sqlite3.connect(tmp_path / "h.db")) as made:
        assert tables_of(made) == tables_of(migrated)
        names = "SELECT id, migration_set, name FROM _sqlite_migrations ORDER BY id"
        assert made.execute(names).fetchall() == migrated.execute(names).fetchall()


def test_a_migration_that_is_newer_than_the_plain_sql_is_applied_on_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = ("m999_more", lambda db: db["more"].create({"a": int}))
    monkeypatch.setattr(schema, "_ORDER", [*schema._ORDER, newest])
    monkeypatch.setattr(schema, "NAMES", (*schema.NAMES, newest[0]))
    Store.open(tmp_path / "h.db").close()
    with closing(sqlite3.connect(tmp_path / "h.db")) as made:
        assert made.execute("SELECT count(*) FROM more").fetchone() == (0,)
    assert [p.name for p in tmp_path.glob("*.before-*")] == []


@pytest.mark.parametrize("first_missing", schema.NAMES[1:])
def test_an_older_store_is_copied_and_upgraded_with_its_rows(
    tmp_path: Path, first_missing: str
) -> None:
    path = tmp_path / "h.db"
    older_store(path, stop_before=first_missing)
    before = migrations_of(path)
    with Store.open(path) as store:
        assert store.known_replies(["old"])["old"].text == "kept"
        store.record(LedgerEntry(kind="look", task="t", at="now", payload=1))
    assert migrations_of(path) == list(schema.NAMES)
    copy = tmp_path / f"h.db.before-{first_missing}"
    assert migrations_of(copy) == before
    raw = sqlite3.connect(copy)
    assert raw.execute("SELECT body FROM replies").fetchall() == [('{"text":"kept"}',)]
    raw.close()


def test_an_older_store_is_not_upgraded_by_a_reader(tmp_path: Path) -> None:
    older_store(tmp_path / "h.db", stop_before=schema.NAMES[-1])
    with pytest.raises(StoreError, match="older harness and must be upgraded"):
        Store.open(tmp_path / "h.db", read_only=True)
    assert schema.NAMES[-1] not in migrations_of(tmp_path / "h.db")


def test_an_upgrade_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All missing migrations are one transaction, whatever sqlite-utils does inside."""
    path = tmp_path / "h.db"
    older_store(path, stop_before=schema.NAMES[1])
    before = migrations_of(path)

    def breaks(db: object) -> None:
        raise sqlite3.OperationalError("no such thing")

    steps = [*schema._ORDER[:-1], (schema.NAMES[-1], breaks)]
    monkeypatch.setattr(schema, "_ORDER", steps)
    with pytest.raises(StoreError, match="no such thing"):
        Store.open(path)
    assert migrations_of(path) == before
    raw = sqlite3.connect(path)
    tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master")}
    raw.close()
    assert "runs" not in tables
    monkeypatch.undo()
    with Store.open(path) as store:
        assert store.known_replies(["old"])["old"].text == "kept"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_program_is_refused(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "h.db"
    Store.open(path).close()
    raw = sqlite3.connect(path)
    with raw:
        raw.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, ?)",
            (schema.SET, "m099_minds", "2031"),
        )
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer harness \(it has m099_minds\).*pip install -U"):
        Store.open(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_not_a_store_is_refused_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and longer than the header of one is " * 40)
    with pytest.raises(StoreError, match=r"not a database.*another file with --store"):
        Store.open(text, read_only=read_only)
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.db"
    raw = sqlite3.connect(other)
    with raw:
        raw.execute("CREATE TABLE customers (name TEXT)")
    raw.close()
    with pytest.raises(StoreError, match=r"SQLite file of something else.*'customers'"):
        Store.open(other, read_only=read_only)
    raw = sqlite3.connect(other)
    assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    raw.close()
    with pytest.raises(StoreError, match=r"it is a folder. Name a file with --store PATH"):
        Store.open(tmp_path, read_only=read_only)
    with pytest.raises(StoreError, match="no place for a store"):
        Store.open("a\0b", read_only=read_only)
    below = text / "h.db"
    with pytest.raises(StoreError, match=r"--store"):
        Store.open(below, read_only=read_only)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with Store.open(path) as store:
        store.add_replies([row(str(n)) for n in range(2000)])
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StoreError, match=r"malformed.*restore a copy"), Store.open(path) as store:
        store.known_replies([str(n) for n in range(2000)])


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    """A kill between the making of the file and its first page leaves one."""
    path = tmp_path / "h.db"
    path.touch()
    with Store.open(path) as store:
        store.add_replies([row()])


def test_a_reader_makes_nothing_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    with pytest.raises(StoreError, match=r"no store at .*harness eval"):
        Store.open(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    with Store.open(path) as writer, Store.open(path, read_only=True) as reader:
        writer.add_replies([row()])
        assert set(reader.known_replies(["k"])) == {"k"}
        with pytest.raises(StoreError, match=r"readonly database.*writable"):
            reader.add_replies([row("l")])
        with pytest.raises(StoreError, match="readonly database"):
            reader.record(LedgerEntry(kind="look", task="t", at="now", payload=1))
        assert set(reader.known_replies(["k", "l"])) == {"k"}


FILL = """
import sys
from harness.errors import StoreError
from harness.records import Message, Reply, Request
from harness.store.store import Store, StoredReply
path = sys.argv[1]
def rows(n):
    request = Request(messages=(Message(role="user", content=f"{n} " * 5000),))
    return [StoredReply(key=str(n), request=request, reply=Reply(text="x" * 20000), backend="a:b")]
with Store.open(path) as store:
    stored = []
    try:
        for n in range(2000):
            store.add_replies(rows(n))
            stored.append(str(n))
    except StoreError as exc:
        print(exc)
    else:
        raise SystemExit("the disk never filled")
    assert set(store.known_replies([str(n) for n in range(2000)])) == set(stored), "lost or half"
    assert len(stored) > 5
print("READS")
"""


def test_a_quota_that_ends_is_a_clean_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))

    path = tmp_path / "h.db"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=little_room,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "what was stored before is kept" in done.stdout
    assert done.stdout.endswith("READS\n")
    with Store.open(path) as store:  # and it goes on when there is room again
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.add_replies([row("afterwards")])
        assert set(store.known_replies(["0", "afterwards"])) == {"0", "afterwards"}


def in_a_mount(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount what nobody else sees; skip where it may not."""
    unshare = shutil.which("unshare")
    flags = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    probe = [str(unshare), *flags, "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", arguments[0]]
    if unshare is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    return subprocess.run(
        [unshare, *flags, "sh", "-c", script, "sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_full_disk_is_a_clean_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    done = in_a_mount(
        'mount -t tmpfs -o size=5m tmpfs "$1" && exec "$2" -c "$3" "$1/h.db"',
        str(tmp_path),
        sys.executable,
        FILL,
    )
    assert done.returncode == 0, done.stderr
    assert "database or disk is full. Free some space" in done.stdout
    assert done.stdout.endswith("READS\n")


def test_a_disk_that_is_full_from_the_start_is_a_clean_error(tmp_path: Path) -> None:
    code = """
import sys
from harness.errors import StoreError
from harness.store.store import Store
try:
    Store.open(sys.argv[1])
except StoreError as exc:
    print(exc)
"""
    done = in_a_mount(
        'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -c "$3" "$1/h.db"',
        str(tmp_path),
        sys.executable,
        code,
    )
    assert done.returncode == 0, done.stderr
    assert "Free some space" in done.stdout or "quota is full" in done.stdout


def test_a_read_only_disk_can_be_read_and_says_that_it_cannot_be_written(tmp_path: Path) -> None:
    with Store.open(tmp_path / "h.db") as store:
        store.add_replies([row()])
    code = """
import sys
from harness.errors import StoreError
from harness.store.store import Store
with Store.open(sys.argv[1], read_only=True) as store:
    assert set(store.known_replies(["k"])) == {"k"}
for place in (sys.argv[1], sys.argv[1] + ".new"):
    try:
        with Store.open(place) as store:
            store.add_replies([])
    except StoreError as exc:
        print(exc)
"""
    done = in_a_mount(
        'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1/h.db"',
        str(tmp_path),
        sys.executable,
        code,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "--store PATH" in first
    assert "Read-only file system" in second
    assert "--store PATH" in second
