"""What every made row must pass: a reference, the task's own evals, and no copy of another row.

Knows nothing of how a row was made. Nothing is dropped in silence: each refusal is counted by its
reason, with a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from harness.core.answers import reference_reply
from harness.core.near import near_pairs, normalised
from harness.core.prompts import query_text
from harness.core.wording import FIRST, wording_of
from harness.engine.data.forms.cases import of_case
from harness.engine.data.linting import ALL_RULES, Rows, Settings, lint
from harness.engine.leaks import NEAR
from harness.engine.plain_evals import PlainEvals
from harness.engine.tasks import Task
from harness.records import Case

SAMPLES = 3
"""Refused rows that are kept to be shown, of each reason."""
OF_THE_SET = frozenset(
    {"leak", "near-leak", "source-leak", "duplicate", "near-duplicate", "duplicate-id", "no-answer"}
)
"""Rules about rows beside others, which are compared with the whole task here, and that of rows
which are without an answer on purpose.
"""
ROW_RULES = tuple(
    r.name
    for r in ALL_RULES
    if r.name not in {*OF_THE_SET, "fails-own-evals"}
    and (r.severity == "error" or r.name in {"copied-answer", "pii", "wrong-language"})
)
"""Lints that a made row may not trip, unless the collected rows do too."""
LOOKED_AT = 500


@dataclass(slots=True)
class Tally:
    """Refusals by reason: how many, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, sample: str) -> None:
        """Count one."""
        self.counts[reason] += 1
        kept = self.samples.setdefault(reason, [])
        if len(kept) < SAMPLES:
            kept.append(sample)


class Sieve:
    """Lets made rows through that are good and new.

    Rows are compared with every case of the task, in all splits, and with those let through
    before. `variants` are meant to be like the rows that they were made from: those of their own
    split and cluster are no copies of them, unless letter by letter.
    """

    def __init__(
        self,
        task: Task,
        *,
        tally: Tally,
        near: float = NEAR,
        evals: PlainEvals,
        variants: bool = False,
    ) -> None:
        self._near = near
        self._evals = evals
        self._tally = tally
        self._is_variant = variants
        self._known = list(task.cases)
        self._wording = wording_of(map(of_case, islice(self._known, FIRST)))
        self._texts = [self._text_of(c) for c in self._known]
        self._digests = {c.inputs_digest: c for c in self._known}
        self._ids = {c.id for c in self._known}
        usual = _tripped(self._known[:LOOKED_AT], ROW_RULES)
        self._rules = tuple(r for r in ROW_RULES if r not in {rule for rule, _ in usual})

    def sift(self, rows: Sequence[Case], *, most: int | None = None) -> list[Case]:
        """Return the rows that pass, `most` at most; the others are in the tally."""
        new = [c for c in self._whole(rows) if self._is_new(c)]
        good = self._passing(new)
        return self._apart(good, most=len(good) if most is None else most)

    def _whole(self, rows: Sequence[Case]) -> list[Case]:
        """Return the rows that no lint speaks against."""
        bad: dict[str, str] = {}
        for rule, row_id in _tripped(rows, self._rules):
            bad.setdefault(row_id, rule)
        for row in rows:
            if row.id in bad:
                self._tally.add(f"lint {bad[row.id]}", sample_of(row))
        return [c for c in rows if c.id not in bad]

    def _is_new(self, row: Case) -> bool:
        other = self._digests.get(row.inputs_digest)
        if other is not None:
            self._tally.add(_same(other), f"{sample_of(row)} = {other.id}")
            return False
        self._digests[row.inputs_digest] = row
        return True

    def _passing(self, rows: Sequence[Case]) -> list[Case]:
        """Return the rows whose reference passes the task's evals; one without has none to fail."""
        replies = [
            (c, replace(reply, finish_reason="stop"))
            for c in rows
            if (reply := reference_reply(c)) is not None
        ]
        bad: set[str] = set()
        for (case, _), found in zip(replies, self._evals.scores_of(replies), strict=True):
            low = next((s for s in found.scores if s.value is not None and s.value < 1), None)
            if low is not None:
                self._tally.add(
                    f"eval {low.name} missed",
                    f"{sample_of(case)}: {low.reason or 'scored below 1'}",
                )
                bad.add(case.id)
            elif found.fault is not None:
                name = found.fault.message.partition(":")[0]
                self._tally.add(f"eval {name} broke", f"{sample_of(case)}: {found.fault.message}")
                bad.add(case.id)
        return [c for c in rows if c.id not in bad]

    def _apart(self, rows: Sequence[Case], *, most: int) -> list[Case]:
        """Return the rows that are no near copy of a known one, or of one before."""
        texts = [self._text_of(c) for c in rows]
        close: dict[int, Case] = {}
        for index, other in self._pairs(texts, self._texts):
            if not self._is_own(rows[index], self._known[other]):
                close.setdefault(index, self._known[other])
        among: dict[int, list[int]] = {}
        for index, other in self._pairs(texts, texts):
            if other < index and not self._is_own(rows[index], rows[other]):
                among.setdefault(index, []).append(other)
        kept: dict[int, Case] = {}
        for index, row in enumerate(rows):
            if len(kept) >= most:
                self._tally.add("more than were asked for", sample_of(row))
                continue
            twin = close.get(index) or next(
                (rows[o] for o in among.get(index, ()) if o in kept), None
            )
            if twin is not None:
                is_known = index in close
                reason = f"nearly the same as a {twin.split} row" if is_known else TWIN
                self._tally.add(reason, f"{sample_of(row)} ~ {twin.id}")
                continue
            kept[index] = row
        self._known += kept.values()
        self._texts += [texts[index] for index in kept]
        return list(kept.values())

    def _text_of(self, case: Case) -> _Text:
        """Return what is compared of a row: its own words, and what it shares with many."""
        own, context = self._wording.parts(of_case(case))
        return normalised(own), normalised(context)

    def _pairs(self, texts: Sequence[_Text], others: Sequence[_Text]) -> Iterable[tuple[int, int]]:
        if not self._near:
            return _equal(texts, others)
        words = [[own for own, _ in one] for one in (texts, others)]
        found = near_pairs(*words, least=self._near)
        return ((p.index, p.other) for p in found if texts[p.index][1] == others[p.other][1])

    def _is_own(self, row: Case, other: Case) -> bool:
        is_kin = (row.cluster, row.split) == (other.cluster, other.split)
        return self._is_variant and is_kin and row.inputs_digest != other.inputs_digest


_Text = tuple[str, str]
TWIN = "nearly the same as another made row"


def _same(other: Case) -> str:
    made = "made_by" in other.provenance and not other.line
    return "the same as another made row" if made else f"the same input as a {other.split} row"


def _equal(texts: Sequence[_Text], others: Sequence[_Text]) -> Iterable[tuple[int, int]]:
    places: dict[_Text, list[int]] = {}
    for number, text in enumerate(others):
        places.setdefault(text, []).append(number)
    return ((n, o) for n, text in enumerate(texts) for o in places.get(text, ()))


def _tripped(cases: Sequence[Case], rules: Sequence[str]) -> list[tuple[str, str]]:
    """Return (rule, row id) for every row that a lint speaks against."""
    if not cases or not rules:
        return []
    rows = Rows(name="rows", open=lambda: map(of_case, cases))
    report = lint([rows], settings=Settings(only=tuple(rules)))
    return [
        (finding.rule, place.id)
        for finding in report.findings
        for place in (*finding.rows, *(p for group in finding.groups for p in group))
    ]


def sample_of(case: Case) -> str:
    """Return a row in a few words, for people."""
    told = " ".join(query_text(case).split())
    answer = " ".join((case.reference_text or "no reference").split())
    return f"{told[:140]} → {answer[:80]}"
