from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_trl import children
from harness_trl.command import Command
from harness_trl.torch_lora import TorchLora

from harness import BackendError, TuneJob, UsageError
from tests.plugins.tuning import (
    ignore,
    reply_of,
    single_thread,
    small_job,
    small_rows,
)

TRAINER = """
import json, os, pathlib, shutil, sys
out, made = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
rows = [json.loads(line) for line in open(os.environ["HARNESS_ROWS"])]
ids = [json.loads(line) for line in open(os.environ["HARNESS_PREPARED"])]
print(f"training on {len(rows)} rows")
json.dump([rows[0], ids[0]], open("seen.json", "w"))
shutil.copytree(made, out, dirs_exist_ok=True)
(out / "harness-base.json").unlink()
(out / "optimizer.pt").write_text("a pickle")
log = {"global_step": 4, "log_history": [{"loss": 2.0}, {"loss": 0.5}]}
(out / "trainer_state.json").write_text(json.dumps(log))
"""


@pytest.fixture(scope="module")
def elsewhere(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that another trainer is to have made."""
    job = small_job(base, tmp_path_factory.mktemp("line") / "made", epochs=30)
    with single_thread():  # two on a tiny model only wait for each other
        TorchLora().train(job, TorchLora().prepare(job), report=ignore)
    return job.out_dir / "adapter"


def line_job(base: Path, tmp_path: Path, command: str, **recipe: Any) -> TuneJob:
    home = tmp_path / "task"
    home.mkdir()
    (home / "train.py").write_text(TRAINER)
    return TuneJob(
        base=str(base), rows=small_rows(), recipe={"command": command, **recipe},
        out_dir=tmp_path / "out", task_folder=home,
    )  # fmt: skip


def run(job: TuneJob) -> Any:
    return Command().train(job, Command().prepare(job), report=ignore)


def test_a_line_trains_on_our_rows_and_what_it_leaves_becomes_an_artifact(
    base: Path, elsewhere: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = line_job(base, tmp_path, f"{sys.executable} train.py {{out}} {elsewhere}")
    result = run(job)
    assert "training on 4 rows" in capfd.readouterr().err
    rows, ids = json.loads((tmp_path / "task/seen.json").read_text())
    assert rows["completion"] == [{"role": "assistant", "content": "slow 0"}]
    assert [m["role"] for m in rows["prompt"]] == ["system", "user"]
    first = Command().prepare(job)[0]
    assert (tuple(ids["input_ids"]), tuple(ids["labels"])) == (first.input_ids, first.labels)
    assert (result.metrics["steps"], result.metrics["last_loss"]) == (4, 0.5)
    assert sorted(p.name for p in job.out_dir.iterdir()) == ["adapter", "fingerprint.json"]
    kept = {p.name for p in (job.out_dir / "adapter").iterdir()}
    assert "optimizer.pt" not in kept
    assert {"adapter_model.safetensors", "harness-base.json", "tokenizer.json"} <= kept
    row = job.rows[2]
    assert reply_of(base, row, adapter=job.out_dir / "adapter") == row.completion


def test_what_was_there_before_the_line_ran_is_not_taken_for_its_work(
    base: Path, elsewhere: Path, tmp_path: Path
) -> None:
    job = line_job(base, tmp_path, "true", leaves=str(elsewhere))
    with pytest.raises(BackendError, match=r"wrote nothing: what is in .* was there before"):
        run(job)
    assert not (job.out_dir / "adapter").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'echo out of memory; exit 3'", r"(?s)exit code 3, nothing was taken in.*memory"),
        ("true", r"left neither an adapter .* in .*: there is nothing. Say where .*`leaves`"),
    ],
)
def test_a_line_that_fails_or_leaves_nothing_is_told(
    base: Path, tmp_path: Path, command: str, says: str
) -> None:
    job = line_job(base, tmp_path, command)
    with pytest.raises(BackendError, match=says):
        run(job)
    assert not job.out_dir.exists()


def test_a_line_that_will_not_end_is_killed_with_all_that_it_started(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C would be lost on it, too."""
    monkeypatch.setattr(children, "GRACE_S", 0.2)
    pids = tmp_path / "pids"
    stubborn = f"trap '' TERM; sleep 60 & echo $$ $! > {pids}; echo ready; wait; sleep 60"
    job = line_job(base, tmp_path, f"sh -c {shlex.quote(stubborn)}")

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stderr, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    states = [
        subprocess.run(
            ["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False
        ).stdout.strip()
        for pid in pids.read_text().split()
    ]
    assert len(states) == 2
    assert set(states) <= {"", "Z"}


def test_an_adapter_for_another_base_is_refused(
    base: Path, elsewhere: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in elsewhere.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/else"
    (other / "adapter_config.json").write_text(json.dumps(config))
    job = line_job(base, tmp_path, f"{sys.executable} train.py {{out}} {other}")
    with pytest.raises(UsageError, match="was tuned on 'someone/else'"):
        run(job)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({}, r"command: Field required.*\[tune\] command"),
        ({"command": "no-such-program x"}, "there is no program 'no-such-program' here"),
        ({"command": "echo 'half"}, "cannot be read: No closing quotation"),
        ({"command": "true", "epochs": 2}, "epochs: Extra inputs .* Known keys: command, leaves"),
        ({"command": "true", "max_length": 8}, r"4 of 4 training rows are longer .* = 8"),
    ],
)
def test_a_line_that_cannot_be_is_told_before_anything_runs(
    base: Path, tmp_path: Path, recipe: dict[str, Any], says: str
) -> None:
    job = replace(line_job(base, tmp_path, "true"), recipe=recipe)
    with pytest.raises(UsageError, match=says):
        Command().prepare(job)
