"""Asks variants of a candidate's prompt over dev and scores them, and records no run of it.

What is measured so is no try: it is neither stored as a run nor counted. Replies are in the store,
so that nothing is asked twice. Knows nothing of how the variants were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.scoring import case_values
from harness.core.usage import Usage, usage
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Progress, was_not_asked
from harness.engine.plain_evals import PlainEvals
from harness.engine.requests import Requests
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.errors import BackendError, NotEnoughEvidence, UsageError
from harness.records import Candidate, Case, Fault, Prompt, Request, Score
from harness.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a prompt scored: a value a dev case, NaN missing, None unscored; and what it took."""

    prompt: Prompt
    values: Mapping[str, float | None]
    usage: Usage


@dataclass(slots=True, kw_only=True)
class Variants:
    """Asks prompts as `candidate` would be asked, on its backend and with its artifact."""

    task: Task
    candidate: Candidate
    evals: PlainEvals
    pool: BackendPool
    store: Store
    progress: Progress
    spending: Spending | None = None
    _known: dict[str, Measured] = field(default_factory=dict)

    @property
    def prompt(self) -> Prompt:
        """The candidate's own prompt."""
        assert self.candidate.prompt is not None
        return self.task.prompts[self.candidate.prompt]

    @property
    def live(self) -> LiveBackend:
        """The backend that answers."""
        return self.pool.get(self.candidate, folder=self.task.folder)

    def requests(self, prompt: Prompt, cases: Sequence[Case]) -> list[Request]:
        """Return what would be sent for `cases` with another prompt."""
        task, candidate = self._with([prompt])
        requests = Requests(task)
        return [requests.of(candidate[0], case) for case in cases]

    def measure(self, prompts: Sequence[Prompt]) -> list[Measured]:
        """Return what each prompt scores on dev, all asked at once.

        Raises BackendError where replies are missing; what was answered is stored.
        """
        new = {p.digest: p for p in prompts if p.digest not in self._known}
        if new:
            self._measure(list(new.values()))
        return [self._known[p.digest] for p in prompts]

    def _with(self, prompts: Sequence[Prompt]) -> tuple[Task, list[Candidate]]:
        named = {f"variant-{p.digest[:16]}": p for p in prompts}
        task = replace(self.task, prompts={**self.task.prompts, **named})
        candidates = [
            replace(self.candidate, name=name, prompt=name, prompt_digest=task.prompt_digest(p))
            for name, p in named.items()
        ]
        return task, candidates

    def _measure(self, prompts: Sequence[Prompt]) -> None:
        task, candidates = self._with(prompts)
        evaluation = Evaluation(task, candidates, split="dev", pool=self.pool)
        trials = evaluation.trial_ids()
        fetch_all(
            [(evaluation, trials)],
            store=self.store,
            progress=self.progress,
            spending=self.spending,
        )
        _all_answered(evaluation, trials)
        scores, faults = self._scored(evaluation, trials)
        runs = evaluation.runs(scores, faults=faults, aggregates={}, is_complete=lambda _: False)
        by_name = {run.candidate.name: run for run in runs}
        for prompt, candidate in zip(prompts, candidates, strict=True):
            mine = [t for t in trials if t.candidate == candidate.name]
            replies = [evaluation.outcomes[t].reply for t in mine]
            self._known[prompt.digest] = Measured(
                prompt=prompt,
                values=case_values(by_name[candidate.name], task.settings.primary),
                usage=usage(r for r in replies if r is not None),
            )

    def _scored(
        self, evaluation: Evaluation, trials: Sequence[TrialId]
    ) -> tuple[dict[TrialId, Sequence[Score]], dict[TrialId, Fault]]:
        scores: dict[TrialId, Sequence[Score]] = dict.fromkeys(trials, ())
        faults: dict[TrialId, Fault] = {}
        replied = [(t, r) for t in trials if (r := evaluation.outcomes[t].reply) is not None]
        found = self.evals.scores_of((evaluation.cases[t.case_id], r) for t, r in replied)
        for (trial, _), one in zip(replied, found, strict=True):
            scores[trial] = one.scores
            if one.fault is not None:
                faults[trial] = one.fault
        return scores, faults


def _all_answered(evaluation: Evaluation, trials: Sequence[TrialId]) -> None:
    lost = [f for t in trials if (f := evaluation.outcomes[t].fault) and f.is_missing]
    if not lost:
        return
    where = f"{len(lost)} of {len(trials)} replies are missing: {lost[0].message}"
    if was_not_asked(lost[0]):
        raise NotEnoughEvidence(f"{where}.")
    raise BackendError(f"{where}. The others are kept; the same command asks for the rest.")


def refuse_unseen(task: Task, evals: PlainEvals, *, what: str) -> list[str]:
    """Return what scores made outside pytest leave out, in words. Raises UsageError where the
    primary score is among it.
    """
    primary = task.settings.primary
    known = {*evals.names, *task.builtin_names} - set(task.settings.judges)
    if primary in evals.left_out or not known:
        every = "; ".join(f"{name}: {why}" for name, why in evals.left_out.items())
        why = evals.left_out.get(primary) or every
        raise UsageError(
            f"{what} scores replies outside pytest, and {primary!r} cannot be had there ({why}). "
            "Write an eval that asks for nothing but `case`, `reply` and `score`."
        )
    if primary != "all" or not evals.left_out:
        return []
    return [f"scored without {', '.join(evals.left_out)}, which need pytest or a judge"]
