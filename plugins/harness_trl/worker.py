"""One process of a training in several: `python -m harness_trl.worker job.json`, by a launcher.

Only the first process speaks (JSON lines in `status.jsonl` beside the job), writes, and asks
whether to go on; it tells the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

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

POLL_S = 0.02


def main(job_file: Path) -> int:
    """Train, tell how it went, and return the exit code."""
    folder = job_file.parent
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    plain = json.loads(job_file.read_text(encoding="utf-8"))
    say = _speaker(folder / "status.jsonl") if rank == 0 else _silent
    try:
        if world != plain["devices"]:
            raise BackendError(f"of {plain['devices']} processes, the launcher started {world}")
        job = read_job(plain, folder=folder, say=say)
        result = _train(plain["tuner"], job, read_rows(folder / "rows.jsonl"), say=say)
    except Exception as exc:  # noqa: BLE001 - border: what went wrong is said to another process
        is_usage = isinstance(exc, UsageError)
        known = is_usage or isinstance(exc, BackendError)
        message = str(exc) if known else f"{type(exc).__name__}: {exc}"
        said = {"message": message, "is_usage": is_usage, "keys": None}
        if isinstance(exc, RecipeError):  # the engine finds file and line by its keys
            said |= {"message": exc.problem, "keys": exc.keys}
        say("error", said)
        return 1
    say("result", result)
    return 0


def _train(
    tuner: str, job: TuneJob, rows: tuple[PreparedRow, ...], *, say: Callable[[str, Any], None]
) -> Mapping[str, Any]:
    from accelerate import Accelerator
    from accelerate.state import PartialState

    from harness_trl import harness_tuners

    def report(step: TrainProgress) -> None:
        say("progress", asdict(step))

    result = harness_tuners()[tuner]().train(job, rows, report=report)
    found = PartialState().num_processes
    if found != job.devices:
        raise BackendError(
            f"processes in which {tuner} trained together: {found}, and not {job.devices}: each "
            "learnt alone"
        )
    # without it every rank aborts at exit, after its work is done
    Accelerator().end_training()
    return asdict(result)


def read_job(plain: Mapping[str, Any], *, folder: Path, say: Callable[[str, Any], None]) -> TuneJob:
    """Return the job, whose `check` asks the process that started the launcher."""

    def path(value: str | None) -> Path | None:
        return Path(value) if value is not None else None

    def check(checkpoint: Checkpoint) -> bool:
        decision = folder / f"decision-{checkpoint.step}.json"
        said = {
            "step": checkpoint.step,
            "steps": checkpoint.steps,
            "folder": str(checkpoint.folder),
        }
        say("checkpoint", said)
        while not decision.is_file():
            time.sleep(POLL_S)
        return bool(json.loads(decision.read_text(encoding="utf-8")))

    return TuneJob(
        base=plain["base"],
        rows=tuple(
            TrainingRow(**{**row, "messages": tuple(_message(m) for m in row["messages"]),
                           "tools": tuple(row["tools"]), "calls": tuple(row["calls"])})
            for row in plain["rows"]
        ),
        recipe=plain["recipe"],
        out_dir=Path(plain["out_dir"]),
        seed=plain["seed"],
        cache_dir=path(plain["cache_dir"]),
        start=path(plain["start"]),
        task_folder=path(plain["task_folder"]),
        options=plain["options"],
        base_url=plain["base_url"],
        devices=plain["devices"],
        state_dir=path(plain["state_dir"]),
        check_every=plain["check_every"],
        check=check if plain["has_check"] else None,
    )  # fmt: skip


def _message(plain: Mapping[str, Any]) -> Message:
    turns = {k: tuple(plain[k]) for k in ("tool_calls", "images")}
    return Message(**{**plain, **turns})


def read_rows(path: Path) -> tuple[PreparedRow, ...]:
    """Return the prepared rows of a file."""
    ids = ("input_ids", "labels", "rejected_ids", "rejected_labels")
    with path.open(encoding="utf-8") as file:
        held = [json.loads(line) for line in file]
    return tuple(
        PreparedRow(
            case_id=row["case_id"], pixels=row["pixels"], **{key: tuple(row[key]) for key in ids}
        )
        for row in held
    )


def _speaker(path: Path) -> Callable[[str, Any], None]:
    def say(kind: str, what: Mapping[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **what}) + "\n")

    return say


def _silent(_: str, __: Any) -> None:
    """The other processes have the same to say."""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
