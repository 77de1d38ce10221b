"""From training rows to an artifact: licence, filter, parity, training, lineage.

Knows nothing of torch: a tuner and a backend come through ports. Nothing is trained before the
ids that will be trained were found equal to the ids that will be served.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.parity import Serving, check_parity, failures
from harness.engine.backends import BackendPool
from harness.engine.ladder import last_wall, why_not_licensed
from harness.engine.project import Project
from harness.engine.requests import Requests
from harness.engine.tasks import Task, resolve_candidate
from harness.engine.text_files import read_toml
from harness.errors import BackendError, Refused, TaskError, UsageError
from harness.ports.manager import Plugins
from harness.ports.protocols import ShowsTokens, TrainProgress, TuneJob, Tuner
from harness.records import (
    Artifact,
    Candidate,
    Case,
    Json,
    LedgerEntry,
    ParityFinding,
    PreparedRow,
    TrainingRow,
    digest,
)
from harness.store.artifacts import adopt
from harness.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What allowed a tune: a wall verdict's id, or the reason of an override."""

    wall_verdict: str | None = None
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a tune needs, checked, before the first step."""

    task: Task
    tuner_name: str
    candidate: Candidate
    recipe: dict[str, Json]
    rows: tuple[TrainingRow, ...]
    licence: Licence
    name: str
    seed: int = 0
    is_pilot: bool = False


def licence(task: Task, store: Store, *, override: str | None) -> Licence:
    """Return what allows tuning `task`. Raises Refused where there is no wall and no override."""
    verdict = last_wall(task, store)
    why_not = why_not_licensed(task, verdict)
    if why_not is None and verdict is not None:
        return Licence(wall_verdict=verdict.id)
    if override:
        return Licence(override=f"{override} (in spite of this: {why_not})")
    raise Refused(
        f"tuning {task.name!r} is refused: {why_not} To tune all the same, say why: "
        f"--override 'REASON'; it is recorded and shown with everything that follows."
    )


def plan(
    task: Task,
    *,
    licence: Licence,
    passing: Callable[[Sequence[Case]], set[str]],
    tuner: str | None = None,
    recipe: Path | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Plan:
    """Return what will be trained. `passing` gives the ids of the cases whose references pass
    the task's own evals; no other row is trained.

    Raises TaskError for leaks between train and the other splits, or where no row remains;
    UsageError where `[tune]` is missing.
    """
    table = task.settings.tune
    if table is None:
        raise UsageError(
            f"{task.folder / 'task.toml'}: no [tune] table. Add one: tuner, prompt and recipe."
        )
    train = [c for c in task.split("train") if c.reference is not None]
    leaks = leaked_inputs(task)
    if leaks:
        raise TaskError(
            f"{leaks[0][0].line}: the inputs of {leaks[0][0].id!r} stand in train and at "
            f"{leaks[0][1].line} ({leaks[0][1].split}); {len(leaks)} such case(s). Remove them."
        )
    good = passing(train)
    prompt = task.prompts[table.prompt]
    requests = Requests(task)
    rows = tuple(requests.training_row(prompt.name, c) for c in train if c.id in good)
    if not rows:
        raise TaskError(f"task {task.name!r}: no training row passes the task's own evals")
    file = recipe or (task.folder / table.recipe if table.recipe else None)
    settings = read_toml(file) if file else {}
    # as `resolve_candidate` makes it, so that the gate can find the same prompt again
    served = resolve_candidate(task, f"{prompt.name}@{task.settings.model}", artifact_digest=str)
    return Plan(
        task=task,
        tuner_name=tuner or table.tuner,
        candidate=replace(served, name=name or table.name),
        recipe=settings,
        rows=rows,
        licence=licence,
        name=name or table.name,
        seed=seed,
    )


def tune(
    plan: Plan,
    *,
    project: Project,
    plugins: Plugins,
    pool: BackendPool,
    store: Store,
    report: Callable[[TrainProgress], None],
    at: Callable[[], str],
) -> Artifact:
    """Train, and return the recorded artifact. Raises Refused where parity fails, before the first
    step; UsageError or BackendError from the tuner. A stop at any moment leaves nothing behind.
    """
    tuner: Tuner = plugins.owner("harness_tuners", plan.tuner_name)()
    project.home.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=".tuning-", dir=project.home))
    try:
        scheme, _, base = plan.candidate.backend.partition(":")
        job = TuneJob(
            base=base, rows=plan.rows, recipe=plan.recipe, out_dir=workshop, seed=plan.seed
        )
        try:
            prepared = tuner.prepare(job)
        except UsageError as exc:
            if scheme == "local":
                raise
            raise UsageError(
                f"{plan.tuner_name} cannot train the task's model {plan.candidate.backend}: {exc}. "
                'A model that is tuned is one of this machine: model = "local:NAME" in task.toml'
            ) from exc
        findings = served_parity(plan.task, plan.candidate, prepared, rows=plan.rows, pool=pool)
        failed = failures(findings)
        if failed:
            raise Refused(
                f"what would be trained is not what is served ({len(failed)} finding(s)): "
                f"{failed[0].name} in {failed[0].case_id}: {failed[0].detail}"
            )
        result = tuner.train(job, prepared, report=report)
        name, folder = adopt(workshop, project.home / "artifacts")
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    artifact = Artifact(
        digest=name,
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
        metrics=result.metrics,
        parity=tuple(findings),
        folder=folder.relative_to(project.home).as_posix(),
        is_pilot=plan.is_pilot or None,
    )
    moment = at()
    store.add_artifact(artifact, at=moment)
    kind = "pilot" if plan.is_pilot else "tune"
    entries = [(kind, f"{artifact.name} {artifact.digest[:8]} on {artifact.rows} rows")]
    if artifact.override:
        entries.append(
            ("override", f"tuned {artifact.digest[:8]} without a wall: {artifact.override}")
        )
    for kind, text in entries:
        payload = {"artifact": artifact.digest, "reason": artifact.override}
        store.record(
            LedgerEntry(kind=kind, task=plan.task.name, at=moment, payload=payload, text=text)  # type: ignore[arg-type]
        )
    return artifact


def served_parity(
    task: Task,
    candidate: Candidate,
    prepared: Sequence[PreparedRow],
    *,
    rows: Sequence[TrainingRow],
    pool: BackendPool,
    trained_template: str | None = None,
) -> tuple[ParityFinding, ...]:
    """Compare prepared rows with what `candidate`, as inference makes its requests, would send.

    Raises BackendError where the backend cannot show its tokens.
    """
    backend = pool.get(candidate).backend
    if not isinstance(backend, ShowsTokens):
        raise BackendError(
            f"{candidate.backend} cannot show the token ids that it sends, so parity with "
            "training cannot be checked"
        )
    requests = Requests(task)
    cases = {c.id: c for c in task.split("train")}
    served = {
        row.case_id: tuple(backend.token_ids(requests.of(candidate, cases[row.case_id])))
        for row in rows
    }
    return check_parity(
        rows,
        prepared,
        serving=Serving(
            prompt_ids=served,
            stop_ids=backend.stop_ids(),
            decode=backend.decode,
            special_ids=frozenset(getattr(backend, "special_ids", frozenset)()),
            template=pool.get(candidate).identity.get("template"),
        ),
        trained_template=trained_template,
    )


def leaked_inputs(task: Task) -> list[tuple[Case, Case]]:
    """Return (train case, other case) for every train input that also stands in dev or test."""
    held_out = {c.inputs_digest: c for c in task.cases if c.split != "train"}
    return [
        (case, held_out[case.inputs_digest])
        for case in task.split("train")
        if case.inputs_digest in held_out
    ]
