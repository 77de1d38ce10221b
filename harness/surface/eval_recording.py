"""Writes a session's runs, holds them to the floors, and says what came of them.

Knows nothing of pytest's hooks or of how a reply was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from harness.core.usage import usage
from harness.engine.candidates import REFERENCE
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Silence, was_held_back
from harness.engine.policy import pin_policy
from harness.engine.tasks import Task
from harness.records import Condition, Run, Score
from harness.surface.eval_parts import EvalParts, joined, lacking_parts
from harness.surface.eval_scores import TaskScores
from harness.surface.eval_session import EvalSession
from harness.surface.fault_lines import cause_of_error
from harness.surface.judge_evals import judge_lines
from harness.surface.score_journal import ScoreJournal
from harness.surface.slices import lines_below
from harness.surface.tables import floor_lines, floor_of, run_table


class Recording:
    """What one session records: each score as it comes, and runs at its end."""

    def __init__(self, session: EvalSession) -> None:
        self._session = session
        session.config.pluginmanager.register(EvalParts(session.config), "harness-eval-parts")
        self._journal = ScoreJournal(session, first_of=self._is_seen)
        if not hasattr(session.config, "workerinput"):
            session.scores.kept = self._journal.add
        self._conditions: dict[str, Condition] = {}
        self._advisors: dict[str, list[str]] = {}
        self._advised: dict[str, frozenset[str]] = {}
        self._floors_of_advice: list[str] = []
        self._was_interrupted = False

    def finish(self, *, was_interrupted: bool) -> None:
        """Store one run a candidate, and see whether the floors hold."""
        if self._journal.error is not None:
            raise self._journal.error
        self._was_interrupted = was_interrupted
        at = _now()
        for folder, seen in self._session.scores.by_folder.items():
            if seen.scores or seen.aggregates:
                evaluation = self._session.evaluation_of(folder)
                self._record(evaluation, seen, at=at, was_interrupted=was_interrupted)
                evaluation.forget()  # what is shown is in the runs; pytest's own end needs room
                seen.scores.clear()
        self._journal.remove(was_interrupted=was_interrupted)
        self._hold_floors()

    def close(self) -> None:
        """Let go of what could not be recorded: whoever opens the store next finds it."""
        self._journal.close()

    def summary_lines(self) -> list[str]:
        """Return the table of the session's runs, and what the floors say."""
        session = self._session
        primaries = {task.name: task.settings.primary for task in session.tasks}
        will_tell = session.is_watched and not (session.error or self._was_interrupted)
        table = run_table(
            session.runs,
            clusters=self._clusters(),
            primaries=primaries,
            usages=session.usages,
            told=cause_of_error(session.runs) if will_tell else None,
        )
        judges = judge_lines(
            session.judge_uses(), conditions=self._conditions, advisors=self._advisors
        )
        below = [*lines_below(session.runs, session.tasks), *self._recalls()]
        floors = [*self._floors_of_advice, *session.broken_floors]
        return [*session.notes, *table, *below, *judges, *floors]

    # ------------------------------------------------------------ one task

    def _record(
        self, evaluation: Evaluation, seen: TaskScores, *, at: str, was_interrupted: bool
    ) -> None:
        folder, session = evaluation.task.folder, self._session
        store = session.open.store(folder)
        self._recall(evaluation, seen)
        one_each = seen.scores
        lacking = lacking_parts(seen)
        for which, some in one_each.items():  # in place: there may be 100,000
            one_each[which] = joined(some, seen.parts)
        for name in set(seen.aggregates) - {which.candidate for which in one_each}:
            # nothing but aggregates ran: its trials are recorded without a score of their own
            one_each |= {t: () for t in evaluation.outcomes if t.candidate == name}
        runs = evaluation.runs(
            one_each,
            faults=seen.faults,
            aggregates=seen.aggregates,
            is_complete=partial(
                _is_complete,
                evaluation=evaluation,
                scores={} if was_interrupted else one_each,
                seen=seen,
                lacking=lacking,
            ),
            dialogues=seen.last_turns,
        )
        plugins = session.open.plugins(folder)
        for run in runs:
            run_id = store.add_run(run, at=at)
            session.runs.append(run)
            name = run.candidate.name
            replies = {
                o.key: o.reply for t, o in evaluation.outcomes.items() if t.candidate == name
            }
            asked = [key for t, keys in seen.turns.items() if t.candidate == name for key in keys]
            unknown = [key for key in asked if key not in replies]
            replies |= store.known_replies(unknown) if unknown else {}
            session.usages[run_id] = usage(r for r in replies.values() if r is not None)
            for trial in run.trials:
                plugins.tell(trial)
        if seen.judged:
            self._weigh_judges(evaluation, runs, seen)

    def _hold_floors(self) -> None:
        """See which floors are broken; one of a judge without a certificate is shown alone."""
        session = self._session
        clusters = self._clusters() if session.config.option.floor else {}
        for floor in session.config.option.floor:
            name, _ = floor_of(floor)
            may = [r for r in session.runs if name not in self._advised.get(r.task, ())]
            advice = [r for r in session.runs if name in self._advised.get(r.task, ())]
            session.broken_floors += floor_lines(may, [floor], clusters=clusters)
            if advice:
                from harness.engine.certificates import ADVICE

                below = floor_lines(advice, [floor], clusters=clusters)
                self._floors_of_advice += [f"{line}, {ADVICE}" for line in below]

    def _recall(self, evaluation: Evaluation, seen: TaskScores) -> None:
        """The controller of xdist fetched nothing itself: find what the workers stored."""
        if not self._session.config.pluginmanager.hasplugin("dsession"):
            return
        known, dialogues = evaluation.outcomes, seen.dialogues
        missing = [t for t in evaluation.trial_ids() if t not in known and t not in dialogues]
        if missing:
            store = self._session.open.store(evaluation.task.folder)
            fetch_all([(evaluation, missing)], store=store, progress=Silence(), is_offline=True)

    def _weigh_judges(self, evaluation: Evaluation, runs: Sequence[Run], seen: TaskScores) -> None:
        """See which judges scored, whether they may decide, and what they took."""
        from harness.engine.certificates import (
            advised_scores,
            deciding_scores,
            judges_condition,
            judges_of,
        )

        task, session = evaluation.task, self._session
        store = session.open.store(task.folder)
        certificates = store.ledger(task=task.name, kind="certificate")
        condition = judges_condition(task, runs, certificates)
        if condition is not None:
            self._conditions[task.name] = condition
        advisors = set(judges_of(runs, names=task.eval_names)) - deciding_scores(task)
        if advisors:
            self._advisors[task.name] = sorted(advisors)
        if session.config.option.floor:
            self._advised[task.name] = advised_scores(task, runs, certificates)
        if session.config.pluginmanager.hasplugin("dsession"):  # the workers asked
            from harness.engine.judges import judge_all

            judging, wanted = session.judging_of(evaluation), list(seen.judged)
            fetch_all(judging.others(wanted), store=store, progress=Silence(), is_offline=True)
            judge_all([(judging, wanted)], store=store, progress=Silence(), is_offline=True)

    def _is_seen(self, evaluation: Evaluation, name: str) -> None:
        """Note that scores of a candidate are about to be seen: what the task promises now stands
        before them, and looking at the sealed split is never free, not in a run that is killed.
        """
        candidate = evaluation.candidates[name]
        if candidate.backend == REFERENCE:
            return
        task, at = evaluation.task, _now()
        store = self._session.open.store(task.folder)
        pin_policy(task, store, at=at)
        if evaluation.split != "test" or self._session.config.option.look_is_counted:
            return
        from harness.engine.release import look_entry, looks_spent, pair_key

        looks = store.ledger(task=task.name, kind="look")
        if pair_key(None, candidate) not in looks_spent(task, looks, purposes=("eval",)):
            store.record(
                look_entry(task, purpose="eval", baseline=None, candidate=candidate, at=at)
            )
            self._session.notes.append(
                f"{candidate.name} was seen on the sealed test split: the look is counted"
            )

    # ------------------------------------------------------------ showing

    def _recalls(self) -> list[str]:
        tasks = [t for t in self._session.tasks if _has_documents(t)]
        if not tasks:
            return []
        from harness.surface.retrieval import recall_lines, recalls_of_runs

        return recall_lines([one for t in tasks for one in recalls_of_runs(t, self._session.runs)])

    def _clusters(self) -> dict[str, dict[str, str]]:
        return {task.name: {c.id: c.cluster for c in task.cases} for task in self._session.tasks}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _has_documents(task: Task) -> bool:
    return any(prompt.documents for prompt in task.prompts.values())


def _is_complete(
    name: str,
    *,
    evaluation: Evaluation,
    scores: Mapping[TrialId, Sequence[Score]],
    seen: TaskScores,
    lacking: Collection[str],
) -> bool:
    """Tell whether every case and every eval ran for a candidate, as the task says. `lacking` are
    the candidates with an eval of which some items did not run.
    """
    aggregates = {s.name for s in seen.aggregates.get(name, ())}
    expected = set(evaluation.task.eval_names)
    trials = [t for t in evaluation.trial_ids() if t.candidate == name]
    return all(
        {s.name for s in scores.get(t, ())} | aggregates == expected for t in trials
    ) and not (
        name in lacking
        or evaluation.has_other_repeats(name)
        or any(was_held_back(fault) for t, fault in seen.faults.items() if t.candidate == name)
        or len(evaluation.cases) != len(evaluation.task.split(evaluation.split))
    )
