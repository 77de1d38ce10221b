from __future__ import annotations

import pytest

from tests.surface.inprocess import Cli


def test_a_gate_stops_before_a_look_where_a_sealed_case_stands_in_another_split(cli: Cli) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"c{i}", "split": split, "cluster": f"k{i}", "inputs": {"a": i, "b": i},
         "reference": str(2 * i)}
        for i, split in enumerate(["dev"] * 6 + ["train"] * 3 + ["test"] * 3)
    ]  # fmt: skip
    rows[9]["inputs"] = rows[0]["inputs"]
    cli.toy.write_cases(rows)
    said = cli("gate", "toy", "--candidate", "plain", "--baseline", "shots")
    assert said.code == 2
    assert "cases.jsonl:10: the inputs of 'c9' (test) stand in dev too" in said.err
    assert cli.toy.sent == []


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "toy", "--candidate", "plain"),
        ("ladder", "toy"),
        ("compare", "toy", "--candidate", "plain", "--baseline", "shots"),
        ("wall", "toy"),
    ],
    ids=lambda words: words[0],
)
def test_a_dev_case_that_stands_in_train_is_an_error_before_anything_is_asked(
    cli: Cli, words: tuple[str, ...]
) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"c{i}", "split": split, "inputs": {"a": i, "b": i}, "reference": str(2 * i)}
        for i, split in enumerate(["dev"] * 6 + ["train"] * 3)
    ]
    rows[7]["inputs"] = rows[2]["inputs"]
    cli.toy.write_cases(rows)
    said = cli(*words)
    assert said.code == 2
    assert "cases.jsonl:3: the inputs of 'c2' (dev) stand in train too, at " in said.err
    assert cli.toy.sent == []
    if words[0] == "eval":  # what train itself scores is nobody's evidence
        assert cli(*words, "--split", "train").code == 0


def test_plain_pytest_stops_at_a_leak_too(cli: Cli) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"c{i}", "split": split, "inputs": {"a": 1, "b": i % 3}, "reference": "2"}
        for i, split in enumerate(["dev"] * 3 + ["train"] * 3)
    ]
    cli.toy.write_cases(rows)
    done = cli.toy.pytest("evals/toy", "--candidate", "plain")
    assert done.returncode == 2, done.stdout
    assert "stand in train too" in done.stdout + done.stderr
    assert cli.toy.sent == []
