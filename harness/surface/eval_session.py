"""What one pytest session knows of evals: tasks, candidates, replies, scores, and at last runs.

Knows nothing of pytest's hooks; `pytest_evals` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from harness.checks import use_plugins
from harness.core.usage import Usage, usage
from harness.engine.backends import BackendPool
from harness.engine.certificates import deciding_scores, judges_condition, judges_of
from harness.engine.dialogue import outside_of_loops
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Outcome, Silence, fetch
from harness.engine.judges import Judged, JudgeUse, Judging, Wanted, judge_all
from harness.engine.outcomes import merged
from harness.engine.project import Project, artifact_folder, find_project, task_folder_of
from harness.engine.spending import was_not_asked
from harness.engine.tasks import REFERENCE, Task, load_task, resolve_candidate
from harness.engine.views import TrialView
from harness.errors import HarnessError, UsageError
from harness.ports.manager import Plugins
from harness.records import Condition, Fault, Request, Run, Score
from harness.store.store import Store
from harness.surface.alarm import unlimited
from harness.surface.caps import Cap
from harness.surface.estimates import ESTIMATES
from harness.surface.eval_outcomes import is_dialogue, said_by
from harness.surface.judge_evals import judge_lines, judges_needed
from harness.surface.progress import TextProgress
from harness.surface.selection import Selection, select_cases
from harness.surface.slices import lines_below
from harness.surface.tables import check_floors, floor_lines, run_table

SOON_S = 2.0


class EvalSession:
    """State of one session; in xdist each worker has one, and the controller another."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._cap = Cap(config)
        self.error: HarnessError | None = None
        self.is_watched = False
        self.runs: list[Run] = []
        self.usages: dict[str, Usage] = {}
        self.broken_floors: list[str] = []
        self.notes: list[str] = []
        self.selected_none = False
        self._opened: tuple[Store, Plugins, BackendPool] | None = None
        self._evaluations: dict[Path, Evaluation] = {}
        self._judgings: dict[Path, Judging] = {}
        self._judged: dict[Path, set[Wanted]] = {}
        self._conditions: dict[str, Condition] = {}
        self._advisors: dict[str, list[str]] = {}
        self._selections: dict[Path, Selection] = {}
        self._read_only: Store | None = None
        self._scores: dict[Path, dict[TrialId, list[Score]]] = {}
        self._faults: dict[Path, dict[TrialId, Fault]] = {}
        self._aggregates: dict[Path, dict[str, list[Score]]] = {}
        self._turns: dict[Path, dict[TrialId, list[str]]] = {}
        self._fetched: dict[Path, set[TrialId]] = {}

    # ------------------------------------------------------------ asking

    def evaluation_of(self, path: Path) -> Evaluation:
        """Return the evaluation of the task that `path` belongs to. Raises HarnessError."""
        folder = task_folder_of(path if path.is_dir() else path.parent)
        if folder is None:
            raise UsageError(f"{path}: no task.toml beside or above it")
        if folder not in self._evaluations:
            task = load_task(folder)
            check_floors(self.config.option.floor, known=task.eval_names)
            option = self.config.option
            names = option.candidate or task.settings.default_candidates
            candidates = [
                resolve_candidate(
                    task,
                    name,
                    base_url=option.base_url,
                    artifact_digest=lambda text: (
                        self._store(folder).artifact(text, task=task.name).digest
                    ),
                )
                for name in names
            ]
            self._evaluations[folder] = Evaluation(
                task,
                candidates,
                split=option.split,
                pool=self._pool(folder),
                repeats=option.repeats,
            )
        return self._evaluations[folder]

    def select(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """Return the items that `--only` and `--sample` keep. Raises HarnessError."""
        option, kept, trials = self.config.option, [], 0
        for item in items:
            trial = trial_of(item)
            if trial is None:
                kept.append(item)
                continue
            evaluation = self.evaluation_of(item.path)
            task = evaluation.task
            if task.folder not in self._selections:
                store = self._store(task.folder) if option.only else None
                newest = partial(store.newest_runs, task.name, option.split) if store else None
                self._selections[task.folder] = select_cases(
                    evaluation, only=option.only, sample=option.sample, runs_of=newest
                )
                self.notes += self._selections[task.folder].notes
            if self._selections[task.folder].keeps(trial):
                kept.append(item)
                trials += 1
        self.selected_none = not trials
        return kept

    def prefetch(self, items: Sequence[pytest.Item]) -> None:
        """Fetch what `items` need; under xdist the first worker fetches and the others find.

        Raises HarnessError. Replies that arrived before it was raised are stored.
        """
        wanted: dict[Path, list[TrialId]] = {}
        judged: dict[Path, list[Wanted]] = {}
        for item in items:
            trial = trial_of(item)
            if trial is None or item.path is None:
                continue
            folder = task_folder_of(item.path.parent)
            assert folder is not None
            evaluation = self.evaluation_of(item.path)
            if trial.case_id:
                if not is_dialogue(item):
                    wanted.setdefault(folder, []).append(trial)
                for name in judges_needed(item, evaluation.task.settings.judges):
                    judged.setdefault(folder, []).append((name, trial))
            elif "trials" in getattr(item, "fixturenames", ()):
                wanted.setdefault(folder, []).extend(self._trials_of(evaluation, trial.candidate))
        if wanted:
            self._fetch(
                [(self._evaluations[f], _unique(t)) for f, t in wanted.items()],
                judged=[(self.judging_of(f), some) for f, some in judged.items()],
            )

    def _fetch(
        self,
        wanted: Sequence[tuple[Evaluation, Sequence[TrialId]]],
        *,
        judged: Sequence[tuple[Judging, Sequence[Wanted]]] = (),
    ) -> None:
        assert self._opened is not None
        store = self._opened[0]
        option = self.config.option
        is_worker = hasattr(self.config, "workerinput")
        lock = FileLock(f"{store.path}.fetch.lock")
        with unlimited(), TextProgress() as shown:
            progress = Silence() if is_worker else shown
            try:
                lock.acquire(timeout=SOON_S)
            except Timeout:
                progress.note("waiting for another run that fetches replies into this store")
                lock.acquire()
            try:
                with self._cap.shared(store.path) as spending:
                    others = [one for judging, some in judged for one in judging.others(some)]
                    fetch_all(
                        [*wanted, *others],
                        store=store,
                        progress=progress,
                        is_offline=option.offline,
                        spending=spending,
                        is_batch=self._cap.is_batch,
                        override_boundary=option.override_boundary,
                    )
                    judge_all(  # their requests hold the replies
                        judged,
                        store=store,
                        progress=progress,
                        is_offline=option.offline,
                        spending=spending,
                        override_boundary=option.override_boundary,
                    )
            finally:
                lock.release()

    def outcome(self, path: Path, trial: TrialId) -> Outcome:
        """Return the outcome of a trial that was fetched."""
        evaluation = self.evaluation_of(path)
        if trial not in evaluation.outcomes:
            self._fetch([(evaluation, [trial])])
        return evaluation.outcomes[trial]

    def judging_of(self, path: Path) -> Judging:
        """Return the judges of the task that `path` belongs to."""
        evaluation = self.evaluation_of(path)
        task = evaluation.task
        if task.folder not in self._judgings:
            store, _, pool = self._open(task.folder)
            self._judgings[task.folder] = Judging(
                evaluation,
                pool=pool,
                artifact_digest=lambda text: store.artifact(text, task=task.name).digest,
            )
        return self._judgings[task.folder]

    def judged(self, path: Path, name: str, trial: TrialId) -> tuple[Judged, str]:
        """Return what a judge said of a trial, asked for now where it is not known, and the
        judge's identity. Raises UsageError for an unknown judge.
        """
        judging = self.judging_of(path)
        identity = judging.digest(name)
        if (name, trial) not in judging.judged:
            asked = [(judging.evaluation, [trial])]
            outside_of_loops(lambda: self._fetch(asked, judged=[(judging, [(name, trial)])]))
        return judging.judged[name, trial], identity

    def turn(self, path: Path, trial: TrialId, request: Request) -> Outcome:
        """Return the outcome of one turn of a dialogue, asked for now where it is not known."""
        evaluation = self.evaluation_of(path)
        asked = evaluation.turn(trial, request)
        if isinstance(asked, Outcome):
            return asked
        store = self._store(evaluation.task.folder)
        is_offline = self.config.option.offline
        # where a cap holds, workers ask in turn, since they share it
        lock = FileLock(f"{store.path}.fetch.lock") if self._cap.spending else nullcontext()
        with unlimited(), lock, self._cap.shared(store.path) as spending:
            found = outside_of_loops(
                lambda: fetch(
                    [asked],
                    store=store,
                    progress=Silence(),
                    is_offline=is_offline,
                    spending=spending,
                    override_boundary=self.config.option.override_boundary,
                )
            )[asked.key]
        if is_offline and found.fault:
            return evaluation.recalled(trial, found, store=store)
        return found

    def views(self, path: Path, candidate: str) -> list[TrialView]:
        """Return the trials of `candidate` that have a reply."""
        evaluation = self.evaluation_of(path)
        trials = self._trials_of(evaluation, candidate)
        found = [(t, evaluation.outcomes[t]) for t in trials if t in evaluation.outcomes]
        return [
            TrialView(case=evaluation.cases[t.case_id], reply=o.reply, repeat=t.repeat)
            for t, o in found
            if o.reply is not None
        ]

    def _trials_of(self, evaluation: Evaluation, candidate: str) -> list[TrialId]:
        """Return the trials that an aggregate sees: those of the sample, where there is one."""
        selection = self._selections.get(evaluation.task.folder)
        trials = [t for t in evaluation.trial_ids() if t.candidate == candidate]
        return [t for t in trials if selection is None or selection.keeps(t)]

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
        reason = reason or said.get("reason") or ""
        score = Score(name=said["eval"], value=value, reason=reason, judge=said.get("judge"))
        for name in str(said.get("judged_by", "")).split():
            self._judged.setdefault(folder, set()).add((name, trial))
        if not trial.case_id:
            self._aggregates.setdefault(folder, {}).setdefault(trial.candidate, []).append(score)
            return
        self._scores.setdefault(folder, {}).setdefault(trial, []).append(score)
        if "turns" in said:
            turns = self._turns.setdefault(folder, {}).setdefault(trial, [])
            turns += said["turns"].split()
        if not said.get("is_dialogue"):
            self._fetched.setdefault(folder, set()).add(trial)
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
            one_each = {t: merged(some) for t, some in scores.items()}
            runs = evaluation.runs(
                one_each,
                faults=self._faults.get(folder, {}),
                aggregates=self._aggregates.get(folder, {}),
                is_complete=partial(
                    self._is_complete,
                    evaluation=evaluation,
                    scores={} if was_interrupted else one_each,
                    folder=folder,
                ),
                dialogues=self._last_turns(folder),
            )
            for run in runs:
                store.add_run(run, at=at)
                self.runs.append(run)
                mine = [t for t in evaluation.outcomes if t.candidate == run.candidate.name]
                replies = {o.key: o.reply for o in map(evaluation.outcomes.get, mine) if o}
                turns = self._turns.get(folder, {}).items()
                asked = [
                    key for t, keys in turns if t.candidate == run.candidate.name for key in keys
                ]
                replies |= store.known_replies(key for key in asked if key not in replies)
                self.usages[run.id] = usage(r for r in replies.values() if r is not None)
                for trial in run.trials:
                    plugins.tell(trial)
            self._count_look(evaluation, runs, at=at)
            self._weigh_judges(evaluation.task, runs)
        self.broken_floors = floor_lines(
            self.runs, self.config.option.floor, clusters=self._clusters()
        )

    def _weigh_judges(self, task: Task, runs: Sequence[Run]) -> None:
        """See which judges scored, whether they may decide, and what they took."""
        folder = task.folder
        if not self._judged.get(folder):
            return
        assert self._opened is not None
        store = self._opened[0]
        certificates = store.ledger(task=task.name, kind="certificate")
        condition = judges_condition(task, runs, certificates)
        if condition is not None:
            self._conditions[task.name] = condition
        advisors = set(judges_of(runs, names=task.eval_names)) - deciding_scores(task)
        if advisors:
            self._advisors[task.name] = sorted(advisors)
        if self.config.pluginmanager.hasplugin("dsession"):  # the workers asked
            judging, wanted = self.judging_of(folder), self._judged[folder]
            fetch_all(judging.others(wanted), store=store, progress=Silence(), is_offline=True)
            judge_all([(judging, list(wanted))], store=store, progress=Silence(), is_offline=True)

    def judge_uses(self) -> list[JudgeUse]:
        """Return what the session's judges did and took, apart from the candidates."""
        return [use for judging in self._judgings.values() for use in judging.uses()]

    def _recall(self, evaluation: Evaluation) -> None:
        """The controller of xdist fetched nothing itself: find what the workers stored."""
        assert self._opened is not None
        dialogues = self._dialogues(evaluation.task.folder)
        known = evaluation.outcomes
        missing = [t for t in evaluation.trial_ids() if t not in known and t not in dialogues]
        if missing and self.config.pluginmanager.hasplugin("dsession"):
            fetch_all(
                [(evaluation, missing)], store=self._opened[0], progress=Silence(), is_offline=True
            )

    def _dialogues(self, folder: Path) -> set[TrialId]:
        """The trials that were scored in dialogues alone."""
        return set(self._scores.get(folder, ())) - self._fetched.get(folder, set())

    def _last_turns(self, folder: Path) -> dict[TrialId, str]:
        turns = self._turns.get(folder, {})
        return {t: turns[t][-1] for t in self._dialogues(folder) if turns.get(t)}

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
        ) and not (
            evaluation.has_other_repeats(name)
            or any(
                was_not_asked(fault)
                for trial, fault in self._faults.get(folder, {}).items()
                if trial.candidate == name
            )
            or len(evaluation.cases) != len(evaluation.task.split(evaluation.split))
        )

    def _count_look(self, evaluation: Evaluation, runs: Sequence[Run], *, at: str) -> None:
        """Looking at the sealed split is never free: it goes to the ledger, whoever looks."""
        if evaluation.split != "test" or self.config.option.look_is_counted:
            return
        assert self._opened is not None
        from harness.engine.release import look_entry, looks_spent, pair_key

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
        judges = judge_lines(
            self.judge_uses(), conditions=self._conditions, advisors=self._advisors
        )
        below = lines_below(self.runs, self.tasks)
        return [*self.notes, *table, *below, *judges, *self.broken_floors]

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the session."""
        return [e.task for e in self._evaluations.values()]

    def _clusters(self) -> dict[str, dict[str, str]]:
        tasks = [e.task for e in self._evaluations.values()]
        return {task.name: {c.id: c.cluster for c in task.cases} for task in tasks}

    def close(self) -> None:
        """Close the backends and the store."""
        if self._opened is not None:
            store, _, pool = self._opened
            pool.close()
            ESTIMATES.save()
            ESTIMATES.use(None)
            store.close()
            self._opened = None
        if self._read_only is not None:
            self._read_only.close()
            self._read_only = None

    def _project(self, folder: Path) -> Project:
        option = self.config.option.store
        return find_project(folder, store=Path(option) if option else None)

    def _store(self, folder: Path) -> Store:
        """Return the store; where items are only collected, open it for reading, if at all."""
        if not self.config.option.collectonly:
            return self._open(folder)[0]
        if self._read_only is None:
            self._read_only = Store.open(self._project(folder).store, read_only=True)
        return self._read_only

    def _pool(self, folder: Path) -> BackendPool:
        """Return the backends; collecting alone needs none, unless replies' keys are compared."""
        if not self.config.option.collectonly:
            return self._open(folder)[2]
        project = self._project(folder)
        plugins = Plugins(disabled=project.disabled_plugins)
        if self.config.option.only == "changed":
            plugins.load()
        return BackendPool(plugins, artifact_folder=partial(artifact_folder, project))

    def _open(self, folder: Path) -> tuple[Store, Plugins, BackendPool]:
        if self._opened is None:
            project = self._project(folder)
            store = Store.open(project.store)
            ESTIMATES.use(store)
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
