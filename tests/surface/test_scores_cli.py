"""`--scores` on wall, gate and compare, from a folder that is no project."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_vectors import FAMILIES, rows
from tests.engine.scores.test_tools import LM, MADE, PLAIN, STEPS, unpacked
from tests.surface.inprocess import Harness, Said

DOC = Path(__file__).resolve().parents[2] / "docs/scores.md"


def write(path: str, head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(lines)
    return path


def clusters_of(row: Any, n: int) -> list[object]:
    return row["clusters"] or [""] * n


# ---------------------------------------------------------------- the vectors

CODES = {"WALL": 0, "SHIP": 0, "KEEP_PROMPTING": 1, "BLOCK": 1, "INSUFFICIENT_EVIDENCE": 3}


@pytest.mark.parametrize("number", range(len(rows("wall_verdicts", "rows"))))
def test_a_wall_vector_as_a_csv_gives_the_verdict_of_the_core(
    harness: Harness, number: int
) -> None:
    row = rows("wall_verdicts", "rows")[number]
    has_families = number % 2 == 0  # without the column they are not checked, and decide nothing
    lines = [
        (f"c{i}", f"try {k}", score, cluster)
        + ((FAMILIES[k % len(FAMILIES)],) if has_families else ())
        for k, scores in enumerate(row["scores"])
        for i, (score, cluster) in enumerate(
            zip(scores, clusters_of(row, len(scores)), strict=True)
        )
    ]
    head = ["case", "try", "score", "cluster", *(["family"] if has_families else [])]
    file = write("vector.csv", head, lines)
    said = harness(
        "wall", "--scores", file, "--target", str(row["target"]), "--mid", str(row["mid"]),
        "--profile", row["profile"], "--json",
    )  # fmt: skip
    expected, found = row["expected"], said.json
    assert found["verdict"] == expected["verdict"]
    assert said.code == CODES[expected["verdict"]]
    assert found["best"] == f"try {expected['best']}"
    assert found["best_mean"] == pytest.approx(expected["best_mean"], abs=1e-6)
    assert found["upper"] == pytest.approx(expected["upper"], abs=1e-6)
    assert found["p_reach"] == pytest.approx(expected["p_reach"], abs=0.03)
    assert found["profile"] == row["profile"]
    assert found["horizon"] == (1 if row["profile"] == "quick" else len(row["scores"]) // 7)
    decided = {c["name"]: c["holds"] for c in found["conditions"]}
    assert found["decided_by"] == "every condition" or decided[found["decided_by"]] is False
    assert {"positive control", "labels"} <= set(found["not_checked"])
    assert ("families" in found["not_checked"]) is not has_families


@pytest.mark.parametrize("number", range(len(rows("release_verdicts", "rows"))))
def test_a_release_vector_as_a_csv_gives_the_verdict_of_the_core(
    harness: Harness, number: int
) -> None:
    row = rows("release_verdicts", "rows")[number]
    lines = [
        (f"c{i}", who, metric, score, cluster)
        for metric in ("primary", "guardrail")
        for i, (d, cluster) in enumerate(zip(row[metric], row["clusters"], strict=True))
        for who, score in [("new", max(d, 0)), ("old", max(-d, 0))]
    ]
    file = write("vector.csv", ["case", "candidate", "metric", "score", "cluster"], lines)
    said = harness(
        "gate", "--scores", file, "--baseline", "old", "--candidate", "new", "--primary", "primary",
        "--guardrail", f"guardrail={row['margin']}", "--json",
    )  # fmt: skip
    assert said.json["verdict"] == row["expected"]
    assert said.code == CODES[row["expected"]]
    assert said.json["look"] is None


# ---------------------------------------------------------------- what is said, and what is not


def ladder(tries: int = 15, cases: int = 200, *, passes: int = 100) -> list[tuple[object, ...]]:
    """Tries of which each passes another `passes` of the cases: a plain wall at 80 %."""
    return [
        (f"c{i}", f"t{k}", int((7 * i + 3 * k) % cases < passes))
        for k in range(tries)
        for i in range(cases)
    ]


def test_a_wall_says_what_it_did_not_check_and_writes_nothing(
    harness: Harness, tmp_path: Path
) -> None:
    file = write("s.csv", ["case", "try", "score"], ladder())
    said = harness("wall", "--scores", file, "--target", ".8")
    assert said.code == 0
    assert "WALL  (standard profile, target 80 %)" in said.out
    assert "– positive control" in said.out
    assert "✓ positive control" not in said.out
    assert "– coverage: 15 distinct tries (14 needed); families not checked" in said.out
    assert "Not checked: families, the grader and the labels" in said.out
    assert "not recorded" in said.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv"]


def test_reference_answers_in_the_scores_are_the_positive_control(harness: Harness) -> None:
    for score, verdict, control in [(1, "WALL", True), (0, "FIX_DATA", False)]:
        reference = [(f"c{i}", "gold", score) for i in range(200)]
        file = write("s.csv", ["case", "try", "score"], [*ladder(), *reference])
        found = harness(
            "wall", "--scores", file, "--target", ".8", "--reference", "gold", "--json"
        ).json
        assert found["verdict"] == verdict
        holds = {c["name"]: c["holds"] for c in found["conditions"]}
        assert holds["positive control"] is control
        assert len(found["tries"]) == 15
    assert found["decided_by"] == "positive control"


def test_a_try_with_holes_is_missing_and_said(harness: Harness) -> None:
    file = write("s.csv", ["case", "try", "score"], ladder()[:-10])
    found = harness("wall", "--scores", file, "--target", ".8", "--json")
    assert found.code == 3
    assert found.json["missing"] == {"t14": 10}
    assert found.json["decided_by"] == "missing"


def test_families_that_are_named_are_asked_for_and_can_be_waived(harness: Harness) -> None:
    names = ["zero-shot", "instructions", "few-shot", "chain-of-thought", "rag"]
    lines = [(*row, names[int(str(row[1])[1:]) % 5]) for row in ladder()]
    file = write("s.csv", ["case", "try", "score", "family"], lines)
    asked = harness("wall", "--scores", file, "--target", ".8")
    assert asked.code == 1
    assert "Write a prompt of optimised" in asked.out
    assert "or waive it with a reason with --waive." in asked.out
    waived = harness(
        "wall", "--scores", file, "--target", ".8", "--waive", "optimised=no optimiser allowed here"
    )
    assert waived.code == 0
    assert "no optimiser allowed here" in waived.out


def releases(tmp: str, *, gain: int = 60) -> str:
    lines = [
        (f"c{i}", who, "right", int(i % 200 < share))
        for who, share in [("old", 100), ("new", 100 + gain), ("newer", 100 + gain + 10)]
        for i in range(200)
    ]
    return write(tmp, ["case", "candidate", "metric", "score"], lines)


def test_no_look_is_spent_on_cases_that_can_decide_nothing(harness: Harness) -> None:
    def judged(cases: int, *more: str) -> Said:
        lines = [(f"c{i}", who, "m", 1) for i in range(cases) for who in ("old", "new")]
        file = write("s.csv", ["case", "candidate", "metric", "score"], lines)
        terms = ["--baseline", "old", "--candidate", "new", "--primary", "m", "--store", "looks.db"]
        return harness("gate", "--scores", file, *terms, *more)

    few = judged(9)
    assert few.code == 3
    assert "no look is spent: 9 clusters, and below 10 nothing can be said" in few.out
    assert "  no look is spent on so few: judged at 5.00 %" in few.out
    assert judged(10, "--json").json["look"] == 1


def test_looks_are_counted_only_in_a_named_store(harness: Harness, tmp_path: Path) -> None:
    file = releases("s.csv")
    terms = ["gate", "--scores", file, "--baseline", "old", "--primary", "right"]
    bare = harness(*terms, "--candidate", "new")
    assert bare.code == 0
    assert "looks are not counted without --store" in bare.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.csv"]
    looks = [
        harness(*terms, "--candidate", name, "--store", "looks.db", "--json").json
        for name in ("new", "new", "newer")
    ]
    assert [one["look"] for one in looks] == [1, 1, 2]
    assert [one["alpha"] for one in looks] == pytest.approx([0.04, 0.04, 0.005])
    # the same names with other scores are another candidate
    changed = releases("s.csv", gain=50)
    assert changed == file
    again = harness("--store", "looks.db", *terms, "--candidate", "new", "--json").json
    assert again["look"] == 3


def test_arms_on_different_cases_are_refused(harness: Harness) -> None:
    lines = [(f"c{i}", "old", "m", 1) for i in range(50)]
    lines += [(f"c{i}", "new", "m", 1) for i in range(10, 60)]
    file = write("s.csv", ["case", "candidate", "metric", "score"], lines)
    said = harness(
        "gate", "--scores", file, "--baseline", "old", "--candidate", "new", "--primary", "m"
    )
    assert said.code == 1
    assert "share 40 of 50 cases" in said.err


def test_compare_alarms_on_a_shown_loss_only(harness: Harness) -> None:
    down = harness("compare", "--scores", f"a={STEPS}", f"b={PLAIN}")
    assert "no regression is shown; a loss of up to" in down.out  # 16 cases in 8 clusters
    assert down.code == 0
    small, large = LM["small", "sums"], LM["large", "sums"]
    loss = harness("compare", "--scores", large, small, "--primary", "exact_match,strict", "--json")
    assert loss.code == 1
    assert loss.json["verdict"] == "REGRESSION"
    assert "0" in loss.json["comparison"]["newly_passed"] or loss.json["comparison"]["losses"] == 12


def test_several_tasks_get_a_verdict_each(harness: Harness) -> None:
    said = harness(
        "gate", "--scores", *LM.values(), "--baseline", "small", "--candidate", "large",
        "--primary", "exact_match,strict", "--json",
    )  # fmt: skip
    assert [(t["task"], t["verdict"]) for t in said.json["tasks"]] == [
        ("doubles", "INSUFFICIENT_EVIDENCE"),
        ("sums", "SHIP"),
    ]
    assert said.json["verdict"] == "INSUFFICIENT_EVIDENCE"
    assert said.code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wall", "--scores", "s.csv"], "--scores needs --target"),
        (["wall", "--scores", "s.csv", "--target", "80"], "0<=x<=1"),
        (["wall", "--scores", "s.csv", "--target", "0"], "a target lies above 0"),
        (["wall", "--scores", ".", "--target", ".8"], "is a folder"),
        (["wall", "--scores", "s.csv", "--target", ".8", "--waive", "rag"], "give NAME=REASON"),
        (["wall", "--scores", "s.csv", "--target", ".8", "--model", "x"], "--model 'x' is not in"),
        (["wall", "toy", "--target", ".8"], "--target goes with --scores"),
        (["wall"], "Missing argument 'TASK'"),
        (["wall", "one", "two"], "unexpected extra argument"),
        (["gate", "--scores", "s.csv"], "--scores needs --baseline NAME and --candidate"),
        (["gate", "--scores", "s.csv", "--baseline", "t1", "--candidate", "t1"], "own baseline"),
        (["gate", "--scores", "s.csv", "--baseline", "t1", "--candidate", "x"], "Known: 't0'"),
        (
            ["gate", "--scores", "s.csv", "--baseline", "t1", "--candidate", "t2", "--primary",
             "m"],
            "metric 'm' is not in the scores. Known: score",
        ),
        (
            ["gate", "--scores", "s.csv", "--baseline", "t1", "--candidate", "t2", "--guardrail",
             "x"],
            "give NAME=NUMBER",
        ),
        (["compare", "--scores", "s.csv"], "which one? --baseline NAME"),
        (["compare", "toy"], "no task 'toy'"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_exit_2_with_one_message(
    harness: Harness, arguments: list[str], said: str
) -> None:
    write("s.csv", ["case", "try", "score"], ladder(3, 20, passes=10))
    found = harness(*arguments)
    assert found.code == 2
    assert said in found.err
    assert found.out == "" or "read as csv" in found.out


# ---------------------------------------------------------------- the page

COMMAND = re.compile(r"^(harness .*?)\s+# exit (\d)$", re.MULTILINE)


def test_every_command_of_the_page_does_what_it_says(harness: Harness, tmp_path: Path) -> None:
    for language, name, text in re.findall(
        r"```(csv|json) (\S+)\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL
    ):
        assert language
        (tmp_path / name).write_text(text)
    shutil.copy(unpacked(tmp_path, "promptfoo/sums.json.gz"), tmp_path / "out.json")
    for folder in ("logs", "before", "after"):
        (tmp_path / folder).mkdir()
    shutil.copy(PLAIN, tmp_path / "logs")
    shutil.copy(STEPS, tmp_path / "logs")
    for folder, model in [("before", "large"), ("after", "small")]:
        shutil.copytree(MADE / "lm_eval" / model, tmp_path / folder / model)
    shutil.copy(MADE / "deepeval/plain.json", tmp_path / "before")
    shutil.copy(MADE / "deepeval/steps.json", tmp_path / "after")
    found = COMMAND.findall(DOC.read_text(encoding="utf-8"))
    assert len(found) >= 7
    for command, code in found:
        words = []
        for word in shlex.split(command)[1:]:
            some = sorted(map(str, Path().glob(word))) if "*" in word else []
            words += some or [word]
        assert harness(*words).code == int(code), command


def test_json_is_alone_on_standard_output(harness: Harness) -> None:
    said = harness("wall", "--scores", PLAIN, STEPS, "--target", ".9", "--json")
    assert json.loads(said.out)["files"][0]["form"] == "inspect"
