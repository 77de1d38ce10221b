"""Writes `Example`s in a form. Knows no source.

Every row is read back from what was made of it before it counts as written: what differs is named
in `lost`. The file appears when it is whole, by a rename; until then nothing stands in its place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.core.words import count
from harness.engine.data import sinks
from harness.engine.data.forms import cases, columns, registry
from harness.engine.data.forms.base import Form, Parse, text_of
from harness.engine.data.forms.turns import EXTRAS, WORSE_CALLS, asked
from harness.engine.data.opening import shown
from harness.engine.data.reading import KEPT, BadRow
from harness.engine.data.waiting import ABSENT
from harness.errors import UsageError
from harness.records import SPLITS, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written. `lost` counts rows by the part that the form cannot carry, `added` those
    that were given what the form needs; `refused` are rows that it cannot hold at all.
    """

    path: Path
    form: str
    rows: int
    lost: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[BadRow, ...] = ()
    refused_count: int = 0


def write_examples(
    path: Path,
    examples: Iterable[Example],
    *,
    form: str,
    overwrite: bool = False,
    allow_refused: bool = True,
    check: Callable[[], None] = lambda: None,
    prepared: Callable[[Example], Example] = lambda example: example,
    fields: Collection[str] = (),
) -> Written:
    """Write `examples` in `form` to `path`. Its suffix says as what file: .jsonl, .json, .csv,
    .tsv, .xlsx, .parquet, .yaml or .dataset (a folder, as `datasets` saves it); .gz and .zst pack
    it.

    `check` is called when all rows were written and before the file appears: it may raise.
    `prepared` gives what is written of a row; its ValueError refuses the row. `fields` have their
    column in a table of columns though no row says anything there.
    Raises UsageError for a form that is only read, a file that stands there already, and, without
    `allow_refused`, where the form cannot hold a row.
    """
    chosen = registry.find(form)
    if chosen.write is None:
        names = ", ".join(f.name for f in registry.FORMS if f.write)
        raise UsageError(
            f"{chosen.name} is only read, not written. Name with --to what is written: {names}"
        )
    kind = sinks.kind_of(path, form=chosen.name, asked=form)
    free(path, overwrite=overwrite)
    state = _State(chosen, kind, prepared=prepared)
    with sinks.replacing(path, kind=kind, overwrite=overwrite) as part:
        sinks.write(
            part, state.rows(examples), kind=kind, final=path, lost=state.lost,
            fields=fields if chosen.name == columns.FORM.name else (),
        )  # fmt: skip
        if chosen.name not in registry.FILLED:
            state.lost.pop(ABSENT, None)
        check()
        if state.refused_count and not allow_refused:
            first = state.refused[0]
            raise UsageError(
                f"{first.place}: {chosen.name} cannot hold the row: {first.reason} "
                f"({count(state.refused_count, 'such row')}; nothing was written). "
                "Leave them out with --skip-bad, or choose another form"
            )
    return Written(
        path=path,
        form=chosen.name,
        rows=state.written,
        lost=dict(state.lost.most_common()),
        added=dict(state.added),
        refused=tuple(state.refused),
        refused_count=state.refused_count,
    )


def free(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError where a file may not be written at `path`."""
    if path.is_dir() and path.suffix == ".dataset":
        raise UsageError(f"{shown(path)} exists already: a folder is never replaced")
    if path.is_dir():
        raise UsageError(f"{shown(path)}: a folder: name the file to write")
    if path.exists() and not path.is_file():
        raise UsageError(f"{shown(path)}: no file but a pipe or a device: name a file to write")
    if path.exists() and not overwrite:
        raise UsageError(f"{shown(path)} exists already: --force replaces it")
    if not path.parent.is_dir():
        raise UsageError(f"{shown(path.parent)}: no such folder")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{shown(path.parent)}: the folder may not be written")


class _State:
    """Rows made of examples, each read back; what was lost on the way is counted."""

    def __init__(self, form: Form, kind: str, *, prepared: Callable[[Example], Example]) -> None:
        self.prepared = prepared
        self.form, self.through = form, sinks.through(kind, is_filled=form.name in registry.FILLED)
        is_table = kind in {"csv", "tsv", "xlsx"}
        self.write = form.write_table if is_table and form.write_table else form.write
        self.parse: Parse = form.parse or columns.reader_of_our_names(is_table=is_table)
        self.lost: Counter[str] = Counter()
        self.added: Counter[str] = Counter()
        self.refused: list[BadRow] = []
        self.refused_count = self.written = 0

    def rows(self, examples: Iterable[Example]) -> Iterator[dict[str, Json]]:
        assert self.write is not None
        write, parse, through = self.write, self.parse, self.through
        is_cases = self.form.name == cases.FORM.name
        for number, given in enumerate(examples, start=1):
            example = self._completed(given, number) if is_cases else given
            try:
                example = self.prepared(example)
                row = write(example)
                back = parse(through(row), example.place)
            except ValueError as exc:
                self.refused_count += 1
                if len(self.refused) < KEPT:
                    self.refused.append(BadRow(given.place, str(exc)))
                continue
            if back != example:
                self.lost.update(differences(example, back))
            self.written += 1
            yield row

    def _completed(self, example: Example, number: int) -> Example:
        """Return an example with what a case must have."""
        new: dict[str, Any] = {}
        if not example.id:
            new["id"] = f"row-{number}"
            self.added["an id, `row-N`"] += 1
        if not example.split:
            new["split"] = "train"
            self.added["the split `train`"] += 1
        elif example.split not in SPLITS and example.split in cases.NEAREST:
            new["split"] = cases.NEAREST[example.split]
            self.added[f"the split `{new['split']}` for {example.split!r}"] += 1
        return replace(example, **new) if new else example


_WORDS = {
    "is_good": "thumbs",
    "calls": "tool calls",
    "other": "further keys",
    WORSE_CALLS: "tool calls of the worse reply",
}


def differences(before: Example, after: Example | None) -> list[str]:
    """Return the parts of an example that are not in `after`, in words."""
    if after is None:
        return ["the whole row"]
    found: list[str] = []
    if (before.inputs, before.messages, before.images) != (
        after.inputs,
        after.messages,
        after.images,
    ):
        found += _what_of_the_question(before, after)
    for name in ("reference", "rejected"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new or type(old) is not type(new):
            is_same = new is not None and old is not None and text_of(old) == text_of(new)
            is_empty = old == "" and new is None
            how = " as JSON (it is text now)" if is_same else " that is empty" if is_empty else ""
            found.append(f"{name}{how}")
    rest = ("calls", "is_good", "tools", "id", "split", "cluster", "tags", "provenance")
    found += [_WORDS.get(n, n) for n in rest if getattr(before, n) != getattr(after, n)]
    keys = before.other.keys() | after.other.keys()
    for key in sorted(k for k in keys if before.other.get(k) != after.other.get(k)):
        is_of_turns = key == EXTRAS and key in before.other
        found.append(_keys_of_messages(before.other[key]) if is_of_turns else _WORDS.get(key, key))
    return list(dict.fromkeys(found))  # what became a further column is one loss, not two


def _keys_of_messages(extras: Json) -> str:
    by_turn = extras.values() if isinstance(extras, Mapping) else ()
    names = {str(key) for one in by_turn if isinstance(one, Mapping) for key in one}
    return f"further keys of messages ({', '.join(sorted(names))})"


def _what_of_the_question(before: Example, after: Example) -> list[str]:
    """Return what differs in what is asked; nothing where it stands in a message now."""
    old, new = asked(before), asked(after)
    if old == new and before.inputs.keys() == after.inputs.keys():
        return ["inputs as JSON (they are text now)"] if before.inputs != after.inputs else []
    if old == new:
        return ["names of inputs"]
    if [(m.role, m.content) for m in old] == [(m.role, m.content) for m in new]:
        return ["images" if any(m.images for m in old) else "details of messages"]
    users = [m.content for m in old if m.role != "system"]
    if users == [m.content for m in new if m.role != "system"]:
        return ["system messages"]
    return ["inputs" if before.inputs else "messages"]
