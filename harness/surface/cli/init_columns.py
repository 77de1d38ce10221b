"""Which column of a file is what: guessed from names, asked on a terminal, or told by `--map`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from harness.core.examples import Example
from harness.engine.data.forms.columns import FIELDS, IGNORE
from harness.engine.data.forms.guesses import is_blank, is_further, is_sure_name, likely, plain
from harness.engine.data.reading import Reading, open_examples
from harness.errors import UsageError
from harness.surface.words import clean, one_line

_NAMED = re.compile(r"\{\{-?\s*([^{}|%]+?)\s*(?:\|[^{}]*)?-?\}\}|\{([^{}\n]+)\}")


def open_mapped(
    file: Path,
    *,
    form: str | None,
    mapped: Mapping[str, str],
    prompt: str,
    is_asking: bool,
    is_sure: bool,
) -> tuple[Reading, list[str], list[str], list[str]]:
    """Return the file as it is to be read, what each column is taken for, in words, the inputs
    that are left out, and the columns that are not carried over.

    Raises UsageError where nobody can be asked, and it is not clear which column is the answer.
    """
    reading = open_examples(file, form=form)
    chosen = dict(mapped)
    left: list[str] = []
    if chosen:
        _check_columns(reading, chosen)
    elif reading.form == "columns" and (roles := guessed_roles(reading)):
        chosen = _better(reading, roles, prompt)
        if is_asking:
            chosen = ask_columns(reading, chosen)
        elif "reference" not in chosen.values() and not is_sure:
            raise _no_answer(reading)
        left = _left(reading, chosen)
        if chosen == {c: c if r == "input" else r for c, r in roles.items()}:
            chosen = {}  # what the reader does by itself
    ignored = [column for column, role in chosen.items() if role == IGNORE]
    columns = {c: "reference" if r == "answer" else r for c, r in chosen.items()}
    if reading.form != "columns":  # what is left out is no reason to read it as a table
        columns = {c: r for c, r in columns.items() if r != IGNORE}
    if columns:
        reading = open_examples(file, form=form, columns=columns)
    words = [f"{role_word(r, c)} {c!r}" for c, r in columns.items() if r != IGNORE]
    return reading, words, ignored, left


def role_word(role: str, column: str) -> str:
    """Return a role as people say it."""
    if role == "reference":
        return "answer"
    name = role.removeprefix("inputs.")
    return role if role in FIELDS else "input" if name == column else f"input {name} from"


def _check_columns(reading: Reading, mapped: Mapping[str, str]) -> None:
    """Raise UsageError for a column that the first rows have not."""
    for column in mapped:
        if column in reading.names or column.partition(".")[0] in reading.names:
            continue
        near = difflib.get_close_matches(column, reading.names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        names = ", ".join(repr(name) for name in reading.names)
        raise UsageError(f"--map: {reading.path} has no column {column!r}. It has {names}.{hint}")


def _no_answer(reading: Reading) -> UsageError:
    names = ", ".join(repr(name) for name in reading.names)
    return UsageError(
        f"{reading.path}: which column holds the right answer? It has {names}. Say it with --map "
        "COLUMN=answer; --yes takes the rows as having none"
    )


def guessed_roles(reading: Reading) -> dict[str, str]:
    """Return what each column is taken for: a field of a row, or "input".

    Asked of the reader itself, by a row whose every value is its column's name: so nothing here
    can disagree with how the file is read. Empty where rows are more than columns of text.
    """
    marks = {name: f"column {name}" for name in reading.names}
    try:
        example = reading.plan.parse(marks, "")
    except (ValueError, TypeError):
        return {}
    if not isinstance(example, Example):
        return {}
    back = {mark: name for name, mark in marks.items()}
    found: dict[str, str] = {}
    for name in FIELDS:
        value = getattr(example, name)
        for one in value if isinstance(value, tuple) else [value]:
            if isinstance(one, str) and one in back:
                found[back[one]] = name
    for value in example.inputs.values():
        if isinstance(value, str) and value in back:
            found.setdefault(back[value], "input")
    # an input that is an object, or a source within one, is read better by the reader itself
    first = reading.sample[0]
    whole = [n for n, role in found.items() if role == "input" and isinstance(first.get(n), dict)]
    return {} if whole or (example.cluster and example.cluster not in back) else found


def _better(reading: Reading, roles: Mapping[str, str], prompt: str) -> dict[str, str]:
    """Return the roles, with what the prompt tells: what it names is asked, and one column that
    it does not name may be the answer.
    """
    rows = reading.sample
    blank = {c for c, r in roles.items() if is_blank(c, rows) and _may_answer(c, r)}
    before, roles = roles, {c: r for c, r in roles.items() if c not in blank}
    by_name = {plain(name): name for name in reading.names if name not in blank}
    named = [by_name[n] for n in map(plain, _names(prompt)) if n in by_name]
    named = [n for n in named if not _is_sure_answer(n, roles.get(n, ""))]
    chosen = {c: r for c, r in roles.items() if r != "input" and c not in named}
    rest = [n for n in reading.names if n not in blank and n not in named and n not in chosen]
    rest = [n for n in rest if n in roles or not is_blank(n, rows)]  # an empty note asks nothing
    is_told = roles.get("reference") == "reference"  # under our own names nothing is guessed
    for role in () if is_told or len(reading.names) < 2 else ("reference", "cluster"):
        if role not in chosen.values():
            found = likely(role, rest, rows, is_asked=bool(named))
            if found is not None:
                chosen[found] = role
                rest.remove(found)
    if "reference" not in chosen.values() and named and len(rest) == 1:
        chosen[rest.pop()] = "reference"
    if "reference" not in chosen.values():
        chosen |= {c: r for c, r in before.items() if c in blank and r == "reference"}
    inputs = named or [n for n in rest if roles.get(n) == "input"]
    answers = {c: r for c, r in chosen.items() if r == "reference"}
    return {n: n for n in dict.fromkeys(inputs)} | answers | chosen


def _may_answer(column: str, role: str) -> bool:
    return role == "reference" or (role == "input" and is_sure_name("reference", column))


def _is_sure_answer(column: str, role: str) -> bool:
    """Tell whether a column is an answer although the prompt names it."""
    return role == "rejected" or (role == "reference" and not is_further(role, column))


def _names(prompt: str) -> list[str]:
    return [a or b for a, b in _NAMED.findall(prompt)]


def _left(reading: Reading, chosen: Mapping[str, str]) -> list[str]:
    return [name for name in reading.names if name not in chosen]


# ---------------------------------------------------------------- asking


def ask_columns(reading: Reading, guess: Mapping[str, str]) -> dict[str, str]:
    """Ask what each column is; Return takes the guess."""
    names = reading.names
    _say(f"{clean(str(reading.path))} has these columns; the first row:")
    for name in names:
        value = reading.sample[0].get(name)
        _say(f"  {one_line(name, width=30):<30}  {one_line(str(value), width=80)}")
    by_role = {role: name for name, role in guess.items()}
    answer = _ask(
        "Which column holds the right answer?", names, default=by_role.get("reference", "none")
    )
    others = [n for n in names if n != answer]
    source = _ask(
        "Which column says where a row comes from (a customer, a document)?",
        others,
        default=next((c for c in others if guess.get(c) == "cluster"), "none"),
    )
    others = [n for n in others if n != source]
    inputs = [n for n, role in guess.items() if role == n and n in others]
    asked = _ask_several("Which columns may the prompt use?", others, default=inputs)
    mapped = {name: name for name in asked}
    told = ((answer, "reference"), (source, "cluster"))
    mapped |= {column: role for column, role in told if column != "none"}
    for name, role in guess.items():
        if role in {"id", "split", "tags"}:
            mapped.setdefault(name, role)
    said = {"reference": "answer"}
    words = " ".join(f"--map {_quoted(f'{c}={said.get(r, r)}')}" for c, r in mapped.items())
    _say(f"The same without questions: {words}")
    return mapped


def _say(text: str) -> None:
    click.echo(text, err=True)


def _quoted(text: str) -> str:
    return f"'{text}'" if " " in text else text


def _ask(question: str, names: Sequence[str], *, default: str) -> str:
    while True:
        said = str(click.prompt(question, default=default, err=True)).strip()
        if said in names or said == "none":
            return said
        _say(f"  no column {said!r}: {', '.join(names)}, or none")


def _ask_several(question: str, names: Sequence[str], *, default: Sequence[str]) -> list[str]:
    while True:
        shown = ", ".join(default) or None
        said = str(click.prompt(f"{question} (with commas)", default=shown, err=True))
        found = [one.strip() for one in said.split(",") if one.strip()]
        wrong = [one for one in found if one not in names]
        if found and not wrong:
            return found
        _say(f"  no column {wrong[0] if wrong else said!r}: {', '.join(names)}")
