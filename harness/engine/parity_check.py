"""An artifact's parity with one runtime: rows of its task, prepared anew, against what is served.

Knows nothing of what is compared or how (`parity`). A variant (merged, quantised) is compared with
what its origin was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import INTERNAL
from harness.engine.by_path import BY_PATH
from harness.engine.candidates import backend_options
from harness.engine.parity import Outcome, compare
from harness.engine.parity_views import Sides, pixels, spread
from harness.engine.project import Project, artifact_folder
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.ports.backends import ShowsTokens
from harness.ports.manager import Plugins
from harness.ports.tuners import TuneJob
from harness.records import (
    Artifact,
    Candidate,
    Case,
    Condition,
    LedgerEntry,
    ParityCheck,
    ParityFinding,
    PreparedRow,
    TrainingRow,
)
from harness.store.store import Store

ROWS = 50
PARITY = "parity"
"""The name of the release's condition."""


def check_artifact(
    task: Task,
    candidate: Candidate,
    artifact: Artifact,
    *,
    store: Store,
    pool: BackendPool,
    plugins: Plugins,
    project: Project,
    runtime: Candidate | None = None,
    with_logits: bool = True,
    most: int = ROWS,
) -> ParityCheck:
    """Compare what `artifact` was trained on with what `runtime` (default: the candidate itself)
    makes of the same cases.

    Raises UsageError where the task has no row to compare or its prompt is gone, BackendError where
    the runtime shows nothing of its tokens.
    """
    root = _root(artifact, store)
    served_as = runtime or candidate
    named = ParityCheck(
        task=task.name,
        candidate=candidate.name,
        artifact=artifact.digest,
        runtime=runtime_name(served_as),
        rows=0,
    )
    tuner = _tuner(root, plugins)
    if tuner is not None and not getattr(tuner, "has_tokens", True):
        why = getattr(tuner, "why_no_tokens", "") or "it trains no token ids"
        return replace(named, unknown=(f"nothing to compare of {root.tuner}: {why}",))
    served = pool.get(served_as, folder=task.folder)
    trained_as = replace(
        candidate,
        backend=root.base,
        base_url=None,
        artifact=root.digest,
        options=backend_options(task, root.base),
    )
    is_one = root.digest == served_as.artifact and served_as.backend == root.base
    trained = served if is_one else pool.get(trained_as, folder=task.folder)
    if not isinstance(trained.backend, ShowsTokens):
        return replace(named, findings=(_not_here(root),))
    cases, kept_inside = _sample(task, tuner, served=served, most=most)
    prompt = root.prompt
    if prompt not in task.prompts:
        raise UsageError(prompt_is_gone(root, task))
    requests = Requests(task)
    rows = tuple(requests.training_row(prompt, case) for case in cases)
    asked = {case.id: requests.of(candidate, case) for case in cases}
    if tuner is None:
        prepared = _rendered(trained, rows, asked)
        why_not = (
            f"it was trained elsewhere{_by(root)}: its own rows are not here, so prompts are "
            "compared, and no labels (harness model parity --prepared DIR compares them)"
        )
    else:
        job = TuneJob(
            base=root.base.partition(":")[2],
            rows=rows,
            recipe=root.recipe,
            out_dir=artifact_folder(project, root.digest),
            seed=root.seed,
            start=artifact_folder(project, root.start) if root.start else None,
            task_folder=task.folder,
            options=backend_options(task, root.base),
        )
        prepared, why_not = tuple(tuner.prepare(job)), ""
    outcome = compare(
        Sides(
            rows=rows,
            prepared=prepared,
            requests=asked,
            trained=trained,
            served=served,
            template=root.template_digest or None,
            fingerprint=_fingerprint(project, root),
        ),
        with_logits=with_logits,
    )
    unknown = [line for line in (why_not, kept_inside) if line]
    return told(replace(named, rows=len(rows)), outcome, unknown=unknown)


def prompt_is_gone(artifact: Artifact, task: Task) -> str:
    """Return why nothing can be asked as it was trained, and what to do."""
    if not artifact.prompt:
        return (
            f"with which prompt {artifact.name!r} was trained is not known: adopt it again and "
            f"say, harness model adopt DIR --base {artifact.base} --task {task.name} --prompt NAME"
        )
    return (
        f"the prompt {artifact.prompt!r} that {artifact.name!r} was tuned with is not in task "
        f"{task.name!r} any more: put the file back, or tune again with another"
    )


def _by(artifact: Artifact) -> str:
    is_named = artifact.origin not in (None, "elsewhere", BY_PATH)
    return f" by {artifact.origin}" if is_named else ""


def told(check: ParityCheck, outcome: Outcome, *, unknown: Sequence[str] = ()) -> ParityCheck:
    """Return `check` with what came of it."""
    return replace(
        check,
        probes=outcome.probes,
        compared=outcome.compared,
        unknown=(*unknown, *outcome.unknown),
        findings=outcome.findings,
    )


def runtime_name(candidate: Candidate) -> str:
    """Return who serves, for people: the backend, and where it is."""
    where = f" at {candidate.base_url}" if candidate.base_url else ""
    return candidate.backend + where


def parity_condition(check: ParityCheck) -> Condition:
    """Return the condition of a release: what cannot be shown is said, what differs blocks."""
    failed = [f for f in check.findings if f.severity == "fail"]
    if failed:
        return Condition(name=PARITY, holds=False, text=f"{failed[0].name}: {failed[0].detail}")
    if not check.compared:
        said = [*check.unknown, *(f.detail for f in check.findings)]
        return Condition(name=PARITY, holds=None if check.findings else True, text="; ".join(said))
    if check.compared == (f"{check.rows} rows id by id",):
        text = f"{check.rows} rows compared id by id between training and serving, no difference"
    else:
        text = f"compared with {check.runtime}: {', '.join(check.compared)}; no difference"
    warned = [f"warning: {f.name} ({f.detail})" for f in check.findings]
    return Condition(name=PARITY, holds=True, text="; ".join([text, *check.unknown, *warned]))


def parity_entry(check: ParityCheck, *, at: str) -> LedgerEntry:
    """Return the line of the ledger that records a check."""
    names = sorted({f.name for f in check.findings})
    came = f"found {', '.join(names)}" if names else "no difference"
    return LedgerEntry(
        kind="parity",
        task=check.task,
        at=at,
        payload=check,
        text=f"{check.candidate} against {check.runtime}: {came}",
    )


def _root(artifact: Artifact, store: Store) -> Artifact:
    """What was trained: a variant holds the weights of another artifact in another form."""
    seen = {artifact.digest}
    while artifact.variant_of and artifact.variant_of not in seen:
        seen.add(artifact.variant_of)
        artifact = store.artifact(artifact.variant_of, task=artifact.task)
    return artifact


def _not_here(artifact: Artifact) -> ParityFinding:
    return ParityFinding(
        severity="warn",
        name="not-comparable",
        case_id="",
        detail=f"{artifact.base} shows no token ids, and it is what was tuned: there is nothing to "
        "compare a runtime with. Tune or adopt with the base on this machine, as local:FOLDER",
    )


def _tuner(artifact: Artifact, plugins: Plugins) -> Any | None:
    """The tuner that made it; None for what was made elsewhere by one that is not installed."""
    try:
        return plugins.owner("harness_tuners", artifact.tuner)()
    except UsageError:
        if artifact.origin is None:
            raise
        return None


def _sample(task: Task, tuner: Any, *, served: LiveBackend, most: int) -> tuple[list[Case], str]:
    """Train cases from end to end of the file; none that is internal for a server outside."""
    needs_pairs = getattr(tuner, "needs", "completions") == "preferences"
    cases = [
        c
        for c in task.split("train")
        if c.reference is not None and (c.rejected is not None or not needs_pairs)
    ]
    inside = [c for c in cases if INTERNAL in c.tags] if served.is_external else []
    cases = [c for c in cases if c not in inside]
    if not cases:
        raise UsageError(
            f"task {task.name!r} has no train case to compare: parity needs cases with a reference"
            + (" that may leave this machine" if inside else "")
        )
    unknown = f"{len(inside)} internal cases were not sent to {served.name}" if inside else ""
    return spread(cases, most), unknown


def _rendered(
    trained: LiveBackend, rows: Sequence[TrainingRow], asked: Any
) -> tuple[PreparedRow, ...]:
    """Prompts as this machine renders them, where what was trained is not known."""
    backend = trained.backend
    if not isinstance(backend, ShowsTokens):
        raise UsageError(f"{trained.name} cannot show token ids: parity cannot be checked")
    made = []
    for row in rows:
        ids = tuple(backend.token_ids(asked[row.case_id]))
        one = PreparedRow(case_id=row.case_id, input_ids=ids, labels=(-100,) * len(ids))
        made.append(replace(one, pixels=pixels(trained, {"": asked[row.case_id]}).get("", "")))
    return tuple(made)


def _fingerprint(project: Project, artifact: Artifact) -> dict[str, Any]:
    path = artifact_folder(project, artifact.digest) / "fingerprint.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # an older or adopted artifact has none
    return found if isinstance(found, dict) else {}
