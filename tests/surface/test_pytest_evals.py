"""Writing evals feels like pytest: the face, run as a user runs it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def summary(output: str) -> str:
    return output.strip().splitlines()[-1]


def test_the_reference_passes_and_asks_no_model(toy: Toy) -> None:
    result = toy.pytest("evals/toy")
    assert result.returncode == 0, result.stdout
    assert "37 passed" in summary(result.stdout)
    assert toy.sent == []


def test_a_miss_is_marked_and_does_not_fail_the_run(toy: Toy) -> None:
    result = toy.pytest("evals/toy", "--candidate", "plain", "--candidate", "shots", "-q")
    assert result.returncode == 0, result.stdout
    assert "8 missed" in summary(result.stdout)
    assert re.search(r"^[.m]*m[.m]*", result.stdout, re.MULTILINE)
    assert "not a number" in result.stdout
    assert len(toy.sent) == 24


def test_the_table_has_an_interval_for_every_score(cli: Cli) -> None:
    out = cli.pytest("evals/toy", "--candidate", "plain", "-q").out
    row = next(line for line in out.splitlines() if line.startswith("right*"))
    assert "67 % (35–90)" in row
    assert "plain: mean_length over all trials: " in out


def test_a_second_run_sends_nothing_and_gives_the_same_run(cli: Cli) -> None:
    once, again = (cli("eval", "toy", "--candidate", "plain", "--json").json for _ in range(2))
    assert once["runs"][0]["id"] == again["runs"][0]["id"]
    assert len(cli.toy.sent) == 12


def test_lf_runs_the_missed_items_again(cli: Cli) -> None:
    cli.pytest("evals/toy", "--candidate", "plain")
    result = cli.pytest("evals/toy", "--candidate", "plain", "--lf", "-q")
    assert "8 missed" in summary(result.out), result.out
    assert "passed" not in summary(result.out)


def test_k_selects_items_and_fetches_only_what_they_need(cli: Cli) -> None:
    result = cli.pytest("evals/toy", "--candidate", "plain", "-k", "right and c3", "-q")
    assert "1 missed" in summary(result.out)
    assert cli.toy.sent == ["3 + 6 ="]


def test_x_does_not_stop_at_a_miss_but_at_a_fault(cli: Cli) -> None:
    assert "8 missed" in cli.pytest("evals/toy", "--candidate", "plain", "-x").out
    (cli.toy.task / "eval_toy.py").write_text("def test_right(case, reply):\n    1 / 0\n")
    result = cli.pytest("evals/toy", "-x")
    assert result.code == 1
    assert "1 failed" in summary(result.out)


def test_pdb_opens_at_a_miss(toy: Toy) -> None:
    result = toy.pytest("evals/toy", "--candidate", "plain", "-k", "right and c3", "--pdb")
    assert "entering PDB" in result.stdout
    (toy.task / "eval_toy.py").write_text(
        "from harness import checks\n\n\ndef test_right(case, reply):\n"
        "    checks.equals(reply, 'another text')\n"
    )
    said = toy.pytest("evals/toy", "--candidate", "plain", "-k", "right and c3", "--pdb").stdout
    before, _, after = said.partition("entering PDB")
    assert "equals: expected 'another text', got " in before
    assert "-> checks.equals(reply, 'another text')" in after  # the eval, not the check's own file


def test_xdist_gives_the_same_run_and_sends_each_request_once(cli: Cli) -> None:
    result = cli.toy.pytest("evals/toy", "--candidate", "plain", "-n", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "8 missed" in summary(result.stdout)
    assert len(cli.toy.sent) == 12
    alone = cli("eval", "toy", "--candidate", "plain", "--json").json
    listed = cli("runs", "--json").json
    assert [r["id"] for r in listed] == [alone["runs"][0]["id"]]
    assert listed[0]["is_complete"] is True


def test_junit_totals_stay_right_and_carry_scores(cli: Cli) -> None:
    cli.pytest("evals/toy", "--candidate", "plain", "--junit-xml=out.xml")
    suite = ET.parse(cli.toy.root / "out.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("37", "0", "0")
    properties = [
        {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in suite.iter("testcase")
    ]
    missed = [p for p in properties if "miss" in p]
    assert len(missed) == 8
    assert missed[0]["score"] == "0.0"
    assert {p["task"] for p in properties} == {"toy"}  # no path of this machine


def test_collect_only_asks_nothing(cli: Cli) -> None:
    result = cli.pytest("evals/toy", "--candidate", "plain", "--collect-only", "-q")
    assert "test_right[plain-c3]" in result.out
    assert cli.toy.sent == []


def test_a_case_without_reference_is_unscored_not_missed(cli: Cli) -> None:
    rows = [json.loads(line) for line in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    rows[1].pop("reference")
    cli.toy.write_cases(rows)
    result = cli.pytest("evals/toy", "--candidate", "shots", "-q")
    assert "1 unscored" in summary(result.out), result.out


def test_an_assertion_of_somebody_elses_code_is_a_fault(cli: Cli) -> None:
    (cli.toy.root / "site" / "library.py").write_text("def check(x):\n    assert x == 0\n")
    (cli.toy.task / "eval_toy.py").write_text(
        "import library\ndef test_right(case, reply):\n    library.check(1)\n"
    )
    result = cli.pytest("evals/toy", "-k", "c1-")
    assert result.code in {1, 5}
    result = cli.pytest("evals/toy", "-q")
    assert "12 failed" in summary(result.out)


def test_numpy_testing_is_a_measurement(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(
        "import numpy\ndef test_right(case, reply):\n"
        "    numpy.testing.assert_allclose(float(reply.text), 0, atol=4)\n"
    )
    result = cli.pytest("evals/toy", "-q")
    assert "10 missed" in summary(result.out), result.out
    assert "right: Not equal to tolerance" in result.out  # after an empty line of numpy's


def test_an_eval_may_take_a_case_or_a_reply_of_its_own_as_a_parameter(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('reply', ['mine', 'yours'])\n"
        "def test_right(case, reply):\n    assert reply in {'mine', 'yours'}\n"
        "@pytest.mark.parametrize('case', ['mine'])\n"
        "def test_case(case, reply):\n    assert (case, bool(reply.text)) == ('mine', True)\n"
    )
    done = cli.pytest("evals/toy", "--candidate", "shots")
    assert "36 passed" in done.out, done.out
    assert "missed" not in summary(done.out)


def test_ordinary_tests_and_fixtures_live_beside_evals(cli: Cli) -> None:
    (cli.toy.task / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef limit():\n    return 20\n"
    )
    (cli.toy.task / "eval_toy.py").write_text(
        "import pytest\n"
        "class TestAll:\n"
        "    @pytest.mark.parametrize('factor', [1, 2])\n"
        "    def test_right(self, case, reply, limit, factor):\n"
        "        assert int(reply.text) * factor < limit\n"
        "def test_plain():\n    assert True\n"
    )
    result = cli.pytest("evals/toy", "-q")
    assert result.code == 0, result.out
    assert "13 missed" in summary(result.out)


def test_a_floor_fails_the_run(cli: Cli) -> None:
    ok = cli.pytest("evals/toy", "--candidate", "plain", "--floor", "right=0.5")
    bad = cli.pytest("evals/toy", "--candidate", "plain", "--floor", "right=0.95")
    assert (ok.code, bad.code) == (0, 1)
    assert "floor: right of plain" in bad.out


def test_a_broken_eval_file_is_named_with_its_line(cli: Cli) -> None:
    (cli.toy.task / "eval_toy.py").write_text("def test_right(case, reply):\n  assert (\n")
    result = cli("eval", "toy")
    assert result.code == 2
    assert "eval_toy.py:2" in result.err
    assert "Traceback" not in result.err


def test_a_strangers_exception_in_a_backend_is_a_fault_that_names_it(cli: Cli) -> None:
    result = cli.pytest("evals/toy", "--candidate", "plain", "-q", MODE="stranger")
    assert result.code == 1
    assert "KeyError: 'boom'" in result.out
    assert "26 passed" in summary(result.out)


def test_an_overflow_counts_as_failed_not_as_missing(cli: Cli) -> None:
    cli.pytest("evals/toy", "--candidate", "shots", "-q", MODE="overflow")
    run_id = cli("runs", "--json").json[0]["id"]
    run = cli("runs", run_id, "--json").json["run"]
    faults = [t["fault"] for t in run["trials"] if "fault" in t]
    assert [f["message"] for f in faults] == ["context overflow"]
    assert faults[0]["is_missing"] is False


def test_a_plain_pytest_elsewhere_sees_nothing_of_us(tmp_path: Path, toy: Toy) -> None:
    """No option of ours is declared, so a foreign `--candidate` does not collide."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--candidate')\n"
    )
    (other / "test_x.py").write_text(
        "import sys\n"
        "def test_x(request):\n"
        "    assert request.config.getoption('--candidate') == 'theirs'\n"
        "    ours = [m for m in sys.modules if m.startswith('harness.')]\n"
        "    assert ours == ['harness.surface', 'harness.surface.pytest_door'], ours\n"
    )
    (other / "eval_x.py").write_text("raise RuntimeError('not ours')\n")
    (other / "pytest.ini").write_text("[pytest]\n")
    toy.root = other
    (tmp_path / "pyproject.toml").unlink()
    result = toy.pytest("--candidate=theirs", "-q")
    assert result.returncode == 0, result.stdout
    assert result.stdout.strip().splitlines()[-1].startswith("1 passed")
