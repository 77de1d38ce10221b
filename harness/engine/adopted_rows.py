"""Rows that another program trained on, against dev and test: what was seen is no test.

Knows no template of others: a held-out case is in a row where its inputs stand there word for word,
where its prompt is the row's, or where a part of the row is nearly its words. Instructions that
every row holds are no likeness, for nothing but the case's own words is looked for.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from harness.core.near import near_sets, normalised, plain_text, shingles
from harness.core.wording import FIRST, Wording, wording_of
from harness.core.words import count
from harness.engine.backends import LiveBackend
from harness.engine.data.forms.cases import of_case
from harness.engine.data.reading import open_examples
from harness.engine.leaks import Kind, Leak
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import HarnessError, TaskError
from harness.ports.backends import ShowsTokens
from harness.records import Candidate, Case, Request

ALONE = 3
"""So many words of an input that stand alone in a row are the input; fewer recur by chance."""
RECURS = 0.5
_TEXTS = {"messages", "conversations", "prompt", "text", "instruction", "question", "inputs"}
_WORD = re.compile(r"\w+")
_BEFORE, _AFTER = r"(?:^|[\n:\"'`>(\[{|])\s*", r"[\s.?!;:]*(?:$|[\n\"'`<)\]}|])"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many rows were compared, the leaks, and what could not be compared, in words."""

    rows: int
    leaks: tuple[Leak, ...] = ()
    unknown: str = ""


@dataclass(slots=True, kw_only=True)
class _Row:
    """What a row was asked with; `bare` leaves system turns out."""

    place: str
    text: str
    bare: str = ""
    inputs_digest: str = ""
    cluster: str = ""
    ids: tuple[int, ...] = ()
    shingles: frozenset[str] = field(default_factory=frozenset)

    @property
    def case(self) -> Case:
        """The row as a case of train, for the words of a leak."""
        made = Case(id=self.place, split="train", inputs={"row": self.text}, line=self.place)
        return replace(made, cluster=self.cluster or made.cluster)


def compare_rows(
    task: Task, path: Path, *, candidate: Candidate | None, live: LiveBackend | None
) -> Compared:
    """Compare the rows at `path` with the cases of dev and test.

    `candidate` has the prompt that was trained with, where it is known; `live` decodes token ids.
    Raises TaskError where the rows cannot be read.
    """
    held = [c for c in task.cases if c.split != "train" and not c.images]
    rows, unknown = _read(path, live)
    if not rows:
        return Compared(rows=0, unknown=unknown)
    if any(c.images for c in task.cases if c.split != "train"):
        unseen = "held-out cases with images were not compared"
        unknown = f"{unknown}; {unseen}" if unknown else unseen
    near = task.settings.near
    found: dict[str, Leak] = {}
    for leak in _leaks(task, held, rows, candidate=candidate, live=live, near=near):
        known = found.setdefault(leak.case.id, leak)
        if leak.kind != "near" and known.kind == "near":
            found[leak.case.id] = leak
    return Compared(rows=len(rows), leaks=tuple(found.values()), unknown=unknown)


def refuse_leaked(compared: Compared, task: Task) -> None:
    """Raise TaskError where a row tells of a held-out case: no verdict on it means anything."""
    if not compared.leaks:
        return
    first, many = compared.leaks[0], len(compared.leaks)
    text = (
        f"{first.text}; {count(many, 'such case')}. It was trained on them, so that their scores "
        f"mean nothing: remove them from {task.name!r}, or train again without those rows"
    )
    if all(leak.kind == "near" for leak in compared.leaks):
        text += (
            ". If they are different questions in like words, say so: `near` in "
            "task.toml is the share from which they are copies"
        )
    raise TaskError(text)


# ---------------------------------------------------------------- reading


def _read(path: Path, live: LiveBackend | None) -> tuple[list[_Row], str]:
    try:
        reading = open_examples(path)
    except TaskError as exc:
        return [], f"its rows could not be read, and not be compared: {exc}"
    if "input_ids" in reading.names and not _TEXTS & set(reading.names):
        if live is None or not isinstance(live.backend, ShowsTokens):
            return [], "its rows are token ids, which only the base on this machine can read"
        return list(_decoded(path, live)), ""
    rows = []
    for example in reading:
        asked = [plain_text(value) for value in example.inputs.values()]
        turns = [(m.role, m.content) for m in example.messages]
        digest = Case(id="", split="train", inputs=example.inputs).inputs_digest
        rows.append(
            _Row(
                place=example.place,
                text="\n".join([*asked, *(text for _, text in turns)]),
                bare="\n".join([*asked, *(text for role, text in turns if role != "system")]),
                inputs_digest=digest if example.inputs else "",
                cluster=example.cluster,
            )
        )
    left = reading.bad_count
    return rows, f"{left} of its rows could not be read, and were not compared" if left else ""


def _decoded(path: Path, live: LiveBackend) -> Iterator[_Row]:
    from harness.engine.prepared import read_rows

    backend: Any = live.backend
    for place, row in read_rows(path, live):
        ids, labels = list(row.get("input_ids") or ()), list(row.get("labels") or ())
        # what is learnt comes last: of a row without labels the reply is looked at too
        start = next((i for i, label in enumerate(labels) if label >= 0), len(ids))
        yield _Row(place=place, text=backend.decode(ids[:start]), ids=tuple(ids))


# ---------------------------------------------------------------- comparing


def _leaks(
    task: Task,
    held: Sequence[Case],
    rows: Sequence[_Row],
    *,
    candidate: Candidate | None,
    live: LiveBackend | None,
    near: float,
) -> Iterator[Leak]:
    digests = {c.inputs_digest: c for c in held}
    clusters = {c.cluster: c for c in held if c.cluster}
    asked, by_ids = _asked(task, held, candidate, live=live)
    lengths = sorted({len(ids) for ids in by_ids})
    for row in rows:
        row.shingles = _shingles(row.text)
        told = [digests.get(row.inputs_digest)]
        told += [asked.get(normalised(text)) for text in (row.text, row.bare)]
        told += [by_ids.get(row.ids[:n]) for n in lengths if row.ids]
        other = next(filter(None, told), None)
        if other is not None:
            yield Leak(case=row.case, other=other, kind="the same input")
        elif row.cluster and row.cluster in clusters:
            yield Leak(case=row.case, other=clusters[row.cluster], kind="the same source")
    wording = wording_of(map(of_case, islice(task.cases, FIRST)))
    yield from _standing(held, rows, wording)
    yield from _near(held, rows, wording, least=near)


def _asked(
    task: Task, held: Sequence[Case], candidate: Candidate | None, *, live: LiveBackend | None
) -> tuple[Mapping[str, Case], Mapping[tuple[int, ...], Case]]:
    """The held-out cases by what they would be asked with: as text, and as ids where they show."""
    by_text: dict[str, Case] = {}
    by_ids: dict[tuple[int, ...], Case] = {}
    if candidate is None:
        return by_text, by_ids
    requests = Requests(task)
    shows = live is not None and isinstance(live.backend, ShowsTokens)
    for case in held:
        try:
            request: Request = requests.of(candidate, case)
            if shows and live is not None:
                by_ids[tuple(live.backend.token_ids(request))] = case  # type: ignore[attr-defined]
        except HarnessError:
            continue  # a prompt that needs what is not here is compared by its words alone
        whole = [m.content for m in request.messages]
        bare = [m.content for m in request.messages if m.role != "system"]
        by_text |= {normalised("\n".join(texts)): case for texts in (whole, bare)}
    return by_text, by_ids


def _standing(held: Sequence[Case], rows: Sequence[_Row], wording: Wording) -> Iterator[Leak]:
    """Held-out cases all of whose inputs stand in a row, their own words alone on a line, after a
    label or between quotes: a question that begins like another is not in it.
    """
    holds: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        for shingle in row.shingles:
            holds[shingle].append(number)
    for case in held:
        own = [plain_text(v) for k, v in case.inputs.items() if k not in wording.context]
        long = [text for text in own if len(_WORD.findall(text)) >= ALONE]
        if not long:
            continue
        rarest = min(
            (s for text in long for s in _shingles(text)), key=lambda s: len(holds.get(s, ()))
        )
        patterns = [re.compile(_BEFORE + re.escape(_lines(t)) + _AFTER, re.M) for t in long]
        for number in holds.get(rarest, ()):
            row = rows[number]
            text = _lines(row.text)
            if all(p.search(text) for p in patterns) and _has_all(case, row):
                is_exact = all(plain_text(v) in row.text for v in case.inputs.values())
                kind: Kind = "the same input" if is_exact else "the same input in other letters"
                yield Leak(case=row.case, other=case, kind=kind)


def _near(
    held: Sequence[Case], rows: Sequence[_Row], wording: Wording, *, least: float
) -> Iterator[Leak]:
    counts = Counter(s for row in rows for s in row.shingles)
    common = {s for s, n in counts.items() if len(rows) >= 20 and n > RECURS * len(rows)}
    # the case may be the whole of a row, but for instructions, or one paragraph or line of it
    parts = [
        (row, some)
        for row in rows
        for some in {
            row.shingles - common,
            *(_shingles(part) - common for end in ("\n\n", "\n") for part in row.text.split(end)),
        }
        if some
    ]
    theirs = [_shingles(wording.parts(of_case(c))[0]) - common for c in held]
    # a few numbers in another order are the same parts, and another question
    theirs = [some if any(" " in s for s in some) else frozenset() for some in theirs]
    for pair in near_sets([some for _, some in parts], theirs, least=least):
        row, case = parts[pair.index][0], held[pair.other]
        if _has_all(case, row, only=wording.context):
            yield Leak(case=row.case, other=case, kind="near", similarity=pair.similarity)


def _has_all(case: Case, row: _Row, *, only: frozenset[str] | None = None) -> bool:
    """Whether the words of the case's inputs (or of `only` some) are in the row, in order."""
    text = f" {' '.join(_WORD.findall(normalised(row.text)))} "
    values = [v for k, v in case.inputs.items() if only is None or k in only]
    return all(f" {' '.join(_WORD.findall(normalised(plain_text(v))))} " in text for v in values)


def _lines(text: str) -> str:
    """Return `text` line by line without what no reader would call a difference."""
    return "\n".join(normalised(line) for line in text.split("\n"))


def _shingles(text: str) -> frozenset[str]:
    """The shingles of each part of a text: a label and what it labels are two parts."""
    parts = (part for part in re.split(r"[\n:]", text) if part.strip())
    return frozenset().union(*(shingles(part) for part in parts))
