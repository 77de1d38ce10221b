"""A preference in a case file: read, checked with file and line, and rendered for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.prompts import training_row
from harness.engine.tasks import load_task
from harness.errors import TaskError
from tests.engine.small import rows, write_rows, write_task


def task_with(tmp_path: Path, **changes: Any) -> Path:
    some = rows()
    some[2] |= changes
    return write_task(tmp_path, some=some)


def test_a_rejected_reply_becomes_part_of_the_training_row(tmp_path: Path) -> None:
    folder = task_with(tmp_path, rejected={"n": [5]})
    framed = "+++\nfamily = 'zero-shot'\nanswer_after = 'So:'\n+++\n@user\n{{ n }}\n"
    (folder / "prompts/framed.md").write_text(framed)
    task = load_task(folder)
    row = training_row(task.prompts["plain"], task.cases[2])
    assert (row.completion, row.rejected) == ("4", '{"n":[5]}')
    framed_row = training_row(task.prompts["framed"], task.cases[2])
    assert (framed_row.completion, framed_row.rejected) == ("So: 4", 'So: {"n":[5]}')
    assert training_row(task.prompts["plain"], task.cases[3]).rejected is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rejected": "4"}, "`rejected` equals the `reference`"),
        ({"rejected": 4}, "`rejected` equals the `reference`"),
        ({"rejected": " "}, "`rejected` is empty"),
        ({"reference": "", "rejected": "5"}, "`reference` is empty"),
        ({"reference": None, "rejected": "5"}, "`rejected` without a `reference`"),
        ({"worse": "5"}, "worse"),
    ],
)
def test_a_pair_that_says_nothing_is_refused_with_file_and_line(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = task_with(tmp_path, **changes)
    with pytest.raises(TaskError) as refused:
        load_task(folder)
    assert said in str(refused.value)
    assert "cases.jsonl:3: " in str(refused.value)


def test_the_same_file_without_the_pair_reads(tmp_path: Path) -> None:
    folder = task_with(tmp_path, rejected="5")
    assert load_task(folder).cases[2].rejected == "5"
    write_rows(folder, rows())
    assert load_task(folder).cases[2].rejected is None
