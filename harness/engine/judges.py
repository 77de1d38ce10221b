"""A task's judges at work: what each is asked about which trial, and what it said.

Knows nothing of pytest. Judges are asked once the candidates' replies are there, all requests at
once, each from the store when known.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.judge_verdicts import JudgeVerdict, read_verdict
from harness.core.judging import Judge, judge_requests, said
from harness.core.preferences import Preferences, count_preferences
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import internal_ids
from harness.engine.candidates import REFERENCE, ArtifactFinder, backend_options, resolve_candidate
from harness.engine.evaluate import Evaluation, TrialId
from harness.engine.fetch import Ask, Outcome, Progress, fetch, no_verdict, was_not_asked
from harness.engine.spending import Later, Spending
from harness.engine.tables import as_dict
from harness.engine.tasks import Task, rubric_text
from harness.errors import UsageError
from harness.records import Candidate, Decoding, Fault, Reply, Request
from harness.store.store import Store

MAX_TOKENS = 512
_LATE = re.compile(r"\bno (reply|answer)\b.* within \S+ s")
"""What is said of a backend that let its time pass: another time it may answer."""


def judge_named(task: Task, name: str) -> Judge:
    """Return a judge of `task`. Raises UsageError naming the known ones."""
    table = task.settings.judges.get(name)
    if table is None:
        known = ", ".join(sorted(task.settings.judges)) or "none"
        raise UsageError(
            f"no judge {name!r} in {task.folder / 'task.toml'}. Known: {known}. "
            f"A judge is a table [judges.{name}] with `backend` and `rubric`."
        )
    drawn = {"max_tokens": MAX_TOKENS} | as_dict(table.decoding, without="none")
    return Judge(
        name=name,
        backend=table.backend,
        rubric=rubric_text(task, name),
        kind=table.kind,
        against=table.against,
        steps=table.steps,
        scale=table.scale,
        pass_at=table.pass_at,
        shows=table.shows,
        shows_reference=table.shows_reference,
        longest_reason=table.longest_reason,
        base_url=table.base_url,
        decoding=Decoding(**drawn),
        options=backend_options(task, table.backend),
        epoch=task.settings.epoch or None,
    )


def judge_identity(task: Task, name: str, *, pool: BackendPool) -> str:
    """Return the identity of a judge, as scores and certificates carry it. Asks no model.

    Raises UsageError for an unknown judge, and what its backend raises where it cannot be made.
    """
    judge = judge_named(task, name)
    return _identity(judge, _live(task, judge, pool=pool))


def _identity(judge: Judge, live: LiveBackend) -> str:
    return judge.digest(identity=live.identity, is_constrained="schema" in live.honours)


def _live(task: Task, judge: Judge, *, pool: BackendPool) -> LiveBackend:
    asked = Candidate(
        name=f"judge {judge.name}",
        backend=judge.backend,
        base_url=judge.base_url,
        options=judge.options,
    )
    return pool.get(asked, folder=task.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What came of judging one trial: a verdict, or a fault of the harness (no answer came).

    `replies` are what came for each of the `keys`: None where nothing did.
    """

    verdict: JudgeVerdict | None = None
    fault: Fault | None = None
    keys: tuple[str, ...] = ()
    replies: tuple[Reply | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeUse:
    """What a judge did in one session, and took: apart from what the candidates took.

    `requests` are those that its verdicts need, asked now or found in the store, and `unanswered`
    those of them that have no answer. Tokens and dollars are those of the answers, and None where
    none tells them (dollars: where any does not).
    `preferences` are those of a pairwise judge, by candidate: a flip counts as a tie.
    """

    name: str
    backend: str
    verdicts: int
    unreadable: int
    pairs: int
    flipped: int
    requests: int
    unanswered: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    against: str | None = None
    preferences: Mapping[str, Preferences] = field(default_factory=dict)


Wanted = tuple[str, TrialId]
"""A judge's name, and the trial whose reply it judges."""


class Judging:
    """The judges of one evaluation. `judged` holds what is known so far."""

    def __init__(
        self,
        evaluation: Evaluation,
        *,
        pool: BackendPool,
        artifact_digest: ArtifactFinder,
        base_url: str | None = None,
    ) -> None:
        """`base_url` is what a person gave for the candidates: other sides are asked there too."""
        self.evaluation = evaluation
        self._base_url = base_url
        self.judged: dict[Wanted, Judged] = {}
        self._pool = pool
        self._artifact_digest = artifact_digest
        self._judges: dict[str, Judge] = {}
        self._others: dict[str, Evaluation] = {}

    def judge(self, name: str) -> Judge:
        """Return a judge of the task. Raises UsageError naming the known ones."""
        if name not in self._judges:
            self._judges[name] = judge_named(self.evaluation.task, name)
        return self._judges[name]

    def digest(self, name: str) -> str:
        """Return the identity of a judge, as scores and certificates carry it."""
        return _identity(self.judge(name), self._live(name))

    def others(self, wanted: Iterable[Wanted]) -> list[tuple[Evaluation, list[TrialId]]]:
        """Return what must be fetched beside the candidates' replies: the other sides of pairs."""
        trials: dict[str, list[TrialId]] = {}
        for name, trial in wanted:
            against = self.judge(name).against
            if against is not None and (name, trial) not in self.judged:
                trials.setdefault(against, []).append(self._other_trial(against, trial))
        return [(self._other(a), list(dict.fromkeys(some))) for a, some in trials.items()]

    def asks(self, wanted: Iterable[Wanted]) -> dict[Wanted, list[Ask]]:
        """Return what the judges must be asked. Raises UsageError where one cannot be."""
        asks: dict[Wanted, list[Ask]] = {}
        for name, trial in dict.fromkeys(wanted):
            outcome = self.evaluation.outcomes.get(trial)
            if (name, trial) in self.judged or outcome is None or outcome.reply is None:
                continue
            judge, live = self.judge(name), self._live(name)
            other = None
            if judge.against is not None:
                beside = self._other(judge.against).outcomes[
                    self._other_trial(judge.against, trial)
                ]
                if beside.reply is None:
                    self.judged[name, trial] = _without_other(judge, beside)
                    continue
                other = beside.reply
                if said(other) == said(outcome.reply):
                    self.judged[name, trial] = _the_same(judge)
                    continue
            asks[name, trial] = self._asks_of(judge, live, trial, outcome.reply, other)
        return asks

    def later(self, wanted: Iterable[Wanted]) -> list[Later]:
        """Return what each judge can be asked already, and how often it will be in all."""
        by_judge: dict[str, list[Wanted]] = {}
        for one in dict.fromkeys(wanted):
            if one not in self.judged:
                by_judge.setdefault(one[0], []).append(one)
        return [self._later(name, some) for name, some in sorted(by_judge.items())]

    def _later(self, name: str, wanted: Sequence[Wanted]) -> Later:
        against = self.judge(name).against
        there = [one for one in wanted if self._has_replies(one[1], against)]
        asks = {ask.key: ask for some in self.asks(there).values() for ask in some}
        each = len(asks) / len(there) if there else 1.0  # fewer than one where replies are alike
        total = max(len(asks), round(each * len(wanted)))
        is_free = self._live(name).costs_nothing
        who = f"judge {name}"
        return Later(who=who, asks=list(asks.values()), total=total, costs_nothing=is_free)

    def _has_replies(self, trial: TrialId, against: str | None) -> bool:
        mine = self.evaluation.outcomes.get(trial)
        if mine is None or mine.reply is None:
            return False
        if against is None:
            return True
        return self._other_trial(against, trial) in self._other(against).outcomes

    def take(self, asks: Mapping[Wanted, Sequence[Ask]], outcomes: Mapping[str, Outcome]) -> None:
        """Read the verdicts in the outcomes of `asks`."""
        for (name, trial), some in asks.items():
            keys = tuple(ask.key for ask in some)
            came = [outcomes[key] for key in keys]
            replies = tuple(o.reply for o in came)
            read = [reply for reply in replies if reply is not None]
            verdict = fault = None
            if len(read) == len(came):
                requests = [ask.request for ask in some]
                verdict = read_verdict(self.judge(name), read, requests=requests)
            else:
                lost = next(o.fault for o in came if o.fault is not None)
                if _is_refused(lost):
                    verdict = JudgeVerdict(value=None, reason=f"no verdict: {lost.message}")
                else:  # by a cap: its words tell the run to be partial
                    fault = lost if was_not_asked(lost) else no_verdict(name, lost.message)
            self.judged[name, trial] = Judged(
                verdict=verdict, fault=fault, keys=keys, replies=replies
            )

    def uses(self) -> list[JudgeUse]:
        """Return what each judge did so far, by name."""
        return [self._use(name) for name in sorted({name for name, _ in self.judged})]

    def _use(self, name: str) -> JudgeUse:
        mine = [one for (judge, _), one in self.judged.items() if judge == name]
        verdicts = [one.verdict for one in mine if one.verdict is not None]
        asked: dict[str, Reply | None] = {}  # equal requests were asked once
        for one in mine:
            asked |= zip(one.keys, one.replies, strict=True)
        replies = [reply for reply in asked.values() if reply is not None]
        costs = [r.cost_usd for r in replies]
        return JudgeUse(
            name=name,
            backend=self.judge(name).backend,
            verdicts=len(verdicts),
            unreadable=sum(v.value is None and bool(v.replies) for v in verdicts),
            pairs=sum(bool(v.better) and bool(v.replies) for v in verdicts),
            flipped=sum(v.is_flipped for v in verdicts),
            requests=len(asked),
            unanswered=len(asked) - len(replies),
            input_tokens=_sum(r.input_tokens for r in replies),
            output_tokens=_sum(r.output_tokens for r in replies),
            cost_usd=None if None in costs or not costs else sum(c for c in costs if c),
            against=self.judge(name).against,
            preferences=self._preferences(name),
        )

    def _preferences(self, name: str) -> dict[str, Preferences]:
        outcomes: dict[str, list[float | None]] = {}
        if self.judge(name).kind == "pairwise":
            for (judge, trial), one in self.judged.items():
                if judge == name and one.verdict is not None:
                    outcomes.setdefault(trial.candidate, []).append(one.verdict.value)
        return {who: count_preferences(values) for who, values in outcomes.items()}

    # ------------------------------------------------------------ one judge, one trial

    def _asks_of(
        self, judge: Judge, live: LiveBackend, trial: TrialId, reply: Reply, other: Reply | None
    ) -> list[Ask]:
        case = self.evaluation.cases[trial.case_id]
        requests = judge_requests(judge, case, reply, other=other, honours=live.honours)
        return [
            Ask(
                key=self._key(live, judge, request),
                request=request,
                live=live,
                internal=internal_ids([case]),
                who=f"judge {judge.name}",
                case=trial.case_id,
                task=self.evaluation.task.name,
            )
            for request in requests
        ]

    def _key(self, live: LiveBackend, judge: Judge, request: Request) -> str:
        refusal = live.refuse(request)
        if refusal:
            raise UsageError(f"judge {judge.name!r}: {refusal}. Choose another backend for it.")
        return live.key(request, base_url=judge.base_url, repeat=0, epoch=judge.epoch)

    def _live(self, name: str) -> LiveBackend:
        return _live(self.evaluation.task, self.judge(name), pool=self._pool)

    def _other(self, name: str) -> Evaluation:
        if name not in self._others:
            mine = self.evaluation
            candidate = mine.candidates.get(name) or resolve_candidate(
                mine.task, name, base_url=self._base_url, artifact_digest=self._artifact_digest
            )
            self._others[name] = Evaluation(
                mine.task, [candidate], split=mine.split, pool=self._pool, case_ids=mine.cases
            )
        return self._others[name]

    def _other_trial(self, against: str, trial: TrialId) -> TrialId:
        times = self._other(against).repeats(against)
        return dataclasses.replace(trial, candidate=against, repeat=trial.repeat % times)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [n for n in counts if n is not None]
    return sum(known) if known else None


def _is_refused(fault: Fault) -> bool:
    """Tell a judge that will not read what it is shown, because of a content filter or its length,
    from one that did not answer: the same request would be refused again and again.
    """
    return fault.origin == "backend" and not fault.is_missing and not _LATE.search(fault.message)


def _without_other(judge: Judge, beside: Outcome) -> Judged:
    """There is nothing to compare with: unscored without a reference, else a lost reply."""
    if beside.fault is None:
        reason = "no reference" if judge.against == REFERENCE else f"no reply of {judge.against}"
        return Judged(verdict=JudgeVerdict(value=None, reason=reason))
    if beside.fault.origin == "backend":
        message = f"no reply of {judge.against}: {beside.fault.message}"
        return Judged(fault=no_verdict(judge.name, message))
    # not asked, or a file of replies that has none for it: no backend's doing
    message = f"no reply of {judge.against} for judge {judge.name}: {beside.fault.message}"
    return Judged(fault=Fault(origin="harness", message=message, is_missing=True))


def _the_same(judge: Judge) -> Judged:
    passed = None if judge.pass_at is None else judge.pass_at <= 0.5
    reason = f"tie: the reply is that of {judge.against}, word for word; nobody was asked"
    return Judged(
        verdict=JudgeVerdict(value=0.5, reason=reason, better=("tie", "tie"), is_passed=passed)
    )


def judge_all(
    wanted: Sequence[tuple[Judging, Sequence[Wanted]]],
    *,
    store: Store,
    progress: Progress,
    is_offline: bool = False,
    spending: Spending | None = None,
    override_boundary: str | None = None,
) -> None:
    """Ask several evaluations' judges, all at once; the replies to judge are there already."""
    some = [(judging, judging.asks(trials)) for judging, trials in wanted]
    asks = [ask for _, one in some for many in one.values() for ask in many]
    outcomes = fetch(
        asks,
        store=store,
        progress=progress,
        is_offline=is_offline,
        spending=spending,
        override_boundary=override_boundary,
    )
    for judging, one in some:
        judging.take(one, outcomes)
