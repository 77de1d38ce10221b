"""A killed training goes on as if nothing had happened, and looks at dev change nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_trl import journal
from harness_trl.states import read_state

from harness import Checkpoint, TuneJob, UsageError
from tests.plugins.tuning import (
    files_of,
    losses_of,
    small_job,
    train,
)

TUNERS = ["torch-lora", "trl-sft"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def kept_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEEP_EVERY_S", 0.0)


def six_steps(base: Path, out_dir: Path, **recipe: Any) -> TuneJob:
    """Three epochs of two steps, with everything that draws random numbers."""
    chosen = {"epochs": 3, "batch_size": 2, "dtype": "auto", **recipe}
    chosen |= {"dropout": 0.2} if "method" not in recipe else {}
    return small_job(base, out_dir, **chosen)


def killed_at(step: int, tuner: str, job: TuneJob) -> None:
    def stop(progress: Any) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tuner, job, stop)


@pytest.mark.parametrize(
    ("tuner", "at", "recipe"),
    [
        ("torch-lora", 3, {}),
        ("torch-lora", 4, {"method": "full"}),
        ("trl-sft", 2, {}),
        ("trl-sft", 3, {"batch_size": 1, "gradient_accumulation": 2}),
        ("trl-sft", 4, {"method": "full"}),
    ],
)
@pytest.mark.usefixtures("kept_each_step")
def test_a_killed_training_goes_on_to_the_very_same_bytes(
    base: Path, tmp_path: Path, tuner: str, at: int, recipe: dict[str, Any]
) -> None:
    job = six_steps(base, tmp_path / "whole", **recipe)
    train(tuner, job)
    cut = replace(job, out_dir=tmp_path / "cut", state_dir=tmp_path / "state")
    killed_at(at, tuner, cut)
    assert not (tmp_path / "cut").exists()
    kept = {p.suffix for p in (tmp_path / "state").rglob("*") if p.is_file()}
    assert kept == {".safetensors", ".json"}
    random.seed("another process")
    seen: list[Any] = []
    train(tuner, cut, seen.append)
    assert [p.step for p in seen] == list(range(at, 7))  # the state was of the step before
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


@pytest.mark.usefixtures("kept_each_step")
def test_a_kill_while_the_state_is_written_leaves_the_one_before(
    base: Path, tmp_path: Path
) -> None:
    job = replace(six_steps(base, tmp_path / "out"), state_dir=tmp_path / "state")
    killed_at(3, "torch-lora", job)
    half = tmp_path / "state" / ".half"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"\x10")
    seen: list[Any] = []
    train("torch-lora", job, seen.append)
    assert seen[0].step == 3


@pytest.mark.usefixtures("kept_each_step")
def test_the_state_of_another_training_is_refused(base: Path, tmp_path: Path) -> None:
    job = replace(six_steps(base, tmp_path / "out"), state_dir=tmp_path / "state")
    killed_at(3, "torch-lora", job)
    for tuner, other in (
        ("torch-lora", replace(job, recipe={**job.recipe, "learning_rate": 1e-3})),
        ("torch-lora", replace(job, rows=job.rows[:3])),
        ("trl-sft", job),
    ):
        with pytest.raises(UsageError, match="is the state of another training"):
            train(tuner, other)
    (folder,) = (tmp_path / "state").iterdir()
    (folder / "tensors.safetensors").write_bytes(b"cut")
    with pytest.raises(UsageError, match=r"cannot go on from .*Remove that folder"):
        read_state(tmp_path / "state", identity="any")


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_look_sees_a_whole_artifact_and_changes_nothing(
    base: Path, tmp_path: Path, tuner: str
) -> None:
    import torch

    job = six_steps(base, tmp_path / "blind")
    train(tuner, job)
    looks: dict[int, dict[str, bytes]] = {}

    def check(look: Checkpoint) -> bool:
        torch.rand(3), random.random()  # an eval may draw what it likes
        looks[look.step] = files_of(look.folder)
        assert look.steps == 6
        return True

    seen: list[Any] = []
    seeing = replace(job, out_dir=tmp_path / "seeing", check_every=4, check=check)
    train(tuner, seeing, seen.append)
    assert list(looks) == [4, 6]  # and after the last step, though 6 is no multiple
    assert looks[6] == files_of(tmp_path / "seeing") == files_of(tmp_path / "blind")
    weights = "adapter/adapter_model.safetensors"
    assert looks[4].keys() == looks[6].keys()
    assert looks[4][weights] != looks[6][weights]
    assert seen[-1].memory_gb > 0.1


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_training_ends_where_it_is_told_to(base: Path, tmp_path: Path, tuner: str) -> None:
    looks: dict[int, dict[str, bytes]] = {}

    def check(look: Checkpoint) -> bool:
        looks[look.step] = files_of(look.folder)
        return look.step < 4

    seen: list[Any] = []
    job = replace(six_steps(base, tmp_path / "out"), check_every=2, check=check)
    result = train(tuner, job, seen.append)
    assert [p.step for p in seen] == [1, 2, 3, 4]
    assert result.metrics["steps"] == 4
    assert files_of(tmp_path / "out") == looks[4]
    assert losses_of(seen)[0] == result.metrics["first_loss"]
