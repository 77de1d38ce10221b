"""What must be true before scores count: certified judges; of a candidate whole files, licence,
parity.

Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.engine.backends import BackendPool
from harness.engine.certificates import condition_of, deciding_scores
from harness.engine.eval_sources import judges_asked
from harness.engine.judges import judge_identity
from harness.engine.parity_check import PARITY, check_artifact, parity_condition
from harness.engine.project import Project
from harness.engine.tasks import Task
from harness.errors import MissingExtra, NotEnoughEvidence, PluginError, Refused, UsageError
from harness.ports.manager import Plugins
from harness.records import Artifact, Candidate, Condition, LedgerEntry
from harness.store.artifacts import verify
from harness.store.store import Store


def refuse_uncertified(task: Task, entries: Iterable[LedgerEntry], *, pool: BackendPool) -> None:
    """Raise NotEnoughEvidence where what decides rests on a judge without a certificate: no look
    at sealed cases could end in SHIP. Judges are those that the task's files name; no model is
    asked. `entries` are the ledger's certificates.
    """
    known = task.settings.judges
    by_score = {name: {name} for name in task.builtin_names if name in known}
    by_score |= judges_asked(task.folder, known)
    found = {
        score: {judge_identity(task, name, pool=pool) for name in by_score[score]}
        for score in deciding_scores(task)
        if score in by_score
    }
    condition = condition_of(found, entries)
    if condition is not None and condition.holds is not True:
        raise NotEnoughEvidence(f"no look at the sealed cases is spent: {condition.text}")


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
        _same_prompt(candidate, artifact),
        _parity(
            task,
            candidate,
            artifact,
            store=store,
            pool=pool,
            plugins=plugins,
            project=project,
        ),
    ]
    return conditions, [artifact.override] if artifact.override else []


def _same_prompt(candidate: Candidate, artifact: Artifact) -> Condition:
    if not artifact.prompt:  # it was adopted, and nobody said
        text = (
            f"with which prompt {artifact.name} was trained is not known: adopt it again and say, "
            "harness model adopt DIR --prompt NAME"
        )
        return Condition(name="same prompt", holds=None, text=text)
    is_same = candidate.prompt_digest == artifact.prompt_digest
    text = f"tuned with prompt {artifact.prompt}, served with {candidate.prompt}"
    text += "" if is_same else ": they differ"
    return Condition(name="same prompt", holds=is_same, text=text)


def not_a_pilot(candidate: Candidate, artifact: Artifact) -> None:
    """Raise Refused where an artifact was trained only to draw a learning curve."""
    if artifact.is_pilot:
        raise Refused(
            f"{candidate.name!r} is a pilot, trained on {artifact.rows} rows without a wall to see "
            "whether more rows help: it is never gated or released. Tune what may be: "
            f"harness tune {artifact.task}"
        )


def _parity(
    task: Task,
    candidate: Candidate,
    artifact: Artifact,
    *,
    store: Store,
    pool: BackendPool,
    plugins: Plugins,
    project: Project,
) -> Condition:
    """Return whether what was trained is what the runtime that serves the candidate is sent."""
    try:
        check = check_artifact(
            task, candidate, artifact, store=store, pool=pool, plugins=plugins, project=project
        )
    except (MissingExtra, PluginError):
        raise  # what is not installed here says nothing of the model, and no look is spent yet
    except UsageError as exc:
        return Condition(name=PARITY, holds=False, text=str(exc))
    return parity_condition(check)
