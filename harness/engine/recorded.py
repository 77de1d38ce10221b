"""What is known without asking: replies of a reference, file or constant, and recorded faults.

Knows nothing of what is asked: a recorded reply answers its case, whatever the prompt.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.core.answers import reference_reply
from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY, replay_path
from harness.engine.fetch import Outcome
from harness.engine.tasks import Task
from harness.engine.text_files import json_lines
from harness.errors import TaskError
from harness.records import Candidate, Case, Fault, Reply, Split, digest
from harness.store.store import Store


def is_recorded(candidate: Candidate) -> bool:
    """Tell whether a candidate's replies are known without a backend: one for each case."""
    return candidate.backend == REFERENCE or candidate.backend.startswith((REPLAY, CONSTANT))


class Recorded:
    """The recorded replies of candidates of the task in `folder`; each file is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._replayed: dict[Path, dict[str, str]] = {}

    def outcome(self, candidate: Candidate, case: Case) -> Outcome:
        """Return the reply of `candidate` to `case`: a fault where a file has none, and nothing,
        which is no fault, where a case has no reference.
        """
        if candidate.backend == REFERENCE:
            return _reference(candidate, case)
        if candidate.backend.startswith(CONSTANT):
            text: str | None = candidate.backend.removeprefix(CONSTANT)
        else:
            text = self._replies(candidate).get(case.id)
        key = digest([candidate.backend, case.id, text])
        if text is None:
            where = f"{candidate.backend.removeprefix(REPLAY)} has no reply for it"
            fault = Fault(origin="harness", message=f"{case.id}: {where}", is_missing=True)
            return Outcome(key=key, fault=fault)
        return Outcome(key=key, reply=Reply(text=text), is_cached=True)

    def _replies(self, candidate: Candidate) -> dict[str, str]:
        path = replay_path(candidate.backend, self._folder)
        if path not in self._replayed:
            self._replayed[path] = read_replies(path)
        return self._replayed[path]


def _reference(candidate: Candidate, case: Case) -> Outcome:
    reply = reference_reply(case)
    if reply is None:  # unscored, and no fault of anything
        return Outcome(key=digest([candidate.backend, case.id]))
    key = digest([candidate.backend, case.id, case.reference_text])
    return Outcome(key=key, reply=reply, is_cached=True)


def known_faults(
    store: Store, task: Task, candidate: Candidate, *, split: Split
) -> dict[tuple[str, int], Fault]:
    """Return what kept replies away, by case id and repeat, as the newest complete run of the
    same cases says; empty where there is none.
    """
    rows = [
        r
        for r in store.runs(task=task.name, split=split, complete=True)
        if r.candidate_digest == candidate.digest and r.inputs_digest == task.inputs_digest(split)
    ]
    if not rows:
        return {}
    trials = store.run(rows[-1].id).trials
    return {
        (t.case_id, t.repeat): t.fault for t in trials if t.fault and t.fault.origin == "backend"
    }


def read_replies(path: Path) -> dict[str, str]:
    """Return replies by case id, from `{"id", "reply"}` lines. Raises TaskError with file, line.

    A reply that is no text is taken as compact JSON, as a reference is.
    """
    replies: dict[str, str] = {}
    for place, row in json_lines(path):
        if not isinstance(row, dict) or row.get("reply") is None or "id" not in row:
            raise TaskError(f'{place}: a line is {{"id": ..., "reply": ...}}')
        name, reply = str(row["id"]), row["reply"]
        if name in replies:
            raise TaskError(f"{place}: a second reply to {name!r}")
        is_text = isinstance(reply, str)
        replies[name] = (
            reply if is_text else json.dumps(reply, separators=(",", ":"), ensure_ascii=False)
        )
    return replies
