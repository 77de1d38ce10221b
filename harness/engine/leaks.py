"""Cases that stand in two splits: in the same words, nearly, or by their source. Knows no tuner.

One meaning for every verb: what `harness data lint` names as leak, near-leak and source-leak, and
what `harness data split` keeps together.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.core.words import count, percent
from harness.engine.project import find_project, find_task_folder
from harness.engine.tasks import Task
from harness.errors import HarnessError, TaskError
from harness.records import SPLITS, Case, Split
from harness.store.home import make_home

if TYPE_CHECKING:
    from harness.core.examples import Example
    from harness.core.wording import Wording

NEAR = 0.8
RULE = "1"
"""Raised with every change of what is a leak, so that no earlier verdict is remembered."""
MEMORY = "no-leaks"
"""The file beside the store that remembers which cases have none."""
HELD_OUT: tuple[Split, ...] = ("dev", "test")
LONG = 20_000
"""Cases from which on the search takes long enough to be told."""
MOST_REMEMBERED = 65_536
"""Bytes of remembered verdicts from which on the file is begun anew."""
Kind = Literal["the same input", "the same input in other letters", "the same source", "near"]
_SAID: dict[Kind, str] = {
    "the same input": "the inputs of {id!r} ({split}) stand in {other} too, at {place}",
    "the same input in other letters": "the inputs of {id!r} ({split}), but for case, spacing, "
    "punctuation or the names of pictures, stand in {other} too, at {place}",
    "the same source": "the source {cluster!r} of {id!r} ({split}) is in {other} too, at {place}",
    "near": "the inputs of {id!r} ({split}) are nearly those in {other}, at {place}: {same} of "
    "their word sequences are the same",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A case and one of another split that tell of each other. `similarity` is 1 for equals."""

    case: Case
    other: Case
    kind: Kind
    similarity: float = 1.0

    @property
    def text(self) -> str:
        """Both, by name and place."""
        case, other = self.case, self.other
        told = _SAID[self.kind].format(
            id=case.id,
            split=case.split,
            other=other.split,
            place=other.line or other.id,
            cluster=case.cluster,
            same=percent(self.similarity, digits=0),
        )
        return f"{case.line or case.id}: {told}"


def find_leaks(task: Task, split: Split = "train", *, near: float | None = NEAR) -> list[Leak]:
    """Return one leak at most for each case of `split`, the plainest kind of it first.

    `near` is the Jaccard similarity of word shingles from which two inputs are nearly the same;
    None looks for no such pairs. As in `harness data lint`, inputs that recur from case to case
    (a table's columns, a passage) must be equal and do not count. Images are told apart by their
    bytes alone. Every pair is compared.
    """
    from harness.core.twins import asked_code  # numpy, which a remembered verdict need not import

    cases = task.cases
    held = [n for n, case in enumerate(cases) if case.split == split]
    others = [n for n, case in enumerate(cases) if case.split != split]
    if not held or not others:
        return []
    found: dict[int, Leak] = {}

    def same(kind: Kind, keys: Sequence[object]) -> None:
        seen = {keys[n]: n for n in reversed(others) if keys[n]}
        for n in held:
            if (other := seen.get(keys[n])) is not None:
                found.setdefault(n, Leak(case=cases[n], other=cases[other], kind=kind))

    same("the same input", [case.inputs_digest for case in cases])
    same("the same input in other letters", [asked_code(e) for e in _examples(task)])
    same("the same source", [case.cluster for case in cases])
    if near is not None:
        for n, leak in _near(task, held, others, least=near):
            found.setdefault(n, leak)
    return [found[n] for n in held if n in found]


def every_leak(
    task: Task, *, memory: Path | None = None, told: Callable[[str], None] = lambda _: None
) -> list[Leak]:
    """Return the leaks of dev and test, as the verbs find them; a pair of the two is told once.

    `memory` and `told` are as in `refuse_leaks`; nothing is written.
    """
    searched = _searched(task, HELD_OUT, memory=memory, told=told, is_looking=True)
    found = [leak for leaks in searched for leak in leaks]
    return [leak for leak in found if (leak.case.split, leak.other.split) != ("test", "dev")]


def near_numbers(task: Task, *, least: float) -> set[tuple[int, int]]:
    """Return the near cases of two splits by their numbers, the earlier first: for a search by
    sketches, which misses some of a large task's. One pair at least for each case that has one.
    """
    at = {case.id: n for n, case in enumerate(task.cases)}
    found = [leak for split in HELD_OUT for leak in find_leaks(task, split, near=least)]
    pairs = [sorted((at[x.case.id], at[x.other.id])) for x in found if x.kind == "near"]
    return {(one, other) for one, other in pairs}


def _near(
    task: Task, held: Sequence[int], others: Sequence[int], *, least: float
) -> list[tuple[int, Leak]]:
    """Return the near pairs by the number of the held case, the most similar first."""
    from harness.core.near import near_sets, shingles
    from harness.core.wording import FIRST, wording_of

    cases = task.cases
    few, many = sorted((held, others), key=len)
    wording = wording_of(islice(_examples(task), FIRST))
    known = [(shingles(own), context) for own, context in _parts(task, wording, few)]
    contexts: list[int] = []

    def words() -> Iterator[frozenset[str]]:  # of the many, never all at once
        for own, context in _parts(task, wording, many):
            contexts.append(hash(context))
            yield shingles(own)

    found = []
    for pair in near_sets(words(), [some for some, _ in known], least=least):
        one, other = many[pair.index], few[pair.other]
        is_beside_the_same = contexts[pair.index] == hash(known[pair.other][1])
        if is_beside_the_same and cases[one].images == cases[other].images:
            n, m = (other, one) if few is held else (one, other)
            leak = Leak(case=cases[n], other=cases[m], kind="near", similarity=pair.similarity)
            found.append((n, leak))
    return sorted(found, key=lambda pair: -pair[1].similarity)


def _parts(task: Task, wording: Wording, wanted: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the own words and the context of cases, by their numbers in order."""
    numbers = iter(wanted)
    next_one = next(numbers, -1)
    for n, example in enumerate(_examples(task)):
        if n == next_one:
            yield wording.parts(example)
            next_one = next(numbers, -1)


def _examples(task: Task) -> Iterator[Example]:
    from harness.engine.data.forms.cases import of_case

    return (of_case(case, pictured=task.settings.images) for case in task.cases)


# ---------------------------------------------------------------- what a leak stops


def refuse_leaks(
    task: Task,
    *splits: Split,
    memory: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
    is_looking: bool = False,
) -> None:
    """Raise TaskError where a case leaks into another split: no number of the task may rest on it,
    for examples, prompts or a training have seen it. Leaks of `splits` are told first.

    `memory` is a file that remembers which cases had no leak, by their content, so that the search
    is made once; one that `is_looking` writes nothing there. `told` hears of a search that takes
    long.
    """
    every = dict.fromkeys((*splits, *HELD_OUT))
    for leaks in _searched(task, every, memory=memory, told=told, is_looking=is_looking):
        raise TaskError(_refused(task, leaks))


def _searched(
    task: Task,
    splits: Iterable[Split],
    *,
    memory: Path | None,
    told: Callable[[str], None],
    is_looking: bool,
) -> Iterator[list[Leak]]:
    """Yield the leaks of each of `splits` that has any, and remember each that has none."""
    some = [split for split in splits if task.split(split)]
    others = sum(bool(task.split(split)) for split in SPLITS) - 1
    content = _content(task) if others > 0 else ""
    clean = 0
    for split in some:
        if clean == others:  # each pair of splits was searched by now
            return
        known = f"{split}-{content}"
        if known in _CLEAN or _is_remembered(memory, known):
            clean += 1
            continue
        if len(task.cases) > LONG:
            told(f"looking for leaks between the splits of {len(task.cases):,} cases, once")
        if leaks := find_leaks(task, split, near=task.settings.near):
            yield leaks
        else:
            _remember(None if is_looking else memory, known)
            clean += 1


def _refused(task: Task, leaks: Sequence[Leak]) -> str:
    """Return why these leaks stop whatever rests on the cases, and the ways out."""
    place, name = _place(task), _name(task)
    out = (
        f"{leaks[0].text}; {count(len(leaks), 'such case')}, and no number can rest on them. "
        f"Deal the splits anew: harness data split {name} --all --out {shlex.quote(str(place))}"
    )
    if place.exists():
        out += " --force"
    else:
        out += f' (and `cases = "{place.name}"` in task.toml)'
    out += f". Or remove one of each: harness data lint {name} lists them."
    if all(leak.kind == "near" for leak in leaks):
        out += (
            " If they are different questions in like words, say so: `near` in task.toml is the "
            f"share from which they are copies (now {task.settings.near:g})."
        )
    return out


def _name(task: Task) -> str:
    """Return what names the task in a command from here: its folder, where it is of another
    project.
    """
    here = Path.cwd()
    with suppress(HarnessError):
        if find_task_folder(find_project(here), task.name, cwd=here) == task.folder.resolve():
            return shlex.quote(task.name)
    return shlex.quote(str(task.folder))


def _place(task: Task) -> Path:
    """Return where the cases may be written: the case file, or a new one where they are several."""
    named = task.settings.cases
    files = [named] if isinstance(named, str) else list(named)
    if len(files) == 1:
        return task.folder / files[0]
    free = (name for n in range(1, 100) if (name := f"cases{n if n > 1 else ''}.jsonl"))
    return task.folder / next(n for n in free if not (task.folder / n).exists())


# ---------------------------------------------------------------- what is remembered

_CLEAN: set[str] = set()
"""Splits without a leak, by content: one command asks several times."""


def _content(task: Task) -> str:
    """Identify all that the verdict on its splits depends on."""
    known = hashlib.sha256(repr((RULE, task.settings.near, task.settings.images)).encode())
    named = {case.cluster for case in task.cases if case.cluster != case.id}
    for case in task.cases:
        # a case is its own source, and its id is nothing else, unless others name it as theirs
        is_own = case.cluster == case.id and case.id not in named
        cluster = "" if is_own else case.cluster
        text = f"{case.split}\x1f{cluster}\x1f{case.inputs_digest}\n"
        known.update(text.encode("utf-8", "surrogatepass"))
    return known.hexdigest()


def _is_remembered(memory: Path | None, known: str) -> bool:
    if memory is None:
        return False
    with suppress(OSError):
        if known in memory.read_text(encoding="ascii", errors="replace"):
            _CLEAN.add(known)
            return True
    return False


def _remember(memory: Path | None, known: str) -> None:
    """Add a line; a file that cannot be written costs the next run its time, and nothing else."""
    _CLEAN.add(known)
    if memory is None:
        return
    with suppress(OSError):
        make_home(memory.parent)
        if memory.is_file() and memory.stat().st_size > MOST_REMEMBERED:
            memory.unlink(missing_ok=True)
        line = f"{known}\n".encode("ascii")
        handle = os.open(memory, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line)  # one write: workers that come at once lose no line
        finally:
            os.close(handle)
