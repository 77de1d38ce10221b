"""Runs the rules over files and tasks. Knows no verdict and prints nothing.

Rows are read once, and a second time where a rule must see some again; no set is held in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from harness.core.answers import reference_reply
from harness.core.examples import Example
from harness.core.lints import KINDS, Finding, Lint, Measure, Place, Rule, lints
from harness.core.lints.base import SEVERITIES, Hits, row_of
from harness.core.lints.chat import UNREADABLE, ChatLint
from harness.core.lints.preferences import PreferenceLint
from harness.core.spool import Marks
from harness.core.twins import FEW, NEAR
from harness.core.wording import FIRST, Wording, wording_of
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.data.checked_lints import CallLint, LanguageLint, TextLint
from harness.engine.data.containers import file_and_sheet
from harness.engine.data.label_errors import LabelErrorLint
from harness.engine.data.reading import (
    BadRow,
    Reading,
    kind_of_reason,
    open_examples,
    task_examples,
)
from harness.engine.data.spooling import FileSpool
from harness.engine.leaks import near_numbers
from harness.engine.plain_evals import PlainEvals
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import BackendError, UsageError
from harness.records import Candidate

_SPLITS = {
    "train": {"train", "training"},
    "dev": {"dev", "val", "valid", "validation"},
    "test": {"test", "testing", "eval", "heldout"},
}
EACH = 500
"""Rows between two signs of progress."""

OWN_EVALS = Rule(
    name="fails-own-evals",
    severity="error",
    about="A reference does not pass the task's own evals: the answer is wrong, or the eval is. "
    "`harness tune` leaves such rows out.",
    fix="Repair the reference, or the eval.",
)
_KINDS: tuple[type[Lint], ...] = (*KINDS, TextLint, LanguageLint, CallLint, LabelErrorLint)
_OF_PAIRS = frozenset({"user-in-rejected"})
_OF_CHAT = frozenset(rule.name for rule in ChatLint.rules) - {UNREADABLE}
_NAMED = _OF_CHAT | _OF_PAIRS
"""Rules whose fault is met while a row is read."""
ALL_RULES: tuple[Rule, ...] = (*(rule for kind in _KINDS for rule in kind.rules), OWN_EVALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that can be read again and again. `split` is that of rows which name none."""

    name: str
    open: Callable[[], Iterable[Example]]
    split: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the rules found, worst first. `notes` say how files were read where that was guessed,
    and what was not looked at, and why.

    `bad` counts rows that no rule but that of their fault could see. Among them `unreadable` are
    those whose fault is none of a chat format's by name, the first of them.
    """

    name: str
    rows: int
    bad: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    unreadable: tuple[BadRow, ...] = ()
    unreadable_count: int = 0

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return sum(f.severity == severity for f in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person may set. `only` and `skip` are names of rules."""

    near: float = NEAR
    thresholds: tuple[float, ...] = ()
    words: frozenset[str] = field(default=frozenset(), repr=False)
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def wants(self, rule: Rule) -> bool:
        """Whether a rule is asked for."""
        return (not self.only or rule.name in self.only) and rule.name not in self.skip


Progress = Callable[[Reading], None]


def file_rows(
    path: Path, *, form: str | None = None, columns: Mapping[str, str], split: str = ""
) -> Rows:
    """Return the rows of a file."""
    return Rows(
        name=path.name,
        open=lambda: open_examples(path, form=form, columns=columns),
        split=split,
    )


def split_of(path: Path) -> str:
    """Return the split that the name of a file (or of its sheet) speaks of, else that name."""
    file, sheet = file_and_sheet(path)
    stem = sheet or file.name.partition(".")[0]
    words = re.split(r"[^a-z]+", stem.lower())
    for split, names in _SPLITS.items():
        if names & set(words):
            return split
    return stem


def task_rows(task: Task) -> Rows:
    """Return the cases of a task as rows."""
    return Rows(name=task.name, open=lambda: task_examples(task))


def lint(
    sources: Sequence[Rows],
    *,
    settings: Settings | None = None,
    task: Task | None = None,
    measure: Measure | None = None,
    pieces: Callable[[str], int] | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Return what the rules find in `sources`, taken together.

    `task`, whose cases `sources` are then, adds its own evals; of a large one every pair of two
    splits is compared, as the verbs do. Raises TaskError for a file that cannot be read, UsageError
    for a rule that does not exist.
    """
    settings = settings or Settings()
    known = {rule.name for rule in ALL_RULES}
    unknown = sorted({*settings.only, *settings.skip} - known)
    if unknown:
        raise UsageError(f"no rule {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    language, labels = LanguageLint(), LabelErrorLint()
    tools = [t for p in task.prompts.values() for t in p.tools] if task else []
    also = set[tuple[int, int]]()
    if task is not None and len(task.cases) > FEW and settings.wants(_rule("near-leak")):
        also = near_numbers(task, least=settings.near)
    all_lints: list[Lint] = [
        *lints(
            near=settings.near,
            also=also,
            thresholds=settings.thresholds,
            words=settings.words,
            measure=measure,
            pieces=pieces,
            needs_answers=task is None,
            spools=FileSpool,
        ),
        TextLint(),
        language,
        CallLint(tools=tools),
        labels,
    ]
    used = [one for one in all_lints if any(settings.wants(r) for r in one.rules)]
    seen = _look(sources, used, progress=progress)
    found = [f for one in used for f in one.findings()]
    notes = seen.notes
    notes += [f"wrong-language was not looked for: {language.missing}"] if language.missing else []
    notes += labels.left_out
    if task is not None and settings.wants(OWN_EVALS):
        more, said = _own_evals(task)
        found, notes = [*found, *more], [*notes, *said]
    wanted = [f for f in found if settings.wants(_rule(f.rule))]
    return Report(
        name=", ".join(s.name for s in sources),
        rows=seen.rows,
        bad=seen.bad,
        unreadable=tuple(seen.unreadable),
        unreadable_count=seen.unreadable_count,
        findings=tuple(sorted(wanted, key=lambda f: (SEVERITIES.index(f.severity), -f.count))),
        notes=tuple(notes),
    )


def _rule(name: str) -> Rule:
    return next(r for r in ALL_RULES if r.name == name)


@dataclass(slots=True)
class _Seen:
    rows: int = 0
    bad: int = 0
    unreadable: list[BadRow] = field(default_factory=list)
    unreadable_count: int = 0
    notes: list[str] = field(default_factory=list)

    def refused(self, reading: Reading) -> None:
        """Count the rows of a file, read to its end, that could not be read."""
        self.bad += reading.bad_count
        self.unreadable += [b for b in reading.bad if kind_of_reason(b.reason) not in _NAMED]
        self.unreadable_count += reading.bad_count
        self.unreadable_count -= sum(reading.bad_kinds[name] for name in _NAMED)


def _look(sources: Sequence[Rows], used: Sequence[Lint], *, progress: Progress) -> _Seen:
    """Let every rule see every row, and again those that it asks for."""
    wording: Wording | None = None
    number, seen = 0, _Seen()
    for examples in _opened(sources, progress):
        first = list(islice(examples.rows, FIRST))
        wording = wording or wording_of(first)
        for example in chain(first, examples.rows):
            row = row_of(number, example, wording)
            for one in used:
                one.see(row)
            number += 1
        if (reading := examples.reading) is not None:
            seen.refused(reading)
            seen.notes += [f"{reading.path.name}: {note}" for note in reading.notes]
            for one in used:
                if isinstance(one, ChatLint | PreferenceLint):
                    _refuse(one, reading)
    seen.rows = number
    wanted = [(one, rows) for one in used if (rows := _marked(one.wanted(), number))]
    if not wanted or wording is None:
        return seen
    last = max(int(rows.mask.nonzero()[0][-1]) for _, rows in wanted)
    for at, example in enumerate(chain.from_iterable(e.rows for e in _opened(sources, progress))):
        asking = [one for one, rows in wanted if rows.mask[at]]
        if asking:
            row = row_of(at, example, wording)
            for one in asking:
                one.again(row)
        if at >= last:
            break
    return seen


def _marked(wanted: Iterable[int], rows: int) -> Marks:
    if isinstance(wanted, Marks):
        return wanted
    marks = Marks(rows)
    marks.mask[list(wanted)] = True
    return marks


@dataclass(frozen=True, slots=True)
class _Opened:
    rows: Iterator[Example]
    reading: Reading | None


def _opened(sources: Sequence[Rows], progress: Progress) -> Iterator[_Opened]:
    for source in sources:
        opened = source.open()
        reading = opened if isinstance(opened, Reading) else None
        yield _Opened(_told(iter(opened), reading, source.split, progress), reading)


def _told(
    examples: Iterator[Example], reading: Reading | None, split: str, progress: Progress
) -> Iterator[Example]:
    for number, example in enumerate(examples):
        if reading is not None and number % EACH == 0:
            progress(reading)
        yield replace(example, split=split) if split and not example.split else example


def _refuse(lint: ChatLint | PreferenceLint, reading: Reading) -> None:
    """Tell of the rows that could not be read: the first by place, the others by count."""
    is_of_pairs = isinstance(lint, PreferenceLint)
    left: Counter[str] = Counter()
    for kind, count in reading.bad_kinds.items():
        if (kind in _OF_PAIRS) == is_of_pairs:
            left[kind if kind in _NAMED else UNREADABLE] += count
    for row in reading.bad:
        kind = kind_of_reason(row.reason)
        if (kind in _OF_PAIRS) == is_of_pairs:
            lint.refuse(row.place, row.reason)
            left[kind if kind in _NAMED else UNREADABLE] -= 1
    for kind, count in left.items():
        if count:
            lint.refuse("", f"{kind}: ", count=count)


def _own_evals(task: Task) -> tuple[list[Finding], list[str]]:
    """Return the references that the task's evals refuse, and the evals that could not be asked."""
    cases = [c for c in task.cases if c.reference is not None]
    hits, broken = Hits(), ""
    with PlainEvals(task) as evals:
        notes = [f"eval {n!r} was not asked: {why}" for n, why in evals.left_out.items()]
        pairs = ((c, reply) for c in cases if (reply := reference_reply(c)) is not None)
        for case, scores in zip(cases, evals.scores_of(pairs), strict=True):
            if scores.fault is not None:
                broken = broken or f"{case.line or case.id}: {scores.fault.message}"
            if scores.missed:
                first = scores.missed[0]
                hits.count += 1
                detail = f"{first.name}: {' '.join(first.reason.split())}"
                hits.rows.append(Place(case.id, case.line, detail))
    if broken:
        notes.append(f"an eval broke on a reference: {broken}")
    if not hits.count:
        return [], notes
    text = f"{hits.count} of {len(cases)} references that the task's own evals refuse"
    return [
        Finding(
            rule=OWN_EVALS.name,
            severity=OWN_EVALS.severity,
            message=text,
            fix=OWN_EVALS.fix,
            count=hits.count,
            rows=tuple(hits.rows[:1000]),
        )
    ], notes


def task_measure(task: Task, candidate: Candidate, *, pool: BackendPool) -> Measure:
    """Return how a candidate's model counts the cases of a task, with the prompt's template.

    Raises UsageError where its backend shows no tokens.
    """
    if candidate.prompt is None:
        raise UsageError(f"candidate {candidate.name!r} has no prompt: nothing to count")
    live = pool.get(candidate)
    requests = Requests(task)
    cases = {c.id: c for c in task.cases}

    def tokens(example: Example) -> tuple[int, int] | None:
        case = cases.get(example.id)
        if case is None:
            return None
        with suppress(BackendError):
            prompt = counter(requests.of(candidate, case))
            return prompt, encoded(case.reference_text or "")
        return None

    counter, encoded = _counters(live)
    return Measure(
        model=live.name,
        tokens=tokens,
        context=_context_of(live),
    )


def _counters(live: LiveBackend) -> tuple[Callable[[Any], int], Callable[[str], int]]:
    backend: Any = live.backend
    if not hasattr(backend, "token_ids") or not hasattr(backend, "encode"):
        raise UsageError("the backend shows no tokens: lengths can be told in characters alone")
    return (
        lambda request: len(backend.token_ids(request)),
        lambda text: len(backend.encode(text)) if text else 0,
    )


def _context_of(live: LiveBackend) -> int | None:
    tell = getattr(live.backend, "context_tokens", None)
    found = tell() if callable(tell) else None
    return found if isinstance(found, int) else None


def pieces_of(live: LiveBackend) -> Callable[[str], int]:
    """Return what tells into how many tokens a model cuts a word within a text."""
    _, encoded = _counters(live)
    return lambda word: encoded(f" {word}")
