"""An eval that asks a scorer on this machine: offline, and while the scorer is down."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from harness.core.scoring import case_values
from harness.records import Run
from harness.store.store import Store
from tests.plugins.scorer import Served, scorer_listening
from tests.surface.inprocess import Cli, Said

EVALS = """
from harness import checks

def test_right(case, reply):
    assert reply.text == case.reference

def test_liked(case, reply):
    assert checks.webhook(reply, "URL", case=case)
"""


@pytest.fixture
def scorer(cli: Cli) -> Iterator[Served]:
    with scorer_listening() as one:
        write_evals(cli, one.url)
        yield one


def write_evals(cli: Cli, url: str) -> None:
    (cli.toy.task / "eval_toy.py").write_text(EVALS.replace("URL", url))


def newest(cli: Cli) -> Run:
    with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as store:
        return store.run(max(store.runs(task="toy"), key=lambda r: r.at).id)


def frames(said: Said) -> list[str]:
    return [line for line in said.out.splitlines() if "scorers.py" in line or "eval_toy.py" in line]


@pytest.mark.parametrize("check", ["eval", "case"])
def test_offline_a_scorer_gets_no_request_and_the_run_is_partial(
    cli: Cli, scorer: Served, check: str
) -> None:
    if check == "case":
        lines = (cli.toy.task / "cases.jsonl").read_text().splitlines()
        row = {"name": "webhook", "arguments": {"url": scorer.url}}
        cli.toy.write_cases([json.loads(line) | {"checks": [row]} for line in lines])
        evals = cli.toy.task / "eval_toy.py"
        evals.write_text(evals.read_text().partition("def test_liked")[0])
    words = ("eval", "toy", "--candidate", "plain")
    cli(*words)
    asked = len(scorer.seen)
    assert asked == 12
    said = cli(*words, "--offline")
    assert said.code == 2
    told = f"webhook: {scorer.url} is not asked (run without --offline)"
    assert f"F plain 12 of 12: scorer {told}\n" in said.out
    assert "without a recorded reply or score: 12 of 12 of plain. Run it without" in said.err
    assert not newest(cli).is_complete
    done = cli.toy.run("pytest", "evals/toy", "--candidate", "plain", "--offline", "-q", "-n", "2")
    assert done.returncode == 1
    assert "is not asked (run without --offline)" in done.stdout
    assert len(scorer.seen) == asked


def test_what_scores_recorded_replies_anew_asks_no_scorer(cli: Cli, scorer: Served) -> None:
    cli("eval", "toy", "--candidate", "plain", "--candidate", "reference")
    assert cli("compare", "toy", "--candidate", "plain", "--bless", "blessed.json").code == 0
    scorer.seen.clear()
    with (cli.toy.task / "eval_toy.py").open("a") as file:
        file.write("\nMORE = 1\n")
    said = cli("compare", "toy", "--candidate", "plain", "--baseline", "blessed.json")
    assert said.code == 3
    assert "Make one: harness eval toy --candidate 'plain'" in said.err
    cli("wall", "toy")
    assert scorer.seen == []
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    assert len(scorer.seen) == 12  # the next session of this process asks again


def test_a_scorer_that_answers_500_is_exit_4_in_one_line_and_the_same_command_goes_on(
    cli: Cli, scorer: Served
) -> None:
    scorer.status, scorer.answer = 500, {"error": "out of memory"}
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 4
    told = f"scorer webhook: HTTP 500 from {scorer.url}: out of memory"
    assert said.err.splitlines()[-1] == (
        f"error: plain: 12 of 12 trials were not judged: {told}. "
        "Replies and the other scores are kept; the same command asks the scorer again."
    )
    assert f"F plain 12 of 12: {told}\n" in said.out
    assert frames(said) == []
    run = newest(cli)
    assert {(t.fault.origin, t.fault.is_missing) for t in run.trials if t.fault} == {
        ("harness", True)
    }
    assert sum(case_values(run, "right").values()) == 8
    scorer.status, scorer.answer = 200, {"pass": True}
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    assert sum(case_values(newest(cli), "liked").values()) == 12
    assert len(cli.toy.sent) == 12


@pytest.mark.parametrize(("primary", "code"), [("right", 0), ("liked", 4)])
def test_a_scorer_that_is_down_stops_a_ladder_only_where_it_decides(
    cli: Cli, primary: str, code: int
) -> None:
    write_evals(cli, "http://127.0.0.1:9/score")
    path = cli.toy.task / "task.toml"
    path.write_text(path.read_text().replace('primary = "right"', f'primary = "{primary}"'))
    said = cli("ladder", "toy", "--only-files")
    assert said.code == code, said.out + said.err
    told = "were not judged: scorer webhook: cannot connect to http://127.0.0.1:9/score: "
    assert (told in said.err) == (code == 4)


def test_pytest_keeps_its_own_code_where_a_scorer_is_down(cli: Cli) -> None:
    write_evals(cli, "http://127.0.0.1:9/score")
    done = cli.pytest("evals/toy", "--candidate", "plain", "-q")
    assert done.code == 1
    assert "12 faulted" in done.out
    assert "scorers.py" not in done.out


def test_a_scorer_that_an_aggregate_asks_is_held_to_the_same(cli: Cli) -> None:
    write_evals(cli, "http://127.0.0.1:9/score")
    evals = cli.toy.task / "eval_toy.py"
    one_each = evals.read_text().partition("def test_liked")[0]
    asking = "    assert checks.webhook('all', 'http://127.0.0.1:9/score')\n"
    evals.write_text(f"{one_each}def test_liked(trials):\n{asking}")
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 4
    assert "plain: liked over all trials: scorer webhook: cannot connect to http" in said.err
    said = cli("eval", "toy", "--candidate", "plain", "--offline")
    assert said.code == 2
    assert "without a recorded reply or score: liked of plain. Run it without" in said.err
    assert not newest(cli).is_complete
    assert cli("ladder", "toy", "--only-files").code == 0  # it decides nothing


@pytest.mark.parametrize("bug", ["test_a_bug", "test_z_bug"])
def test_a_bug_of_another_eval_hides_no_scorer_that_is_down(cli: Cli, bug: str) -> None:
    write_evals(cli, "http://127.0.0.1:9/score")
    (cli.toy.task / f"eval_{bug}.py").write_text(f"def {bug}(reply):\n    raise KeyError('x')\n")
    said = cli("eval", "toy", "--candidate", "plain")
    assert said.code == 4
    assert "F plain 12 of 12: scorer webhook: cannot connect" in said.out
    assert "12 failed" in said.out
    assert cli("eval", "toy", "--candidate", "plain", "--offline").code == 2
    assert not newest(cli).is_complete
