"""An error is said once, and its paths as the person who reads it would type them."""

from __future__ import annotations

import re
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


RECURSION = """
def even(n):
    return odd(n + 1)

def odd(n):
    return even(n + 1)

def test_right(case, reply):
    assert case.id != "c5" or even(0)
"""


@pytest.mark.parametrize("more", [(), ("-n", "1"), ("--tb=long",)])
def test_a_recursion_is_shown_in_a_few_lines(cli: Cli, more: tuple[str, ...]) -> None:
    """pytest shows twenty frames of it, where a variable differs in each."""
    (cli.toy.task / "eval_toy.py").write_text(RECURSION)
    said = cli.pytest("evals/toy", "--candidate", "shots", "--tb=short", *more).out
    assert "test_right[shots-c5]" in said
    for line in (3, 6, 9):
        assert 1 <= said.count(f"evals/toy/eval_toy.py:{line}: ") <= 2, said
    assert re.search(r"^E +RecursionError: maximum recursion depth exceeded", said, re.MULTILINE)
    assert "comes again and again; each line is shown once (pytest --tb=native shows all)" in said


def test_a_recursion_may_be_shown_whole(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(RECURSION)
    said = cli.toy.pytest("evals/toy", "--candidate", "shots", "--tb=native").stdout
    assert said.count("return even(n + 1)") > 100


def test_a_recursion_that_swallows_its_own_error_is_shown_in_a_few_lines(cli: Cli) -> None:
    """What ends it is no RecursionError, so pytest folds nothing of a thousand frames."""
    (cli.toy.task / "eval_toy.py").write_text(
        "def deep():\n    while True:\n        try: deep()\n        except RecursionError: pass\n"
        "def test_right(case, reply):\n    assert case.id != 'c5' or deep()\n"
    )
    task = cli.toy.task / "task.toml"
    task.write_text(f"{task.read_text()}eval_timeout_s = 0.5\n")
    said = cli("eval", "toy", "--candidate", "shots").out
    assert "E   EvalTimeout: c5: the eval did not end within 0.5 s" in said
    assert said.count("eval_toy.py:3: in deep") <= 2
    assert "eval_toy.py:3 comes again and again; each line is shown once" in said
    assert said.count("\n") < 45


def test_only_paths_below_the_working_directory_lose_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    assert from_here(f"{here}/a/b.toml:3: no; see {here}/c.md") == "a/b.toml:3: no; see c.md"
    for kept in (f"/other{here}/a", f"{here}-old/a", f"{here}: a folder", f"~{here}/a"):
        assert from_here(kept) == kept
