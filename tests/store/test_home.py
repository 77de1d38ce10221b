"""The folder beside the store is left alone by git, and no other folder is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.store.home import make_home
from harness.store.store import Store


def test_git_leaves_a_new_store_alone(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with Store.open(tmp_path / ".harness" / "harness.db"):
        pass
    assert (tmp_path / ".harness" / "harness.db").is_file()
    said = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--short", "--untracked-files=all"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout == ""


def test_a_folder_that_was_there_keeps_what_people_decided(tmp_path: Path) -> None:
    home = tmp_path / ".harness"
    make_home(home)
    (home / ".gitignore").write_text("mine\n")
    make_home(home)
    assert (home / ".gitignore").read_text() == "mine\n"
    (home / ".gitignore").unlink()
    make_home(home)
    assert not (home / ".gitignore").exists()


def test_a_store_beside_other_files_hides_none_of_them(tmp_path: Path) -> None:
    with Store.open(tmp_path / "results" / "h.db"):
        pass
    assert not (tmp_path / "results" / ".gitignore").exists()


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / ".harness").touch()
    with pytest.raises(FileExistsError):
        make_home(tmp_path / ".harness")
