"""A file beside the store, of a process that lives or one that is gone."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from harness.store import journal
from harness.store.journal import Journal, files_beside, left_behind


def begun(store: Path) -> Journal:
    made = Journal.begin(store)
    assert made is not None
    return made


def test_what_was_added_is_there_once_its_process_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "a [odd] name.db"
    one = begun(store)
    one.add({"a": "\ud800"})
    one.add([1, None])
    assert list(left_behind(store)) == []  # it lives
    one.close()
    [left] = left_behind(store)
    assert left.rows == ({"a": "\ud800"}, [1, None])
    assert left.ended_at.endswith("+00:00")
    assert files_beside(store) == []


def test_what_is_recorded_leaves_no_file(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    one = begun(store)
    one.add(1)
    one.remove()
    one.add(2)
    assert list(tmp_path.iterdir()) == []


def test_a_file_stays_where_what_it_holds_could_not_be_recorded(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    begun(store).close()
    with pytest.raises(KeyError):  # noqa: PT012 - the loop is what raises
        for _ in left_behind(store):
            raise KeyError
    assert len(files_beside(store)) == 1
    assert len(list(left_behind(store))) == 1


def test_two_that_recover_at_once_take_a_file_once(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    begun(store).close()
    first = left_behind(store)
    next(first)
    assert list(left_behind(store)) == []
    assert list(first) == []
    assert files_beside(store) == []


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    one = begun(store)
    one.add([1])
    with one.path.open("ab") as file:
        file.write(b'[2, "cut o')
    one.close()
    [left] = left_behind(store)
    assert left.rows == ([1],)


def test_what_is_no_json_is_left_out_and_a_full_disk_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.db"
    one = begun(store)
    one.add([object()])
    one.add([1])

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        one.add([2])
    one.add([3])  # there is room again; what is missing between would be told as not scored
    one.close()
    [left] = left_behind(store)
    assert left.rows == ([1],)


def test_one_whose_file_somebody_took_before_it_was_locked_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, opened = tmp_path / "s.db", os.open

    def stolen(path: Any, *arguments: Any) -> int:
        handle = opened(path, *arguments)
        monkeypatch.setattr(os, "open", opened)
        assert len(list(left_behind(store))) == 1
        return handle

    monkeypatch.setattr(journal.os, "open", stolen)
    one = begun(store)
    assert files_beside(store) == [one.path]


def test_where_nothing_can_be_locked_there_is_none_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some file systems that two machines share."""

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert Journal.begin(tmp_path / "s.db") is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert Journal.begin(tmp_path / "none/s.db") is None
    assert list(left_behind(tmp_path / "none/s.db")) == []
