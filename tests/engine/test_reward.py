"""The reward of a training is the task's own primary score, and a broken eval is never a reward."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.errors import TaskError, UsageError
from tests.engine.small import rows, write_rows, write_settings, write_task

EVALS = """
import pytest

def test_right(case, reply):
    assert reply.text == case.reference

def test_short(reply, score):
    score(1 / max(1, len(reply.text)))

def test_number(reply):
    int(reply.text) if reply.text != "boom" else 1 / 0

def test_odd(case, reply):
    if reply.text == "skip":
        pytest.skip("cannot tell")

def test_tmp(reply, tmp_path):
    pass
"""


def folder_with(tmp_path: Path, **changes: object) -> Path:
    folder = write_task(tmp_path, **changes)
    (folder / "eval_double.py").write_text(EVALS)
    return folder


def test_a_reply_is_worth_what_a_run_would_record(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    with harness.reward(folder) as reward:
        assert reward.names == ("right",)
        assert reward("c3", "6") == 1.0
        assert reward("c3", "7") == 0.0
        assert reward.many([("c3", "6"), ("c4", "6"), ("c4", "8")]) == [1.0, 0.0, 1.0]
    write_settings(folder, primary="short")
    with harness.reward(str(folder)) as reward:
        assert reward("c3", "abcd") == 0.25


def test_what_has_no_score_is_none_and_no_miss(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    write_rows(folder, [{k: v for k, v in row.items() if k != "reference"} for row in rows()])
    with harness.reward(folder) as reward:
        assert reward("c3", "6") is None
    write_settings(folder, primary="odd")
    with harness.reward(folder) as reward:
        assert reward("c3", "skip") is None


def test_an_eval_that_breaks_stops_who_asks_naming_case_and_reply(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, primary="number")
    with (
        harness.reward(folder) as reward,
        pytest.raises(TaskError, match=r"cases.jsonl:4: case 'c3'.*ZeroDivisionError.*'boom'"),
    ):
        reward("c3", "boom")


def test_evals_that_cannot_be_seen_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, primary="all")
    with harness.reward(folder) as reward:
        assert "tmp" in reward.left_out
        assert reward.names == ("number", "odd", "right", "short")
        assert reward("c3", "6") == 1.0
        assert reward("c0", "00") == 0.0
    write_settings(folder, primary="tmp")
    with pytest.raises(UsageError, match="'tmp' needs pytest"):
        harness.reward(folder)
    with pytest.raises(UsageError, match=r"lacks task\.toml"):
        harness.reward(tmp_path)


def test_the_answer_within_a_reply_is_what_is_scored(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    thinking = "+++\nfamily = 'chain-of-thought'\nanswer_after = 'Answer:'\n+++\n@user\n{{ n }}\n"
    (folder / "prompts/think.md").write_text(thinking)
    with harness.reward(folder, prompt="think") as reward:
        assert reward("c3", "3 and 3. Answer: 6") == 1.0
    with harness.reward(folder) as reward:
        assert reward("c3", "3 and 3. Answer: 6") == 0.0
    with pytest.raises(UsageError, match="no prompt 'other'"):
        harness.reward(folder, prompt="other")


def test_unknown_cases_are_named(tmp_path: Path) -> None:
    with (
        harness.reward(folder_with(tmp_path)) as reward,
        pytest.raises(UsageError, match="no case 'zz'"),
    ):
        reward("zz", "6")
