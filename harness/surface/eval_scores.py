"""The scores of a session's reports, by task: what `eval_outcomes` said, read again.

In xdist only the controller reads them all. Knows nothing of stores or of how runs are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from harness.engine.evaluate import TrialId
from harness.records import Fault, Score
from harness.surface.eval_outcomes import FOLDER, REPLY, said_by

Wanted = tuple[str, TrialId]
"""A judge's name, and the trial whose reply it judges."""
SAID = frozenset({
    "eval", "candidate", "case", "repeat", "score", "miss", "unscored", "fault", "origin",
    "is_missing", "reason", "judge", "judged_by", "parts", "turns", "is_dialogue", "task",
})  # fmt: skip
"""What we say of an item in its report, which may have properties of somebody else's too."""


@dataclass(slots=True)
class TaskScores:
    """What the reports said of one task."""

    scores: dict[TrialId, tuple[Score, ...]] = field(default_factory=dict)
    faults: dict[TrialId, Fault] = field(default_factory=dict)
    """One a trial, or an aggregate: that of an eval where nothing else went wrong."""
    aggregates: dict[str, list[Score]] = field(default_factory=dict)
    turns: dict[TrialId, list[str]] = field(default_factory=dict)
    dialogues: set[TrialId] = field(default_factory=set)
    """The trials that were scored in dialogues alone."""
    judged: set[Wanted] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)
    """How many items a score has for one trial, where there are several."""

    @property
    def last_turns(self) -> dict[TrialId, str]:
        """The key of the last reply of each of those trials."""
        return {t: self.turns[t][-1] for t in self.dialogues if self.turns.get(t)}

    def take(self, said: Mapping[str, Any], *, latest: TrialId | None = None) -> TrialId:
        """Take what one report said, and return the trial that it is about: `latest`, if equal."""
        trial = TrialId(
            candidate=said["candidate"], case_id=said["case"], repeat=int(said["repeat"])
        )
        if latest is not None and trial == latest:
            trial = latest  # one object for all of a run
        reason = said.get("miss") or said.get("unscored") or said.get("fault")
        reason = reason or said.get("reason") or ""
        value = None if "score" not in said else float(said["score"])
        judge = said.get("judge")
        if value == 1 and not reason and judge is None:
            alone = _passed(said["eval"])
        else:
            is_fault = "fault" in said or None
            alone = (
                Score(
                    name=said["eval"], value=value, reason=reason, judge=judge, is_fault=is_fault
                ),
            )
        score = alone[0]
        if "parts" in said:
            self.parts[score.name] = int(said["parts"])
        if "judged_by" in said:
            self.judged.update((name, trial) for name in str(said["judged_by"]).split())
        if "fault" in said:
            fault, known_fault = _fault(said, score), self.faults.get(trial)
            if known_fault is None or fault.origin != "eval":  # a bug is shown in any case
                self.faults[trial] = fault
        if not trial.case_id:
            self.aggregates.setdefault(trial.candidate, []).append(score)
            return trial
        known = self.scores.get(trial)
        if not said.get("is_dialogue"):
            self.dialogues.discard(trial)
        elif known is None:
            self.dialogues.add(trial)
        self.scores[trial] = alone if known is None else (*known, score)
        if "turns" in said:
            self.turns.setdefault(trial, []).extend(said["turns"].split())
        return trial


@lru_cache(maxsize=256)
def _passed(name: str) -> tuple[Score]:
    """Return the score of an eval that held: the most frequent one by far, so it is one object."""
    return (Score(name=name, value=1.0),)


def _fault(said: Mapping[str, Any], score: Score) -> Fault:
    if "origin" in said:  # the fault of a reply, as the worker that asked for it knows it
        is_missing = bool(said["is_missing"])
        return Fault(origin=said["origin"], message=score.reason, is_missing=is_missing)
    return Fault(origin="eval", message=f"{score.name}: {score.reason}", is_missing=True)


class SessionScores:
    """What the reports of a session said, by the folder of the task."""

    def __init__(self) -> None:
        self.by_folder: dict[Path, TaskScores] = {}
        self.latest: TrialId | None = None
        """The trial that was judged last in this process; its report is told next."""
        self.kept: Callable[[str, Mapping[str, Any], TrialId, str | None], None] | None = None
        """Told of each score: the task's folder, what was said, the trial, and the key of its reply
        where a worker asked for it."""
        self._names: dict[str, TaskScores] = {}

    def see(self, report: pytest.TestReport) -> TrialId | None:
        """Take the score that a report carries, and return its trial; None where it has none."""
        if report.when == "teardown" or not report.user_properties:
            return None
        said = said_by(report.user_properties)
        name = vars(report).get(FOLDER)
        if said is None or name is None:
            return None
        task = self._names.get(name)
        if task is None:
            task = self._names[name] = self.by_folder.setdefault(Path(name), TaskScores())
        trial = task.take(said, latest=self.latest)
        if self.kept is not None:
            self.kept(name, said, trial, vars(report).pop(REPLY, None))
        return trial

    def of(self, folder: Path) -> TaskScores:
        """Return what was said of the task in `folder`, perhaps nothing."""
        return self.by_folder.get(folder) or TaskScores()
