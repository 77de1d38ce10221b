"""The built-in eval `checks`: collected from a task's own folder, and run like any other eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.tasks import load_task
from harness.errors import TaskError
from harness.surface.builtin_evals import builtin_evals
from harness.surface.run_evals import KNOWN_NOISE
from tests.surface.inprocess import Cli
from tests.surface.test_dialogues import newest
from tests.surface.toy import Toy


def check(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def write(toy: Toy, *checks: list[dict[str, Any]]) -> None:
    """Cases of the sum 1 + 2, each with its `checks`."""
    toy.write_cases(
        [
            {
                "id": f"c{n}",
                "split": "dev",
                "cluster": f"k{n}",
                "inputs": {"a": 1, "b": 2},
                "reference": "3",
                "checks": some,
            }
            for n, some in enumerate(checks)
        ]
    )


def pytest_here(cli: Cli, *arguments: str) -> list[str]:
    """What `pytest` says in the project, in this process: many runs at the price of one."""
    cli._forget()
    cli._capsys.readouterr()
    pytest.main([*arguments, *KNOWN_NOISE])
    said = cli._capsys.readouterr().out.splitlines()
    cli._forget()
    return said


def checked(toy: Toy) -> dict[str, tuple[float | None, str]]:
    """The score `checks` of each case of the newest run, with its reason."""
    return {
        t["case_id"]: (s.get("value"), s.get("reason", ""))
        for t in newest(toy)["trials"]
        for s in t["scores"]
        if s["name"] == "checks"
    }


@pytest.fixture
def with_checks(cli: Cli) -> Cli:
    write(
        cli.toy,
        [check("contains", text="3"), check("no.contains", text="4")],
        [check("contains", text="4"), check("number"), check("no.equals", expected="3")],
        [check("latency", at_most_s=5.0)],
        [],
    )
    return cli


def test_all_that_missed_is_told_and_cases_without_checks_are_unscored(with_checks: Cli) -> None:
    assert with_checks("eval", "toy", "--candidate", "plain").code == 0
    found = checked(with_checks.toy)
    assert found["c0"] == (1.0, "")
    value, reason = found["c1"]
    assert value == 0.0
    assert "contains: " in reason
    assert "no.equals: " in reason
    assert found["c2"] == (1.0, "")
    assert found["c3"] == (None, "no checks of its own")
    run = newest(with_checks.toy)
    assert run["is_complete"]
    assert {s["name"] for s in run["trials"][0]["scores"]} == {"checks", "close", "number", "right"}


def test_a_fact_that_the_backend_did_not_tell_leaves_the_case_unscored(cli: Cli) -> None:
    write(
        cli.toy, [check("cost", at_most_usd=1.0)], [check("cost", at_most_usd=1.0), check("json")]
    )
    cli("eval", "toy", "--candidate", "plain@adder:small")
    (first, reason), second = checked(cli.toy).values()
    assert first is None
    assert reason.startswith("cost: ")
    assert second[0] is None  # 3 is JSON


def test_pytest_collects_them_by_folder_by_file_and_by_name(with_checks: Cli) -> None:
    ids = [f"evals/toy/task.toml::test_checks[reference-c{n}]" for n in range(4)]
    listing = ("--collect-only", "-q")
    by_folder = pytest_here(with_checks, "evals/toy", *listing)
    assert [line for line in by_folder if "task.toml" in line] == ids
    assert "evals/toy/eval_toy.py::test_right[reference-c0]" in by_folder
    for chosen in (["evals/toy/task.toml"], ["evals", "-k", "test_checks"], ids):
        listed = pytest_here(with_checks, *chosen, *listing)
        assert [line for line in listed if "::" in line] == ids
    ignored = pytest_here(with_checks, "evals", "--ignore=evals/toy/task.toml", *listing)
    assert "evals/toy/eval_toy.py::test_right[reference-c0]" in ignored
    assert not [line for line in ignored if "task.toml" in line]


def test_a_projects_own_names_for_tests_do_not_hide_them(with_checks: Cli) -> None:
    listed = pytest_here(
        with_checks, "evals", "--collect-only", "-q", "-o", "python_functions=check_*"
    )
    assert "evals/toy/task.toml::test_checks[reference-c0]" in listed
    listed = pytest_here(
        with_checks, "evals", "--collect-only", "-q", "-o", "collect_imported_tests=false"
    )
    assert "evals/toy/task.toml::test_checks[reference-c0]" in listed


def test_lf_runs_the_missed_check_again(with_checks: Cli) -> None:
    choice = ("evals/toy", "--candidate", "plain")
    pytest_here(with_checks, *choice, "-k", "test_checks")
    again = [line for line in pytest_here(with_checks, *choice, "--lf", "-v") if "::" in line]
    assert len(again) == 1
    assert again[0].startswith("evals/toy/task.toml::test_checks[plain-c1] ")
    assert " MISSED " in again[0]


def test_a_task_may_have_checks_and_no_eval_file(with_checks: Cli) -> None:
    toy = with_checks.toy
    (toy.task / "eval_toy.py").unlink()
    text = (toy.task / "task.toml").read_text()
    (toy.task / "task.toml").write_text(text.replace('primary = "right"', 'primary = "checks"'))
    assert with_checks("eval", "toy", "--candidate", "plain").code == 0
    assert newest(toy)["is_complete"]
    assert len(checked(toy)) == 4


def test_a_task_without_checks_has_no_such_eval(cli: Cli) -> None:
    task = load_task(cli.toy.task)
    assert task.eval_names == ("close", "mean_length", "number", "right")
    assert builtin_evals(task) == {}


def test_the_names_and_the_functions_agree(with_checks: Cli) -> None:
    task = load_task(with_checks.toy.task)
    assert set(builtin_evals(task)) == set(task.builtin_names) == {"checks"}
    assert "checks" in task.eval_names


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (check("contian", text="3"), "no check 'contian'. Did you mean contains"),
        (check("no.contian", text="3"), "no check 'contian'"),
        (check("contains", wanted="3"), "check 'contains': "),
        (check("no.contains"), "check 'no.contains': missing a required argument: 'text'"),
    ],
)
def test_a_check_that_cannot_be_run_is_told_with_its_row(
    cli: Cli, wrong: dict[str, Any], says: str
) -> None:
    write(cli.toy, [check("number")], [check("number"), wrong])
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 2
    assert "evals/toy/cases.jsonl:2: checks: " in said.err
    assert says in said.err
    assert cli.toy.sent == []


def test_a_broken_row_is_told_where_no_eval_file_would_tell_it(cli: Cli) -> None:
    write(cli.toy, [check("contian")])
    (cli.toy.task / "eval_toy.py").unlink()
    said = "\n".join(pytest_here(cli, "evals"))
    assert "cases.jsonl:1: checks: no check 'contian'" in said
    assert "1 error in " in said


def test_another_tools_task_toml_is_left_alone(cli: Cli) -> None:
    (cli.toy.root / "other").mkdir()
    (cli.toy.root / "other/task.toml").write_text('[tasks.build]\nrun = "make"\n')
    (cli.toy.root / "evals/task.toml").write_text("")
    said = pytest_here(cli, "other", "evals", "--candidate", "plain")
    assert "error" not in " ".join(said)
    assert newest(cli.toy)["is_complete"]


def test_a_plugins_check_may_stand_in_a_row(cli: Cli) -> None:
    site = cli.toy.root / "site/adder.py"
    site.write_text(
        site.read_text()
        + "\ndef even(reply):\n    assert int(reply.text) % 2 == 0, 'odd'\n"
        + "\n@harness.hookimpl\ndef harness_checks():\n    return {'even': even}\n"
    )
    write(cli.toy, [check("even")], [check("no.even")])
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    assert checked(cli.toy) == {"c0": (0.0, "even: odd"), "c1": (1.0, "")}


def test_an_eval_of_ones_own_with_the_same_name_is_refused(with_checks: Cli) -> None:
    file = with_checks.toy.task / "eval_toy.py"
    file.write_text(file.read_text() + "\ndef test_checks(case, reply):\n    pass\n")
    with pytest.raises(TaskError, match="test_checks has the name of a built-in eval"):
        load_task(with_checks.toy.task)


def test_an_eval_named_as_the_score_of_all_is_refused(with_checks: Cli) -> None:
    """Its column would stand beside that of all evals, under the same name."""
    file = with_checks.toy.task / "eval_toy.py"
    file.write_text(file.read_text() + "\ndef test_all(case, reply):\n    pass\n")
    with pytest.raises(TaskError, match="'all' is the score of all evals together"):
        load_task(with_checks.toy.task)


def test_checks_are_labels_and_change_no_question(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    write(toy, [check("number")])
    before = load_task(toy.task)
    write(toy, [check("json")])
    after = load_task(toy.task)
    assert before.inputs_digest("dev") == after.inputs_digest("dev")
    assert before.labels_digest("dev") != after.labels_digest("dev")
    assert json.dumps(before.cases[0].checks) == '[{"name": "number", "arguments": {}}]'
