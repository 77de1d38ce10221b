"""What will be trained: licence, rows, recipe. Knows nothing of torch, and trains nothing.

Everything that can be refused is refused here, or before the first step, with names and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.words import count
from harness.engine.candidates import resolve_candidate
from harness.engine.leaks import refuse_leaks
from harness.engine.requests import Requests
from harness.engine.taskfile import StageTable, TuneTable
from harness.engine.tasks import Task
from harness.engine.tune_recipe import COMMAND, read_recipe_file, recipe_file
from harness.engine.walls import last_wall, why_not_licensed
from harness.errors import Refused, TaskError, UsageError
from harness.records import Artifact, Candidate, Case, Json, TrainingRow, digest
from harness.store.store import Store

LACKING = {
    "completions": "without a reference",
    "preferences": "without both a reference and a `rejected` reply",
    "prompts": "",
}
"""What a tuner learns from, and what a train case that it cannot learn from is without."""
FAILED = "for they fail the task's own evals"
Against = Callable[[Sequence[Case]], Mapping[str, str]]
"""What speaks against training on the references of cases: why, by the ids of those it holds for.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What allowed a tune: a wall verdict's id, or the reason of an override."""

    wall_verdict: str | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Train cases that are not trained on, and why."""

    why: str
    case_ids: tuple[str, ...]

    @property
    def text(self) -> str:
        """How many, why, and the first of them."""
        some = ", ".join(self.case_ids[:5])
        rest = " ..." if len(self.case_ids) > 5 else ""
        return f"{count(len(self.case_ids), 'row')} left out, {self.why}: {some}{rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a tune needs, checked, before the first step.

    `start` is the artifact that it goes on from. `check_every` 0 never looks at dev, None looks
    about five times where that is affordable.
    """

    task: Task
    tuner_name: str
    candidate: Candidate
    recipe: dict[str, Json]
    rows: tuple[TrainingRow, ...]
    licence: Licence
    name: str
    seed: int = 0
    is_pilot: bool = False
    start: Artifact | None = None
    devices: int = 1
    check_every: int | None = None
    check_cases: int = 50
    patience: int = 3
    max_cut: int = 0
    dropped: tuple[Dropped, ...] = ()
    override_boundary: str | None = None
    recipe_file: Path | None = None

    @property
    def identity(self) -> Mapping[str, Json]:
        """What makes two plans one artifact, on the same base."""
        return {
            "tuner": self.tuner_name,
            "base": self.candidate.backend,
            "base_url": self.candidate.base_url,
            "prompt": self.candidate.prompt_digest,
            "rows": digest(list(self.rows)),
            "recipe": digest(self.recipe),
            "seed": self.seed,
            "start": self.start.digest if self.start else None,
        }


def licence(task: Task, store: Store, *, override: str | None) -> Licence:
    """Return what allows tuning `task`. Raises Refused where there is no wall and no override."""
    verdict = last_wall(task, store)
    why_not = why_not_licensed(task, verdict, store)
    if why_not is None and verdict is not None:
        return Licence(wall_verdict=verdict.id)
    if override:
        return Licence(override=f"{override} (in spite of this: {why_not})")
    raise Refused(
        f"tuning {task.name!r} is refused: {why_not} To tune all the same, say why: "
        f"--override 'REASON'; it is recorded and shown with everything that follows."
    )


def tune_table(task: Task) -> TuneTable:
    """Return `[tune]`. Raises UsageError where it is missing."""
    if task.settings.tune is None:
        raise UsageError(
            f"{task.folder / 'task.toml'}: no [tune] table. Add one: tuner, prompt and recipe."
        )
    return task.settings.tune


def stages_of(task: Task, *, tuner: str | None = None) -> tuple[StageTable, ...]:
    """Return the trainings that `[tune]` asks for, in order; `tuner` is one instead of them."""
    table = tune_table(task)
    if tuner or not table.stages:
        return (StageTable(tuner=tuner or table.tuner or COMMAND, recipe=table.recipe),)
    return table.stages


def plan(
    task: Task,
    *,
    licence: Licence,
    against: Against,
    tuner: str | None = None,
    recipe: Path | None = None,
    name: str | None = None,
    seed: int = 0,
    needs: str = "completions",
) -> Plan:
    """Return what will be trained, of one stage. `against` tells of the cases whose references do
    not pass the task's own evals; none of them is trained on.

    Raises TaskError where cases of two splits leak, or where no row remains; UsageError where
    `[tune]` is missing.
    """
    [stage] = stages_of(task, tuner=tuner)
    return checked(
        draft(
            task, stage, licence=licence, against=against, recipe=recipe, name=name, seed=seed,
            needs=needs,
        )
    )  # fmt: skip


def draft(
    task: Task,
    stage: StageTable,
    *,
    licence: Licence,
    against: Against,
    recipe: Path | None = None,
    name: str | None = None,
    seed: int = 0,
    needs: str = "completions",
) -> Plan:
    """Return the plan of a stage, not yet `checked`. Raises TaskError where cases of two splits
    leak: rows are trained on, and the training is watched, and stopped, by its scores on dev.
    """
    table = tune_table(task)
    refuse_leaks(task, "train")
    rows, dropped = select_rows(task, table.prompt, needs=needs, against=against, tag=stage.rows)
    # as `resolve_candidate` makes it, so that the gate can find the same prompt again
    file = recipe_file(task.folder, stage, named=recipe)
    served = resolve_candidate(task, f"{table.prompt}@{task.settings.model}", artifact_digest=str)
    return Plan(
        task=task,
        tuner_name=stage.tuner,
        candidate=replace(served, name=name or table.name),
        recipe=read_recipe_file(file, stage, table=table),
        recipe_file=file,
        rows=rows,
        licence=licence,
        name=name or table.name,
        seed=seed,
        check_every=table.check_every,
        check_cases=table.check_cases,
        patience=table.patience,
        max_cut=table.max_cut,
        dropped=dropped,
    )


def checked(plan: Plan) -> Plan:
    """Return `plan` if it may be trained. Raises TaskError where no row remains."""
    for why in why_not_trained(plan):
        raise TaskError(why)
    return plan


def why_not_trained(plan: Plan) -> list[str]:
    """Return what stands in the way of a training, apart from its licence."""
    if plan.rows:
        return []
    return [
        f"task {plan.task.name!r}: no training row passes the task's own evals"
        + "".join(f"; {d.text}" for d in plan.dropped)
    ]


def select_rows(
    task: Task, prompt: str, *, needs: str, against: Against, tag: str | None = None
) -> tuple[tuple[TrainingRow, ...], tuple[Dropped, ...]]:
    """Return the rows that a tuner of `needs` learns from, and the train cases left out, by reason.

    Raises TaskError where no train case has the tag.
    """
    cases = [c for c in task.split("train") if tag is None or tag in c.tags]
    if not cases and tag is not None:
        tags = ", ".join(sorted({t for c in task.split("train") for t in c.tags})) or "none"
        raise TaskError(
            f"{task.folder / 'task.toml'}: tune.stages: no train case has the tag {tag!r}. "
            f"Tags of train cases: {tags}."
        )
    if needs not in LACKING:
        raise UsageError(f"a tuner needs {', '.join(LACKING)}; this one says {needs!r}")

    def lacks(case: Case) -> bool:
        return (needs != "prompts" and case.reference is None) or (
            needs == "preferences" and case.rejected is None
        )

    fit = [c for c in cases if not lacks(c)]
    known = [c for c in fit if c.reference is not None]
    bad = against(known) if known else {}
    requests = Requests(task)
    rows = [_row(task, requests, prompt, c) for c in fit if c.id not in bad]
    dropped = [Dropped(why=LACKING[needs], case_ids=tuple(c.id for c in cases if lacks(c)))]
    dropped += [
        Dropped(why=why, case_ids=tuple(c.id for c in known if bad.get(c.id) == why))
        for why in dict.fromkeys(bad.values())
    ]
    return tuple(rows), tuple(d for d in dropped if d.case_ids)


def _row(task: Task, requests: Requests, prompt: str, case: Case) -> TrainingRow:
    if case.reference is not None:
        return requests.training_row(prompt, case)
    candidate = resolve_candidate(task, prompt, artifact_digest=str)
    request = requests.of(candidate, case)
    return TrainingRow(
        case_id=case.id, messages=request.messages, completion="", tools=request.tools
    )
