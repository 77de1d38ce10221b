"""A task's evals and judges as filters on answers. Knows nothing of what becomes of a row.

An answer is good where every eval and judge that could score it gives at least so much, and one
could. What an eval cannot tell is neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.engine.backends import BackendPool
from harness.engine.candidates import ArtifactFinder
from harness.engine.certificates import certified
from harness.engine.closing import Closing
from harness.engine.data.answers import TRAIN, Answer
from harness.engine.evaluate import Evaluation, TrialId
from harness.engine.fetch import Outcome, Progress
from harness.engine.judges import Judging, judge_all
from harness.engine.plain_evals import PlainEvals
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import Case
from harness.store.store import Store

Pair = tuple[Case, Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the filters say of one answer. `is_good` is None where nothing could score it.
    `against` are (score, reason) pairs that speak against it.
    """

    is_good: bool | None
    against: tuple[tuple[str, str], ...] = ()

    @property
    def reasons(self) -> list[str]:
        """Why it is not good, as a model is told."""
        return [f"{name}: {reason}" for name, reason in self.against]


class Filters(Closing):
    """The evals and judges in use. Use it in a `with`."""

    def __init__(
        self,
        task: Task,
        *,
        with_evals: bool,
        judges: Sequence[str],
        least: float,
        pool: BackendPool,
        store: Store,
        progress: Progress,
        spending: Spending | None,
        artifact_digest: ArtifactFinder,
        base_url: str | None = None,
    ) -> None:
        """`base_url` is where candidates are asked, a judge's other side too. Raises UsageError
        where there is no filter, or a judge is not the task's.
        """
        self._task, self._least = task, least
        self._evals = PlainEvals(task) if with_evals else None
        self._judges = tuple(dict.fromkeys(judges))
        self._pool, self._store = pool, store
        self._progress, self._spending = progress, spending
        self._artifact_digest, self._base_url = artifact_digest, base_url
        if not self._judges and (self._evals is None or not self._evals.scored):
            left = self._evals.left_out if self._evals else {}
            told = "".join(f"; {name}: {why}" for name, why in left.items())
            raise UsageError(
                f"task {task.name!r}: nothing could be filtered: no --judge was named, and no eval "
                f"works outside pytest{told}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The scores that filter."""
        return (*(self._evals.scored if self._evals else ()), *self._judges)

    def notes(self) -> list[str]:
        """Return what a person should know of the filters."""
        found = []
        if self._evals and self._evals.left_out:
            left = [n for n in self._evals.left_out if n not in self._judges]
            if left:
                told = ", ".join(f"{n} ({self._evals.left_out[n]})" for n in left)
                found.append(f"not used as filters: {told}")
        if self._judges:
            known = certified(self._store.ledger(task=self._task.name, kind="certificate"))
            judging = self._judging(replace(self._task), [])
            silent = [j for j in self._judges if judging.digest(j) not in known]
            if silent:
                found.append(
                    f"judge {', '.join(silent)} has no certificate that it agrees with people: it "
                    "advises. Look at what it dropped and kept before you train on it"
                )
        return found

    def verdicts(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Return what is said of each answer, in order. Judges are asked about those alone that
        the evals let through.
        """
        found = [self._by_evals([])] * len(pairs) if self._evals is None else self._evaluated(pairs)
        open_ = [n for n, v in enumerate(found) if v.is_good is not False]
        if self._judges and open_:
            said = self._judged([pairs[n] for n in open_])
            for n, verdict in zip(open_, said, strict=True):
                found[n] = _both(found[n], verdict)
        return found

    def _evaluated(self, pairs: Sequence[Pair]) -> list[Verdict]:
        assert self._evals is not None
        found = []
        for scored in self._evals.scores_of((case, answer.reply) for case, answer in pairs):
            verdict = self._by_evals([(s.name, s.value, s.reason) for s in scored.scores])
            if scored.fault is not None:
                name, _, why = scored.fault.message.partition(": ")
                against = (*verdict.against, (name, f"it broke: {why}"))
                verdict = Verdict(is_good=False, against=against)
            found.append(verdict)
        return found

    def _by_evals(self, scores: Sequence[tuple[str, float | None, str]]) -> Verdict:
        known = [(n, v, r) for n, v, r in scores if v is not None]
        low = tuple((n, r or f"scored {v:g}") for n, v, r in known if v < self._least)
        return Verdict(is_good=not low if known else None, against=low)

    def _judged(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Ask every judge about every pair; one evaluation a candidate and number of answer."""
        groups: dict[tuple[str, int], list[int]] = {}
        for n, (_, answer) in enumerate(pairs):
            groups.setdefault((answer.candidate.digest, answer.number), []).append(n)
        work: list[tuple[Judging, list[tuple[str, TrialId]], list[int]]] = []
        for places in groups.values():
            some = [pairs[n] for n in places]
            judging = self._judging(replace(self._task, cases=tuple(c for c, _ in some)), some)
            name = some[0][1].candidate.name
            trials = [TrialId(candidate=name, case_id=c.id) for c, _ in some]
            work.append((judging, [(j, t) for t in trials for j in self._judges], places))
        judge_all(
            [(judging, wanted) for judging, wanted, _ in work],
            store=self._store,
            progress=self._progress,
            spending=self._spending,
        )
        found: list[Verdict] = [Verdict(is_good=None)] * len(pairs)
        for judging, wanted, places in work:
            each = len(self._judges)
            for n, place in enumerate(places):
                said = [self._said(judging, one) for one in wanted[n * each : (n + 1) * each]]
                found[place] = _all(said)
        return found

    def _judging(self, task: Task, pairs: Sequence[Pair]) -> Judging:
        if not pairs:  # for a judge's identity alone
            evaluation = Evaluation(task, [], split=task.cases[0].split, pool=self._pool)
        else:
            candidate = pairs[0][1].candidate
            evaluation = Evaluation(task, [candidate], split=TRAIN, pool=self._pool, repeats=1)
            for case, answer in pairs:
                trial = TrialId(candidate=candidate.name, case_id=case.id)
                evaluation.outcomes[trial] = Outcome(key="", reply=answer.reply, is_cached=True)
        return Judging(
            evaluation,
            pool=self._pool,
            artifact_digest=self._artifact_digest,
            base_url=self._base_url,
        )

    def _said(self, judging: Judging, wanted: tuple[str, TrialId]) -> Verdict:
        judged = judging.judged[wanted]
        name = f"judge {wanted[0]}"
        if judged.verdict is None:
            why = judged.fault.message if judged.fault else "no answer"
            return Verdict(is_good=False, against=((name, f"no verdict: {why}"),))
        score = judged.verdict.score
        if score is None:
            return Verdict(is_good=False, against=((name, judged.verdict.reason),))
        return self._by_evals([(name, score, judged.verdict.reason)])

    def close(self) -> None:
        """Let the evals' threads end."""
        if self._evals is not None:
            self._evals.close()


def _both(first: Verdict, second: Verdict) -> Verdict:
    return _all([first, second])


def _all(said: Sequence[Verdict]) -> Verdict:
    against = tuple(pair for v in said for pair in v.against)
    known = [v.is_good for v in said if v.is_good is not None]
    return Verdict(is_good=all(known) if known else None, against=against)
