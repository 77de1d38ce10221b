from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from harness_trl.launch import check_devices, command_of, train_together, write_job
from harness_trl.trl_sft import TrlSft
from harness_trl.worker import main, read_job, read_rows

from harness import (
    BackendError,
    Checkpoint,
    Message,
    PreparedRow,
    RecipeError,
    TrainingRow,
    TrainProgress,
    TuneJob,
    UsageError,
)
from tests.plugins.tuning import (
    files_of,
    ignore,
    losses_of,
    small_job,
    small_rows,
)


def prepared(job: TuneJob) -> Sequence[PreparedRow]:
    return TrlSft().prepare(job)


def test_two_processes_learn_what_one_does_from_the_same_step(base: Path, tmp_path: Path) -> None:
    """The step's four rows are dealt out, the losses agree, and one artifact is left."""
    alone, pair = (
        small_job(base, tmp_path / name, epochs=5, batch_size=4, learning_rate=1e-3)
        for name in ("alone", "pair")
    )
    one: list[TrainProgress] = []
    TrlSft().train(alone, prepared(alone), report=one.append)
    two: list[TrainProgress] = []
    seen: list[int] = []

    def check(checkpoint: Checkpoint) -> bool:
        assert (checkpoint.folder / "adapter/adapter_model.safetensors").is_file()
        seen.append(checkpoint.step)
        return checkpoint.step < 4

    pair = replace(pair, devices=2, check_every=2, check=check)
    result = TrlSft().train(pair, prepared(pair), report=two.append)
    assert seen == [2, 4]  # where the caller said no, both stopped
    assert losses_of(two) == pytest.approx(losses_of(one)[:4], rel=1e-3)
    assert [p.tokens for p in two] == [p.tokens for p in one[:4]]
    assert result.environment["processes"] == "2"
    assert result.metrics["rows_a_step"] == 4
    assert sorted(p.name for p in pair.out_dir.iterdir()) == sorted(
        p.name for p in alone.out_dir.iterdir()
    )
    report = json.loads((pair.out_dir / "train_report.json").read_text())
    assert report["batching"] == {"devices": 2, "rows_a_step": 4}


def test_a_step_that_cannot_be_dealt_out_alike_is_refused_before_anything_starts(
    base: Path, tmp_path: Path
) -> None:
    job = replace(small_job(base, tmp_path / "out", batch_size=3), devices=2)
    with pytest.raises(UsageError, match="cannot be dealt to 2"):
        TrlSft().train(job, prepared(job), report=ignore)
    assert not (tmp_path / "out/adapter").exists()


# ---------------------------------------------------------------- ends, without torch


def fake(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A launcher that runs a shell script in the folder of the job."""
    monkeypatch.setattr(
        "harness_trl.launch.command_of",
        lambda job_file, *_, **__: ["sh", "-c", f"cd {job_file.parent}; {script}"],
    )


RESULT = json.dumps(
    {
        "kind": "result", "base_digest": "b", "template_digest": "t", "metrics": {},
        "environment": {}, "backend": None, "cost_usd": None,
    }
)  # fmt: skip


def some_job(tmp_path: Path) -> TuneJob:
    out = tmp_path / "out"
    out.mkdir()
    return TuneJob(base="b", rows=small_rows(), recipe={}, out_dir=out, devices=2)


def test_work_that_was_done_counts_though_a_rank_aborts_at_its_exit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = some_job(tmp_path)
    fake(monkeypatch, f"echo x > {job.out_dir}/w; echo '{RESULT}' >> status.jsonl; exit 1")
    result = train_together("trl-sft", job, (), report=ignore, on_cpu=True)
    assert result.base_digest == "b"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo it went wrong; exit 7", r"exit code 7 and made nothing: it went wrong"),
        (f"echo '{RESULT}' >> status.jsonl", "exit code 0 and made nothing: it said nothing"),
    ],
)
def test_an_exit_code_alone_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    fake(monkeypatch, script)
    with pytest.raises(BackendError, match=says):
        train_together("trl-sft", some_job(tmp_path), (), report=ignore, on_cpu=True)


def test_a_listener_that_stops_it_leaves_no_process_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = json.dumps({
        "kind": "progress", "step": 1, "steps": 2, "loss": 1, "tokens": 1, "seconds": 1,
        "memory_gb": None, "numbers": {},
    })  # fmt: skip
    pid = tmp_path / "pid"
    fake(monkeypatch, f"sleep 60 & echo $! > {pid}; echo '{step}' >> status.jsonl; wait")

    def stop(_: TrainProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_together("trl-sft", some_job(tmp_path), (), report=stop, on_cpu=True)
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", pid.read_text().strip()], capture_output=True, text=True,
        check=False,
    ).stdout  # fmt: skip
    assert state.strip() in {"", "Z"}


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = TrainingRow(
        case_id="c", completion="x", rejected="y", tools=({"name": "f"},),
        messages=(Message(role="user", content="ü", images=("data:image/png;base64,",)),),
    )  # fmt: skip
    ids = PreparedRow(case_id="c", input_ids=(1, 2), labels=(-100, 2), rejected_ids=(1, 3))
    job = TuneJob(
        base="b", rows=(row,), recipe={"epochs": 2}, out_dir=tmp_path / "o", seed=4, devices=2,
        start=tmp_path / "s", options={"chat_template": "plain"},
    )  # fmt: skip
    write_job(tmp_path, tuner="trl-sft", job=job, rows=(ids,))
    plain = json.loads((tmp_path / "job.json").read_text())
    assert read_job(plain, folder=tmp_path, say=lambda *_: None) == job
    assert read_rows(tmp_path / "rows.jsonl") == (ids,)


def test_a_worker_alone_says_that_the_launcher_started_too_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(tmp_path, tuner="trl-sft", job=some_job(tmp_path), rows=())
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert main(tmp_path / "job.json") == 1
    said = json.loads((tmp_path / "status.jsonl").read_text())
    assert said["message"] == "of 2 processes, the launcher started 1"


def test_a_mistake_in_the_recipe_comes_back_with_its_keys(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By them the engine finds file and line, as it does for a training in one process."""
    job = small_job(base, tmp_path / "out", targets=["no_such_layer"])
    write_job(tmp_path, tuner="trl-sft", job=job, rows=prepared(job))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert main(tmp_path / "job.json") == 1
    fake(monkeypatch, f"cp {tmp_path}/status.jsonl .")
    with pytest.raises(RecipeError, match=r"targets = \['no_such_layer'\] do not fit") as caught:
        train_together("trl-sft", replace(job, devices=2), (), report=ignore, on_cpu=True)
    assert caught.value.keys == ("targets",)
    assert str(caught.value).count("recipe:") == 1


def test_devices_that_are_not_there_are_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match=r"has 0 GPU\(s\)"):
        check_devices(2, on_cpu=False, preset="ddp")
    with pytest.raises(UsageError, match="cores"):
        check_devices((os.cpu_count() or 1) + 1, on_cpu=True, preset="ddp")
    with pytest.raises(UsageError, match="for GPUs"):
        check_devices(1, on_cpu=True, preset="zero2")


@pytest.mark.parametrize("preset", ["ddp", "zero2", "zero3", "fsdp2"])
def test_accelerate_understands_each_preset(preset: str, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    command = command_of(tmp_path / "job.json", 4, on_cpu=False, preset=preset)
    config = load_config_from_file(command[command.index("--config_file") + 1])
    assert config.num_machines == 1
    assert command[-5:] == [
        "--num_processes", "4", "-m", "harness_trl.worker", str(tmp_path / "job.json"),
    ]  # fmt: skip
    assert files_of(tmp_path) == {}
