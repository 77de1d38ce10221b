"""From files to aligned tables, whatever tool wrote them. Knows readers; no verdict.

What stands in several files is put together: each file adds tries or candidates to its task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.engine.scores import deepeval, inspect_log, lm_eval, long, promptfoo
from harness.engine.scores.detect import Detected, Form, detect
from harness.engine.scores.source import Source, Tasked
from harness.engine.scores.table import Collector, ScoreTable

READERS: dict[Form, Callable[[Source], Iterator[Tasked]]] = {
    "csv": long.read_csv,
    "jsonl": long.read_jsonl,
    "promptfoo": promptfoo.read_json,
    "promptfoo-jsonl": promptfoo.read_jsonl,
    "inspect": inspect_log.read_zip,
    "inspect-json": inspect_log.read_json,
    "lm-eval": lm_eval.read,
    "deepeval": deepeval.read,
}
ONE_EACH: tuple[Form, ...] = ("inspect", "inspect-json", "lm-eval", "deepeval")
"""Forms with one candidate a file, which is named after what tells the files apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was read: a table a task, what each file was taken for, and what must be said."""

    tables: tuple[ScoreTable, ...]
    forms: tuple[tuple[str, Detected], ...]
    notes: tuple[str, ...]


def read_scores(files: Sequence[str], *, who: str = "candidate") -> Scores:
    """Return the scores of `files`, each a path or NAME=PATH. Raises UsageError, Refused.

    `who` is the column that names a row's owner, where a table has both `try` and `candidate`.
    """
    columns = ("try", "candidate") if who == "try" else ("candidate", "try")
    sources = [_source(text, columns) for text in files]
    found = [detect(source.path) for source in sources]
    _name(sources, found)
    collector = Collector()
    for source, one in zip(sources, found, strict=True):
        collector.begin(source.shown)
        for task, row in READERS[one.form](source):
            collector.add(row, task=task, default_metric=source.default_metric)
    left_out = {name: value for source in sources for name, value in source.left_out.items()}
    tables = collector.tables(left_out=left_out)
    return Scores(
        tables=tables,
        forms=tuple((s.shown, one) for s, one in zip(sources, found, strict=True)),
        notes=tuple(_notes(sources, left_out)),
    )


def _source(text: str, columns: tuple[str, ...]) -> Source:
    name, equals, rest = text.partition("=")
    if equals and name and rest and not Path(text).exists():
        return Source(path=Path(rest), shown=rest, name=name.strip(), who_columns=columns)
    return Source(path=Path(text), shown=text, who_columns=columns)


def _name(sources: Sequence[Source], found: Sequence[Detected]) -> None:
    """Name each file's one candidate: what it says of itself, then what tells it apart."""
    base: dict[int, tuple[str, str]] = {}
    for k, (source, one) in enumerate(zip(sources, found, strict=True)):
        if source.name or one.form not in ONE_EACH:
            continue
        task, name = "", source.path.stem
        if one.form == "lm-eval":
            task = str((lm_eval.FILE.fullmatch(source.path.name) or {"task": ""})["task"])
            name = source.path.absolute().parent.name
        elif one.form != "deepeval":
            task, name = inspect_log.name_of(inspect_log.header(source))
        base[k] = (task, name or source.path.stem)
    shared = Counter(base.values())
    seen: Counter[tuple[str, str]] = Counter()
    for k, key in base.items():
        seen[key] += 1
        name = key[1]
        if shared[key] > 1:
            rivals = [sources[j].path.absolute() for j, other in base.items() if other == key]
            folder = _apart(sources[k].path.absolute(), rivals)
            name += f" in {folder}" if folder else f" #{seen[key]}"
        sources[k].name = name


def _apart(path: Path, rivals: Sequence[Path]) -> str:
    """Return the folder that tells a file from its rivals, or nothing where none does."""
    for depth in range(1, min(len(p.parents) for p in rivals)):
        names = [p.parents[depth - 1].name for p in rivals]
        if len(set(names)) == len(names):
            return path.parents[depth - 1].name
    return ""


def _notes(sources: Sequence[Source], left_out: dict[str, str]) -> Iterator[str]:
    unknown = list(dict.fromkeys(name for source in sources for name in source.unknown))
    if unknown:
        yield f"columns that nothing here reads: {', '.join(unknown)}"
    for name, value in left_out.items():
        yield f"metric {name!r} is no score (it holds {value}, outside [0, 1]): left out"
    for source in sources:
        yield from source.notes
