"""`--only` and `--sample`: the same cases wherever they are asked for, and never a counted run."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from harness.engine.ladder import read_ladder, why_not_counted
from harness.engine.tasks import load_task
from harness.store.store import Store
from harness.surface.eval_options import ONLY
from harness.surface.selection import sampled
from tests.surface.inprocess import Cli, Said

QUICK = {"PAUSE": "0"}
MISSED = ["c0", "c3", "c6", "c9"]  # of `plain`


def evaluate(cli: Cli, *arguments: str, candidate: str = "plain", **environment: str) -> Said:
    return cli(
        "eval", "toy", "--candidate", candidate, "--json", *arguments, **{**QUICK, **environment}
    )


def cases(said: Said) -> list[str]:
    assert said.code in {0, 1}, said.err
    return list(dict.fromkeys(t["case_id"] for r in said.json["runs"] for t in r["run"]["trials"]))


def is_complete(said: Said) -> list[bool]:
    return [r["run"]["is_complete"] for r in said.json["runs"]]


# ---------------------------------------------------------------- a sample


def test_a_sample_is_stable_nested_and_hardly_moved_by_a_new_case() -> None:
    ids = [f"case-{i}" for i in range(200)]
    samples = [sampled(ids, n) for n in range(1, 60)]
    assert all(a < b for a, b in pairwise(samples))
    assert sampled(reversed(ids), 20) == samples[19]
    assert len(sampled([*ids, "one-more"], 20) & samples[19]) >= 19
    assert sampled(ids, 500) == set(ids)


def test_a_sample_asks_for_its_cases_alone_and_is_the_same_for_every_candidate(cli: Cli) -> None:
    few = sorted(sampled([f"c{i}" for i in range(12)], 5))
    said = evaluate(cli, "--sample", "5", "--candidate", "shots")
    assert is_complete(said) == [False, False]
    assert [sorted({t["case_id"] for t in r["run"]["trials"]}) for r in said.json["runs"]] == [
        few,
        few,
    ]
    assert len(cli.toy.sent) == 10
    # the aggregate speaks of the sample, and is there
    assert [r["run"]["aggregates"][0]["name"] for r in said.json["runs"]] == ["mean_length"] * 2
    everything = evaluate(cli, "--sample", "99")
    assert is_complete(everything) == [True]


def test_an_aggregate_alone_is_recorded_and_a_floor_that_it_is_below_fails_the_run(
    cli: Cli,
) -> None:
    said = evaluate(cli, "--floor", "mean_length=0.999", "--", "-k", "mean_length")
    run = said.json["runs"][0]["run"]
    assert [a["name"] for a in run["aggregates"]] == ["mean_length"]
    assert len(run["trials"]) == 12
    assert not any(t.get("scores") for t in run["trials"])
    assert run["is_complete"] is False
    assert said.code == 1  # 0.999 is more than it is
    assert evaluate(cli, "--floor", "mean_length=0.01", "--", "-k", "mean_length").code == 0
    assert "no eval ran" not in said.err


def test_what_a_sample_leaves_out_is_deselected_and_other_selections_still_hold(cli: Cli) -> None:
    whole = cli(
        "eval", "toy", "--candidate", "plain", "--sample", "4", "--", "-k", "right", **QUICK
    )
    assert whole.code == 0
    assert "3 passed, 33 deselected, 1 missed" in whole.out
    few = {"c1", "c3", "c4", "c10"}  # written down, so that no later version samples otherwise
    assert sorted(cli.toy.sent) == sorted(f"{c[1:]} + {2 * int(c[1:])} =" for c in few)
    again = cli("eval", "toy", "--candidate", "plain", "--sample", "4", "--", "--lf", **QUICK)
    assert "1 missed" in again.out
    assert "passed" not in again.out


# ---------------------------------------------------------------- what was recorded


def test_only_missed_runs_the_cases_that_were_missed_when_last_recorded(cli: Cli) -> None:
    evaluate(cli)
    said = evaluate(cli, "--only", "missed")
    assert cases(said) == MISSED
    assert is_complete(said) == [False]
    assert said.json["notes"][0].startswith("plain: 4 of 12 cases missed; newest run ")
    # one of them is repaired and seen in a partial run: the newest trial of each case counts
    (cli.toy.task / "prompts/plain.md").write_text("@system\nAdd.\n@user\n{{ a }} + {{ b }} =\n")
    evaluate(cli, "--", "-k", "c3")
    assert cases(evaluate(cli, "--only", "missed", "--sample", "9")) == ["c0", "c6", "c9"]
    done = evaluate(cli, "--only", "missed")  # the prompt repaired the rest too
    assert (done.code, done.json["runs"]) == (0, [])
    assert "0 of 12 cases missed" in done.json["notes"][0]


def test_cases_of_which_nothing_is_recorded_are_told_apart(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "plain", "--sample", "5")
    said = cli("eval", "toy", "--candidate", "plain", "--only", "missed", "--json").json
    assert said["notes"][0].endswith("; of 7 nothing is recorded")


def test_a_case_is_missed_whose_other_eval_broke(cli: Cli) -> None:
    with (cli.toy.task / "eval_toy.py").open("a") as file:
        file.write("\n\ndef test_broken(case, reply):\n    raise KeyError('x')\n")
    cli("eval", "toy", "--candidate", "plain")
    said = cli("eval", "toy", "--candidate", "plain", "--only", "missed", "--json").json
    assert "plain: 4 of 12 cases missed" in said["notes"][0]


def test_what_a_part_of_the_evals_passed_is_missed_all_the_same(cli: Cli) -> None:
    """A run under `-k` measured nothing else: neither what was missed nor the ladder forgets."""
    whole = cli("eval", "toy", "--candidate", "plain", "--candidate", "shots", "--json").json
    assert len(whole["runs"]) == 2
    cli("eval", "toy", "--candidate", "plain", "--", "-k", "close")
    said = cli("eval", "toy", "--candidate", "plain", "--only", "missed", "--json").json
    assert "plain: 4 of 12 cases missed" in said["notes"][0]
    toy = load_task(cli.toy.task)
    (toy.folder / "prompts/other.md").write_text((toy.folder / "prompts/plain.md").read_text())
    with (toy.folder / "prompts/other.md").open("a") as file:
        file.write("Now.\n")
    cli("eval", "toy", "--candidate", "other", "--", "-k", "close and (c1 or c2)")
    tries = {t["candidate"]: t for t in cli("ladder", "toy", "--show", "--json").json["tries"]}
    assert tries["shots"]["estimate"]["n"] == 12
    assert (tries["other"]["is_counted"], tries["other"]["note"]) == (False, "partial run")


def test_only_faults_runs_what_ended_in_a_fault_and_no_miss(cli: Cli) -> None:
    assert evaluate(cli, MODE="stranger").code == 4
    said = evaluate(cli, "--only", "faults")
    assert cases(said) == ["c4"]
    assert len(cli.toy.sent) == 13
    assert evaluate(cli, "--only", "faults").json["runs"] == []


def test_only_changed_runs_what_would_be_recorded_otherwise(cli: Cli) -> None:
    evaluate(cli)
    nothing = evaluate(cli, "--only", "changed")
    assert (nothing.code, nothing.json["runs"]) == (0, [])
    rows = [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    rows[2]["reference"] = "7"
    rows[5]["inputs"]["a"] = 100
    rows.append({"id": "new", "split": "dev", "inputs": {"a": 1, "b": 1}, "reference": "2"})
    cli.toy.write_cases(rows)
    assert cases(evaluate(cli, "--only", "changed")) == ["c2", "c5", "new"]
    assert cases(evaluate(cli, "--only", "changed", "--repeats", "2"))[-1] == "new"
    assert len(cli.toy.sent) == 12 + 2 + 13  # the reference of c2 changes no request
    (cli.toy.task / "prompts/plain.md").write_text("@system\nAdd.\n@user\n{{ a }} + {{ b }} =\n")
    said = evaluate(cli, "--only", "changed")
    assert len(cases(said)) == 13
    assert is_complete(said) == [True]  # everything changed, so nothing was left out


def test_changed_eval_files_are_said_in_a_line_and_change_every_case(cli: Cli) -> None:
    evaluate(cli)
    path = cli.toy.task / "eval_toy.py"
    path.write_text(path.read_text() + "\ndef test_short(reply):\n    assert len(reply.text) < 9\n")
    said = evaluate(cli, "--only", "changed", "--sample", "3")
    assert len(cases(said)) == 3
    [note] = said.json["notes"]
    assert "12 of 12 cases changed (the evals did, since 12 were scored)" in note
    # the three are recorded under the new files now, the others still are not
    assert len(cases(evaluate(cli, "--only", "changed"))) == 9
    assert len(cli.toy.sent) == 12


def test_with_nothing_recorded_it_says_so_and_runs_nothing(cli: Cli) -> None:
    for only in ("missed", "changed"):
        said = cli("eval", "toy", "--candidate", "plain", "--only", only)
        assert said.code == 2
        assert f"--only {only}: nothing is recorded of plain over dev" in said.err
        assert "`harness eval toy --candidate plain`" in said.err
    spaced = cli("eval", "toy", "--candidate", "constant:I don't know", "--only", "missed")
    assert "--candidate 'constant:I don'\"'\"'t know'`" in spaced.err
    assert cli.toy.sent == []
    evaluate(cli)
    said = evaluate(cli, "--only", "missed", "--candidate", "shots")
    assert cases(said) == MISSED  # of the one that is known; the other is named
    assert "nothing is recorded of shots" in said.json["notes"][0]


@pytest.mark.parametrize(("option", "value"), [("--only", "new"), ("--sample", "0")])
def test_a_choice_that_cannot_be_is_refused(cli: Cli, option: str, value: str) -> None:
    said = cli("eval", "toy", option, value)
    assert said.code == 2
    assert option in said.err


def test_the_verb_offers_what_pytest_does(cli: Cli) -> None:
    assert f"[{'|'.join(ONLY)}]" in cli("eval", "--help").out


# ---------------------------------------------------------------- other processes


def test_every_worker_of_xdist_selects_the_same_items(cli: Cli) -> None:
    toy = cli.toy
    evaluate(cli)
    done = cli.pytest("evals/toy", "--candidate", "plain", "--only", "missed", "-n", "2")
    assert done.code == 0, done.out + done.err
    assert "8 missed" in done.out
    assert "plain: 4 of 12 cases missed; newest run " in done.out
    lost = cli("eval", "toy", "--candidate", "shots", "--only", "missed", "--", "-n", "2")
    assert lost.code == 2
    assert "nothing is recorded of shots over dev" in lost.err
    alone = cli.pytest("evals/toy", "--candidate", "shots", "--only", "missed")
    assert alone.code == pytest.ExitCode.USAGE_ERROR
    assert "nothing is recorded of shots over dev" in alone.err
    with Store.open(toy.root / ".harness/harness.db", read_only=True) as opened:
        assert [(r.cases, r.is_complete) for r in opened.runs()] == [(12, True), (4, False)]


def test_what_the_workers_of_xdist_chose_hides_no_look(cli: Cli) -> None:
    arguments = ("--candidate", "plain", "--split", "test", "--sample", "2", "-n", "2")
    done = cli.pytest("evals/toy", *arguments)
    assert done.code == 0, done.out + done.err
    said = "plain was seen on the sealed test split: the look is counted"
    assert done.out.count(said) == 1


# ---------------------------------------------------------------- repeats


def test_repeats_on_the_command_line_are_recorded_and_are_no_try(cli: Cli) -> None:
    said = evaluate(cli, "--repeats", "3")
    [one] = said.json["runs"]
    assert (one["run"]["repeats"], one["run"]["is_complete"]) == (3, False)
    assert len(cli.toy.sent) == 36
    assert is_complete(evaluate(cli)) == [True]
    assert len(cli.toy.sent) == 36  # the first of the three is the one repeat of the task
    reference = evaluate(cli, "--repeats", "3", candidate="reference")
    assert is_complete(reference) == [True]  # asked once, however often
    out = cli("eval", "toy", "--candidate", "plain", "--repeats", "3").out
    assert re.search(r"^repeats +3: mean$", out, re.MULTILINE)
    assert re.search(r"^run +[0-9a-f]{8} partial$", out, re.MULTILINE)


def test_a_run_made_before_the_repeats_changed_is_no_try_until_they_change_back(cli: Cli) -> None:
    def notes() -> list[str]:
        task = load_task(cli.toy.task)
        with Store.open(cli.toy.root / ".harness/harness.db", read_only=True) as opened:
            return [why_not_counted(r, task) for r in read_ladder(task, opened).runs]

    task = cli.toy.task / "task.toml"
    once, twice = task.read_text(), task.read_text() + "repeats = 2\n"
    evaluate(cli)
    assert notes() == [""]
    task.write_text(twice)
    assert notes() == ["other repeats: 1, mean"]
    evaluate(cli)
    assert notes() == [""]
    task.write_text(once)
    assert notes() == ["other repeats: 2, mean"]
    evaluate(cli)
    assert notes() == [""]


def test_the_verdict_over_repeats_decides_the_score_and_flaky_cases_are_named(cli: Cli) -> None:
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + "repeats = 4\nrepeat_verdict = 'pass^2'\n")
    site = cli.toy.root / "site/adder.py"
    # of the four repeats of one case one is wrong, whichever comes first
    source = site.read_text().replace(
        "return harness.Reply(",
        'seen = self.__dict__.setdefault("seen", {})\n'
        "        seen[a] = seen.get(a, 0) + 1\n"
        '        text = "0" if a == 5 and seen[a] == 1 else text\n'
        "        return harness.Reply(",
    )
    site.write_text(source)
    said = cli("eval", "toy", "--candidate", "shots", **QUICK)
    assert said.code == 0, said.err
    # pass^2 of 3 in 4: C(3, 2) / C(4, 2) = 1/2, so 11.5 of 12
    row = next(line for line in said.out.splitlines() if line.startswith("right*"))
    assert "96 % (" in row
    assert "~ shots right: 1 of 12 cases both pass and miss in 4 repeats, 8 % (2–30)" in said.out
    assert "~ shots c5 passed 3 of 4 (36–94 %)" in said.out
    found = evaluate(cli, candidate="shots").json
    assert found["runs"][0]["run"]["repeat_verdict"] == "pass^2"
    [flaky] = found["flaky"].values()
    assert [(f["case_id"], f["passed"], f["of"]) for f in flaky["flaky"]] == [("c5", 3, 4)]
    control = evaluate(cli, candidate="reference").json["runs"][0]["run"]
    assert (control["repeats"], control["repeat_verdict"]) == (1, "1 of 1")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            "repeats = 3\nrepeat_verdict = '2 of 4'\n",
            "task.toml:9: repeat_verdict: '2 of 4' speaks",
        ),
        ("repeat_verdict = 'pass@2'\n", "task.toml:8: repeat_verdict: 'pass@2' needs 2 repeats"),
        ("repeat_verdict = 'often'\n", "task.toml:8: repeat_verdict: 'often' is not one of"),
    ],
)
def test_a_verdict_that_cannot_be_is_told_with_its_line(cli: Cli, lines: str, says: str) -> None:
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + lines)
    said = cli("eval", "toy")
    assert said.code == 2
    assert says in said.err


def test_repeats_that_the_verdict_does_not_speak_of_are_refused(cli: Cli) -> None:
    task = cli.toy.task / "task.toml"
    task.write_text(task.read_text() + "repeats = 3\nrepeat_verdict = '2 of 3'\n")
    said = cli("eval", "toy", "--candidate", "plain", "--repeats", "5")
    assert said.code == 2
    assert "'2 of 3' speaks of 3 repeats, and there are 5" in said.err


# ---------------------------------------------------------------- slices


def test_tags_make_a_table_of_slices(cli: Cli) -> None:
    rows = [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    for i, row in enumerate(rows):
        row["tags"] = ["even" if i % 2 == 0 else "odd"] + (["third"] if i % 3 == 0 else [])
    cli.toy.write_cases(rows)
    said = cli("eval", "toy", "--candidate", "plain", "--candidate", "reference", **QUICK)
    at = said.out.index("tag    candidate")
    table = [line.split() for line in said.out[at:].splitlines()[2:8]]
    assert [row[:3] for row in table] == [
        ["even", "plain", "6"],
        ["reference", "6", "100"],
        ["odd", "plain", "6"],
        ["reference", "6", "100"],
        ["third", "plain", "4"],
        ["reference", "4", "100"],
    ]
    assert table[4][3:5] == ["0", "%"]
    slices = evaluate(cli).json["slices"]
    assert [(s["tag"], s["cases"], s["estimate"]["mean"]) for s in slices] == [
        ("even", 6, pytest.approx(4 / 6)),
        ("odd", 6, pytest.approx(4 / 6)),
        ("third", 4, 0.0),
    ]


def test_one_tag_is_no_slice(cli: Cli) -> None:
    rows = [json.loads(x) for x in (cli.toy.task / "cases.jsonl").read_text().splitlines()]
    cli.toy.write_cases([{**row, "tags": ["all-of-them"]} for row in rows])
    said = evaluate(cli)
    assert said.json["slices"] == []
