"""All forms by name, and which one a file's rows are of. Knows no file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.core.examples import Example
from harness.engine.data.forms import (
    alpaca,
    cases,
    chat,
    columns,
    hh,
    inspect_logs,
    langfuse,
    openai_evals,
    phoenix,
    promptfoo,
    sharegpt,
    squad,
    traces,
    trl,
)
from harness.engine.data.forms.base import Form, Object, Parse, Plan
from harness.errors import UsageError

FORMS: tuple[Form, ...] = (
    cases.FORM,
    columns.FORM,
    chat.CHAT,
    chat.PREFERENCE,
    alpaca.FORM,
    sharegpt.FORM,
    trl.PROMPT_COMPLETION,
    trl.PREFERENCE,
    trl.KTO,
    hh.FORM,
    openai_evals.FORM,
    squad.FORM,
    promptfoo.FORM,
    inspect_logs.FORM,
    traces.FORM,
    langfuse.FORM,
    phoenix.FORM,
)
_ROWLIKE = frozenset({"messages", "inputs", "instruction", "conversations", "prompt"})
"""Keys of a row that is certainly one row: most rows need no closer look."""
NAMES = tuple(form.name for form in FORMS)


def find(name: str) -> Form:
    """Return a form by its name or another name of it. Raises UsageError."""
    for form in FORMS:
        if name == form.name or name in form.aliases:
            return form
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"no form {name!r}. Known: {', '.join(NAMES)}.{hint}")


def expander_of(row: Object) -> Callable[[Object], Iterator[tuple[str, Object]]] | None:
    """Return what takes apart an object that holds many rows; None where it is one row."""
    for form in FORMS:
        if form.expand is not None and not _ROWLIKE & row.keys() and form.marks(row) > 0.5:
            return form.expand
    return None


def is_known(row: Object) -> bool:
    """Whether an object is a row, or a file of rows, that some form other than columns knows."""
    return bool(_ROWLIKE & row.keys()) or any(form.marks(row) > 0.5 for form in FORMS)


def plan_of(
    chosen: Form | None, rows: Sequence[Object], mapping: Mapping[str, str], *, container: str
) -> tuple[str, Plan]:
    """Return the form of rows and how they are read: `chosen`, or the one that fits them best."""
    if chosen is not None:
        found = _plan(chosen, rows, mapping, container)
        why = f"it was named; {found.why}" if found.why else "it was named"
        return chosen.name, replace(found, confidence=1.0, why=why)
    if mapping:
        return columns.FORM.name, _plan(columns.FORM, rows, mapping, container)
    plans = [(form.name, _plan(form, rows, mapping, container)) for form in FORMS]
    return max(plans, key=_weight)


def _weight(named: tuple[str, Plan]) -> float:
    """Rows of columns may be anything: a form that half of the rows have is likelier."""
    name, plan = named
    is_guess = name == columns.FORM.name and plan.confidence < 0.9
    return min(plan.confidence, 0.4) if is_guess else plan.confidence


TABLES = frozenset({"csv", "xlsx"})
FILLED = frozenset({"columns", "promptfoo"})
BESIDE = {"inspect": "the log's replies and scores (harness wall --scores FILE judges those)"}
"""What a form holds beside rows, and what reads it."""
"""Forms whose empty cells in a table are empty text; in any other they are nothing."""


def _plan(form: Form, rows: Sequence[Object], mapping: Mapping[str, str], container: str) -> Plan:
    if form is columns.FORM:
        return columns.plan(rows, mapping, is_table=container in TABLES)
    assert form.parse is not None
    fit = [form.marks(row) for row in rows]
    n = sum(mark > 0 for mark in fit)
    confidence = sum(fit) / len(fit) if fit else 0.0
    parse = _renamed(form.parse, mapping) if mapping else form.parse
    if container in TABLES and form.name not in FILLED:
        parse = _without_empty(parse)
    return Plan(
        parse=parse,
        confidence=confidence,
        why=f"{n} of the first {len(rows)} {form.why}" if n else "",
    )


def _without_empty(parse: Parse) -> Parse:
    def filled(row: Object, place: str) -> Example | None:
        return parse({key: value for key, value in row.items() if value != ""}, place)

    return filled


def _renamed(parse: Parse, mapping: Mapping[str, str]) -> Parse:
    """Return a parser that finds each named column under the name that the form has for it."""

    def renamed(row: Object, place: str) -> Example | None:
        return parse({mapping.get(key, key): value for key, value in row.items()}, place)

    return renamed
