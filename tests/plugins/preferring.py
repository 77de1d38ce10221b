"""What the tests of the preference tuners share: pairs with one rule behind them, and margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Message, PreparedRow, TrainingRow, TuneJob


def pair_rows(*, count: int = 16, start: int = 0) -> tuple[TrainingRow, ...]:
    """The better reply says yes, the worse one no, whatever was asked."""
    return tuple(
        TrainingRow(
            case_id=f"c{n}",
            messages=(Message(role="user", content=f"How many requests in {n} hours?"),),
            completion=f"yes {n}",
            rejected=f"no, not {n}",
        )
        for n in range(start, start + count)
    )


def pair_job(base: Path, out_dir: Path, *, count: int = 16, **recipe: Any) -> TuneJob:
    chosen = {"epochs": 4, "learning_rate": 5e-3, "dtype": "float32", "rank": 4, **recipe}
    return TuneJob(
        base=str(base), rows=pair_rows(count=count), recipe=chosen, out_dir=out_dir, seed=3
    )


def held_out(job: TuneJob) -> TuneJob:
    return replace(job, rows=pair_rows(count=8, start=100))


def reply_logps(
    base: Path, rows: Sequence[PreparedRow], *, adapter: Path | None = None
) -> list[tuple[float, float]]:
    """The mean log-probability of each chosen and rejected token, by plain transformers."""
    import torch
    from harness_transformers.models import load_model
    from harness_trl.guests import quiet_libraries

    with quiet_libraries():
        model = load_model(base, dtype="float32", adapter=adapter)
    found = []
    for row in rows:
        sides = []
        for ids, labels in ((row.input_ids, row.labels), (row.rejected_ids, row.rejected_labels)):
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
            learnt = [(i, t) for i, t in enumerate(labels[1:]) if t >= 0]
            sides.append(sum(float(logits[i, t]) for i, t in learnt) / len(learnt))
        found.append((sides[0], sides[1]))
    return found


def margin(logps: Sequence[tuple[float, float]]) -> float:
    return sum(chosen - rejected for chosen, rejected in logps) / len(logps)
