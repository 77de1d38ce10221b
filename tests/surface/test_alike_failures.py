"""A bug in an eval is shown a few times, and counted for all cases."""

from __future__ import annotations

import re

import pytest

from tests.surface.inprocess import Cli

BUGS = """
import pytest

@pytest.fixture
def broken(case):
    return nothing

def test_right(case, reply):
    if case.inputs["a"] > 3:
        undefined
    raise ValueError if case.inputs["a"] == 3 else KeyError(case.id)

def test_two(case, reply, broken):
    pass
"""
PLAIN = """
import pytest

@pytest.mark.parametrize("n", range(5))
def test_plain(n):
    raise OSError
"""
READS = """
def pytest_terminal_summary(terminalreporter):
    print("\\nfailed:", len(terminalreporter.stats["failed"]))
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_a_bug_in_an_eval_is_shown_three_times_and_its_other_cases_are_counted(
    cli: Cli, workers: tuple[str, ...]
) -> None:
    (cli.toy.task / "eval_toy.py").write_text(BUGS)
    (cli.toy.task / "conftest.py").write_text(READS)
    (cli.toy.task / "test_plain.py").write_text(PLAIN)
    done = cli.pytest("evals/toy", "--candidate", "shots", "--junit-xml=j.xml", *workers)
    assert done.code == 1
    lines = done.out.splitlines()
    for error, told in (("NameError", 6), ("KeyError", 3), ("ValueError", 1)):
        assert sum(f"[shots-c{i}] - {error}" in x for i in range(12) for x in lines) == told
        assert sum(x.endswith(f": {error}") for x in lines) == told  # the tracebacks
    assert [x for x in lines if x.startswith("and ")] == [
        f"and {n} more of {name}, each with NameError at evals/toy/eval_toy.py:{line} "
        "(pytest -v shows all)"
        for n, name, line in [(5, "test_right", 10), (9, "test_two", 6)]
    ]
    assert "17 failed, 12 errors" in lines[-1]
    assert "failed: 17" in lines  # what a plugin reads is whole
    assert sum(f"test_plain[{n}] - OSError" in x for n in range(5) for x in lines) == 5
    junit = (cli.toy.root / "j.xml").read_text()
    assert (junit.count("<failure"), junit.count("<error")) == (17, 12)


def test_asserts_of_a_fixture_elsewhere_are_alike_whatever_they_compare(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text("def test_right(case, reply, odd):\n    pass\n")
    (cli.toy.root / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef odd(case):\n    assert case.inputs['a'] == 1.5\n"
    )
    said = cli("eval", "toy", "--candidate", "shots")
    told = "and 9 more of test_right, each with AssertionError at conftest.py:4"
    assert told in said.out


@pytest.mark.parametrize("option", ["-v", "--tb=long"])
def test_all_of_them_are_shown_where_that_is_asked_for(cli: Cli, option: str) -> None:
    (cli.toy.task / "eval_toy.py").write_text(BUGS)
    done = cli.pytest("evals/toy", "--candidate", "shots", option)
    assert len(re.findall(r"^(?:FAILED|ERROR) .* - ", done.out, re.MULTILINE)) == 24
    assert " more of " not in done.out
