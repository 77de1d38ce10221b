"""What can be tuned where, and whose outputs may train: a dated table that people edit.

Knows what the table says, not whether it is still so: every entry has its source and day.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from harness.core.advice_evidence import Provision
from harness.engine.tables import Misfit, Strict, as_table
from harness.engine.text_files import read_toml
from harness.errors import TaskError, UsageError

NAME = "tunable.toml"


class _Entry(Strict, frozen=True, kw_only=True):
    schemes: tuple[str, ...]
    models: tuple[str, ...] = ("*",)
    source: str
    checked: str = ""
    note: str = ""


class TuningEntry(_Entry, frozen=True, kw_only=True):
    """What a provider lets people tune; `is_open` false where a newcomer cannot start."""

    can: str
    methods: tuple[str, ...] = ()
    is_open: bool = True


class OutputsEntry(_Entry, frozen=True, kw_only=True):
    """Whether a model's outputs may be training data: `yes`, `with limits`, `unknown`, ..."""

    may_train: str
    terms: str


class Table(Strict, frozen=True, kw_only=True):
    """The file."""

    tuning: dict[str, TuningEntry] = msgspec.field(default_factory=dict)
    outputs: dict[str, OutputsEntry] = msgspec.field(default_factory=dict)


def read_table(root: Path) -> Table:
    """Return the shipped table with that of the project in `root` over it, entry by entry.

    Raises TaskError naming the file.
    """
    shipped = _table(Path(__file__).with_name(NAME))
    path = root / NAME
    if not path.is_file():
        return shipped
    own = _table(path)
    return Table(
        tuning={**shipped.tuning, **own.tuning}, outputs={**shipped.outputs, **own.outputs}
    )


def _table(path: Path) -> Table:
    try:
        return as_table(Table, read_toml(path))
    except Misfit as exc:
        raise TaskError(f"{path}:1: {exc.told('table')}") from exc


def provisions(table: Table, backend: str, *, teacher: str | None = None) -> list[Provision]:
    """Return what the table says of tuning `backend`, and of training on what `teacher` writes."""
    found = []
    for entry in _of(table.tuning.values(), backend):
        text = f"{backend}: {entry.can}{f'; {entry.note}' if entry.note else ''}"
        found.append(_provision("tuning", text, entry, is_open=entry.is_open))
    if teacher:
        for rule in _of(table.outputs.values(), teacher):
            text = f"outputs of {teacher} as training data: {rule.may_train}. {rule.terms}"
            found.append(_provision("outputs", text, rule, is_open=rule.may_train == "yes"))
    return found


def outputs_of(table: Table, model: str) -> Sequence[OutputsEntry]:
    """Return what the table says of training on what `model` writes, if anything."""
    return _of(table.outputs.values(), model)


def outputs_words(table: Table, model: str) -> str:
    """Return in a sentence what is known of training on what `model` writes."""
    found = outputs_of(table, model)
    if not found:
        return (
            f"whether outputs of {model} may be training data: unknown here. Read its terms, and "
            f"put them under [outputs] of a {NAME} beside your pyproject.toml"
        )
    told = "; ".join(f"{e.may_train}. {e.terms} ({_read_when(e)})" for e in found)
    return f"outputs of {model} as training data: {told}. Not legal advice."


def refuse_forbidden(table: Table, model: str) -> None:
    """Raise UsageError where the table says that outputs of `model` may not be training data."""
    if any(e.may_train == "no" for e in outputs_of(table, model)):
        raise UsageError(
            f"{outputs_words(table, model)} Nothing was asked. Choose another model, or correct "
            f"the table ({NAME}) where it is wrong."
        )


def _read_when(entry: OutputsEntry) -> str:
    if entry.checked:
        return f"source {entry.source}, read {entry.checked}"
    return f"unchecked; {entry.source}"


def _provision(kind: Any, text: str, entry: _Entry, *, is_open: bool) -> Provision:
    return Provision(
        kind=kind, text=text, source=entry.source, checked=entry.checked, is_open=is_open
    )


def _of(entries: Any, backend: str) -> Sequence[Any]:
    """Return the entries for a backend: those that name its model, else those for every model."""
    scheme, _, model = backend.partition(":")
    mine = [e for e in entries if scheme in e.schemes]
    named = [e for e in mine if e.models != ("*",)]
    fitting = [e for e in named if any(fnmatch(model.lower(), m.lower()) for m in e.models)]
    return fitting or [e for e in mine if e.models == ("*",)]
