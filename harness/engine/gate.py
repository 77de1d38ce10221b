"""What must be true of a candidate before its scores count: whole files, licence, parity.

Knows nothing of scores.
"""

from __future__ import annotations

from harness.core.parity import failures
from harness.engine.backends import BackendPool
from harness.engine.project import Project, artifact_folder
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.engine.tune import served_parity
from harness.errors import Refused
from harness.ports.manager import Plugins
from harness.ports.protocols import TuneJob
from harness.records import Artifact, Candidate, Condition
from harness.store.artifacts import verify
from harness.store.store import Store

PARITY_ROWS = 50


def candidate_conditions(
    task: Task,
    candidate: Candidate,
    *,
    store: Store,
    pool: BackendPool,
    plugins: Plugins,
    project: Project,
) -> tuple[list[Condition], list[str]]:
    """Return the conditions of a release that are no score, and the overrides to show with it.

    Raises StoreError where the artifact's files are not those that were tuned.
    """
    if candidate.artifact is None:
        return [], []
    artifact = store.artifact(candidate.artifact, task=task.name)
    not_a_pilot(candidate, artifact)
    verify(artifact, base=project.home)
    conditions = [
        Condition(
            name="same prompt",
            holds=candidate.prompt_digest == artifact.prompt_digest,
            text=f"tuned with prompt {artifact.prompt}, served with {candidate.prompt}"
            + ("" if candidate.prompt_digest == artifact.prompt_digest else ": they differ"),
        ),
        parity_condition(task, candidate, artifact, pool=pool, plugins=plugins, project=project),
    ]
    return conditions, [artifact.override] if artifact.override else []


def not_a_pilot(candidate: Candidate, artifact: Artifact) -> None:
    """Raise Refused where an artifact was trained only to draw a learning curve."""
    if artifact.is_pilot:
        raise Refused(
            f"{candidate.name!r} is a pilot, trained on {artifact.rows} rows without a wall to see "
            "whether more rows help: it is never gated or released. Tune what may be: "
            f"harness tune {artifact.task}"
        )


def parity_condition(
    task: Task,
    candidate: Candidate,
    artifact: Artifact,
    *,
    pool: BackendPool,
    plugins: Plugins,
    project: Project,
) -> Condition:
    """Return whether what was trained is what the tuned candidate is sent, id by id."""
    prompt = task.prompts.get(artifact.prompt)
    if prompt is None:
        return Condition(
            name="parity",
            holds=False,
            text=f"the prompt {artifact.prompt!r} that it was tuned with is gone",
        )
    cases = [c for c in task.split("train") if c.reference is not None][:PARITY_ROWS]
    requests = Requests(task)
    rows = tuple(requests.training_row(prompt.name, case) for case in cases)
    tuner = plugins.owner("harness_tuners", artifact.tuner)()
    job = TuneJob(
        base=artifact.base.partition(":")[2],
        rows=rows,
        recipe=artifact.recipe,
        out_dir=artifact_folder(project, artifact.digest),
        seed=artifact.seed,
    )
    prepared = tuner.prepare(job)
    findings = served_parity(
        task, candidate, prepared, rows=rows, pool=pool, trained_template=artifact.template_digest
    )
    failed = failures(findings)
    if failed:
        text = f"{failed[0].name}: {failed[0].detail}"
    else:
        text = f"{len(rows)} rows compared id by id between training and serving, no difference"
    return Condition(name="parity", holds=not failed, text=text)
