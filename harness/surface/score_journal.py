"""Keeps each score of a session as it comes, so that a process that is killed loses none of them
(docs/decisions/0018). Knows nothing of how runs are shown; `recovered` reads what this writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.engine.evaluate import Evaluation, TrialId
from harness.engine.life import life, life_of
from harness.errors import HarnessError
from harness.records import to_plain
from harness.store.journal import Journal, files_beside
from harness.surface.eval_scores import SAID
from harness.surface.eval_session import EvalSession


def files_of_former(store: Path) -> list[Path]:
    """Return the files of the processes of this command that an eval ended: what they scored is
    scored anew.
    """
    ours = life()
    former = ours.former if ours is not None else ()
    return [path for pid in former for path in files_beside(store, of=pid)]


class ScoreJournal:
    """Of one session, in the process that writes its runs. `first_of` is called before the first
    score of a candidate is kept.
    """

    def __init__(
        self, session: EvalSession, *, first_of: Callable[[Evaluation, str], None]
    ) -> None:
        self._session = session
        self._first_of = first_of
        self._journal: Journal | None = None
        self._store = Path()
        self._begun: dict[tuple[str, str], Evaluation] = {}
        self.error: HarnessError | None = None
        """What stood in the way of beginning; no score is kept from there on."""

    def add(self, folder: str, said: Mapping[str, Any], trial: TrialId, key: str | None) -> None:
        """Keep what a report said of a trial; `key` is that of a reply that a worker has."""
        if self.error is not None:
            return
        try:
            evaluation = self._begun.get((folder, trial.candidate)) or self._begin(folder, trial)
        except HarnessError as exc:  # raised again when the session's runs are written
            self.error = exc
            return
        if self._journal is None:
            return
        digest = evaluation.case_digest(trial.case_id) if trial.case_id else None
        if not said.keys() <= SAID:
            said = {name: value for name, value in said.items() if name in SAID}
        self._journal.add([folder, key or evaluation.replied(trial), digest, said])

    def _begin(self, folder: str, trial: TrialId) -> Evaluation:
        evaluation = self._session.evaluation_of(Path(folder))
        self._first_of(evaluation, trial.candidate)
        if not self._begun:
            self._store = self._session.open.store(evaluation.task.folder).path
            self._journal = Journal.begin(self._store)
        if self._journal is not None:
            run = evaluation.run_without_trials(trial.candidate)
            self._journal.add({"folder": folder, "run": to_plain(run)})
        self._begun[folder, trial.candidate] = evaluation
        return evaluation

    def remove(self, *, was_interrupted: bool) -> None:
        """Every score is in a run; where one was interrupted, some may be in another file alone."""
        if self._journal is None:
            return
        self._journal.remove()
        if life_of(self._session.config) is not None and not was_interrupted:
            for path in files_of_former(self._store):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave what is in no run to whoever opens the store next."""
        if self._journal is not None:
            self._journal.close()
