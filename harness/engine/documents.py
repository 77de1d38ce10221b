"""A task's documents: read, cut, found for a case, and how well they are found.

Knows nothing of models: whether the right passage was found is measured without asking one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.passages import Passage, is_named, recall, split_passages
from harness.core.prompts import query_text
from harness.engine.text_files import json_lines, read_text
from harness.errors import TaskError
from harness.records import Case, Json
from harness.store.retrieval import WordIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """How much of what cases need a prompt's retrieval finds: recall by case, in [0, 1].

    `unsaid` counts the cases that do not say what they need.
    """

    prompt: str
    k: int
    recalls: tuple[float, ...]
    clusters: tuple[str, ...]
    unsaid: int = 0


class Library:
    """Passages that can be asked for by nearness, by words, to the inputs of a case."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._index = WordIndex([p.text for p in passages])

    def nearest(self, case: Case, k: int) -> list[Passage]:
        """Return up to `k` passages, the nearest first; none that shares no word with the case."""
        return [self._passages[row] for row in self._index.matches(query_text(case))[:k]]


def shown(passages: Sequence[Passage]) -> list[Json]:
    """Return passages as a template sees them."""
    return [{"id": p.id, "text": p.text} for p in passages]


def read_passages(folder: Path, patterns: Sequence[str], *, characters: int) -> tuple[Passage, ...]:
    """Return the passages of a task's documents, in the order of the patterns and of file names.

    Raises TaskError naming the file for what cannot be read, and for a pattern without a file.
    """
    found: list[Passage] = []
    names: dict[str, str] = {}
    for name, text, place in _documents(folder, patterns):
        if name in names:
            raise TaskError(f"{place}: a second document {name!r}; the first is {names[name]}")
        names[name] = place
        found += split_passages(name, text, characters=characters)
    return tuple(found)


def _documents(folder: Path, patterns: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, text and place of each document."""
    seen: set[Path] = set()
    for pattern in patterns:
        try:
            matched = sorted(p for p in folder.glob(pattern) if p.is_file())
        except (ValueError, NotImplementedError) as exc:
            raise TaskError(f"{folder / 'task.toml'}: documents: {pattern!r}: {exc}") from exc
        if not matched:
            raise TaskError(f"{folder / 'task.toml'}: documents: no file matches {pattern!r}")
        for path in matched:
            if path in seen:
                continue
            seen.add(path)
            if path.suffix == ".jsonl":
                yield from _rows(path)
            else:
                name = Path(os.path.relpath(path, folder)).as_posix()
                yield name, read_text(path), str(path)


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for place, row in json_lines(path):
        is_row = isinstance(row, dict) and isinstance(row.get("text"), str)
        if not is_row or not isinstance(row.get("id"), str):
            raise TaskError(f'{place}: a line of documents is {{"id": TEXT, "text": TEXT}}')
        yield row["id"], row["text"], place


def check_needs(cases: Sequence[Case], passages: Sequence[Passage]) -> None:
    """Raise TaskError, naming the line, where a case needs a document that there is not."""
    known = {p.id for p in passages} | {p.document for p in passages}
    for case in cases:
        for needed in case.documents:
            if needed not in known:
                near = [p.id for p in passages if is_named(p, needed.rpartition("#")[0])]
                hint = f" It has {near[0]} to {near[-1]}." if near else ""
                raise TaskError(
                    f"{case.line or case.id}: documents: no document or passage {needed!r} among "
                    f"the {len(passages)} passages of the task.{hint}"
                )


def measure_retrieval(
    library: Library, cases: Sequence[Case], *, prompt: str, k: int
) -> Retrieval | None:
    """Return how much of what `cases` need is among the `k` passages that `prompt` is filled with.

    None where no case says what it needs.
    """
    saying = [c for c in cases if c.documents]
    if not saying:
        return None
    return Retrieval(
        prompt=prompt,
        k=k,
        recalls=tuple(recall(library.nearest(c, k), c.documents) for c in saying),
        clusters=tuple(c.cluster for c in saying),
        unsaid=len(cases) - len(saying),
    )
