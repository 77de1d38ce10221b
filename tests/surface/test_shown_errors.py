"""An error is said once, and its paths as the person who reads it would type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.surface.words import from_here
from tests.surface.inprocess import Cli


def test_an_error_of_the_store_is_said_once_with_the_path_that_was_given(cli: Cli) -> None:
    (cli.toy.root / "bad.db").write_text("no database, but a long enough text to be sure")
    said = cli("--store", "bad.db", "eval", "toy", "--candidate", "plain")
    assert said.code == 4
    assert said.err.count("file is not a database") == 1
    assert "error: store bad.db: file is not a database" in said.err
    assert "not a database" not in said.out


def test_a_store_that_fails_at_the_end_is_said_once_and_scores_are_still_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import StoreError
    from harness.store.store import Store

    def full(*_: object, **__: object) -> str:
        raise StoreError(f"store {cli.toy.root / 'x.db'}: the disk is full")

    monkeypatch.setattr(Store, "add_run", full)
    said = cli("eval", "toy", "--candidate", "plain", "--", "-k", "number")
    assert said.code == 4
    assert (said.out + said.err).count("the disk is full") == 1
    assert "error: store x.db: the disk is full" in said.err
    assert "passed" in said.out


def test_what_ended_pytest_itself_is_told(cli: Cli) -> None:
    """A quiet run shows nothing that pytest prints."""
    (cli.toy.root / "conftest.py").write_text(
        "def pytest_runtest_protocol(item):\n    raise OSError('the lab is closed')\n"
    )
    for verb in (["eval", "toy", "--candidate", "plain", "--json"], ["ladder", "toy"]):
        said = cli(*verb)
        assert said.code == 2
        assert "pytest broke off: OSError: the lab is closed" in said.err


def test_only_paths_below_the_working_directory_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert from_here(f"{here}/a/b.toml:3: no; see {here}/c.md") == "a/b.toml:3: no; see c.md"
    for kept in (f"/other{here}/a", f"{here}-old/a", f"{here}: a folder", f"~{here}/a"):
        assert from_here(kept) == kept
