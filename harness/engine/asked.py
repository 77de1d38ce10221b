"""Which recorded runs asked what the task asks now: server, epoch, options. Knows no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.engine.candidates import SERVERLESS, backend_options, resolve_candidate
from harness.engine.tasks import Task
from harness.errors import HarnessError
from harness.records import HANDLING, Candidate
from harness.store.store import RunRow, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Why a run says nothing of what is asked now: another server, epoch or option answered it.

    `again` is the candidate that asks its question now; None where that has been asked, or where
    its prompt is gone or was edited since. `given` is the server that `again` needs to be told.
    """

    reason: str
    again: str | None = None
    given: str | None = None


def moved_runs(task: Task, store: Store) -> set[str]:
    """Return the ids of the current runs over dev that were asked elsewhere; reads no trial."""
    ordered = newest_rows(task, asked_rows(task, store, split="dev"))
    return set(elsewhere(task, [r for r in ordered if is_current(r, task)], store))


def asked_rows(task: Task, store: Store, *, split: str) -> list[RunRow]:
    """Return the runs over the inputs that `split` has now."""
    rows = store.runs(task=task.name, split=split)
    return [r for r in rows if r.inputs_digest == task.inputs_digest(r.split)]


def newest_rows(task: Task, asked: Sequence[RunRow]) -> list[RunRow]:
    """Return the newest run of each candidate, in the order in which candidates were first run."""
    newest: dict[str, RunRow] = {}
    for row in sorted(asked, key=lambda r: (is_current(r, task), r.is_complete, r.last_at)):
        newest[row.candidate_digest] = row
    return sorted(newest.values(), key=lambda r: r.first_at)


def is_current(row: RunRow, task: Task) -> bool:
    """Tell whether a run was scored with the labels and evals that the task has now."""
    labels, evals = task.labels_digest(row.split), task.evals_digest
    return (row.labels_digest, row.evals_digest) == (labels, evals)


def elsewhere(
    task: Task, rows: Sequence[RunRow], store: Store, *, base_url: str | None = None
) -> dict[str, Elsewhere]:
    """Return by id those of the runs that were asked elsewhere. Tuned ones go by their digest.

    `base_url` is the server that a person gave, before that of the task file. Where neither names
    one, as for another model, a prompt is asked where the newest complete run on its backend was.
    """
    asked = [r for r in rows if r.prompt is not None and not r.artifact]
    ran_as = {row.id: store.candidate_of(row.id) for row in asked}
    settled = {key: _settled(task, ran, base_url) for key, ran in ran_as.items()}
    servers: dict[str, str | None] = {}
    for row in sorted(asked, key=lambda r: r.last_at):
        if row.is_complete and settled[row.id].base_url is None:
            servers[row.backend] = ran_as[row.id].base_url
    now = {
        key: one if one.base_url else replace(one, base_url=servers.get(one.backend))
        for key, one in settled.items()
    }
    reasons = {key: _reason(ran, now[key]) for key, ran in ran_as.items()}
    done = {r.candidate_digest for r in asked if r.is_complete and not reasons[r.id]}
    found = {}
    for key, ran in ran_as.items():
        if reasons[key]:
            here = now[key]
            is_askable = (here.prompt_digest, here.decoding) == (ran.prompt_digest, ran.decoding)
            found[key] = Elsewhere(
                reason=reasons[key],
                again=ran.name if is_askable and here.digest not in done else None,
                given=None if settled[key].base_url else here.base_url,
            )
    return found


def ask_again(task: Task, those: Sequence[Elsewhere]) -> str:
    """Return the commands that ask anew what was asked elsewhere; empty where nothing has to be."""
    named: dict[str | None, list[str]] = {}
    for one in those:
        if one.again is not None:
            named.setdefault(one.given, []).append(one.again)
    return "; ".join(
        f"harness eval {task.name} "
        + " ".join(f"--candidate '{name}'" for name in dict.fromkeys(names))
        + (f" --base-url {given}" if given else "")
        for given, names in named.items()
    )


def _settled(task: Task, ran: Candidate, given: str | None) -> Candidate:
    """Return what the task file, or a given server, makes of `ran` now; without a prompt where
    its name is gone or means another model, and without a server where none is named.
    """
    s = task.settings
    is_served = ran.backend.partition(":")[0] not in SERVERLESS
    common = given or s.base_url if is_served and ran.backend == s.model else None
    try:
        now = resolve_candidate(task, ran.name, artifact_digest=str)
    except HarnessError:  # its prompt, table or file is gone
        now = None
    if now is None or now.backend != ran.backend:
        return Candidate(
            name=ran.name,
            backend=ran.backend,
            base_url=common,
            options=backend_options(task, ran.backend),
            epoch=s.epoch or None,
        )
    table = s.candidates.get(ran.name)
    own = table.base_url if table is not None else None
    return replace(now, base_url=(given if is_served else None) or own or common)


def _reason(ran: Candidate, now: Candidate) -> str:
    """Return what is no longer as it was when `ran` was asked, or an empty text."""
    ours, theirs = (
        {k: v for k, v in one.options.items() if k not in HANDLING} for one in (now, ran)
    )
    changed = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    told = []
    if ran.base_url != now.base_url:
        told.append(f"another base_url: {ran.base_url or 'none'}")
    if ran.epoch != now.epoch:
        told.append(f"another epoch: {ran.epoch or 0}")
    if changed:
        told.append(f"other options: {', '.join(changed)}")
    return "; ".join(told)
