"""Trains in several processes: one launcher, the same worker in each. Knows nothing of losses.

torch.distributed is never started in the harness's own process. The prepared rows, compared with
what is served, are handed over in a file; what happens comes back as JSON lines. Whether it went
well is told by those lines and the files, and not by the exit code alone: ranks may abort after
their work is done.

On a CPU by `torch.distributed.run` (gloo), which the tests run; on GPUs by `accelerate launch` with
a preset of `launch_presets/`, which has not been run: there was no GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import (
    BackendError,
    Checkpoint,
    PreparedRow,
    RecipeError,
    TrainProgress,
    TrainResult,
    TuneJob,
    UsageError,
)
from harness_trl.children import end_session

PRESETS = ("ddp", "zero2", "zero3", "fsdp2")
WORKER = "HARNESS_TUNE_WORKER"
POLL_S = 0.05
_TAIL = 2000
_KEPT = ("base", "recipe", "seed", "options", "base_url", "devices", "check_every")
_PATHS = ("out_dir", "cache_dir", "start", "task_folder", "state_dir")


def is_worker() -> bool:
    """Tell whether this process is one of those that train together."""
    return WORKER in os.environ


def train_together(
    tuner: str,
    job: TuneJob,
    rows: Sequence[PreparedRow],
    *,
    report: Callable[[TrainProgress], None],
    on_cpu: bool,
    preset: str = "ddp",
) -> TrainResult:
    """Train `rows` by `tuner` in `job.devices` processes, and return what the first one made.

    Raises UsageError where there are not so many devices, BackendError where the training failed.
    """
    check_devices(job.devices, on_cpu=on_cpu, preset=preset)
    with tempfile.TemporaryDirectory(prefix="harness-tune-") as name:
        folder = Path(name)
        write_job(folder, tuner=tuner, job=job, rows=rows)
        log = folder / "log.txt"
        with (
            log.open("wb") as output,
            _started(
                command_of(folder / "job.json", job.devices, on_cpu=on_cpu, preset=preset),
                output=output,
                devices=job.devices,
                on_cpu=on_cpu,
            ) as process,
        ):
            result = _follow(process, folder, job=job, report=report)
            code = process.wait()
        if result is None or not any(p.is_file() for p in job.out_dir.rglob("*")):
            raise BackendError(
                f"the training in {job.devices} processes ended with exit code {code} and made "
                f"nothing: {_tail(log)}"
            )
    return TrainResult(
        **{**result, "environment": {**result["environment"], "processes": str(job.devices)}}
    )


def check_devices(devices: int, *, on_cpu: bool, preset: str) -> None:
    """Raise UsageError where there are fewer GPUs than processes, or no such preset."""
    if preset not in PRESETS:
        raise UsageError(f"no launch preset {preset!r}. Known: {', '.join(PRESETS)}.")
    if on_cpu:
        if preset != "ddp":
            raise UsageError(f"the preset {preset!r} is for GPUs; on a CPU there is 'ddp'")
        cores = os.cpu_count() or 1
        if devices > cores:
            raise UsageError(f"--devices {devices}: this machine has {cores} cores")
        return
    import torch

    found = torch.cuda.device_count()
    if devices > found:
        raise UsageError(
            f"--devices {devices}: this machine has {found} GPU(s). Ask for so many, or train on "
            'the CPU: device = "cpu" in the recipe.'
        )


def command_of(job_file: Path, devices: int, *, on_cpu: bool, preset: str) -> list[str]:
    """Return the command that starts the worker `devices` times."""
    worker = ["-m", "harness_trl.worker", str(job_file)]
    if on_cpu:
        run = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(devices)]
        return [sys.executable, "-m", *run, *worker]
    config = Path(__file__).with_name("launch_presets") / f"{preset}.json"
    run = ["accelerate.commands.launch", "--config_file", str(config)]
    return [sys.executable, "-m", *run, "--num_processes", str(devices), *worker]


# ---------------------------------------------------------------- the job, as files


def write_job(folder: Path, *, tuner: str, job: TuneJob, rows: Sequence[PreparedRow]) -> None:
    """Write what every process needs: `job.json` and `rows.jsonl`."""
    plain: dict[str, Any] = {key: getattr(job, key) for key in _KEPT}
    plain |= {key: str(v) if (v := getattr(job, key)) is not None else None for key in _PATHS}
    plain |= {
        "tuner": tuner,
        "has_check": job.check is not None,
        "rows": [asdict(row) for row in job.rows],
    }
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row)) + "\n")
    (folder / "job.json").write_text(json.dumps(plain), encoding="utf-8")


# ---------------------------------------------------------------- the processes


@contextmanager
def _started(
    command: Sequence[str], *, output: Any, devices: int, on_cpu: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the launcher in a session of its own, and leave none of its processes behind."""
    environment = {
        **os.environ,
        WORKER: "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    if on_cpu:
        environment |= {
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // devices)),
        }
    process = subprocess.Popen(
        list(command), stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        end_session(process)


def _follow(
    process: subprocess.Popen[bytes],
    folder: Path,
    *,
    job: TuneJob,
    report: Callable[[TrainProgress], None],
) -> dict[str, Any] | None:
    """Pass on what the first process says, answer its checkpoints, and return its result.

    Raises RecipeError, UsageError or BackendError as it raised them.
    """
    result: dict[str, Any] | None = None
    for said in _lines(process, folder / "status.jsonl"):
        kind = said.pop("kind")
        if kind == "progress":
            report(TrainProgress(**said))
        elif kind == "checkpoint":
            seen = Checkpoint(step=said["step"], steps=said["steps"], folder=Path(said["folder"]))
            goes_on = job.check is None or job.check(seen)
            decision = folder / f"decision-{seen.step}.json"
            half = decision.with_suffix(".half")
            half.write_text(json.dumps(goes_on), encoding="utf-8")
            half.replace(decision)
        elif kind == "error":
            if said["keys"] is not None:
                raise RecipeError(said["message"], keys=said["keys"])
            raise (UsageError if said["is_usage"] else BackendError)(said["message"])
        else:
            result = said
    return result


def _lines(process: subprocess.Popen[bytes], path: Path) -> Iterator[dict[str, Any]]:
    """Yield each line of the status file as it is written, until the process has ended."""
    place, is_over = 0, False
    while True:
        text = b""
        if path.is_file():
            with path.open("rb") as file:
                file.seek(place)
                text = file.read()
        whole, _, _ = text.rpartition(b"\n")
        if whole:
            place += len(whole) + 1
            for line in whole.splitlines():
                yield json.loads(line)
            continue
        if is_over:
            return
        is_over = process.poll() is not None  # once more: it may have written last
        if not is_over:
            time.sleep(POLL_S)


def _tail(log: Path) -> str:
    text = log.read_bytes().decode("utf-8", "replace").strip()
    return text[-_TAIL:] or "it said nothing"
