"""Several processes that train together, as torch's launcher starts them. Knows no model.

Alone, a process is rank 0 of 1 and nothing is sent anywhere.
"""

from __future__ import annotations

import os
from typing import Any

from harness import TuneJob, UsageError


def world() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this process is the one that writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


def check_world(job: TuneJob) -> None:
    """Raise UsageError where there are not as many processes as the job wants."""
    if world() != job.devices:
        raise UsageError(
            f"devices that the job wants: {job.devices}; this process is one of {world()}. Start "
            "it with `harness tune --devices`, which runs a launcher."
        )


def told_by_first(value: Any) -> Any:
    """Return what the first process gave; all processes call this together."""
    if world() == 1:
        return value
    import torch.distributed as dist

    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def told_by_all(value: Any) -> list[Any]:
    """Return what each process gave, by rank; all processes call this together."""
    if world() == 1:
        return [value]
    import torch.distributed as dist

    box: list[Any] = [None] * world()
    dist.all_gather_object(box, value)
    return box
