"""The rows of a case file: their shape, and the cases that they become. Knows no task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from harness.engine.tables import Misfit, Strict, as_table, keys_of
from harness.engine.text_files import json_lines
from harness.errors import TaskError
from harness.records import Case, Json

_COLLECTED: Mapping[str, Json] = MappingProxyType({})
"""The provenance of most cases, which is none: one object."""


class CheckRow(Strict, frozen=True, kw_only=True):
    """A check of one case, run by the built-in eval `checks`."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)


class CaseRow(Strict, frozen=True, kw_only=True):
    """One line of a case file."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    split: Literal["train", "dev", "test"]
    inputs: dict[str, Any]
    reference: Any = None
    cluster: str | None = None
    tags: tuple[str, ...] = ()
    checks: tuple[CheckRow, ...] = ()
    documents: tuple[str, ...] = ()
    rejected: Any = None
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)
    also_right: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            self.id.encode()
        except UnicodeEncodeError as exc:
            raise Misfit("half of a character that needs two (a lone surrogate)", "id") from exc


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a JSON Lines file. Raises TaskError with file and line."""
    if path.is_dir():
        raise TaskError(f"{path}: a folder; `cases` names a JSON Lines file")
    cases = []
    for place, plain in json_lines(path):
        row = _validated(plain, place)
        cases.append(
            Case(
                id=row.id,
                inputs=row.inputs,
                split=row.split,
                reference=row.reference,
                cluster=row.cluster if row.cluster is not None else row.id,
                tags=row.tags,
                checks=tuple({"name": c.name, "arguments": c.arguments} for c in row.checks),
                documents=row.documents,
                rejected=row.rejected,
                provenance=row.provenance or _COLLECTED,
                also_right=row.also_right,
                line=place,
            )
        )
        if row.also_right and row.reference is None:
            raise TaskError(f"{place}: `also_right` without a `reference`: which one is learned?")
        _check_preference(cases[-1])
    if not cases:
        raise TaskError(f'{path}:1: no cases. A line is {{"id", "split", "inputs", ...}}')
    return cases


def _check_preference(case: Case) -> None:
    """Refuse a pair from which nobody could learn which reply is better."""
    worse, better = case.rejected_text, case.reference_text
    if worse is None:
        return
    if better is None:
        problem = "`rejected` without a `reference`: a preference needs the better reply too"
    elif worse == better:
        problem = "`rejected` equals the `reference`: one of the two must be better"
    elif not worse.strip() or not better.strip():
        empty = "reference" if worse.strip() else "rejected"
        problem = f"`{empty}` is empty: a preference is between two replies"
    else:
        return
    raise TaskError(f"{case.line}: case {case.id!r}: {problem}. Correct it, or leave it out.")


def _validated(plain: Json, place: str) -> CaseRow:
    if not isinstance(plain, dict):
        raise TaskError(f'{place}: a row is an object, {{"id", "split", "inputs", ...}}')
    try:
        return as_table(CaseRow, plain)
    except Misfit as exc:
        known = ", ".join(keys_of(CaseRow))
        said = f"{place}: {exc.place('row')}: {exc}. Keys of a row: {known}.{exc.hint}"
        if "split" not in plain:
            file = place.rpartition(":")[0]
            said += f" Rows are dealt by: harness data split {file} --out {file} --force"
        raise TaskError(said) from exc
