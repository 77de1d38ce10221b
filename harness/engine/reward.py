"""A task's evals as the reward of a training: a reply in, the primary score out.

Knows nothing of trainers, pytest and stores. The number is the one that a run would record: a miss
is 0, unscored is None, and an eval that breaks stops whoever asked, for a reward made of faults
would train a model to please the fault.

    with harness.reward("evals/nl_query") as reward:
        reward("q17", '{"calculations": []}')   # 0.0, 1.0, what lies between, or None
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from harness.core.answers import answer_of
from harness.core.scoring import ALL, trial_value
from harness.engine.closing import Closing
from harness.engine.plain_evals import PlainEvals, PlainScores
from harness.engine.tasks import Task, load_task
from harness.errors import TaskError, UsageError
from harness.records import Case, Prompt, Reply, Trial


def reward(task_folder: str | Path, *, prompt: str | None = None) -> Reward:
    """Return the reward of the task in `task_folder`. `prompt` names whose replies are scored
    (default: the one of `[tune]`): evals see the answer within them, as `answer_after` says.

    Raises UsageError where the primary score cannot be had outside pytest, and TaskError where the
    task cannot be read.
    """
    folder = Path(task_folder)
    if not (folder / "task.toml").is_file():
        raise UsageError(f"{folder} is no task: it lacks task.toml")
    task = load_task(folder.resolve())
    tune = task.settings.tune
    name = prompt or (tune.prompt if tune is not None else None)
    if name is not None and name not in task.prompts:
        known = ", ".join(sorted(task.prompts))
        raise UsageError(f"no prompt {name!r} in task {task.name!r}. Known: {known}.")
    return Reward(task, prompt=task.prompts[name] if name is not None else None)


class Reward(Closing):
    """Made by `harness.reward`. Call it with a case's id and a reply's text. Safe to use from
    several threads; close it, or use it in a `with`.

    `names` are the scores that it is made of, `left_out` those of the task that it cannot see.
    """

    def __init__(self, task: Task, *, prompt: Prompt | None = None) -> None:
        self.task = task
        self._prompt = prompt
        self._cases = {c.id: c for c in task.cases}
        self._evals = _primary_evals(task)
        self.names: tuple[str, ...] = self._evals.names
        self.left_out: dict[str, str] = dict(self._evals.left_out)

    def __call__(self, case_id: str, text: str) -> float | None:
        """Return the primary score of one reply in [0, 1]; None where it is unscored.

        Raises UsageError for an unknown case, and TaskError where an eval broke.
        """
        return self.many([(case_id, text)])[0]

    def many(self, pairs: Iterable[tuple[str, str]]) -> list[float | None]:
        """Return the scores of pairs of case id and reply text: quicker than one by one."""
        asked = [(self._case(case_id), self._reply(text)) for case_id, text in pairs]
        return [
            self._value(case, reply, found)
            for (case, reply), found in zip(asked, self._evals.scores_of(asked), strict=True)
        ]

    def close(self) -> None:
        """Let the threads of the evals end."""
        self._evals.close()

    def _case(self, case_id: str) -> Case:
        if case_id not in self._cases:
            raise UsageError(f"no case {case_id!r} in task {self.task.name!r}")
        return self._cases[case_id]

    def _reply(self, text: str) -> Reply:
        reply = Reply(text=text)
        return reply if self._prompt is None else answer_of(self._prompt, reply)

    def _value(self, case: Case, reply: Reply, found: PlainScores) -> float | None:
        trial = Trial(case_id=case.id, scores=found.scores, fault=found.fault)
        value = trial_value(trial, self.task.settings.primary)
        if value is None or not math.isnan(value):
            return value
        why = found.fault.message if found.fault is not None else "no score"
        raise TaskError(
            f"{case.line or case.id}: case {case.id!r}: an eval broke, so there is no reward: "
            f"{why}. The reply was {reply.text[:200]!r}. Make the eval hold for any text."
        )


def _primary_evals(task: Task) -> PlainEvals:
    """Return the evals that the primary score is made of, as plain functions.

    Raises UsageError where there are none.
    """
    primary = task.settings.primary
    advice = "Write an eval that asks for nothing but `case`, `reply` and `score`"
    if primary in task.settings.judges:
        raise UsageError(
            f"the reward of {task.name!r} would be its primary score {primary!r}, which a judge "
            f"gives: a model would be asked for every reply that is drawn. {advice}, as `primary`."
        )
    try:
        evals = PlainEvals(task, only=None if primary == ALL else [primary])
    except UsageError as exc:
        raise UsageError(f"no reward from {task.name!r}: {exc}. {advice}.") from exc
    if primary == ALL and not evals.names and not task.builtin_names:
        evals.close()
        why = "; ".join(f"{name}: {reason}" for name, reason in evals.left_out.items())
        raise UsageError(
            f"no reward from {task.name!r}: no eval of it works outside pytest ({why}). {advice}."
        )
    return evals
