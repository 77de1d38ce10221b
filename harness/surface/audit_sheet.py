"""The sheet of a label audit: written for a spreadsheet, and read back from one.

Knows nothing of the ledger. A sheet that is wrong anywhere is refused whole, with every line that
is wrong: nothing of it is recorded, and the file is left as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.audit import LABELS
from harness.errors import UsageError
from harness.records import Case

COLUMNS = ("case", "version", "input", "reference", "label", "note")
NEEDED = ("case", "version", "label")
SHOWN = 10
VERSION = 12
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a person said of one label."""

    case: Case
    label: str
    note: str = ""


def shown_input(case: Case) -> str:
    """Return the inputs as a person reads them: a single text as it is, else one line a field."""
    if len(case.inputs) == 1:
        return _text(next(iter(case.inputs.values())))
    return "\n".join(f"{name}: {_text(value)}" for name, value in case.inputs.items())


def shown_reference(case: Case) -> str:
    """Return the reference, and the checks that the case carries."""
    parts = [case.reference_text] if case.reference_text is not None else []
    parts += [f"check {json.dumps(check, ensure_ascii=False)}" for check in case.checks]
    return "\n".join(parts)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_sheet(path: Path, cases: Sequence[Case]) -> None:
    """Write the cases to be read, none of their outcomes. Raises UsageError where `path` exists."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for case in cases:
        cells = [case.id, case.digest[:VERSION], shown_input(case), shown_reference(case), "", ""]
        writer.writerow([_harmless(cell) for cell in cells])
    try:
        # with a mark of its encoding: Excel takes the file for Latin-1 otherwise
        with path.open("x", encoding="utf-8-sig", newline="", errors="backslashreplace") as file:
            file.write(text.getvalue())
    except FileExistsError as exc:
        raise UsageError(
            f"{path} exists already, and may hold somebody's work. Name another file."
        ) from exc


def _harmless(cell: str) -> str:
    # a spreadsheet would run it as a formula
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def read_sheet(path: Path, cases: Mapping[str, Case]) -> list[Judgement]:
    """Return the judgements in `path`; rows without a label are left out.

    Raises UsageError naming every line that is wrong: an unknown case, a label that is none, two
    labels of a case, or a case that changed since the sheet was written.
    """
    rows = _rows(path)
    found: dict[str, Judgement] = {}
    wrong: list[str] = []
    for line, row in rows:
        name = (row.get("case") or "").strip()
        label = (row.get("label") or "").strip().lower()
        if not name and not label:
            continue
        case = cases.get(name) or cases.get(name.removeprefix("'"))
        label = next((known for known in LABELS if label and known.startswith(label)), label)
        if case is None:
            wrong.append(f"line {line}: no dev case {name!r}")
        elif not label:
            continue
        elif label not in LABELS:
            wrong.append(f"line {line}: label {label!r} of {name}: write {', '.join(LABELS)}")
        elif (row.get("version") or "").strip() != case.digest[:VERSION]:
            wrong.append(
                f"line {line}: {name} is not what it was when the sheet was written: empty its "
                "label, and read it in a new sheet"
            )
        elif case.id in found and found[case.id].label != label:
            wrong.append(f"line {line}: a second label of {name}, {label}")
        else:
            note = (row.get("note") or "").strip()
            found[case.id] = Judgement(case=case, label=label, note=note)
    if wrong:
        more = f"\n(and {len(wrong) - SHOWN} more)" if len(wrong) > SHOWN else ""
        lines = "\n".join(wrong[:SHOWN])
        raise UsageError(
            f"{path}: nothing was recorded, because of\n{lines}{more}\n"
            "Correct the sheet and import it again."
        )
    return list(found.values())


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such file") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"{path}: not UTF-8 (byte {exc.start}). Save it as `CSV UTF-8` in Excel."
        ) from exc
    head = text.partition("\n")[0]
    # Excel writes semicolons where the comma is the decimal mark
    delimiter = max(",;\t", key=head.count)
    # a cell may hold a whole document
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    try:
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=delimiter, strict=True, restkey="beyond"
        )
        names = {(n or "").strip().lower(): n for n in reader.fieldnames or ()}
        lacking = [n for n in NEEDED if n not in names]
        if lacking:
            have = ", ".join(n for n in names if n) or "none"
            raise UsageError(
                f"{path}:1: no column {', '.join(lacking)}. Columns: {have}. "
                "A sheet is made by --audit-csv FILE."
            )
        return [
            (reader.line_num, {n: row.get(original) or "" for n, original in names.items()})
            for row in reader
        ]
    except csv.Error as exc:
        raise UsageError(f"{path}: not CSV: {exc}. Save it as `CSV UTF-8`.") from exc
