"""Many processes at once, and processes killed in the middle: nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.records import Message, Reply, Request
from harness.store import schema
from harness.store.store import Store, StoredReply

PRELUDE = """
import sys, time
from harness.records import LedgerEntry, Message, Reply, Request
from harness.store.store import Store, StoredReply
from harness.testing import make_run
path, me = sys.argv[1:]
def row(key):
    request = Request(messages=(Message(role="user", content=f"asked {key}"),))
    return StoredReply(key=key, request=request, reply=Reply(text=f"reply {key}"), backend="a:b")
print("ready", flush=True)
sys.stdin.readline()
start = time.time()
"""

WRITER = """
slowest = 0.0
with Store.open(path) as store:
    for n in range(400):
        began = time.perf_counter()
        store.add_replies([row(f"{me}-{n}")])
        slowest = max(slowest, time.perf_counter() - began)
        if n % 50 == 0:
            store.record(LedgerEntry(kind="pilot", task=me, at=str(n), payload=n))
            store.add_run(make_run([1.0, n / 400], task=me), at=str(n))
print(slowest)
"""

READER = """
seen = 0
with Store.open(path, read_only=True) as store:
    while seen < 8 * 400:
        found = store.known_replies([f"{w}-{n}" for w in range(8) for n in range(400)])
        assert all(reply.text == f"reply {key}" for key, reply in found.items())
        assert len(found) >= seen, "a reply went away"
        seen = len(found)
        for run in store.runs():
            assert len(store.run(run.id).trials) == 2, "half a run was seen"
        assert time.time() < start + 20, f"only {seen} replies seen"
print(seen)
"""

OPENER = """
with Store.open(path) as store:
    store.add_replies([row(me)])
"""


def begin(code: str, path: Path, *names: object) -> list[subprocess.Popen[str]]:
    """Start a process of each name; each has imported what it needs, and waits."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(path), str(name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]


def release(children: list[subprocess.Popen[str]]) -> None:
    """Let all of them go on at once, as soon as the last is ready."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()


def finish(children: list[subprocess.Popen[str]], *, timeout_s: float = 22.0) -> list[str]:
    """Release them and return what they printed; none is left running, and each one ended well."""
    deadline = time.monotonic() + timeout_s
    try:
        release(children)
        ended = [
            child.communicate(timeout=max(0.1, deadline - time.monotonic())) for child in children
        ]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [err for _, err in ended if err] == []
    assert [child.returncode for child in children] == [0] * len(children)
    return [out for out, _ in ended]


def is_sound(path: Path) -> bool:
    raw = sqlite3.connect(path)
    verdict = raw.execute("PRAGMA integrity_check").fetchone()
    broken = raw.execute("PRAGMA foreign_key_check").fetchall()
    raw.close()
    return bool(verdict == ("ok",) and not broken)


def test_eight_writers_and_two_readers_never_find_the_store_locked(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    Store.open(path).close()
    printed = finish(begin(WRITER, path, *range(8)) + begin(READER, path, "r", "r"))
    assert max(float(slowest) for slowest in printed[:8]) < 10.0  # seconds; a lock error is at 30
    assert printed[8:] == ["3200\n", "3200\n"]
    with Store.open(path) as store:
        assert len(store.ledger()) == 8 * 8
        assert len(store.runs()) == 8 * 8
        assert [entry.payload for entry in store.ledger(task="3")] == [*range(0, 400, 50)]
    assert is_sound(path)


def test_sixteen_processes_may_open_a_new_store_first(tmp_path: Path) -> None:
    """Turning WAL on locks the file without waiting: each of them must find a finished store."""
    path = tmp_path / "new" / "h.db"
    finish(begin(OPENER, path, *range(16)))
    with Store.open(path) as store:
        assert set(store.known_replies([str(n) for n in range(16)])) == {str(n) for n in range(16)}
    raw = sqlite3.connect(path)
    names = [name for (name,) in raw.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    raw.close()
    assert names == list(schema.NAMES)


ACKNOWLEDGED = """
with Store.open(path) as store:
    n = 0
    while True:
        store.add_replies([row(f"{me}-{n}-{k}") for k in range(3)])
        store.record(LedgerEntry(kind="pilot", task=me, at="now", payload=n))
        store.add_run(make_run([1.0, 0.0, n / 1e9], task=me), at="now")
        print(n, flush=True)
        n += 1
"""


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    Store.open(path).close()
    moments = random.Random(11)
    for life in range(6):
        [child] = begin(ACKNOWLEDGED, path, life)
        release([child])
        assert child.stdout is not None
        first = child.stdout.readline()  # it is writing now; the next kill falls anywhere
        time.sleep(moments.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        rest, errors = child.communicate(timeout=10)
        assert child.returncode == -signal.SIGKILL, errors
        # a line that the kill cut short was not acknowledged
        lines = (first + rest).split("\n")[:-1]
        last = int(lines[-1])
        assert is_sound(path)
        with Store.open(path) as store:
            keys = [f"{life}-{n}-{k}" for n in range(last + 1) for k in range(3)]
            assert set(store.known_replies(keys)) == set(keys)
            assert store.request_of(keys[-1]) is not None
            ledger = [entry.payload for entry in store.ledger(task=str(life))]
            assert ledger[: last + 1] == list(range(last + 1))
            assert len(ledger) <= last + 2
            runs = store.runs(task=str(life))
            assert len(runs) in (last + 1, last + 2)
            assert all(len(store.run(run.id).trials) == 3 for run in runs[-3:])


@pytest.mark.parametrize("life_s", [0.001, 0.002, 0.004, 0.008, 0.016])
def test_a_kill_while_the_store_is_made_leaves_one_that_opens(
    tmp_path: Path, life_s: float
) -> None:
    """Which takes five milliseconds or so from the moment that the process is released."""
    path = tmp_path / "h.db"
    [child] = begin(OPENER, path, "first")
    release([child])
    time.sleep(life_s)
    child.kill()
    child.communicate(timeout=10)
    with Store.open(path) as store:
        request = Request(messages=(Message(role="user", content="?"),))
        reply = Reply(text="yes")
        store.add_replies([StoredReply(key="k", request=request, reply=reply, backend="a:b")])
        assert store.known_replies(["k"]) == {"k": reply}
    assert is_sound(path)
