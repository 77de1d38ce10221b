"""Folders of trainings under way: `.harness/tuning/JOB`, which outlive the process that trains.

Knows nothing of tuners. What is in a folder is only ever read back by the job that wrote it; when
an artifact was made of it, the folder goes. Each folder has a lock for as long as it is trained
in. Since the lock goes with its folder, locks are only taken, and folders removed, by whoever
stands in the door: a lock of all folders, held for a moment, which stays.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Refused, StoreError
from harness.records import CurvePoint, Json, from_plain, to_plain
from harness.store.home import make_home

HOME = "tuning"
DOOR = ".trainings.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The folder of one job. `was_there` tells that an earlier process left something to go on
    from.

    * `state`: the tuner's own; * `out`: where the artifact is made, empty at the start;
    * the looks at dev, the best artifact so far, and the loss of each step.
    """

    folder: Path
    was_there: bool = False

    @property
    def state(self) -> Path:
        """Where the tuner keeps what it needs to go on."""
        return self.folder / "state"

    @property
    def out(self) -> Path:
        """Where the artifact is made."""
        return self.folder / "out"

    def best(self, step: int) -> Path:
        """Return where the artifact of `step` is kept while it is the best."""
        return self.folder / f"best-{step}"

    def add_loss(self, step: int, loss: float) -> None:
        """Append the loss of a step."""
        with (self.folder / "losses.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([step, loss]) + "\n")

    def losses(self) -> dict[int, float]:
        """Return the losses by step; a step that was done again counts once."""
        path, found = self.folder / "losses.jsonl", {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            with suppress(ValueError):  # the last line of a process that was killed
                step, loss = json.loads(line)
                found[int(step)] = float(loss)
        return found

    def save_looks(self, points: tuple[CurvePoint, ...], *, best: int | None) -> None:
        """Write the looks so far, and forget every kept artifact but that of step `best`."""
        half = self.folder / "looks.json.half"
        half.write_text(json.dumps({"points": to_plain(points), "best": best}), encoding="utf-8")
        half.replace(self.folder / "looks.json")
        for kept in self.folder.glob("best-*"):
            if best is None or kept != self.best(best):
                shutil.rmtree(kept, ignore_errors=True)

    def looks(self) -> tuple[tuple[CurvePoint, ...], int | None]:
        """Return the looks that were made, and the step of the best."""
        path = self.folder / "looks.json"
        if not path.is_file():
            return (), None
        held = json.loads(path.read_text(encoding="utf-8"))
        return tuple(from_plain(CurvePoint, p) for p in held["points"]), held["best"]


@contextmanager
def open_training(
    home: Path, job: str, *, facts: Mapping[str, Json], is_kept: bool = True, is_fresh: bool = False
) -> Iterator[Training]:
    """Lend the folder of `job` below `home`, to one process at a time.

    It is gone afterwards, unless the training was cut short (killed, stopped, failed, an eval that
    broke) and the tuner has kept something. What this process trained goes where it is Refused;
    what an earlier one left stays. `facts` say for people what it is; `is_fresh` throws away what
    was kept; without `is_kept` nothing ever stays. Raises Refused where another process has it.
    """
    from filelock import FileLock, Timeout

    folder = home / HOME / job
    try:
        make_home(home)
        with FileLock(str(home / DOOR)):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(folder / "lock"), timeout=0)
            lock.acquire()
    except Timeout as exc:
        raise Refused(
            f"another process is training this very job ({folder}). Wait for it, or stop it."
        ) from exc
    except OSError as exc:
        raise StoreError(f"cannot keep the state of a training in {folder}: {exc}") from exc
    is_done = was_there = False
    try:
        if is_fresh or not is_kept:
            _empty(folder)
        was_there = _holds_state(folder)
        training = Training(folder=folder, was_there=was_there)
        if not was_there:
            _empty(folder)
        shutil.rmtree(training.out, ignore_errors=True)
        for each in (training.out, training.state):
            each.mkdir(exist_ok=True)
        (folder / "job.json").write_text(json.dumps(to_plain(dict(facts)), indent=1) + "\n")
        yield training
        is_done = True
    except Refused:
        # hours that an earlier process trained are worth more than a refusal of today's
        is_done = not was_there
        raise
    finally:
        with FileLock(str(home / DOOR)):
            lock.release()
            if is_done or not is_kept or not _holds_state(folder):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # other jobs are there
                    folder.parent.rmdir()
            else:
                shutil.rmtree(folder / "out", ignore_errors=True)


@contextmanager
def at_rest(folder: Path) -> Iterator[bool]:
    """Tell whether no process is training the job of `folder`; none begins to meanwhile."""
    from filelock import FileLock, Timeout

    with FileLock(str(folder.parent.parent / DOOR)):
        is_free = not (folder / "lock").is_file()
        if not is_free:
            with suppress(Timeout), FileLock(str(folder / "lock"), timeout=0):
                is_free = True
        yield is_free


def is_running(folder: Path) -> bool:
    """Tell whether a process is training the job of `folder` now."""
    with at_rest(folder) as is_free:
        return not is_free


def _holds_state(folder: Path) -> bool:
    state = folder / "state"
    return state.is_dir() and any(p.is_file() for p in state.rglob("*"))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
