"""A plan made ready: rows as token ids, found to be what is served, and how dev is looked at.

The last place where a training can be refused. Knows nothing of stores, and trains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.parity import failures
from harness.core.words import count
from harness.engine.backends import BackendPool
from harness.engine.dev_looks import LookPlan, look_plan
from harness.engine.parity import served_parity
from harness.engine.project import Project, artifact_folder
from harness.engine.tune_plan import Dropped, Plan
from harness.engine.tune_recipe import recipe_named
from harness.engine.tune_sending import check_scheme, hosted_start, stays_here
from harness.errors import HarnessError, RecipeError, Refused, UsageError
from harness.ports.tuners import TuneJob, Tuner
from harness.records import LedgerEntry, ParityFinding, PreparedRow
from harness.store.trainings import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A plan whose rows are token ids and were found to be what is served. `findings` are None
    where the tuner has no tokens to compare."""

    plan: Plan
    tuner: Any = field(repr=False)
    job: TuneJob = field(repr=False)
    prepared: tuple[PreparedRow, ...] = field(repr=False)
    findings: tuple[ParityFinding, ...] | None
    looks: LookPlan
    crossing: LedgerEntry | None = None


def make_ready(
    plan: Plan,
    *,
    tuner: Tuner,
    training: Training,
    project: Project,
    pool: BackendPool,
    rows: int | None = None,
) -> Ready:
    """Return `plan` with its rows as ids, compared (the first `rows` of them) with what is served.

    Raises UsageError or BackendError where the tuner cannot train it, Refused where parity fails.
    """
    if plan.devices > 1 and not getattr(tuner, "knows_devices", False):
        raise UsageError(
            f"{plan.tuner_name} trains on one device; --devices {plan.devices} needs a tuner that "
            "knows more, as trl-sft"
        )
    check_scheme(plan, tuner)
    start, hosted = plan.start, hosted_start(plan, tuner)
    if hosted is not None:  # by its name at the server
        start = None
    if start is not None and not start.folder:
        raise UsageError(f"artifact {start.name!r} has no files here to go on from")
    base = plan.candidate.backend if hosted is None else hosted.backend or ""
    job = TuneJob(
        base=base.partition(":")[2],
        rows=plan.rows,
        recipe=plan.recipe,
        out_dir=training.out,
        seed=plan.seed,
        start=artifact_folder(project, start.digest) if start else None,
        task_folder=plan.task.folder,
        options=dict(plan.candidate.options),
        base_url=plan.candidate.base_url,
        devices=plan.devices,
        state_dir=None if plan.is_pilot else training.state,
    )
    crossing = stays_here(plan, tuner, job)
    with recipe_named(plan.recipe_file, folder=plan.task.folder):
        job, prepared, left_out = _prepared(plan, tuner, job)
    plan = replace(plan, rows=job.rows, dropped=(*plan.dropped, *left_out))
    served = replace(plan.candidate, artifact=start.digest if start else None)
    findings: tuple[ParityFinding, ...] | None = None
    is_external = False
    if getattr(tuner, "has_tokens", True):
        findings = served_parity(
            plan.task, served, prepared[:rows], rows=plan.rows[:rows], pool=pool
        )
        is_external = pool.get(served).is_external
        failed = failures(findings)
        if failed:
            raise Refused(
                f"what would be trained is not what is served ({count(len(failed), 'finding')}): "
                f"{failed[0].name} in {failed[0].case_id}: {failed[0].detail}"
            )
    looks = look_plan(
        plan,
        steps=None if plan.check_every is not None else _steps(tuner, job, prepared),
        can_look=getattr(tuner, "has_tokens", True) and getattr(tuner, "shows_checkpoints", True),
        makes=getattr(tuner, "makes", "replies"),
        is_external=is_external,
    )
    return Ready(
        plan=plan, tuner=tuner, job=job, prepared=tuple(prepared), findings=findings, looks=looks,
        crossing=crossing,
    )  # fmt: skip


def _prepared(
    plan: Plan, tuner: Tuner, job: TuneJob
) -> tuple[TuneJob, Sequence[PreparedRow], list[Dropped]]:
    """Return the rows as ids, without those that cannot be trained, where so many may be left out.

    A tuner's error says which rows it is about by its `case_ids`.
    """
    left_out: list[Dropped] = []
    while True:
        try:
            return job, tuner.prepare(job), left_out
        except HarnessError as exc:
            about = set(exc.case_ids)
            room = plan.max_cut - sum(len(d.case_ids) for d in left_out)
            rows = tuple(r for r in job.rows if r.case_id not in about)
            if not about or len(about) > room or len(rows) == len(job.rows) or not rows:
                raise _explained(plan, tuner, exc) from exc
            left_out.append(Dropped(why=str(exc), case_ids=tuple(sorted(about))))
            job = replace(job, rows=rows)


def _explained(plan: Plan, tuner: Tuner, error: HarnessError) -> HarnessError:
    scheme = plan.candidate.backend.partition(":")[0]
    if error.case_ids:
        return type(error)(
            f"{str(error).removesuffix('.')}. Or leave out so many: max_cut = "
            f"{len(error.case_ids)} in [tune] (now {plan.max_cut})."
        )
    is_of_a_base = getattr(tuner, "has_tokens", True)
    of_the_recipe = isinstance(error, RecipeError) or not isinstance(error, UsageError)
    if scheme == "local" or not is_of_a_base or of_the_recipe:
        return error
    return UsageError(
        f"{plan.tuner_name} cannot train the task's model {plan.candidate.backend}: {error}. "
        'A model that is tuned is one of this machine: model = "local:NAME" in task.toml'
    )


def _steps(tuner: Any, job: TuneJob, prepared: Sequence[PreparedRow]) -> int | None:
    """Return how many steps the training will have, as the tuner counts them."""
    count = getattr(tuner, "steps", None)
    if callable(count):
        return int(count(job, prepared))
    return None
