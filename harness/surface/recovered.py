"""Makes partial runs of what killed processes had scored (`score_journal`). Knows no task: it may
be another one by now, so what a run names was written down beside its scores.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.words import count
from harness.engine.evaluate import TrialId
from harness.errors import HarnessError, StoreError
from harness.ports.manager import Plugins
from harness.records import Run, Trial, from_plain
from harness.store.journal import Left, left_behind
from harness.store.store import Store
from harness.surface.eval_parts import joined
from harness.surface.eval_scores import TaskScores
from harness.surface.score_journal import files_of_former
from harness.surface.words import clean


def recover(store: Store, *, plugins: Callable[[], Plugins]) -> list[str]:
    """Record what killed processes left beside `store`, and return what is said of it: a line a
    run. It refuses nothing: what cannot be recorded now stays where it is. What this command scores
    anew, since an eval ended its process, is left alone.
    """
    lines, recorded = [], []
    try:
        for left in left_behind(store.path, but=files_of_former(store.path)):
            try:
                runs = list(_runs(left))
            except _Misfit as exc:  # it keeps no other back
                lines.append(_lost(exc))
                left.stays = True
                continue
            for run in runs:
                lines.append(_line(run, store.add_run(run, at=left.ended_at)))
                recorded.append(run)
    except (StoreError, OSError) as exc:
        lines.append(_lost(exc))
    with suppress(HarnessError):  # whoever needs the plugins is told why they do not load
        for run in recorded:
            for trial in run.trials:
                plugins().tell(trial)
    return lines


class _Misfit(Exception):
    """A file that this program cannot read."""


def _lost(exc: Exception) -> str:
    return f"scores of a run that was cut off could not be recorded: {exc}"


def _line(run: Run, run_id: str) -> str:
    scores = sum(len(t.scores) for t in run.trials) + len(run.aggregates)
    return (
        f"recovered {count(scores, 'score')} of a run that was cut off: {run_id[:8]} partial, "
        f"{clean(run.candidate.name)} on {clean(run.task)}"
    )


@dataclass(slots=True)
class _Task:
    """What one file holds of one task."""

    runs: dict[str, Run] = field(default_factory=dict)
    seen: TaskScores = field(default_factory=TaskScores)
    keys: dict[TrialId, str] = field(default_factory=dict)
    digests: dict[TrialId, str] = field(default_factory=dict)


def _runs(left: Left) -> Iterator[Run]:
    try:
        tasks = _tasks(left.rows)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise _Misfit(
            f"{left.path} does not fit this program ({type(exc).__name__}: {exc}). It was "
            "probably written by another version: run that one, or delete the file."
        ) from exc
    for task in tasks.values():
        for name, run in task.runs.items():
            trials = tuple(_trials(task, name))
            if trials:  # without one there are aggregates alone, which cost nothing to have again
                aggregates = tuple(task.seen.aggregates.get(name, ()))
                yield replace(run, trials=trials, aggregates=aggregates)


def _tasks(rows: Sequence[Any]) -> dict[str, _Task]:
    tasks: dict[str, _Task] = defaultdict(_Task)
    for row in rows:
        if isinstance(row, dict):
            run = from_plain(Run, row["run"])
            tasks[row["folder"]].runs[run.candidate.name] = run
            continue
        folder, key, digest, said = row
        task = tasks[folder]
        trial = task.seen.take(said)
        if key is not None:
            task.keys[trial] = key
        if digest is not None:
            task.digests[trial] = digest
    return tasks


def _trials(task: _Task, candidate: str) -> Iterator[Trial]:
    seen = task.seen
    for trial, scores in seen.scores.items():
        if trial.candidate == candidate:
            yield Trial(
                case_id=trial.case_id,
                repeat=trial.repeat,
                reply_key=seen.last_turns.get(trial) or task.keys.get(trial),
                scores=tuple(sorted(joined(scores, seen.parts), key=lambda s: s.name)),
                fault=seen.faults.get(trial),
                case_digest=task.digests.get(trial),
            )
