"""A small task whose eval is the reward of `trl-grpo`: the more letters in a reply, the better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import Message, TrainingRow, TuneJob
from tests.engine.small import write_settings, write_task

EVALS = """
import pytest

def letters(text):
    return sum("a" <= c <= "z" for c in text) / len(text) if text else 0.0

def test_right(reply, score):
    score(letters(reply.text))

def test_never(reply):
    assert reply.text == "what no model says"

def test_breaks(reply):
    raise KeyError("no such unit")

def test_silent(case, reply, score):
    if case.inputs["n"] % 2:
        pytest.skip("odd ones cannot be told")
    score(letters(reply.text))
"""


def rewarding_task(root: Path, *, primary: str = "right") -> Path:
    folder = write_task(root)
    (folder / "eval_double.py").write_text(EVALS)
    write_settings(folder, primary=primary)
    return folder


def prompt_rows(*, count: int = 8) -> tuple[TrainingRow, ...]:
    return tuple(
        TrainingRow(
            case_id=f"c{n}",
            messages=(Message(role="user", content=f"How many {'slow ' * (n % 3)}hours {n}?"),),
            completion="",
        )
        for n in range(count)
    )


def grpo_job(base: Path, out_dir: Path, task_folder: Path, **recipe: Any) -> TuneJob:
    chosen = {
        "epochs": 5,
        "batch_size": 2,
        "group": 12,
        "max_new_tokens": 6,
        "learning_rate": 1e-2,
        "rank": 8,
        "dtype": "float32",
        **recipe,
    }
    return TuneJob(
        base=str(base),
        rows=prompt_rows(),
        recipe=chosen,
        out_dir=out_dir,
        seed=3,
        task_folder=task_folder,
    )
