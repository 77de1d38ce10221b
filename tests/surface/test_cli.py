"""Every verb on a small project: exit codes, JSON alone on standard output, and plain errors."""

from __future__ import annotations

import importlib
import json
import signal
from pathlib import Path
from typing import Any

import click
import pytest

from harness.errors import StoreError
from harness.store.store import Store
from harness.surface.cli import VERBS
from harness.surface.words import clean
from tests.surface.inprocess import Cli

QUICK = {"PAUSE": "0"}


def rows(cli: Cli) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]


def add_settings(cli: Cli, text: str) -> None:
    path = cli.toy.task / "task.toml"
    path.write_text(path.read_text() + text)


def store(cli: Cli) -> Store:
    return Store.open(cli.toy.root / ".harness/harness.db", read_only=True)


# ---------------------------------------------------------------- help and JSON


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_that_says_what_the_list_says(cli: Cli, verb: str) -> None:
    said = cli(verb, "--help")
    assert said.code == 0
    command: click.Command = importlib.import_module(f"harness.surface.cli.{verb}_verb").command
    assert VERBS[verb].rstrip(".") in (command.help or "")
    assert said.out.startswith(f"Usage: harness {verb} ")


def test_help_lists_every_verb_and_the_exit_codes(cli: Cli) -> None:
    said = cli("--help")
    assert said.code == 0
    assert all(f"  {verb} " in said.out for verb in VERBS)
    assert "3 not enough evidence" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["eval"],
        ["eval", "toy", "--bad"],
        ["eval", "toy", "--split", "validation"],
        ["data", "look", "toy", "--rows", "-1"],
        ["report", "toy", "--out", "."],
    ],
)
def test_a_wrong_command_line_is_exit_2_and_no_traceback(cli: Cli, arguments: list[str]) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert "Error: " in said.err
    assert said.out == ""


def keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, dict) else {type(value).__name__}


def test_json_is_alone_on_standard_output_for_every_verb(cli: Cli) -> None:
    """One project through the loop; what people read stays out of it."""
    codes = {}
    cli.toy.seal()
    for arguments, expected in [
        (["init", "mine", "--model", "adder:small"], {"folder", "files"}),
        (["data", "look", "toy"], {"rows", "facts"}),
        (["eval", "toy", "--candidate", "plain"], {"runs"}),
        (["ladder", "toy", "--only-files"], {"tries", "target"}),
        (["wall", "toy"], {"id", "verdict"}),
        (["advise", "toy"], None),
        (["compare", "toy", "--candidate", "plain"], {"comparison", "is_shown_regression"}),
        (["gate", "toy", "--candidate", "plain"], {"id", "verdict"}),
        (["report", "toy"], {"path", "bytes"}),
        (["runs"], {"list"}),
        (["plugins"], {"plugins", "backends", "tuners"}),
        (["doctor"], {"list"}),
        (["tune", "toy"], {"error", "exit_code"}),
    ]:
        said = cli(*arguments, "--json", **QUICK)
        codes[arguments[0]] = said.code
        assert (expected or set()) <= keys(said.json), arguments
        assert "Traceback" not in said.err
        if "error" in keys(said.json):
            assert said.json["exit_code"] == said.code
    assert codes == {
        "init": 0, "data": 0, "eval": 0, "ladder": 0, "wall": 3, "advise": 3, "compare": 0,
        "gate": 3, "report": 0, "runs": 0, "plugins": 0, "doctor": 0, "tune": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["eval", "nope"], 2, "no task 'nope' under"),
        (["eval", "toy", "--candidate", "nope"], 2, "no candidate 'nope'"),
        (["eval", "toy", "--candidate", "plain@zz:x"], 2, "no backend 'zz'"),
        (["eval", "toy", "--bad"], 2, "No such option"),
        (["wall", "toy"], 3, "no complete try"),
        (["compare", "toy", "--candidate", "plain"], 3, "no try to compare with"),
        (["gate", "toy", "--candidate", "plain"], 3, "no try to compare with"),
        (["tune", "toy"], 1, "is refused"),
        (["runs", "ffff"], 2, "no run 'ffff'"),
    ],
)
def test_json_of_an_error_says_what_and_which_code(
    cli: Cli, arguments: list[str], code: int, says: str
) -> None:
    said = cli(*arguments, "--json", **QUICK)
    assert (said.code, said.json["exit_code"]) == (code, code)
    assert says in said.json["error"]
    assert says in said.err


@pytest.mark.parametrize(("trouble", "code"), [(KeyboardInterrupt, 130), (StoreError, 4)])
def test_what_goes_wrong_after_the_answer_is_said_beside_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, trouble: type[BaseException], code: int
) -> None:
    """As Ctrl-C that ends `harness model serve --json`, whose answer was given as it was ready."""

    def table(*_: object, **__: object) -> str:
        raise trouble("gone")

    monkeypatch.setattr(importlib.import_module("tabulate"), "tabulate", table)
    cli("eval", "toy", **QUICK)
    said = cli("runs", "--json")
    assert said.code == code
    assert [run["task"] for run in said.json] == ["toy"]
    assert "interrupted" in said.err or "error: gone" in said.err
    assert cli("runs", "no-such-run", "--json").json["exit_code"] == 2


def test_half_a_surrogate_pair_does_not_break_json(cli: Cli) -> None:
    some = rows(cli)
    some[0]["inputs"]["note"] = "\ud83d ä"
    cli.toy.write_cases(some)
    said = cli("data", "look", "toy", "--rows", "99", "--json")
    assert said.code == 0
    found = next(r for r in said.json["rows"] if r["id"] == "c0")
    assert found["inputs"]["note"] == "\ud83d ä"


# ---------------------------------------------------------------- names that are not there


@pytest.mark.parametrize(
    ("arguments", "known", "command"),
    [
        (["eval", "nope"], "Known: toy", "`harness doctor` lists them"),
        (["eval", "toy", "--candidate", "nope"], "Known: plain, reference, shots", "PROMPT@SCHEME"),
        (["eval", "toy", "--candidate", "nope@adder:x"], "Known: plain, shots", "NAME.md"),
        (["eval", "toy", "--candidate", "plain@x"], "not SCHEME:MODEL", "`harness plugins` lists"),
        (["eval", "toy", "--candidate", "plain@zz:x"], "Known: adder, ", "Run `harness plugins`"),
        (
            ["eval", "toy", "--candidate", "plain@adder:x+t"],
            "not an artifact",
            "`harness tune toy`",
        ),
        (["eval", "toy", "--candidate", "replay:no.jsonl"], "no.jsonl: no such file", ""),
        (["eval", "toy", "--floor", "right"], "is not SCORE=VALUE", "as in valid=0.9"),
        (["eval", "toy", "--floor", "right=2"], "the least mean that a score", "from 0 to 1"),
        (["eval", "toy", "--floor", "wrong=1"], "Scores: close, mean_length, number, right", ""),
        (["compare", "toy", "--candidate", "plain", "--baseline", "nope"], "Known: plain", ""),
        (["ladder", "toy", "--only-files", "--candidate", "nope"], "Known: plain", ""),
        (["tune", "toy", "--override", "x"], "no [tune] table", "tuner, prompt and recipe"),
        (["init", "Not-Good"], "letters, digits, _", ""),
        (["init", "toy"], "exists already", "choose another name"),
        (["init", "new", "--model", "gpt"], "is not SCHEME:MODEL", "openai:gpt-x"),
    ],
)
def test_an_unknown_name_is_told_with_what_is_known_and_what_to_do(
    cli: Cli, arguments: list[str], known: str, command: str
) -> None:
    said = cli(*arguments)
    assert said.code == 2
    assert known in said.err
    assert command in said.err
    assert said.err.count("error: ") == 1
    assert "ERROR" not in said.out + said.err
    assert cli.toy.sent == []


def test_a_model_folder_that_is_not_one_is_told_with_what_it_lacks(
    cli: Cli, tmp_path: Path
) -> None:
    for model in (str(tmp_path), "nowhere"):
        said = cli("eval", "toy", "--candidate", f"plain@local:{model}")
        assert said.code == 2
        assert "config.json, tokenizer.json" in said.err


def test_a_missing_extra_is_told_with_the_pip_line(cli: Cli) -> None:
    """As a plugin does whose library is not installed."""
    module = cli.toy.root / "site/adder.py"
    module.write_text(
        "import harness\n"
        "def make(config):\n    raise harness.MissingExtra('adder:', extra='local')\n"
        "@harness.hookimpl\ndef harness_backends():\n    return {'adder': make}\n"
    )
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 2
    assert "pip install 'tuning-harness[local]'" in said.err


def test_a_backend_that_cannot_be_made_is_exit_4_and_named(cli: Cli) -> None:
    (cli.toy.root / "site/adder.py").write_text(
        "import harness\n"
        "def make(config):\n    raise TypeError('boom')\n"
        "@harness.hookimpl\ndef harness_backends():\n    return {'adder': make}\n"
    )
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 4
    assert "adder:small cannot be made: TypeError: boom" in said.err


def test_a_template_with_an_unknown_field_is_told_before_anything_is_sent(cli: Cli) -> None:
    (cli.toy.task / "prompts/plain.md").write_text("@user\n{{ a }} + {{ c }}\n")
    for verb in (["eval", "toy", "--candidate", "plain"], ["ladder", "toy", "--only-files"]):
        said = cli(*verb)
        assert said.code == 2
        assert "plain.md: case 'c0'" in said.err
        assert "'c' is undefined. Its fields: a, b." in said.err
    assert cli.toy.sent == []


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("cases.jsonl", "{}\n", "cases.jsonl:1: id: it is missing"),
        ("cases.jsonl", "", "cases.jsonl:1: no cases"),
        ("task.toml", "about = 1", "task.toml:1: about: Input should be a valid string"),
        ("task.toml", "= 1", "task.toml:1: not TOML"),
        ("eval_toy.py", "def test_right(case, reply):\n  assert (\n", "eval_toy.py:2: "),
        ("prompts/plain.md", "@user\n{% for %}\n", "plain.md:2: "),
    ],
)
@pytest.mark.parametrize("verb", ["eval", "ladder", "wall"])
def test_a_broken_file_is_told_by_whatever_verb_reads_it(
    cli: Cli, verb: str, file: str, text: str, says: str
) -> None:
    (cli.toy.task / file).write_text(text)
    said = cli(verb, "toy")
    assert said.code == 2
    assert says in said.err
    assert cli.toy.sent == []


@pytest.mark.parametrize("verb", ["eval", "ladder"])
def test_an_eval_file_that_cannot_be_imported_is_told(cli: Cli, verb: str) -> None:
    (cli.toy.task / "eval_toy.py").write_text("import no_such_thing\ndef test_right(reply): ...\n")
    said = cli(verb, "toy")
    assert said.code == 2
    assert "no_such_thing" in said.err
    assert cli.toy.sent == []


def test_a_broken_eval_file_beside_a_good_one_sends_nothing(cli: Cli) -> None:
    """pytest would stop after the collection anyway; replies cost money."""
    (cli.toy.task / "eval_more.py").write_text("import no_such_thing\ndef test_x(reply): ...\n")
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 2
    assert "no_such_thing" in said.err
    assert cli.toy.sent == []


@pytest.mark.parametrize("place", ["pyproject.toml/x.db", "evals/toy/task.toml"])
def test_a_store_that_cannot_be_one_is_exit_4(cli: Cli, place: str) -> None:
    said = cli("--store", str(cli.toy.root / place), "runs", "--json")
    assert said.code == 4
    assert "--store PATH" in said.json["error"]


def test_a_report_that_cannot_be_written_is_told(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "plain")
    said = cli("report", "toy", "--out", str(cli.toy.root / "pyproject.toml/x.html"))
    assert said.code in {2, 4}
    assert "pyproject.toml" in said.err


def test_broken_settings_of_the_project_are_told(cli: Cli) -> None:
    (cli.toy.root / "pyproject.toml").write_text("[tool.harness]\ntask = 1\n")
    said = cli("runs")
    assert said.code == 2
    assert "unknown keys ['task']" in said.err


# ---------------------------------------------------------------- eval


def test_misses_do_not_fail_an_eval_but_faults_and_floors_do(cli: Cli) -> None:
    plain = ["eval", "toy", "--candidate", "plain"]
    assert cli(*plain).code == 0
    assert cli(*plain, "--floor", "right=0.5").code == 0
    said = cli(*plain, "--floor", "right=0.9", "--floor", "mean_length=0.5")
    assert said.code == 1
    assert "floor: right of plain is 67 % (35–90), below 90 %" in said.out
    assert "floor: mean_length of plain is 28 %, below 50 %" in said.out
    (cli.toy.task / "eval_toy.py").write_text("def test_right(case, reply):\n    1 / 0\n")
    said = cli(*plain)
    assert said.code == 1
    assert "ZeroDivisionError" in said.out


def test_a_floor_on_a_score_that_was_left_out_does_not_hold(cli: Cli) -> None:
    said = cli("eval", "toy", "--floor", "right=0.1", "--", "-k", "number")
    assert said.code == 1
    assert "floor: right of reference was not scored, 10 % needed" in said.out


def test_options_for_pytest_stand_after_two_dashes(cli: Cli) -> None:
    said = cli("eval", "toy", "--candidate", "plain", "--", "-k", "right and c3", "-q")
    assert said.code == 0
    assert cli.toy.sent == ["3 + 6 ="]
    assert "partial" in said.out
    again = cli("eval", "toy", "--candidate", "plain", "--json", "--", "--lf")
    assert again.code == 0
    assert len(again.json["runs"][0]["run"]["trials"]) == 1


def test_a_second_interrupt_is_no_traceback_and_leaves_the_signal_as_it_was(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:  # as Python tells a Ctrl-C within `class X:`
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("harness.engine.project.find_project", broken)
    said = cli("runs")
    assert (said.code, said.err.splitlines()[-1][:12]) == (130, "interrupted;")
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setattr("harness.engine.project.find_project", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("runs")


@pytest.mark.parametrize("option", ["-k", "--lf"])
def test_an_option_of_pytest_without_the_dashes_is_told_where_it_goes(
    cli: Cli, option: str
) -> None:
    said = cli("eval", "toy", option, "right")
    assert said.code == 2
    told = f"No such option '{option}'. Options for pytest stand after `--`: harness eval TASK -- "
    assert f"{told}{option}\n" in said.err
    assert "Did you mean '--candidate'?" in cli("eval", "toy", "--candidat", "plain").err


def test_an_eval_that_selects_nothing_is_a_usage_error(cli: Cli) -> None:
    said = cli("eval", "toy", "--", "-k", "no_such_eval")
    assert said.code == 2
    assert "no eval ran" in said.err


def test_a_split_without_cases_is_told_with_those_that_have_some(cli: Cli) -> None:
    cli.toy.write_cases([r for r in rows(cli) if r["split"] == "dev"])
    said = cli("eval", "toy", "--split", "test")
    assert said.code == 2
    said_of = "of the cases in evals/toy/cases.jsonl: train 0, dev 12, test 0"
    assert f"no case in split 'test', {said_of}" in said.err
    assert "ERROR" not in said.out


def test_a_task_without_dev_cases_is_told_by_the_ladder_too(cli: Cli) -> None:
    cli.toy.write_cases([r for r in rows(cli) if r["split"] == "train"])
    assert cli("ladder", "toy", "--only-files").code == 2
    assert cli("wall", "toy").code in {2, 3}


def test_offline_asks_nobody_and_says_so(cli: Cli) -> None:
    said = cli("eval", "toy", "--candidate", "plain", "--offline")
    assert said.code == 2
    assert "F plain 12 of 12: no recorded reply (run without --offline)" in said.out
    assert "trials without a recorded reply or score: 12 of 12 of plain. Run it without" in said.err
    assert cli.toy.sent == []
    assert "partial" in cli("runs").out  # nothing was tried


def test_what_a_fixture_measures_is_a_miss_and_the_eval_is_not_called(cli: Cli) -> None:
    """A fixture that parses the reply is how most evals begin."""
    (cli.toy.task / "eval_toy.py").write_text(
        "import pytest\nfrom harness import Miss\n"
        "@pytest.fixture\n"
        "def number(reply):\n"
        "    if not reply.text.isdigit():\n"
        "        raise Miss('no number')\n"
        "    return int(reply.text)\n"
        "def test_right(case, number):\n"
        "    assert number == int(case.reference)\n"
    )
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 0
    assert "8 passed, 4 missed" in said.out
    assert "m plain c0 right: no number" in said.out


def test_the_reference_of_a_case_that_has_none_is_unscored(cli: Cli) -> None:
    some = rows(cli)
    some[1].pop("reference")
    cli.toy.write_cases(some)
    said = cli("eval", "toy")
    assert said.code == 0
    assert "34 passed, 3 unscored" in said.out
    [run] = cli("eval", "toy", "--json").json["runs"]
    assert [t["case_id"] for t in run["run"]["trials"] if "fault" in t] == []


def test_an_ordinary_test_beside_the_evals_does_not_make_a_run_partial(cli: Cli) -> None:
    path = cli.toy.task / "eval_toy.py"
    path.write_text(path.read_text() + "\ndef test_of_no_reply(tmp_path):\n    assert 1\n")
    [run] = cli("eval", "toy", "--candidate", "plain", "--json").json["runs"]
    assert run["run"]["is_complete"] is True


def test_the_projects_own_pytest_settings_do_no_harm(cli: Cli) -> None:
    """Options of the terminal and of the cache, and warnings as errors."""
    path = cli.toy.root / "pyproject.toml"
    path.write_text(
        path.read_text() + "[tool.pytest.ini_options]\n"
        'addopts = ["-ra", "--strict-config", "--import-mode=importlib", "-vv"]\n'
        'filterwarnings = ["error"]\ncache_dir = ".cached"\n'
    )
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    said = cli("ladder", "toy", "--only-files", "--json")
    assert said.code == 0
    assert len(said.json["tries"]) == 2


# ---------------------------------------------------------------- a backend that is down


@pytest.mark.usefixtures("hurry")
def test_a_backend_that_is_down_is_exit_4_and_what_was_answered_is_kept(cli: Cli) -> None:
    assert cli("eval", "toy", "--candidate", "plain", "--", "-k", "right and c3").code == 0
    said = cli("eval", "toy", "--candidate", "plain", MODE="down", **QUICK)
    assert said.code == 4
    assert "connection refused (try 1 of 4, again in" in said.err
    assert "adder:small: try 2 of 4, again in" in said.err
    assert "adder:small is down; the other requests to it are not sent" in said.err
    assert "11 of 12 trials have no reply" in said.err
    assert "the same command asks for the rest" in said.err
    assert said.out.count("connection refused") == 0  # the error says it
    assert said.err.count("connection refused") == 2  # while it waits, and at the end
    before = len(cli.toy.sent)
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    assert len(cli.toy.sent) - before == 11


@pytest.mark.usefixtures("hurry")
@pytest.mark.usefixtures("hurry")
def test_of_several_candidates_without_a_reply_the_cause_is_told_once(cli: Cli) -> None:
    two = ["--candidate", "plain", "--candidate", "shots"]
    said = cli("eval", "toy", *two, MODE="down", **QUICK)
    assert "F plain 12 of 12, shots 12 of 12: connection refused\n" in said.out
    assert said.out.count("connection refused") == 1
    shown = cli.pytest("evals/toy", *two[:2], MODE="down").out
    assert "F plain 12 of 12: connection refused\n" in shown


def test_what_the_error_will_not_name_is_told_before_it(cli: Cli) -> None:
    """Of two causes it names the first, and none where a person stopped the run."""
    evals, backend = cli.toy.task / "eval_toy.py", cli.toy.root / "site/adder.py"
    backend.write_text(
        backend.read_text()
        .replace('if mode == "stranger" and a == 4:', 'if mode == "stranger" and a in (4, 5):')
        .replace('KeyError("boom")', 'KeyError(f"boom {a // 5}")')
    )
    said = cli("eval", "toy", "--candidate", "shots", MODE="stranger")
    assert said.code == 4
    for cause, case in (("boom 0", "c4"), ("boom 1", "c5")):
        assert f"F shots 1 of 12 ({case}): adder:small: KeyError: '{cause}'" in said.out
    assert "error: shots: 2 of 12 trials have no reply (c4, c5): " in said.err
    stop = "    if case.id == 'c5':\n        raise KeyboardInterrupt\n"
    evals.write_text(evals.read_text().replace("(case, reply):\n", f"(case, reply):\n{stop}", 1))
    backend.write_text(backend.read_text().replace("(4, 5)", "(4, )"))
    said = cli("eval", "toy", "--candidate", "plain", MODE="stranger")
    assert said.code == 130
    assert "F plain 1 of 5 (c4): adder:small: KeyError: 'boom 0'" in said.out


def test_json_holds_the_results_of_the_other_cases_where_one_reply_was_lost(cli: Cli) -> None:
    said = cli("eval", "toy", "--candidate", "shots", "--json", MODE="stranger")
    assert (said.code, said.json["exit_code"]) == (4, 4)
    assert "1 of 12 trials have no reply (c4): " in said.json["error"]
    [one] = said.json["runs"]
    scored = [t["case_id"] for t in one["run"]["trials"] if "fault" not in t]
    assert scored == [f"c{i}" for i in range(12) if i != 4]
    assert one["id"][:8] in cli("runs").out


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(
    "verb", [["ladder", "toy", "--only-files"], ["eval", "toy", "--candidate", "plain"]]
)
def test_json_of_a_backend_that_is_down_is_one_value(cli: Cli, verb: list[str]) -> None:
    said = cli(*verb, "--json", MODE="down", **QUICK)
    assert (said.code, said.json["exit_code"]) == (4, 4)
    assert "connection refused" in said.json["error"]


# ---------------------------------------------------------------- runs


def test_a_run_is_found_by_the_beginning_of_its_id(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "plain")
    cli("eval", "toy")
    first, second = [r["id"] for r in cli("runs", "--json").json]
    said = cli("runs", first[:6], "--json")
    assert (said.code, said.json["id"]) == (0, first)
    shown = cli("runs", second[:6])
    assert shown.out.startswith(f"{second}: reference on toy, dev split")
    missing = cli("runs", "zzzz")
    assert missing.code == 2
    assert first in missing.err


def test_a_run_shows_of_a_miss_what_was_compared_and_no_diff(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "constant:6")
    (run,) = [r["id"] for r in cli("runs", "--json").json]
    missed = [line for line in cli("runs", run).out.splitlines() if "right 0" in line]
    assert missed  # each ends where pytest's comparison in detail would begin
    assert all(line.endswith("'") for line in missed), missed


def test_runs_of_one_task_alone(cli: Cli) -> None:
    assert cli("runs").out.startswith("no runs yet in ")
    assert not (cli.toy.root / ".harness/harness.db").exists()  # to look makes no store
    cli("eval", "toy")
    assert len(cli("runs", "--task", "toy", "--json").json) == 1
    assert cli("runs", "--task", "other", "--json").json == []


# ---------------------------------------------------------------- init, doctor, data


def test_init_makes_a_task_that_eval_passes_and_doctor_finds_in_order(cli: Cli) -> None:
    made = cli("init", "mine", "--model", "adder:small")
    assert made.code == 0
    said = cli("eval", "mine")
    assert said.code == 0
    assert "24 passed" in said.out
    found = cli("doctor")
    assert found.code == 0
    assert "✓ task mine: 2 evals, 4 candidates, train 8, dev 12, test 4" in found.out
    assert cli("data", "look", "mine").code == 0
    assert cli("eval", "mine", "--split", "test").code == 0


def test_init_works_where_nothing_is_yet(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert cli("init", "mine", "--model", "adder:small").code == 0
    assert cli("eval", "mine").code == 0
    assert (empty / ".harness/harness.db").is_file()


def test_doctor_finds_a_leak_a_missing_field_and_a_missing_scheme(cli: Cli) -> None:
    assert cli("doctor").code == 0
    good = rows(cli)
    leaky = [*good[:-1], good[-1] | {"inputs": good[0]["inputs"]}]
    cli.toy.write_cases(leaky)
    said = cli("doctor")
    assert said.code == 1
    assert "✗ task toy: 1 case in two splits. The first: evals/toy/cases.jsonl:1: " in said.out
    assert "'c0' (dev) stand in test too, at evals/toy/cases.jsonl:22" in said.out
    cli.toy.write_cases(good)
    (cli.toy.task / "prompts/plain.md").write_text("@user\n{{ nothing }}\n")
    said = cli("doctor", "--json")
    assert said.code == 1
    [broken] = [f for f in said.json if f.get("holds") is False]
    assert "'nothing' is undefined" in broken["text"]
    (cli.toy.task / "prompts/plain.md").unlink()
    text = (cli.toy.task / "task.toml").read_text().replace("adder:small", "gone:small")
    (cli.toy.task / "task.toml").write_text(text)
    assert "no backend 'gone'" in cli("doctor").out


def test_doctor_names_a_plugin_that_is_broken(cli: Cli) -> None:
    (cli.toy.root / "site/adder.py").write_text(
        "import harness\n@harness.hookimpl\ndef harness_backend():\n    return {}\n"
    )
    said = cli("doctor")
    assert said.code == 1
    assert "'harness_backend' is not a hook" in said.out


def test_doctor_names_a_plugin_that_was_left_out(cli: Cli) -> None:
    (cli.toy.root / "site/adder.py").write_text("import no_such_library\n")
    said = cli("doctor")
    assert said.code == 1
    assert "✗ plugin: plugin 'adder' of adder was left out: ModuleNotFoundError" in said.out


def test_data_look_keeps_the_sealed_rows_sealed(cli: Cli) -> None:
    shown = cli("data", "look", "toy", "--rows", "99", "--json").json["rows"]
    assert {r["split"] for r in shown} == {"train", "dev"}
    sealed = cli("data", "look", "toy", "--rows", "99", "--split", "test", "--json").json["rows"]
    assert {r["split"] for r in sealed} == {"test"}
    one = [cli("data", "look", "toy", "--rows", "2", "--seed", "5").out for _ in range(2)]
    assert one[0] == one[1]


def test_plugins_lists_the_strangers_too(cli: Cli) -> None:
    said = cli("plugins")
    assert said.code == 0
    assert "adder" in said.out
    assert "backends: adder:, " in said.out


# ---------------------------------------------------------------- the loop


def test_the_wall_scores_recorded_replies_anew_after_a_label_was_edited(cli: Cli) -> None:
    cli("ladder", "toy", "--only-files")
    sent = len(cli.toy.sent)
    some = rows(cli)
    some[2]["reference"] = "7"
    cli.toy.write_cases(some)
    assert (
        "2 more tries were scored with older labels"
        in cli("ladder", "toy", "--only-files", "--show").out
    )
    said = cli("wall", "toy")
    assert said.code == 3
    assert "scoring recorded replies anew: plain, shots, reference" in said.out
    assert "edited once after scores were seen" in said.out
    assert len(cli.toy.sent) == sent
    assert "scoring recorded" not in cli("wall", "toy").out


def test_a_failure_of_the_model_stays_one_when_labels_are_edited(cli: Cli) -> None:
    """No reply is recorded of it; taken for lost, it would make the evidence worthless."""
    assert cli("eval", "toy", "--candidate", "plain", MODE="overflow").code == 1
    some = rows(cli)
    some[2]["reference"] = "7"
    cli.toy.write_cases(some)
    said = cli("wall", "toy", "--json")
    [only] = said.json["verdict"]["tries"]
    assert (only["faults"], only["missing"]) == (1, 0)
    found = cli("eval", "toy", "--candidate", "plain", "--offline")
    assert "F plain 1 of 12 (c4): context overflow" in found.out


def test_the_wall_does_not_invent_replies_of_a_prompt_that_was_edited(cli: Cli) -> None:
    """The old prompt's try cannot be scored anew, and the new prompt was never asked."""
    cli("ladder", "toy", "--only-files")
    (cli.toy.task / "prompts/plain.md").write_text("@user\nSum of {{ a }} and {{ b }}?\n")
    some = rows(cli)
    some[2]["reference"] = "7"
    cli.toy.write_cases(some)
    said = cli("wall", "toy", "--json")
    assert [t["candidate"] for t in said.json["verdict"]["tries"]] == ["shots"]
    assert any("left out" in note for note in said.json["verdict"]["notes"])


def test_a_prompt_that_is_gone_does_not_stop_the_wall(cli: Cli) -> None:
    cli("ladder", "toy", "--only-files")
    (cli.toy.task / "prompts/plain.md").unlink()
    some = rows(cli)
    some[2]["reference"] = "7"
    cli.toy.write_cases(some)
    assert cli("wall", "toy").code == 3


def test_a_candidate_is_not_compared_with_itself_and_no_look_is_spent(cli: Cli) -> None:
    cli("ladder", "toy", "--only-files")  # `shots` is the best
    for verb in ("compare", "gate"):
        said = cli(verb, "toy", "--candidate", "shots")
        assert said.code == 2
        assert "is its own baseline" in said.err
        assert "--baseline" in said.err
    with store(cli) as opened:
        assert opened.ledger(kind="look") == []


def test_compare_alarms_only_on_a_shown_regression(cli: Cli) -> None:
    cli.toy.write_cases(
        [
            {
                "id": f"c{n}", "split": "dev", "cluster": f"k{n}", "reference": str(3 * n),
                "inputs": {"a": n, "b": 2 * n},
            }
            for n in range(40)
        ]
        + rows(cli)[12:16]
    )  # fmt: skip
    some = rows(cli)
    for k, row in enumerate(some[40:]):
        some[40 + k] = row | {"id": f"t{k}", "cluster": f"t{k}", "inputs": {"a": 900 + k, "b": 1}}
    cli.toy.write_cases(some)
    cli("ladder", "toy", "--only-files")
    worse = cli("compare", "toy", "--candidate", "plain", "--baseline", "shots")
    assert worse.code == 1
    assert "a regression is shown" in worse.out
    better = cli("compare", "toy", "--candidate", "shots", "--baseline", "plain")
    assert better.code == 0
    assert "a gain is shown on dev" in better.out


def test_the_gate_counts_a_pair_once_and_a_peek_as_a_look(cli: Cli) -> None:
    cli.toy.seal()
    cli("ladder", "toy", "--only-files")
    gate = ["gate", "toy", "--candidate", "plain", "--json"]
    assert [cli(*gate).json["verdict"]["look"] for _ in range(2)] == [1, 1]
    cli("eval", "toy", "--split", "test", "--candidate", "shots")
    cli("eval", "toy", "--split", "test", "--candidate", "shots")
    assert cli(*gate).json["verdict"]["look"] == 1
    other = ["gate", "toy", "--candidate", "shots", "--baseline", "plain", "--json"]
    assert cli(*other).json["verdict"]["look"] == 3
    with store(cli) as opened:
        assert [e.payload["purpose"] for e in opened.ledger(kind="look")] == [
            "release",
            "eval",
            "release",
        ]


def test_a_confirmation_spends_one_look_of_its_own_kind(cli: Cli) -> None:
    """However often the same prompt is confirmed; releases are counted apart."""
    more = [
        {
            "id": f"m{n}", "split": "test" if n % 2 else "dev", "cluster": f"m{n}",
            "inputs": {"a": 3 * n, "b": 1}, "reference": str(3 * n + 1),
        }
        for n in range(100, 260)
    ]  # fmt: skip
    cli.toy.write_cases([*rows(cli), *more])
    cli("ladder", "toy", "--only-files")
    assert "harness wall toy --confirm" in cli("wall", "toy").out
    for _ in range(2):
        said = cli("wall", "toy", "--confirm")
        assert said.code == 1
        assert "confirming shots on sealed cases: look 1, at 4.00 %" in said.out
        assert "Fine-tuning is not needed" in said.out
    gate = cli("gate", "toy", "--candidate", "shots", "--baseline", "plain", "--json")
    assert gate.json["verdict"]["look"] == 1
    with store(cli) as opened:
        purposes = [e.payload["purpose"] for e in opened.ledger(kind="look")]
    assert purposes == ["confirmation", "release"]


def test_the_reference_on_test_is_no_look(cli: Cli) -> None:
    cli("eval", "toy", "--split", "test")
    with store(cli) as opened:
        assert opened.ledger(kind="look") == []


def test_a_gate_without_sealed_cases_is_a_usage_error(cli: Cli) -> None:
    cli.toy.write_cases([r for r in rows(cli) if r["split"] != "test"])
    cli("ladder", "toy", "--only-files")
    said = cli("gate", "toy", "--candidate", "plain")
    assert said.code == 2
    assert "no test split" in said.err


# ---------------------------------------------------------------- the whole loop, with a tuner

TUNER = '''
import json, os
import harness

def codes(messages):
    return [i for m in messages for i in [1, *map(ord, m.content)]] + [1]

class Sums:
    """Never knows a sum by itself; tuned, it has learnt them."""
    concurrency = 8
    def __init__(self, config):
        self.is_tuned = config.artifact is not None
        self.identity = {"template": "t"}
    async def answer(self, request):
        a, b = [int(x) for x in request.messages[-1].content.split() if x.isdigit()]
        kind = len(request.messages[0].content)
        return harness.Reply(text=str(a + b) if self.is_tuned else f"{kind} {a}")
    def token_ids(self, request):
        return codes(request.messages)
    def stop_ids(self):
        return frozenset({0})
    def decode(self, ids):
        return "".join(map(chr, ids))

class Learns:
    def prepare(self, job):
        if os.environ.get("TUNER") == "wrong":
            return []
        found = []
        for row in job.rows:
            prompt, reply = codes(row.messages), [*map(ord, row.completion), 0]
            labels = (*[-100] * len(prompt), *reply)
            found.append(harness.PreparedRow(
                case_id=row.case_id, input_ids=(*prompt, *reply), labels=labels))
        return found
    def train(self, job, rows, *, report):
        if os.environ.get("TUNER") == "stopped":
            raise KeyboardInterrupt
        report(harness.TrainProgress(step=1, steps=1, loss=0.1, tokens=9, seconds=0.1))
        (job.out_dir / "learnt.json").write_text("{}")
        return harness.TrainResult(
            base_digest="b", template_digest="t", metrics={"loss": 0.1}, environment={})

@harness.hookimpl
def harness_backends():
    return {"adder": Sums}

@harness.hookimpl
def harness_tuners():
    return {"learns": Learns}
'''
FAMILIES = ["zero-shot", "instructions", "few-shot", "dynamic-few-shot", "constrained"]
WAIVERS = """
[tune]
tuner = "learns"
prompt = "p0"
[waivers]
chain-of-thought = "A sum needs no thought."
optimised = "Nothing is optimised here yet."
labels = "They were made by a computer."
"""


@pytest.fixture
def stuck(cli: Cli) -> Cli:
    """A task on which eight prompts of five families all fail, and a tuner that would not."""
    (cli.toy.root / "site/adder.py").write_text(TUNER)
    for path in (cli.toy.task / "prompts").iterdir():
        path.unlink()
    for k in range(10):
        family = FAMILIES[k % 5]
        shots = "few-shot" in family
        (cli.toy.task / f"prompts/p{k}.md").write_text(
            f"+++\nfamily = '{family}'\n{'shots = 1' if shots else ''}\n"
            f"{'retrieve = true' if family.startswith('dyn') else ''}\n+++\n"
            f"@system\n{'Add. ' * (k + 1)}\n{'@examples' if shots else ''}\n"
            "@user\n{{ a }} + {{ b }}\n"
        )
    text = (cli.toy.task / "task.toml").read_text()
    (cli.toy.task / "task.toml").write_text(text + 'profile = "quick"\n' + WAIVERS)
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )
    splits = ["dev"] * 40 + ["train"] * 60 + ["test"] * 60
    cli.toy.write_cases(
        [
            {
                "id": f"c{n}", "split": split, "cluster": f"k{n}", "reference": str(3 * n),
                "inputs": {"a": n, "b": 2 * n},
            }
            for n, split in enumerate(splits)
        ]
    )  # fmt: skip
    return cli


def test_the_loop_from_wall_to_ship(stuck: Cli) -> None:
    assert stuck("tune", "toy").code == 1
    assert stuck("ladder", "toy", "--only-files").code == 0
    wall = stuck("wall", "toy")
    assert wall.code == 0, wall.out
    assert "\nWALL  (quick profile, target 90 %)" in wall.out
    tuned = stuck("tune", "toy")
    assert tuned.code == 0, tuned.err
    assert "parity: 60 rows compared id by id, no difference" in tuned.out
    assert "step 1 of 1, loss 0.100" in tuned.err
    assert stuck("eval", "toy", "--candidate", "tuned", "--floor", "right=1").code == 0
    gate = stuck("gate", "toy")
    assert gate.code == 0, gate.out
    assert "\nSHIP\n" in gate.out
    assert stuck("advise", "toy").code == 0
    assert stuck("report", "toy").code == 0
    with store(stuck) as opened:
        kinds = [e.kind for e in opened.ledger(task="toy")]
    assert kinds == ["policy", "wall", "tune", "look", "release"]
    ladder = stuck("ladder", "toy", "--only-files", "--show")
    assert "10 tries count" in ladder.out


def test_what_to_do_after_a_tune_is_a_command_that_works(stuck: Cli) -> None:
    """Under its own name, or under another that task.toml does not know."""
    for name in ([], ["--name", "second"]):
        said = stuck("tune", "toy", "--override", "a test", *name)
        command = said.out.rpartition("score it: harness ")[2].split()
        assert stuck(*command).code == 0, command
    early = stuck("eval", "toy", "--candidate", "plain@adder:x+none")
    assert early.code == 2


def test_a_tuned_candidate_that_is_not_there_yet_is_told_with_the_command(stuck: Cli) -> None:
    said = stuck("eval", "toy", "--candidate", "tuned")
    assert said.code == 2
    assert "Tune one with `harness tune toy`" in said.err


def test_an_override_is_shown_ever_after(stuck: Cli) -> None:
    said = stuck("tune", "toy", "--override", "because I can", "--json")
    assert said.code == 0
    assert said.json["override"].startswith("because I can (in spite of this: there is no wall")
    stuck("ladder", "toy", "--only-files")
    gate = stuck("gate", "toy")
    assert "override on record: because I can" in gate.out


@pytest.mark.parametrize(
    ("mode", "code", "says"),
    [("wrong", 1, "dropped-rows in c40"), ("stopped", 130, "what was recorded is kept")],
)
def test_a_tune_that_fails_leaves_nothing_behind(
    stuck: Cli, mode: str, code: int, says: str
) -> None:
    said = stuck("tune", "toy", "--override", "a test", "--json", TUNER=mode)
    assert (said.code, said.json["exit_code"]) == (code, code)
    assert says in said.err
    left = [p.name for p in (stuck.toy.root / ".harness").iterdir()]
    assert [name for name in left if "tuning" in name or name == "artifacts"] == []


def test_rows_that_fail_the_evals_are_left_out_and_counted(stuck: Cli) -> None:
    some = rows(stuck)
    some[41]["reference"] = "wrong"
    path = stuck.toy.task / "eval_toy.py"
    path.write_text(path.read_text() + "    assert reply.text.isdigit()\n")
    stuck.toy.write_cases(some)
    said = stuck("tune", "toy", "--override", "a test")
    assert "1 row left out, for they fail the task's own evals: c41" in said.out
    assert "  59 rows, prompt p0" in said.out


def test_a_recipe_that_is_broken_is_told_with_its_line(stuck: Cli) -> None:
    path = stuck.toy.root / "r.toml"
    path.write_text("a = 1\nb = = 2\n")
    said = stuck("tune", "toy", "--override", "a test", "--recipe", str(path))
    assert said.code == 2
    assert "r.toml:2: not TOML" in said.err
    assert (
        "no tuner 'magic'. Known: command, learns"
        in stuck("tune", "toy", "--override", "a test", "--tuner", "magic").err
    )


def test_nothing_that_a_case_holds_drives_the_terminal(cli: Cli) -> None:
    some = rows(cli)
    some[0] = some[0] | {"id": "\x1b[31mred\x07", "inputs": {"a": 0, "b": 0, "n": "\x1b]0;x\x07"}}
    cli.toy.write_cases(some)
    (cli.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == '\\x1b[31m'\n"
    )
    run = cli("eval", "toy", "--candidate", "plain", "--json").json["runs"][0]["id"]
    for verb in (
        ["runs", run],
        ["data", "look", "toy", "--rows", "99"],
        ["ladder", "toy", "--only-files"],
    ):
        said = cli(*verb)
        assert said.code == 0
        assert clean(said.out) == said.out, verb
