"""What one pytest session asks: tasks, candidates, replies, verdicts of judges.

Knows nothing of pytest's hooks or of how runs are stored; `pytest_evals` calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.core.usage import Usage
from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Asked, Evaluation, TrialId, fetch_asked, take_known
from harness.engine.fetch import Outcome, Progress, Silence, fetch
from harness.engine.project import task_folder_of
from harness.engine.tasks import Task, load_task
from harness.engine.views import TrialView
from harness.errors import HarnessError, UsageError
from harness.records import Request, Run
from harness.store.store import Store
from harness.surface.alarm import WATCH, unlimited
from harness.surface.caps import Cap
from harness.surface.eval_items import Plan
from harness.surface.eval_scores import SessionScores, Wanted
from harness.surface.eval_trials import EvalTrial, eval_trial_of, is_dialogue
from harness.surface.judge_evals import judges_needed
from harness.surface.open_project import OpenProject
from harness.surface.progress import ForecastAlone, TextProgress
from harness.surface.tables import check_floors

if TYPE_CHECKING:
    from filelock import FileLock

    from harness.engine.judges import Judged, JudgeUse, Judging
    from harness.engine.spending import Later
    from harness.surface.selection import Selection

SOON_S = 2.0


class EvalSession:
    """State of one session; in xdist each worker has one, and the controller another."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.config = config
        self.open = OpenProject(
            store=option.store,
            is_collecting=option.collectonly,
            compares_keys=option.only == "changed",
            # in xdist the controller alone writes runs, and says what it found
            told=None if hasattr(config, "workerinput") else self._told,
        )
        self.scores = SessionScores()
        self.error: HarnessError | None = None
        self.is_watched = False
        self.known_task: Task | None = None
        self.runs: list[Run] = []
        self.usages: dict[str, Usage] = {}
        self.broken_floors: list[str] = []
        self.notes: list[str] = []
        self.selected_none = False
        self.plan = Plan()
        self._cap = Cap(config)
        self._held = ExitStack()
        self._evaluations: dict[Path, Evaluation] = {}
        self._judgings: dict[Path, Judging] = {}
        self._selections: dict[Path, Selection] = {}

    # ------------------------------------------------------------ tasks and trials

    def evaluation_of(self, path: Path) -> Evaluation:
        """Return the evaluation of the task that `path` belongs to. Raises HarnessError."""
        folder = task_folder_of(path if path.is_dir() else path.parent)
        if folder is None:
            raise UsageError(f"{path}: no task.toml beside or above it")
        if folder not in self._evaluations:
            self._evaluations[folder] = self._evaluation(folder)
        return self._evaluations[folder]

    def _evaluation(self, folder: Path) -> Evaluation:
        known = self.known_task
        is_known = known is not None and known.folder == folder.resolve()
        task, option = load_task(folder, like=known if is_known else None), self.config.option
        if len({case.split for case in task.cases}) > 1:
            self.open.refuse_leaks(task, option.split, told=self._say_now)
        check_floors(option.floor, known=task.eval_names)
        candidates = [
            resolve_candidate(
                task,
                name,
                base_url=option.base_url,
                artifact_digest=self.open.artifacts_of(task, note=self._told),
            )
            for name in option.candidate or task.settings.default_candidates
        ]
        return Evaluation(
            task,
            candidates,
            split=option.split,
            pool=self.open.pool(folder),
            repeats=option.repeats,
        )

    @property
    def tasks(self) -> list[Task]:
        """The tasks of the session."""
        return [e.task for e in self._evaluations.values()]

    def select(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """Return the items that `--only` and `--sample` keep. Raises HarnessError."""
        kept, trials = [], 0
        for item in items:
            trial = eval_trial_of(item)
            if trial is None:
                kept.append(item)
            elif self._selection(trial.evaluation).keeps(trial.id):
                kept.append(item)
                trials += 1
        self.selected_none = not trials
        return kept

    def _selection(self, evaluation: Evaluation) -> Selection:
        task, option = evaluation.task, self.config.option
        if task.folder not in self._selections:
            from harness.surface.selection import select_cases

            store = self.open.store(task.folder) if option.only else None
            newest = partial(store.newest_runs, task.name, option.split) if store else None
            self._selections[task.folder] = select_cases(
                evaluation, only=option.only, sample=option.sample, runs_of=newest
            )
            self.notes += self._selections[task.folder].notes
        return self._selections[task.folder]

    @property
    def spent_usd(self) -> float:
        """What was spent under `--max-cost`; 0 without one."""
        return self._cap.spending.spent_usd if self._cap.spending else 0.0

    # ------------------------------------------------------------ asking

    def prefetch(self, items: Sequence[pytest.Item]) -> None:
        """Fetch what `items` need; under xdist the first worker fetches and the others find.

        Raises HarnessError. Replies that arrived before it was raised are stored.
        """
        wanted: dict[Evaluation, dict[TrialId, None]] = {}
        judged: dict[Evaluation, list[Wanted]] = {}
        for item in items:
            trial = eval_trial_of(item)
            if trial is None:
                continue
            evaluation = trial.evaluation
            if trial.id.case_id:
                self._cap.plan(item, trial)
                if not is_dialogue(item):
                    wanted.setdefault(evaluation, {})[trial.id] = None
                for name in judges_needed(item, evaluation.task.settings.judges):
                    judged.setdefault(evaluation, []).append((name, trial.id))
            elif "trials" in getattr(item, "fixturenames", ()):
                every = self._trials_of(evaluation, trial.id.candidate)
                wanted.setdefault(evaluation, {}).update(dict.fromkeys(every))
        if wanted:
            self._fetch(
                [(evaluation, list(trials)) for evaluation, trials in wanted.items()],
                is_first=True,
                judged=[(self.judging_of(e), some) for e, some in judged.items()],
            )

    def _fetch(
        self,
        wanted: Sequence[tuple[Evaluation, Sequence[TrialId]]],
        *,
        judged: Sequence[tuple[Judging, Sequence[Wanted]]] = (),
        is_first: bool = False,
    ) -> None:
        store = self.open.store(wanted[0][0].task.folder)
        is_offline = self.config.option.offline
        is_worker = hasattr(self.config, "workerinput")
        asked: list[Asked] = [(e, e.asks(trials)) for e, trials in wanted]
        if not judged and take_known(asked, store=store):
            return
        is_alone = not (judged or is_offline or is_worker or self._cap.is_any)
        if is_first and is_alone and self._arrive(asked, store=store):
            return
        with unlimited(), TextProgress() as shown:
            progress = ForecastAlone(WATCH.error_fd) if is_worker else shown
            with _first_come(store, progress), self._cap.shared(store.path) as spending:
                others = [one for judging, some in judged for one in judging.others(some)]
                asked += [(e, e.asks(trials)) for e, trials in others]
                if spending is not None and judged:
                    spending.later = partial(_later, asked, judged)
                fetch_asked(
                    asked,
                    store=store,
                    progress=progress,
                    is_offline=is_offline,
                    spending=spending,
                    is_batch=self._cap.is_batch,
                    override_boundary=self.config.option.override_boundary,
                )
                if spending is not None:
                    spending.later = None
                if judged:
                    from harness.engine.judges import judge_all

                    judge_all(  # their requests hold the replies
                        judged,
                        store=store,
                        progress=progress,
                        is_offline=is_offline,
                        spending=spending,
                        override_boundary=self.config.option.override_boundary,
                    )

    def _arrive(self, asked: Sequence[Asked], *, store: Store) -> bool:
        """Begin to fetch what is asked, and let it come in while evals run, where that is worth
        it; tell whether.
        """
        from harness.engine.coming import Coming
        from harness.surface.eval_arrivals import Arrivals, is_worth_it

        if not is_worth_it(asked, self.config):
            return False
        progress = self._held.enter_context(TextProgress(is_hidden=True))
        self._held.enter_context(_first_come(store, progress))
        coming = Coming(
            asked,
            store=store,
            progress=progress,
            override_boundary=self.config.option.override_boundary,
        )
        self._held.callback(coming.close)
        arrivals = Arrivals(coming, self, progress=progress)
        self.config.pluginmanager.register(arrivals, "harness-arrivals")
        self._held.callback(self.config.pluginmanager.unregister, arrivals)
        return True

    def end_fetch(self) -> None:
        """Stop what is still on its way; nothing, where all of it is there."""
        self._held.close()

    def outcome(self, trial: EvalTrial) -> Outcome:
        """Return the outcome of a trial, asked for now where it is not known."""
        outcomes = trial.evaluation.outcomes
        if trial.id not in outcomes:
            self._fetch([(trial.evaluation, [trial.id])])
        return outcomes[trial.id]

    def _say_now(self, text: str) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:  # a worker has none
            terminal.write_line(text)

    def _told(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def judging_of(self, evaluation: Evaluation) -> Judging:
        """Return the judges of a task."""
        task = evaluation.task
        if task.folder not in self._judgings:
            from harness.engine.judges import Judging

            self._judgings[task.folder] = Judging(
                evaluation,
                pool=self.open.pool(task.folder),
                artifact_digest=self.open.artifacts_of(task, note=self._told),
                base_url=self.config.option.base_url,
            )
        return self._judgings[task.folder]

    def judged(self, trial: EvalTrial, name: str) -> tuple[Judged, str]:
        """Return what a judge said of a trial, asked for now where it is not known, and the
        judge's identity. Raises UsageError for an unknown judge.
        """
        judging, one = self.judging_of(trial.evaluation), (name, trial.id)
        identity = judging.digest(name)
        if one not in judging.judged:
            from harness.engine.dialogue import outside_of_loops

            asked = [(judging.evaluation, [trial.id])]
            outside_of_loops(lambda: self._fetch(asked, judged=[(judging, [one])]))
        return judging.judged[one], identity

    def judge_uses(self) -> list[JudgeUse]:
        """Return what the session's judges did and took, apart from the candidates."""
        return [use for judging in self._judgings.values() for use in judging.uses()]

    def turn(self, item: pytest.Item, trial: EvalTrial, request: Request) -> Outcome:
        """Return the outcome of one turn of a dialogue, asked for now where it is not known.

        Under a cap, the first dialogues are a pilot. Raises pytest's Exit, with `error` set, where
        the forecast that they give is above it.
        """
        from harness.engine.dialogue import outside_of_loops

        evaluation = trial.evaluation
        asked = evaluation.turn(trial.id, request)
        if isinstance(asked, Outcome):
            return asked
        store = self.open.store(evaluation.task.folder)
        is_offline = self.config.option.offline
        # where a cap holds, workers ask in turn, since they share it
        lock = _lock_of(store) if self._cap.spending else nullcontext()
        with unlimited(), lock, self._cap.shared(store.path) as spending:
            try:
                self._cap.begin_turn(item, trial, asked, store=store)
            except UsageError as exc:
                self.error = exc
                pytest.exit(str(exc))
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
            self._cap.end_turn(found)
        if is_offline and found.fault:
            return evaluation.recalled(trial.id, found, store=store)
        return found

    def views(self, trial: EvalTrial) -> list[TrialView]:
        """Return the trials of a candidate that have a reply."""
        evaluation = trial.evaluation
        trials = self._trials_of(evaluation, trial.id.candidate)
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

    def see(self, report: pytest.TestReport) -> None:
        """Take the score that a report carries; what missed is run again by `--lf`."""
        trial = self.scores.see(report)
        if trial and trial.case_id and getattr(report, "harness_mark", "") == "missed":
            lastfailed = getattr(self.config.pluginmanager.get_plugin("lfplugin"), "lastfailed", {})
            lastfailed[getattr(report, "id", report.nodeid)] = True


SESSION = pytest.StashKey[EvalSession]()


def _later(
    asked: Sequence[Asked],
    judged: Sequence[tuple[Judging, Sequence[Wanted]]],
    outcomes: Mapping[str, Outcome],
) -> list[Later]:
    """Return what judges will be asked, as far as the outcomes that are known tell."""
    for evaluation, asks in asked:
        evaluation.take({t: a for t, a in asks.items() if a.key in outcomes}, outcomes)
    return [one for judging, some in judged for one in judging.later(some)]


def _lock_of(store: Store) -> FileLock:
    from filelock import FileLock

    return FileLock(f"{store.path}.fetch.lock")


@contextmanager
def _first_come(store: Store, progress: Progress) -> Iterator[None]:
    """Let one process at a time fetch into `store`: the next finds what it would have asked."""
    from filelock import Timeout

    lock = _lock_of(store)
    try:
        lock.acquire(timeout=SOON_S)
    except Timeout:
        progress.note("waiting for another run that fetches replies into this store")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
