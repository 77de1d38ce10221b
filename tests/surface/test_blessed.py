"""`harness compare` for pull requests: against a file that people commit, from what is recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

SHOTS = ["compare", "toy", "--candidate", "shots"]
PLAIN = ["compare", "toy", "--candidate", "plain"]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """A project whose two prompts were run: `shots` is right, `plain` in two of three cases."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    made = Cli(Toy(tmp_path, dev=30), monkeypatch, capsys)
    (made.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )
    assert made("eval", "toy", "--candidate", "plain", "--candidate", "shots").code == 0
    return made


def edit(cli: Cli, change: dict[str, object], *, ids: tuple[str, ...]) -> None:
    some = [json.loads(row) for row in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    cli.toy.write_cases([row | change if row["id"] in ids else row for row in some])


def test_a_blessed_file_is_small_sorted_and_holds_no_text(cli: Cli) -> None:
    assert cli(*SHOTS, "--bless", "blessed.json").code == 0
    text = Path("blessed.json").read_text()
    plain = json.loads(text)
    assert list(plain["cases"]) == sorted(plain["cases"])
    assert len(plain["cases"]) == 30
    assert len(text.splitlines()) == 30 + len(plain) + 3  # a case a line, so that diffs are short
    assert re.fullmatch(r"[0-9a-f]{16}", plain["cases"]["c1"][0])
    assert "what?" not in text
    assert cli(*SHOTS, "--bless", "again.json").code == 0
    assert Path("again.json").read_text() == text


def test_only_a_shown_regression_alarms_and_nothing_is_asked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(*SHOTS, "--bless", "blessed.json")
    asked = len(cli.toy.sent)
    summary = cli.toy.root / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    same = cli(*SHOTS, "--baseline", "blessed.json")
    assert same.code == 0
    assert "no regression is shown; a loss of up to" in same.out
    worse = cli(*PLAIN, "--baseline", "blessed.json", "--json")
    assert worse.code == 1
    assert worse.json["is_shown_regression"] is True
    assert worse.json["comparison"]["newly_missed"][:2] == ["c0", "c3"]
    assert worse.json["usage"]["latency_s"] == {"blessed": 0.02, "now": 0.02}
    assert len(cli.toy.sent) == asked
    told = summary.read_text()
    assert told.count("### toy: ") == 2
    assert "a regression is shown" in told
    assert "<summary>newly missed (10)</summary>" in told
    better = cli("compare", "toy", "--candidate", "plain", "--bless", "low.json")
    assert better.code == 0
    assert "a gain is shown" in cli(*SHOTS, "--baseline", "low.json").out


def test_a_changed_case_is_left_out_and_many_make_the_file_stale(cli: Cli) -> None:
    cli(*SHOTS, "--bless", "blessed.json")
    edit(cli, {"reference": "0"}, ids=("c1",))
    one = cli(*SHOTS, "--baseline", "blessed.json", "--json")
    assert one.code == 0, one.err  # its recorded reply was scored anew
    assert one.json["changed_cases"] == ["c1"]
    assert one.json["comparison"]["losses"] == 0
    edit(cli, {"reference": "0"}, ids=("c1", "c2", "c3"))
    many = cli(*SHOTS, "--baseline", "blessed.json")
    assert many.code == 2
    assert "3 of its 30 cases changed or are gone (c1, c2, c3)" in many.err
    assert "--bless blessed.json" in many.err


def test_other_evals_make_the_file_stale(cli: Cli) -> None:
    cli(*SHOTS, "--bless", "blessed.json")
    path = cli.toy.task / "eval_toy.py"
    path.write_text(path.read_text() + "\n# another file\n")
    asked = len(cli.toy.sent)
    said = cli(*SHOTS, "--baseline", "blessed.json")
    assert said.code == 2
    assert "blessed.json is stale: the evals changed" in said.err
    assert len(cli.toy.sent) == asked


def test_a_candidate_that_was_not_run_is_told_with_the_command(cli: Cli) -> None:
    cli(*SHOTS, "--bless", "blessed.json")
    path = cli.toy.task / "prompts/plain.md"
    path.write_text(path.read_text() + "Now.\n")
    said = cli(*PLAIN, "--baseline", "blessed.json")
    assert said.code == 3
    assert "harness eval toy --candidate 'plain'" in said.err


def test_what_is_measured_flaky_is_listed_apart(cli: Cli) -> None:
    cli(*SHOTS, "--bless", "blessed.json")
    plain = json.loads(Path("blessed.json").read_text())
    plain["cases"]["c3"] = [plain["cases"]["c3"][0], 0.5, "1 of 2"]
    plain["cases"]["c6"] = [plain["cases"]["c6"][0], 1.0, "2 of 3"]
    Path("blessed.json").write_text(json.dumps(plain))
    said = cli(*PLAIN, "--baseline", "blessed.json")
    assert "newly missed, and measured flaky: c6" in said.out
    assert "newly missed: c0, c9" in said.out


def test_flaky_cases_are_listed_apart_between_two_recorded_candidates_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(Toy(tmp_path, dev=30), monkeypatch, capsys)
    module = cli.toy.root / "site" / "adder.py"
    text = module.read_text().replace(
        "        return harness.Reply(",
        "        self.seen = getattr(self, 'seen', 0) + (a == 6 and len(request.messages) > 1)\n"
        "        text = 'well' if a == 6 and self.seen == 1 else text\n"
        "        return harness.Reply(",
    )
    module.write_text(text)
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )
    settings = cli.toy.task / "task.toml"
    settings.write_text(settings.read_text() + 'repeats = 2\nrepeat_verdict = "1 of 2"\n')
    assert cli("eval", "toy", "--candidate", "plain", "--candidate", "shots").code == 0
    said = cli(*PLAIN, "--baseline", "shots")
    assert "newly missed, and measured flaky: c6\n" in said.out
    (others,) = re.findall(r"^newly missed: (.*)$", said.out, re.MULTILINE)
    assert set(others.split(", ")) == {f"c{n}" for n in range(0, 30, 3)} - {"c6"}
    assert cli(*PLAIN, "--baseline", "shots", "--json").json["flaky"] == ["c6"]


def test_nothing_that_a_case_is_called_becomes_markup(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cli.toy.task / "cases.jsonl"
    name = "<img src=x onerror=alert(1)>|[x](javascript:1) @team `#1`"
    path.write_text(path.read_text().replace('"id": "c3"', f'"id": {json.dumps(name)}'))
    cli("eval", "toy", "--candidate", "plain", "--candidate", "shots")
    cli(*SHOTS, "--bless", "blessed.json")
    summary = cli.toy.root / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    cli(*PLAIN, "--baseline", "blessed.json")
    line = next(row for row in summary.read_text().splitlines() if "onerror" in row)
    assert line.startswith("* &lt;img src=x onerror=alert\\(1\\)&gt;\\|\\[x\\]\\(javascript\\:1\\)")
    assert "\\@team \\`\\#1\\`" in line
