"""Keeps the rows whose answers are good, heals the others by asking again, and counts the rest.

Knows no terminal. Rows pass through in pieces: memory does not grow with a file. What is dropped
is counted by its reason, and the first of each are kept to be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from harness.core.answers import answer_of
from harness.core.near import normalised
from harness.core.synth_origin import DISTILLED, HEALED, PAIRED
from harness.core.words import count
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import internal_ids
from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY
from harness.engine.data.answers import Answer, Asked, answered, reference_of
from harness.engine.data.filters import Filters, Verdict
from harness.engine.fetch import Ask, Progress, fetch, was_not_asked
from harness.engine.healing import Healer
from harness.engine.leaks import NEAR, find_leaks
from harness.engine.requests import Requests
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import Candidate, Case, Json, Request
from harness.store.store import Store

PIECE = 2048
"""Rows that are scored, judged and healed together."""
SHOWN = 50
"""Changes that are kept to be shown."""

Decision = Literal["keep", "heal", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a row that did not stay as it was. `after` is None where it was dropped."""

    case_id: str
    place: str
    decision: Decision
    before: str
    after: str | None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Curated:
    """What became of the rows so far. `why` counts reasons; a row can have several."""

    rows: int = 0
    written: int = 0
    kept: int = 0
    healed: int = 0
    dropped: int = 0
    why: Counter[str] = field(default_factory=Counter)
    changes: list[Change] = field(default_factory=list)
    asked: int = 0
    spent_usd: float | None = 0.0
    notes: list[str] = field(default_factory=list)

    def told(self, change: Change) -> None:
        """Keep a change to be shown, of each decision as many as there is room for."""
        if sum(c.decision == change.decision for c in self.changes) < SHOWN:
            self.changes.append(change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """Who is asked again about an answer that is not good, and how often at most."""

    candidate: Candidate
    pool: BackendPool
    store: Store
    progress: Progress
    spending: Spending | None = None
    tries: int = 2
    healer: Healer = field(default_factory=Healer)

    def check(self) -> None:
        """Raise UsageError for a candidate that cannot be asked."""
        backend = self.candidate.backend
        if backend == REFERENCE or backend.startswith((REPLAY, CONSTANT)):
            raise UsageError(f"--heal {self.candidate.name}: it cannot be asked, it is recorded")

    def stay_inside(self, cases: Iterable[Case], *, live: LiveBackend) -> None:
        """Raise UsageError where one of `cases` is internal, and `live` is not on this machine."""
        internal = internal_ids(cases) if live.is_external else ()
        if internal:
            raise UsageError(
                f"--heal {self.candidate.name}: case {internal[0]!r} is tagged internal "
                f"({count(len(internal), 'such case')}), and {live.name} is an external backend: "
                "nothing was sent. Heal with a backend on this machine, curate without --heal, or "
                "remove the tag where a case may leave it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A row with what was said of each of its answers."""

    asked: Asked
    verdicts: tuple[Verdict, ...]

    @property
    def good(self) -> list[Answer]:
        pairs = zip(self.asked.answers, self.verdicts, strict=True)
        return [a for a, v in pairs if v.is_good]

    @property
    def bad(self) -> list[tuple[Answer, Verdict]]:
        pairs = zip(self.asked.answers, self.verdicts, strict=True)
        return [(a, v) for a, v in pairs if v.is_good is False]


@dataclass(slots=True, kw_only=True)
class Curator:
    """Curates the rows of one task. `state` tells what became of them while they pass."""

    task: Task
    filters: Filters
    cure: Cure | None = None
    is_pairing: bool = False
    near: float | None = NEAR
    state: Curated = field(default_factory=Curated)
    _broke: bool = False

    def rows(self, rows: Iterable[Asked]) -> Iterator[Case]:
        """Yield the rows that stay, in order.

        Raises UsageError, before anything is scored or sent, where a train case that may not
        leave this machine would be healed outside.
        """
        if self.cure is not None:
            self.cure.stay_inside(self.task.split("train"), live=self._live())
        rest = iter(rows)
        while piece := list(islice(rest, PIECE)):
            for case in self._piece(piece):
                self.state.written += 1
                yield case

    def _piece(self, piece: Sequence[Asked]) -> Iterator[Case]:
        self.state.rows += len(piece)
        leaks = self._leaks([a.case for a in piece if not a.why_not])
        whole = [replace(a, why_not=a.why_not or leaks.get(a.case.id, "")) for a in piece]
        able = [a for a in whole if not a.why_not]  # ids are their own from here on
        scored = dict(zip((a.case.id for a in able), self._scored(able), strict=True))
        cured = self._cured([s for s in scored.values() if not s.good])
        for asked in whole:
            if asked.why_not:
                self._drop(asked, [(asked.why_not, "")])
                continue
            row = self._row(scored[asked.case.id], cured.get(asked.case.id))
            if row is not None:
                yield row

    def _leaks(self, cases: Sequence[Case]) -> dict[str, str]:
        held_out = tuple(c for c in self.task.cases if c.split != "train")
        if not held_out or not cases:
            return {}
        beside = replace(self.task, cases=(*(replace(c, split="train") for c in cases), *held_out))
        return {
            leak.case.id: f"a leak: {LEAKS[leak.kind]} as a {leak.other.split} case"
            for leak in find_leaks(beside, near=self.near)
        }

    def _scored(self, rows: Sequence[Asked]) -> list[_Scored]:
        pairs = [(a.case, answer) for a in rows for answer in a.answers]
        verdicts = iter(self.filters.verdicts(pairs))
        return [_Scored(asked=a, verdicts=tuple(islice(verdicts, len(a.answers)))) for a in rows]

    # ------------------------------------------------------------ what becomes of a row

    def _row(self, scored: _Scored, cured: Answer | None) -> Case | None:
        good = scored.good
        if self.is_pairing:
            return self._pair(scored, good[0] if good else cured)
        case = scored.asked.case
        if good and good[0].is_reference:
            self.state.kept += 1
            return case
        if good:
            row = answered(case, good[0], tag=DISTILLED, made={"made_by": "curate"})
            self.state.kept += 1
            self._show(case, row, "keep", ())
            return row
        if cured is not None:
            return self._healed(scored, cured)
        self._drop(scored.asked, self._against(scored))
        return None

    def _healed(self, scored: _Scored, cured: Answer) -> Case:
        case = scored.asked.case
        row = answered(case, cured, tag=HEALED, made=self._heal_made(scored))
        self.state.healed += 1
        reasons = tuple(f"{name}: {why}" for name, why in self._against(scored))
        self._show(case, row, "heal", reasons, before=_first(scored))
        return row

    def _heal_made(self, scored: _Scored) -> dict[str, Json]:
        first = scored.bad[0][0] if scored.bad else None
        made: dict[str, Json] = {"made_by": "heal"}
        if first is not None and first.run_id:
            made["healed_run"] = first.run_id
            made["healed_reply"] = (first.reply_key or "")[:16]
        return made

    def _pair(self, scored: _Scored, best: Answer | None) -> Case | None:
        """Return a good answer with a missed one of the same case."""
        case = scored.asked.case
        if best is None:  # the row's own answer, if that is good
            own = [(case, a) for a in reference_of(case)]
            said = self.filters.verdicts(own) if own else []
            best = next((a for (_, a), v in zip(own, said, strict=True) if v.is_good), None)
        if best is None:
            self._drop(scored.asked, [("no good answer to the case", ""), *self._against(scored)])
            return None
        better = normalised(best.reply.text)
        worse = next((a for a, _ in scored.bad if _is_worse(a, better)), None)
        if worse is None:
            self._drop(scored.asked, [("no missed reply to the case", "")])
            return None
        made: dict[str, Json] = {"made_by": "pair", "rejected_candidate": worse.candidate.name}
        made |= {"rejected_run": worse.run_id, "rejected_reply": (worse.reply_key or "")[:16]}
        row = answered(case, best, tag=PAIRED, made=made)
        row = replace(row, rejected=worse.reply.text, id=f"{case.id}~pair")
        self.state.kept += 1
        self._show(case, row, "keep", (), before=worse.reply.text)
        return row

    def _against(self, scored: _Scored) -> list[tuple[str, str]]:
        if not scored.asked.answers:
            return [("no reference", "")]
        if not scored.bad:
            return [("nothing could score it", "")]
        return list(scored.bad[0][1].against)

    def _drop(self, asked: Asked, against: Sequence[tuple[str, str]]) -> None:
        self.state.dropped += 1
        self.state.why.update(dict.fromkeys((name for name, _ in against), 1))
        reasons = tuple(f"{name}: {why}" if why else name for name, why in against)
        before = asked.answers[0].reply.text if asked.answers else ""
        self.state.told(
            Change(
                case_id=asked.case.id, place=asked.case.line, decision="drop",
                before=before, after=None, reasons=reasons,
            )
        )  # fmt: skip

    def _show(
        self, case: Case, row: Case, decision: Decision, reasons: tuple[str, ...],
        *, before: str | None = None,
    ) -> None:  # fmt: skip
        was = case.reference_text or "" if before is None else before
        after = row.reference_text or ""
        if was != after:
            self.state.told(
                Change(
                    case_id=case.id, place=case.line, decision=decision, before=was, after=after,
                    reasons=reasons,
                )
            )  # fmt: skip

    # ------------------------------------------------------------ asking again

    def _cured(self, rows: Sequence[_Scored]) -> dict[str, Answer]:
        """Return a good answer for each row that one was had for."""
        if self.cure is None or self._broke:
            return {}
        open_ = {s.asked.case.id: (s, *s.bad[0]) for s in rows if s.bad}
        requests = Requests(self.task)
        said: dict[str, Request] = {}
        found: dict[str, Answer] = {}
        for left in range(self.cure.tries - 1, -1, -1):
            asks: dict[str, Ask] = {}
            for case_id, (scored, answer, verdict) in open_.items():
                case = scored.asked.case
                asked = said.get(case_id) or requests.of(self.cure.candidate, case)
                said[case_id] = self.cure.healer.request(
                    asked, answer.reply, verdict.reasons, inputs=case.inputs, tries_left=left
                )
                asks[case_id] = self._ask(case, said[case_id], requests)
            answers = self._fetched(asks, open_)
            verdicts = self.filters.verdicts(list(answers.values()))
            for (case_id, (_, answer)), verdict in zip(answers.items(), verdicts, strict=True):
                if verdict.is_good:
                    found[case_id] = answer
                open_[case_id] = (open_[case_id][0], answer, verdict)
            open_ = {i: o for i, o in open_.items() if i in answers and i not in found}
            if not open_ or self._broke:
                break
        return found

    def _live(self) -> LiveBackend:
        assert self.cure is not None
        return self.cure.pool.get(self.cure.candidate, folder=self.task.folder)

    def _ask(self, case: Case, request: Request, requests: Requests) -> Ask:
        assert self.cure is not None
        cure = self.cure
        live = self._live()
        refusal = live.refuse(request)
        if refusal:
            raise UsageError(f"--heal {cure.candidate.name}: {refusal}")
        shown = [case, *requests.examples(cure.candidate.prompt or "", case)]
        cure.stay_inside(shown, live=live)  # a file's rows are known only now
        candidate = cure.candidate
        return Ask(
            key=live.key(request, base_url=candidate.base_url, repeat=0, epoch=candidate.epoch),
            request=request,
            live=live,
            internal=internal_ids(shown),
            who=f"heal {candidate.name}",
            case=case.id,
            task=self.task.name,
        )

    def _fetched(
        self, asks: dict[str, Ask], open_: dict[str, tuple[_Scored, Answer, Verdict]]
    ) -> dict[str, tuple[Case, Answer]]:
        assert self.cure is not None
        cure = self.cure
        outcomes = fetch(
            list(asks.values()), store=cure.store, progress=cure.progress, spending=cure.spending
        )
        prompt = self.task.prompts[cure.candidate.prompt or ""]
        found: dict[str, tuple[Case, Answer]] = {}
        for case_id, ask in asks.items():
            outcome = outcomes[ask.key]
            if outcome.reply is None:
                self._broke = self._broke or was_not_asked(outcome.fault)
                why = "the budget is spent" if was_not_asked(outcome.fault) else "no answer came"
                self.state.why[f"heal: {why}"] += 1
                continue
            self.state.asked += 1
            if not outcome.is_cached and self.state.spent_usd is not None:
                cost = outcome.reply.cost_usd
                is_known = cost is not None or ask.live.costs_nothing
                self.state.spent_usd = self.state.spent_usd + (cost or 0.0) if is_known else None
            answer = Answer(
                reply=answer_of(prompt, outcome.reply), candidate=cure.candidate,
                reply_key=ask.key,
            )  # fmt: skip
            found[case_id] = (open_[case_id][0].asked.case, answer)
        return found


LEAKS = {
    "the same input": "the same input",
    "the same input in other letters": "the same input",
    "the same source": "the same source",
    "near": "nearly the same input",
}


def _first(scored: _Scored) -> str:
    return scored.asked.answers[0].reply.text if scored.asked.answers else ""


def _is_worse(answer: Answer, better: str) -> bool:
    text = normalised(answer.reply.text)
    return bool(text) and text != better
