"""From a plan to an artifact: parity, training, looks at dev, lineage.

Knows nothing of torch: a tuner and a backend come through ports. Nothing is trained before the
ids that will be trained were found equal to the ids that will be served. A training that is cut
short goes on from what its tuner kept; one that is done or refused leaves nothing but its artifact.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.engine.backends import BackendPool
from harness.engine.dev_looks import DevLooks
from harness.engine.project import Project
from harness.engine.recipes import check_tuner, find_recipe, tuner_of
from harness.engine.tasks import Task
from harness.engine.tune_plan import (
    Against,
    Licence,
    Plan,
    checked,
    draft,
    stages_of,
)
from harness.engine.tune_ready import Ready, make_ready
from harness.engine.tune_recipe import recipe_named
from harness.engine.tune_sending import record_crossing
from harness.errors import Refused, StoreError, UsageError
from harness.ports.manager import Plugins
from harness.ports.tuners import TrainProgress, TrainResult, Tuner
from harness.records import (
    Artifact,
    CurvePoint,
    Json,
    LedgerEntry,
    digest,
)
from harness.store.artifacts import adopt, verify
from harness.store.home import make_home
from harness.store.store import Store
from harness.store.trainings import open_training

OF_THE_MACHINE = frozenset({"device", "dtype", "engine", "kernels"})
"""What a backend tells of where it runs: what was trained stays what it is on another machine."""


def _nothing(*_: object) -> None:
    """A listener that does not listen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told: of each step, of each look at dev (and whether it is the best), of anything."""

    report: Callable[[TrainProgress], None] = _nothing
    looked: Callable[[CurvePoint, bool], None] = _nothing
    note: Callable[[str], None] = _nothing


def drafts(
    task: Task,
    *,
    plugins: Plugins,
    licence: Licence,
    against: Against,
    tuner: str | None = None,
    recipe: Path | None = None,
    name: str | None = None,
    seed: int = 0,
) -> list[Plan]:
    """Return the plans of all stages, not yet `checked`; the last makes what bears the name.

    A recipe is a file or a name; a plugin's says whose it is, where no `tuner` is named. Raises
    UsageError for an unknown tuner or recipe, or where one is given for several stages.
    """
    if recipe is not None:
        recipe = find_recipe(str(recipe), home=Path(), task=task, plugins=plugins)
        tuner = tuner or tuner_of(recipe, plugins=plugins)
    stages = stages_of(task, tuner=tuner)
    if recipe is not None and len(stages) > 1:
        raise UsageError("--recipe is for one training; here each of [[tune.stages]] has its own")
    made = []
    for number, stage in enumerate(stages, start=1):
        needs = getattr(plugins.owner("harness_tuners", stage.tuner)(), "needs", "completions")
        file = recipe
        if file is None and stage.recipe:
            file = find_recipe(stage.recipe, home=task.folder, task=task, plugins=plugins)
        if file is not None:
            check_tuner(file, tuner=stage.tuner, plugins=plugins)
        one = draft(
            task, stage, licence=licence, against=against, recipe=file, name=name, seed=seed,
            needs=needs,
        )  # fmt: skip
        if number < len(stages):
            stage_name = f"{one.name}-{number}-{stage.tuner}"
            one = replace(one, name=stage_name, candidate=replace(one.candidate, name=stage_name))
        made.append(one)
    return made


def find_start(task: Task, text: str, *, store: Store, project: Project) -> Artifact:
    """Return the artifact that a training goes on from, found whole.

    Raises UsageError or StoreError; Refused for a pilot.
    """
    try:
        found = store.artifact(text, task=task.name)
    except UsageError as exc:
        if not Path(text).is_dir():
            raise
        raise UsageError(
            f"{text} is a folder, and an artifact goes by its name or digest. Adopt it first: "
            f"harness model adopt {text} --base {task.settings.model} --task {task.name}"
        ) from exc
    if found.is_pilot:
        raise Refused(
            f"{text!r} is a pilot, trained without a wall on a part of the rows: nothing goes on "
            f"from it. Tune what may be: harness tune {task.name}"
        )
    if found.base != task.settings.model:
        raise UsageError(
            f"artifact {found.name!r} was tuned on {found.base}, and the task's model is "
            f"{task.settings.model}: it cannot be gone on from"
        )
    if found.makes == "scorer":
        raise UsageError(
            f"artifact {found.name!r} is a reward model: it makes no replies, so no training of "
            "replies goes on from it"
        )
    verify(found, base=project.home)
    return found


def tune_stages(
    plans: Sequence[Plan],
    *,
    project: Project,
    plugins: Plugins,
    pool: BackendPool,
    store: Store,
    at: Callable[[], str],
    listener: Listener | None = None,
    is_fresh: bool = False,
) -> list[Artifact]:
    """Train each plan, every one from the artifact of the one before.

    A stage before the last that was trained already, from the same rows by the same recipe, is
    taken from the store. Raises what `tune` raises.
    """
    told = listener or Listener()
    made: list[Artifact] = []
    for number, one in enumerate(plans, start=1):
        one = replace(checked(one), start=made[-1] if made else one.start)  # noqa: PLW2901
        known = None
        if number < len(plans) and not is_fresh:
            known = known_artifact(one, project=project, plugins=plugins, pool=pool, store=store)
        if known is not None:
            told.note(f"stage {number}: {known.name} {known.digest[:16]} was trained before")
            made.append(known)
            continue
        if len(plans) > 1:
            told.note(f"stage {number} of {len(plans)}: {one.tuner_name}, {len(one.rows)} rows")
        made.append(
            tune(
                one, project=project, plugins=plugins, pool=pool, store=store, at=at,
                report=told.report, looked=told.looked, note=told.note, is_fresh=is_fresh,
            )
        )  # fmt: skip
    return made


def tune(
    plan: Plan,
    *,
    project: Project,
    plugins: Plugins,
    pool: BackendPool,
    store: Store,
    report: Callable[[TrainProgress], None],
    at: Callable[[], str],
    looked: Callable[[CurvePoint, bool], None] = _nothing,
    note: Callable[[str], None] = _nothing,
    is_fresh: bool = False,
) -> Artifact:
    """Train, and return the recorded artifact: the checkpoint that was best on dev, where dev was
    looked at.

    Raises Refused where parity fails, before the first step; UsageError or BackendError from the
    tuner. A training that was cut short is gone on from, unless `is_fresh`.
    """
    tuner = plugins.owner("harness_tuners", plan.tuner_name)()
    make_home(project.home)
    facts = {"task": plan.task.name, "name": plan.name, **plan.identity, "at": at()}
    planned = _planned(plan, pool, tuner)
    with open_training(
        project.home, job_name(plan, pool=pool, tuner=tuner), facts=facts,
        is_kept=not plan.is_pilot, is_fresh=is_fresh,
    ) as training:  # fmt: skip
        if training.was_there:
            note(f"going on with a training that was cut short ({training.folder})")
        ready = make_ready(plan, tuner=tuner, training=training, project=project, pool=pool)
        for line in [d.text for d in ready.plan.dropped[len(plan.dropped) :]]:
            note(line)
        for line in ready.looks.notes:
            note(line)
        looks = DevLooks(
            ready.plan, ready.looks, training=training, plugins=plugins, store=store,
            report=report, looked=looked,
        )  # fmt: skip
        job = ready.job
        if ready.looks.every is not None:
            job = replace(job, check_every=ready.looks.every, check=looks.check)
        record_crossing(ready.crossing, store)
        with recipe_named(plan.recipe_file, folder=plan.task.folder):
            result = tuner.train(job, ready.prepared, report=looks.progress)
        for line in [*looks.notes, *looks.ending]:
            note(line)
        best = looks.best_folder()
        if best is not None:
            note(f"kept: the checkpoint of step {looks.best}, the best on dev")
        name, folder = _shelve(best or training.out, result=result, project=project)
        artifact = _artifact(
            ready, result, looks=looks, digest_=name, folder=folder, project=project,
            planned=planned,
        )  # fmt: skip
        _record(artifact, store=store, at=at)
    return artifact


def job_name(plan: Plan, *, pool: BackendPool, tuner: Tuner) -> str:
    """Return what a job is called on the disk: the same for the same rows, recipe, base and start.

    Raises UsageError where the base is not there.
    """
    looks = [plan.check_every, plan.check_cases, plan.patience]
    parts = [dict(plan.identity), _base(plan, pool, tuner), plan.devices, looks, plan.max_cut]
    return digest([plan.task.name, plan.name, *parts, plan.is_pilot])[:16]


def known_artifact(
    plan: Plan, *, project: Project, plugins: Plugins, pool: BackendPool, store: Store
) -> Artifact | None:
    """Return what was trained before by the same plan on the same base, if it is whole.

    Raises UsageError where the base is not there.
    """
    planned = _planned(plan, pool, plugins.owner("harness_tuners", plan.tuner_name)())
    for known in reversed(store.artifacts(plan.task.name)):
        is_it = known.planned == planned and bool(known.is_pilot) == plan.is_pilot
        if not is_it or known.variant_of or len(plan.rows) - known.rows > plan.max_cut:
            continue
        try:
            verify(known, base=project.home)
        except StoreError:  # its files are gone or changed: train it again
            continue
        return known
    return None


def _planned(plan: Plan, pool: BackendPool, tuner: Tuner) -> str:
    """Return what `Artifact.planned` says of what is made by `plan`."""
    base = _base(plan, pool, tuner) or {}
    told = {name: fact for name, fact in base.items() if name not in OF_THE_MACHINE}
    # looks at dev choose the checkpoint that is kept, and when it ends; a pilot has none
    looks = [] if plan.is_pilot else [plan.check_every, plan.check_cases, plan.patience]
    return digest([dict(plan.identity), told, *looks])


def _base(plan: Plan, pool: BackendPool, tuner: Tuner) -> dict[str, Json] | None:
    """Return what is told of the base that is trained; None where a tuner trains none here."""
    return dict(pool.get(plan.candidate).identity) if getattr(tuner, "has_tokens", True) else None


def _shelve(made: Path, *, result: TrainResult, project: Project) -> tuple[str, Path | None]:
    """Return the digest and place of what was made; a hosted model has neither files nor place."""
    if result.backend and not any(p.is_file() for p in made.rglob("*")):
        return digest(result.backend), None
    shelf = project.home / "artifacts"
    name, folder = adopt(made, shelf)
    shutil.rmtree(made, ignore_errors=True)
    return name, folder


def _artifact(
    ready: Ready,
    result: TrainResult,
    *,
    looks: DevLooks,
    digest_: str,
    folder: Path | None,
    project: Project,
    planned: str,
) -> Artifact:
    plan = ready.plan
    metrics = {**result.metrics, **looks.metrics}
    return Artifact(
        digest=digest_,
        name=plan.name,
        task=plan.task.name,
        tuner=plan.tuner_name,
        base=plan.candidate.backend,
        base_digest=result.base_digest,
        template_digest=result.template_digest,
        prompt=plan.candidate.prompt or "",
        prompt_digest=plan.candidate.prompt_digest or "",
        data_digest=digest(list(plan.rows)),
        rows=len(plan.rows),
        recipe=plan.recipe,
        seed=plan.seed,
        wall_verdict=plan.licence.wall_verdict,
        override=plan.licence.override,
        environment=result.environment,
        metrics=metrics,
        parity=ready.findings or (),
        folder=folder.relative_to(project.home).as_posix() if folder else "",
        is_pilot=plan.is_pilot or None,
        start=plan.start.digest if plan.start else None,
        backend=result.backend,
        curve=looks.curve,
        cost_usd=result.cost_usd,
        makes=makes if (makes := getattr(ready.tuner, "makes", "replies")) != "replies" else None,
        planned=planned,
    )


def _record(artifact: Artifact, *, store: Store, at: Callable[[], str]) -> None:
    moment = at()
    store.add_artifact(artifact, at=moment)
    kind = "pilot" if artifact.is_pilot else "tune"
    entries = [(kind, f"{artifact.name} {artifact.digest[:8]} on {artifact.rows} rows")]
    if artifact.override:
        entries.append(
            ("override", f"tuned {artifact.digest[:8]} without a wall: {artifact.override}")
        )
    for one, text in entries:
        payload = {"artifact": artifact.digest, "reason": artifact.override}
        store.record(
            LedgerEntry(kind=one, task=artifact.task, at=moment, payload=payload, text=text)  # type: ignore[arg-type]
        )
