"""What one pytest session knows of evals: tasks, candidates, replies, scores, and at last runs.

Knows nothing of pytest's hooks; `pytest_evals` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest
from filelock import FileLock, Timeout

from harness.checks import use_plugins
from harness.core.usage import Usage, usage
from harness.engine.backends import BackendPool
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Outcome, Silence
from harness.engine.project import artifact_folder, find_project, task_folder_of
from harness.engine.release import look_entry, looks_spent, pair_key
from harness.engine.tasks import REFERENCE, load_task, resolve_candidate
from harness.engine.views import TrialView
from harness.errors import HarnessError, UsageError
from harness.ports.manager import Plugins
from harness.records import Fault, Run, Score
from harness.store.store import Store
from harness.surface.eval_outcomes import said_by
from harness.surface.progress import TextProgress
from harness.surface.tables import check_floors, floor_lines, run_table

SOON_S = 2.0


class EvalSession:
    """State of one session; in xdist each worker has one, and the controller another."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.error: HarnessError | None = None
        self.is_watched = False
        self.runs: list[Run] = []
        self.usages: dict[str, Usage] = {}
        self.broken_floors: list[str] = []
        self._opened: tuple[Store, Plugins, BackendPool] | None = None
        self._evaluations: dict[Path, Evaluation] = {}
        self._scores: dict[Path, dict[TrialId, list[Score]]] = {}
        self._faults: dict[Path, dict[TrialId, Fault]] = {}
        self._aggregates: dict[Path, dict[str, list[Score]]] = {}

    # ------------------------------------------------------------ asking

    def evaluation_of(self, path: Path) -> Evaluation:
        """Return the evaluation of the task that `path` belongs to. Raises HarnessError."""
        folder = task_folder_of(path if path.is_dir() else path.parent)
        if folder is None:
            raise UsageError(f"{path}: no task.toml beside or above it")
        if folder not in self._evaluations:
            task = load_task(folder)
            check_floors(self.config.option.floor, known=task.eval_names)
            store, _, pool = self._open(folder)
            option = self.config.option
            names = option.candidate or task.settings.default_candidates
            candidates = [
                resolve_candidate(
                    task,
                    name,
                    base_url=option.base_url,
                    artifact_digest=lambda text: store.artifact(text, task=task.name).digest,
                )
                for name in names
            ]
            self._evaluations[folder] = Evaluation(task, candidates, split=option.split, pool=pool)
        return self._evaluations[folder]

    def prefetch(self, items: Sequence[pytest.Item]) -> None:
        """Fetch what `items` need; under xdist the first worker fetches and the others find.

        Raises HarnessError. Replies that arrived before it was raised are stored.
        """
        wanted: dict[Path, list[TrialId]] = {}
        for item in items:
            trial = trial_of(item)
            if trial is None or item.path is None:
                continue
            folder = task_folder_of(item.path.parent)
            assert folder is not None
            evaluation = self.evaluation_of(item.path)
            if trial.case_id:
                wanted.setdefault(folder, []).append(trial)
            elif "trials" in getattr(item, "fixturenames", ()):
                every = [t for t in evaluation.trial_ids() if t.candidate == trial.candidate]
                wanted.setdefault(folder, []).extend(every)
        if wanted:
            self._fetch([(self._evaluations[f], _unique(t)) for f, t in wanted.items()])

    def _fetch(self, wanted: Sequence[tuple[Evaluation, Sequence[TrialId]]]) -> None:
        assert self._opened is not None
        store = self._opened[0]
        option = self.config.option
        is_worker = hasattr(self.config, "workerinput")
        lock = FileLock(f"{store.path}.fetch.lock")
        with TextProgress() as shown:
            progress = Silence() if is_worker else shown
            try:
                lock.acquire(timeout=SOON_S)
            except Timeout:
                progress.note("waiting for another run that fetches replies into this store")
                lock.acquire()
            try:
                fetch_all(wanted, store=store, progress=progress, is_offline=option.offline)
            finally:
                lock.release()

    def outcome(self, path: Path, trial: TrialId) -> Outcome:
        """Return the outcome of a trial that was fetched."""
        evaluation = self.evaluation_of(path)
        if trial not in evaluation.outcomes:
            self._fetch([(evaluation, [trial])])
        return evaluation.outcomes[trial]

    def views(self, path: Path, candidate: str) -> list[TrialView]:
        """Return the trials of `candidate` that have a reply."""
        evaluation = self.evaluation_of(path)
        trials = [t for t in evaluation.trial_ids() if t.candidate == candidate]
        found = [(t, evaluation.outcomes[t]) for t in trials if t in evaluation.outcomes]
        return [
            TrialView(case=evaluation.cases[t.case_id], reply=o.reply, repeat=t.repeat)
            for t, o in found
            if o.reply is not None
        ]

    # ------------------------------------------------------------ recording

    def see(self, report: pytest.TestReport) -> None:
        """Take the score that a report carries."""
        said = said_by(report.user_properties) if report.when in {"setup", "call"} else None
        if said is None:
            return
        folder = Path(said["task"])
        trial = TrialId(
            candidate=said["candidate"], case_id=said["case"], repeat=int(said["repeat"])
        )
        reason = said.get("miss") or said.get("unscored") or said.get("fault") or ""
        value = None if "score" not in said else float(said["score"])
        score = Score(name=said["eval"], value=value, reason=reason)
        if not trial.case_id:
            self._aggregates.setdefault(folder, {}).setdefault(trial.candidate, []).append(score)
            return
        self._scores.setdefault(folder, {}).setdefault(trial, []).append(score)
        if "fault" in said:
            fault = Fault(origin="eval", message=f"{score.name}: {reason}", is_missing=True)
            if "origin" in said:  # the fault of a reply, as the worker that asked for it knows it
                is_missing = bool(said["is_missing"])
                fault = Fault(origin=said["origin"], message=reason, is_missing=is_missing)
            self._faults.setdefault(folder, {})[trial] = fault
        elif getattr(report, "harness_mark", "") == "missed":
            lastfailed = getattr(self.config.pluginmanager.get_plugin("lfplugin"), "lastfailed", {})
            lastfailed[getattr(report, "id", report.nodeid)] = True

    def finish(self, *, was_interrupted: bool) -> None:
        """Store one run a candidate, and see whether the floors hold."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        for folder, scores in self._scores.items():
            evaluation = self.evaluation_of(folder)  # the controller of xdist opens it only here
            assert self._opened is not None
            store, plugins, _ = self._opened
            self._recall(evaluation)
            merged = {t: _merged(some) for t, some in scores.items()}
            runs = evaluation.runs(
                merged,
                faults=self._faults.get(folder, {}),
                aggregates=self._aggregates.get(folder, {}),
                is_complete=partial(
                    self._is_complete,
                    evaluation=evaluation,
                    scores={} if was_interrupted else merged,
                    folder=folder,
                ),
            )
            for run in runs:
                store.add_run(run, at=at)
                self.runs.append(run)
                mine = [t for t in evaluation.outcomes if t.candidate == run.candidate.name]
                replies = [evaluation.outcomes[t].reply for t in mine]
                self.usages[run.id] = usage(r for r in replies if r is not None)
                for trial in run.trials:
                    plugins.tell(trial)
            self._count_look(evaluation, runs, at=at)
        self.broken_floors = floor_lines(
            self.runs, self.config.option.floor, clusters=self._clusters()
        )

    def _recall(self, evaluation: Evaluation) -> None:
        """The controller of xdist fetched nothing itself: find what the workers stored."""
        assert self._opened is not None
        missing = [t for t in evaluation.trial_ids() if t not in evaluation.outcomes]
        if missing and self.config.pluginmanager.hasplugin("dsession"):
            fetch_all(
                [(evaluation, missing)], store=self._opened[0], progress=Silence(), is_offline=True
            )

    def _is_complete(
        self,
        name: str,
        *,
        evaluation: Evaluation,
        scores: dict[TrialId, list[Score]],
        folder: Path,
    ) -> bool:
        aggregates = {s.name for s in self._aggregates.get(folder, {}).get(name, ())}
        expected = set(evaluation.task.eval_names)
        trials = [t for t in evaluation.trial_ids() if t.candidate == name]
        return all(
            {s.name for s in scores.get(t, ())} | aggregates == expected for t in trials
        ) and len(evaluation.cases) == len(evaluation.task.split(evaluation.split))

    def _count_look(self, evaluation: Evaluation, runs: Sequence[Run], *, at: str) -> None:
        """Looking at the sealed split is never free: it goes to the ledger, whoever looks."""
        if evaluation.split != "test" or self.config.option.look_is_counted:
            return
        assert self._opened is not None
        looks = self._opened[0].ledger(task=evaluation.task.name, kind="look")
        known = looks_spent(evaluation.task, looks, purposes=("eval",))
        for run in runs:
            candidate = run.candidate
            if candidate.backend != REFERENCE and pair_key(None, candidate) not in known:
                self._opened[0].record(
                    look_entry(
                        evaluation.task, purpose="eval", baseline=None, candidate=candidate, at=at
                    )
                )

    # ------------------------------------------------------------ showing

    def summary_lines(self) -> list[str]:
        """Return the table of the session's runs, and what the floors say."""
        primaries = {e.task.name: e.task.settings.primary for e in self._evaluations.values()}
        table = run_table(
            self.runs, clusters=self._clusters(), primaries=primaries, usages=self.usages
        )
        return [*table, *self.broken_floors]

    def _clusters(self) -> dict[str, dict[str, str]]:
        tasks = [e.task for e in self._evaluations.values()]
        return {task.name: {c.id: c.cluster for c in task.cases} for task in tasks}

    def close(self) -> None:
        """Close the backends and the store."""
        if self._opened is not None:
            store, _, pool = self._opened
            pool.close()
            store.close()
            self._opened = None

    def _open(self, folder: Path) -> tuple[Store, Plugins, BackendPool]:
        if self._opened is None:
            option = self.config.option.store
            project = find_project(folder, store=Path(option) if option else None)
            store = Store.open(project.store)
            plugins = Plugins(disabled=project.disabled_plugins).load()
            use_plugins(plugins)
            pool = BackendPool(plugins, artifact_folder=partial(artifact_folder, project))
            self._opened = (store, plugins, pool)
        return self._opened


SESSION = pytest.StashKey[EvalSession]()


def trial_of(item: pytest.Item) -> TrialId | None:
    """Return the trial of an eval item, or None for any other test."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("harness_trial") if callspec is not None else None


def _unique(trials: Sequence[TrialId]) -> list[TrialId]:
    return list(dict.fromkeys(trials))


def _merged(scores: Sequence[Score]) -> list[Score]:
    """One score a name: an eval with parameters of its own gives the mean of its items."""
    by_name: dict[str, list[Score]] = {}
    for score in scores:
        by_name.setdefault(score.name, []).append(score)
    merged = []
    for name, some in by_name.items():
        values = [s.value for s in some if s.value is not None]
        reason = "; ".join(dict.fromkeys(s.reason for s in some if s.reason))
        merged.append(
            some[0]
            if len(some) == 1
            else Score(name=name, value=fmean(values) if values else None, reason=reason)
        )
    return merged
