"""What a training tells while it runs: progress, looks at dev, and its state. Knows no trainer.

After each step, in this order: the loss is checked, the step reported, the caller shown a whole
artifact where a look is due, and the state kept. So no look is lost in a kill: at worst the same
numbers are looked at twice.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness import Checkpoint, TrainProgress, TuneJob
from harness_trl.failures import check_loss
from harness_trl.ranks import is_first, told_by_first
from harness_trl.recipe import Recipe

KEEP_EVERY_S = 60.0
"""How much a kill may cost. A state of a small adapter is written within a fraction of a second."""


class Journal:
    """The story of one training. `write(folder)` makes an artifact of how things stand, in the
    first of several processes, after `collect()` in all of them; `keep(step)` writes the state.
    """

    def __init__(
        self,
        job: TuneJob,
        recipe: Recipe,
        *,
        report: Callable[[TrainProgress], None],
        write: Callable[[Path], None] | None = None,
        collect: Callable[[], None] | None = None,
        keep: Callable[[int], None] | None = None,
    ) -> None:
        self._job, self._recipe, self._report = job, recipe, report
        self._write, self._collect, self._keep = write, collect, keep
        self.losses: list[float] = []
        self.tokens = self._steps = 0
        self.is_stopped = False
        self._seconds_before = 0.0
        self._began = self._kept = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training, those of the processes before this one among them."""
        return self._seconds_before + time.monotonic() - self._began

    def step(
        self,
        *,
        step: int,
        steps: int,
        loss: float,
        tokens: int,
        numbers: Mapping[str, float] | None = None,
    ) -> bool:
        """Write down a step, `tokens` since the start; return whether to go on.

        Raises BackendError where the loss is no number.
        """
        check_loss(loss, step=step, steps=steps, learning_rate=self._recipe.learning_rate)
        self.losses.append(loss)
        self.tokens, self._steps = tokens, steps
        progress = TrainProgress(
            step=step,
            steps=steps,
            loss=loss,
            tokens=tokens,
            seconds=self.seconds,
            memory_gb=peak_memory_gb(),
            numbers=numbers or {},
        )
        if is_first():
            self._report(progress)
        looked = self._look(step, steps)
        is_due = told_by_first(looked or time.monotonic() - self._kept >= KEEP_EVERY_S)
        if self._keep is not None and is_due and step < steps and not self.is_stopped:
            self._keep(step)
            self._kept = time.monotonic()
        return not self.is_stopped

    def _look(self, step: int, steps: int) -> bool:
        every, check = self._job.check_every, self._job.check
        if check is None or not every or self._write is None:
            return False
        if step % every and step != steps:
            return False
        if self._collect is not None:
            self._collect()
        goes_on = True
        if is_first():
            with tempfile.TemporaryDirectory(
                prefix=".look-", dir=_existing(self._job.out_dir)
            ) as name:
                folder = Path(name) / "artifact"
                self._write(folder)
                goes_on = check(Checkpoint(step=step, steps=steps, folder=folder))
        self.is_stopped = not told_by_first(goes_on)
        return True

    def summary(self, *, epochs: int) -> dict[str, float]:
        """Return the metrics of a training that ended, perhaps before its last step;
        `last_epoch_loss` is the mean over so many steps as an epoch has.
        """
        last = self.losses[-max(1, max(self._steps, len(self.losses)) // epochs) :]
        seconds = self.seconds
        peak = peak_memory_gb()
        return {
            "steps": float(len(self.losses)),
            "first_loss": self.losses[0],
            "last_epoch_loss": sum(last) / len(last),
            "tokens": float(self.tokens),
            "train_s": seconds,
            "tokens_per_s": self.tokens / max(seconds, 1e-9),
            **({} if peak is None else {"peak_memory_gb": peak}),
        }

    # ------------------------------------------------------------ going on

    def told(self) -> dict[str, Any]:
        """Return what a state must hold of this journal."""
        return {"losses": self.losses, "tokens": self.tokens, "seconds": self.seconds}

    def recall(self, told: Mapping[str, Any]) -> None:
        """Go on from what `told` gave."""
        self.losses, self.tokens = list(told["losses"]), int(told["tokens"])
        self._seconds_before = float(told["seconds"])


def peak_memory_gb() -> float | None:
    """Return the peak of the GPU where there is one that was used, else of this process."""
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
        if peak:
            return float(peak) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, kilobytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _existing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
