"""One task's evaluation: what is asked, what came back, and the runs that come of it.

Knows nothing of pytest: whoever runs the eval functions gives the scores back through `record`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core.answers import answer_of, is_wrapped
from harness.core.repeats import check_verdict
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import internal_ids
from harness.engine.fetch import Ask, Outcome, Progress, fetch
from harness.engine.recorded import Recorded, is_recorded, known_faults
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import (
    SPLITS,
    Candidate,
    Case,
    Fault,
    Request,
    Run,
    Score,
    Split,
    Trial,
)
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.engine.spending import Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialId:
    """Which trial: a candidate's name, a case's id, and the repeat (0, 1, ...)."""

    candidate: str
    case_id: str
    repeat: int = 0


class Evaluation:
    """The candidates of one task over one split, and their outcomes as they become known."""

    def __init__(
        self,
        task: Task,
        candidates: Sequence[Candidate],
        *,
        split: Split,
        pool: BackendPool,
        case_ids: Iterable[str] | None = None,
        repeats: int | None = None,
    ) -> None:
        self.task = task
        self._repeats = repeats if repeats is not None else task.settings.repeats
        check_verdict(task.settings.repeat_verdict, repeats=self._repeats)
        self.split: Split = split
        self.candidates = {c.name: c for c in candidates}
        chosen = None if case_ids is None else set(case_ids)
        self.cases = {c.id: c for c in cases_of(task, split) if chosen is None or c.id in chosen}
        self._lives: dict[str, LiveBackend] = {}
        self._has_internal_examples = bool(internal_ids(task.example_rows))
        self.outcomes: dict[TrialId, Outcome] = {}
        self._pool = pool
        self._requests = Requests(task)
        self._recorded = Recorded(task.folder)
        self._trial_ids: list[TrialId] = []
        self._case_digests: dict[str, str] = {}

    def trial_ids(self) -> list[TrialId]:
        """Return every trial of the evaluation, candidate by candidate."""
        if not self._trial_ids:  # made once: every eval function has an item for each
            self._trial_ids = [
                TrialId(candidate=name, case_id=case_id, repeat=repeat)
                for name in self.candidates
                for case_id in self.cases
                for repeat in range(self.repeats(name))
            ]
        return list(self._trial_ids)

    def repeats(self, candidate: str) -> int:
        """Return how often each case is asked: once where the reply is already known."""
        return 1 if self.is_recorded(candidate) else self._repeats

    def has_other_repeats(self, candidate: str) -> bool:
        """Tell whether cases are asked more or less often than the task says: no try of it."""
        is_other = self._repeats != self.task.settings.repeats
        return is_other and not self.is_recorded(candidate)

    def request(self, trial: TrialId) -> Request:
        """Return the request of a trial, exactly as it is sent."""
        candidate = self.candidates[trial.candidate]
        return self._requests.of(candidate, self.cases[trial.case_id])

    def asks(self, trials: Iterable[TrialId]) -> dict[TrialId, Ask]:
        """Return what must be asked for `trials`; those with recorded replies need nothing."""
        asks = {}
        for trial in trials:
            candidate = self.candidates[trial.candidate]
            if trial in self.outcomes:
                continue
            if is_recorded(candidate):
                self.outcomes[trial] = self._recorded.outcome(candidate, self.cases[trial.case_id])
                continue
            asks[trial] = self._ask(trial, self.request(trial))
        return asks

    def _ask(self, trial: TrialId, request: Request) -> Ask:
        candidate = self.candidates[trial.candidate]
        live = self._live(candidate)
        why_not = live.refuse(request)
        key = live.key(
            request, base_url=candidate.base_url, repeat=trial.repeat, epoch=candidate.epoch
        )
        internal = self._internal(candidate, self.cases[trial.case_id])
        return Ask(
            key=key,
            request=request,
            live=live,
            internal=internal,
            who=candidate.name,
            case=trial.case_id,
            task=self.task.name,
            refusal=f"candidate {candidate.name!r}: {why_not}. Leave it out." if why_not else "",
        )

    def _live(self, candidate: Candidate) -> LiveBackend:
        if candidate.name not in self._lives:
            self._lives[candidate.name] = self._pool.get(candidate, folder=self.task.folder)
        return self._lives[candidate.name]

    def is_recorded(self, candidate: str) -> bool:
        """Tell whether a candidate's replies are known without a backend: one for each case."""
        return is_recorded(self.candidates[candidate])

    def turn(self, trial: TrialId, request: Request) -> Ask | Outcome:
        """Return what must be asked for a turn of a dialogue, or its outcome where it is known."""
        if self.is_recorded(trial.candidate):
            self.asks([trial])
            return self.outcomes[trial]
        known = self.outcomes.get(trial)
        name = self.candidates[trial.candidate].prompt
        # what was said goes on in a dialogue, and not the answer that was cut out of it
        is_whole = name is None or not is_wrapped(self.task.prompts[name])
        if known is not None and is_whole and request == self.request(trial):
            return known
        return self._ask(trial, request)

    def recalled(self, trial: TrialId, outcome: Outcome, *, store: Store) -> Outcome:
        """Return `outcome`, a lost turn, with the fault that the newest complete run knows."""
        before = self.outcomes.get(trial)
        self.outcomes[trial] = outcome
        self.recall_faults(store)
        found = self.outcomes.pop(trial)
        if before is not None:
            self.outcomes[trial] = before
        return found

    def _internal(self, candidate: Candidate, case: Case) -> tuple[str, ...]:
        """Return the internal cases that a request holds: its own, and those of its examples."""
        shown = [case]
        if candidate.prompt and self._has_internal_examples:
            shown += self._requests.examples(candidate.prompt, case)
        return internal_ids(shown)

    def key_of(self, trial: TrialId) -> str | None:
        """Return the key that the reply of a trial has, or will have; None where it needs none."""
        ask = self.asks([trial]).get(trial)
        if ask is not None:
            return ask.key
        outcome = self.outcomes[trial]
        return outcome.key if outcome.reply else None

    def replied(self, trial: TrialId) -> str | None:
        """Return the key of the reply of a trial; None where none is there."""
        outcome = self.outcomes.get(trial)
        return outcome.key if outcome and outcome.reply else None

    def take(self, asks: Mapping[TrialId, Ask], outcomes: Mapping[str, Outcome]) -> None:
        """Keep the outcomes of `asks`."""
        for trial, ask in asks.items():
            self.outcomes[trial] = self._answered(trial, outcomes[ask.key])

    def _answered(self, trial: TrialId, outcome: Outcome) -> Outcome:
        """Return an outcome as evals see it: the answer, where a prompt wraps it in more."""
        name = self.candidates[trial.candidate].prompt
        if name is None or outcome.reply is None:
            return outcome
        reply = answer_of(self.task.prompts[name], outcome.reply)
        return outcome if reply is outcome.reply else replace(outcome, reply=reply)

    def recall_faults(self, store: Store) -> None:
        """Where no reply is recorded, take what the newest complete run says kept it away.

        So that scoring anew turns no failure of the model into a reply that was lost.
        """
        for name, candidate in self.candidates.items():
            lost = [t for t, o in self.outcomes.items() if t.candidate == name and o.fault]
            if not lost:
                continue
            known = known_faults(store, self.task, candidate, split=self.split)
            for trial in lost:
                if fault := known.get((trial.case_id, trial.repeat)):
                    self.outcomes[trial] = replace(self.outcomes[trial], fault=fault)

    def forget(self) -> None:
        """Let go of the replies, once they are in runs: there may be 100,000."""
        self.outcomes.clear()

    def runs(
        self,
        scores: Mapping[TrialId, Sequence[Score]],
        *,
        faults: Mapping[TrialId, Fault],
        aggregates: Mapping[str, Sequence[Score]],
        is_complete: Callable[[str], bool],
        dialogues: Mapping[TrialId, str] | None = None,
    ) -> list[Run]:
        """Return one run a candidate, from the `scores` that the evals gave. `dialogues` has the
        key of the last reply of trials that were scored in dialogues alone.
        """
        last = dialogues or {}
        runs = []
        for name in self.candidates:
            trials = [t for t in self.trial_ids() if t.candidate == name and t in scores]
            if not trials:
                continue
            made = (self._trial(t, scores[t], faults.get(t), last=last.get(t)) for t in trials)
            runs.append(
                replace(
                    self.run_without_trials(name),
                    is_complete=is_complete(name),
                    trials=tuple(made),
                    aggregates=tuple(aggregates.get(name, ())),
                )
            )
        return runs

    def run_without_trials(self, name: str) -> Run:
        """Return what a run of the candidate `name` says beside its trials; it is a partial one."""
        return Run(
            task=self.task.name,
            split=self.split,
            candidate=self.candidates[name],
            inputs_digest=self._digests[0],
            labels_digest=self._digests[1],
            evals_digest=self.task.evals_digest,
            is_complete=False,
            repeats=self.repeats(name),
            repeat_verdict=verdict_of(self.task, self.candidates[name]),
            trials=(),
        )

    @cached_property
    def _digests(self) -> tuple[str, str]:
        return self.task.inputs_digest(self.split), self.task.labels_digest(self.split)

    def _trial(
        self, trial: TrialId, scores: Sequence[Score], fault: Fault | None, *, last: str | None
    ) -> Trial:
        outcome = self.outcomes.get(trial)
        known = outcome.fault if outcome and outcome.fault else fault
        if fault and fault.origin != "eval":  # told by the process that asked
            known = fault
        return Trial(
            case_id=trial.case_id,
            repeat=trial.repeat,
            reply_key=last or self.replied(trial),
            scores=_by_name(scores),
            fault=known,
            case_digest=self.case_digest(trial.case_id),
        )

    def identify(self) -> Iterator[None]:
        """Work out what runs bear of their cases, a case at a time: for who has to wait anyway,
        and would hold up requests by it later.
        """
        for case_id in self.cases:
            yield
            self.case_digest(case_id)
        yield
        _ = self._digests

    def case_digest(self, case_id: str) -> str:
        """Return what a trial of a case bears of its identity."""
        known = self._case_digests
        if case_id not in known:  # once, however often it is scored
            known[case_id] = self.cases[case_id].digest[:16]
        return known[case_id]


def _by_name(scores: Sequence[Score]) -> tuple[Score, ...]:
    # one score is most trials' lot, and trials that passed share theirs
    alone = isinstance(scores, tuple) and len(scores) == 1
    return tuple(scores if alone else sorted(scores, key=lambda s: s.name))


def cases_of(task: Task, split: Split) -> tuple[Case, ...]:
    """Return the cases of a split. Raises UsageError where it has none."""
    cases = task.split(split)
    if not cases:
        counts = ", ".join(f"{s} {len(task.split(s))}" for s in SPLITS)
        files = " and ".join(map(str, task.case_files))
        raise UsageError(
            f"task {task.name!r} has no case in split {split!r}, of the cases in {files}: {counts}"
        )
    return cases


Asked = tuple[Evaluation, Mapping[TrialId, Ask]]
"""An evaluation, and what must be asked for trials of it."""


def fetch_all(
    evaluations: Sequence[tuple[Evaluation, Sequence[TrialId]]],
    *,
    store: Store,
    progress: Progress,
    is_offline: bool = False,
    spending: Spending | None = None,
    is_batch: bool = False,
    override_boundary: str | None = None,
) -> None:
    """Fetch what several evaluations need, all candidates at once, and give it to them."""
    fetch_asked(
        [(evaluation, evaluation.asks(trials)) for evaluation, trials in evaluations],
        store=store,
        progress=progress,
        is_offline=is_offline,
        spending=spending,
        is_batch=is_batch,
        override_boundary=override_boundary,
    )


def fetch_asked(
    asked: Sequence[Asked],
    *,
    store: Store,
    progress: Progress,
    is_offline: bool = False,
    spending: Spending | None = None,
    is_batch: bool = False,
    override_boundary: str | None = None,
) -> None:
    """Fetch what is asked, and give it to the evaluations."""
    outcomes = fetch(
        [ask for _, some in asked for ask in some.values()],
        store=store,
        progress=progress,
        is_offline=is_offline,
        spending=spending,
        is_batch=is_batch,
        override_boundary=override_boundary,
    )
    for evaluation, some in asked:
        evaluation.take(some, outcomes)
        if is_offline:
            evaluation.recall_faults(store)


def take_known(asked: Sequence[Asked], *, store: Store) -> bool:
    """Give the evaluations what the store knows, if that is all that is asked; tell whether."""
    keys = {ask.key for _, some in asked for ask in some.values()}
    known = store.known_replies(keys)
    if len(known) < len(keys):
        return False
    outcomes = {k: Outcome(key=k, reply=r, is_cached=True) for k, r in known.items()}
    for evaluation, some in asked:
        evaluation.take(some, outcomes)
    return True


def verdict_of(task: Task, candidate: Candidate) -> str | None:
    """Return the `repeat_verdict` of a run of `candidate`; what is asked once is its one repeat."""
    name = task.settings.repeat_verdict
    if name == "mean":
        return None
    return "1 of 1" if is_recorded(candidate) else name
