"""Names that people give to columns, and which column a name makes likeliest. Knows no form.

Decided here: a sure name (`label`, `doc_id`) is taken wherever it stands. A further one (`team`,
`customer`) is taken where a column is left that may be asked, and a name that is asked as often as
it answers (`query`, `price`) only beside one that surely is. What rows have in common is a short
name, not a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from harness.engine.data.forms.base import Object

GUESSES: dict[str, tuple[str, ...]] = {
    "id": ("_id", "uid", "uuid", "case_id", "example_id", "row_id", "key", "qid",
        "question_id", "task_id"),
    "reference": (
        "expected", "expected_output", "expected_answer", "gold", "gold_answer", "ground_truth",
        "target", "ideal", "answer", "label", "output", "completion", "response", "category",
        "intent", "summary", "gold_label", "correct_answer", "best_answer", "reference_answer",
        "reference_output", "canonical_solution", "highlights",
    ),
    "rejected": ("rejected_response", "rejected_output"),
    "split": ("subset", "partition"),
    "cluster": ("group", "source_id", "document_id", "doc_id", "conversation_id"),
    "tags": ("tag",),
}  # fmt: skip
"""Sure names of a field, the likeliest first; capitals and what is no letter do not count."""
FURTHER: dict[str, tuple[str, ...]] = {
    "reference": (
        "right_answer", "correct", "truth", "class", "team", "route", "queue", "department",
        "topic", "sentiment", "score", "value", "price", "amount", "translation", "sql", "query",
        "code", "result", "decision", "reply",
    ),
    "cluster": (
        "customer", "customer_id", "client", "client_id", "user", "user_id", "author", "account",
        "account_id", "session", "session_id", "thread", "thread_id", "document", "source",
        "company",
    ),
}  # fmt: skip
"""Names that may be something else, too, the likeliest first."""
ASKED_TOO = frozenset({"topic", "score", "value", "price", "amount", "query", "code"})
"""Of the further answers, those that are asked as often."""
ASKED = frozenset(
    {
        "question", "prompt", "instruction", "input", "message", "text", "body", "subject",
        "ticket", "email", "sentence", "utterance", "title", "description", "item", "name",
        "product", "review", "comment", "article", "content", "document",
    }
)  # fmt: skip
"""Names of what surely is asked."""
TEXTS_TOO = frozenset({"user", "source", "document"})
"""Of the further sources, those that are as often a text, or where all rows are from."""
ANSWERED = frozenset({"messages", "calls", "pair", "chosen", "rejected"})
"""Columns that hold an answer, or a worse one: no further name is another."""
LONGEST = 60
"""Characters of the name of a source."""
FOLD = 4
"""How many rows a source has at most, on average, where its name says little."""


def plain(name: str) -> str:
    """Return a column's name as the lists here have it."""
    return re.sub(r"\W+", "_", re.sub(r"^\W+|\W+$", "", name.lower()))


def likely(
    role: str,
    columns: Iterable[str],
    rows: Sequence[Object],
    *,
    is_asked: bool = False,
    has_further: bool = True,
) -> str | None:
    """Return which of `columns` is likeliest to fill a role, one that holds something before one
    that does not; None where no name tells. `is_asked`: what is asked is known, and none of them.
    `has_further`: names that are not sure count, too.
    """
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(plain(column), column)
    sure = [by_name[name] for name in GUESSES.get(role, ()) if name in by_name]
    held = next((column for column in sure if not is_blank(column, rows)), None)
    if held is None and has_further:
        held = _further(role, by_name, rows, is_asked=is_asked)
    return sure[0] if held is None and sure else held


def _further(
    role: str, by_name: Mapping[str, str], rows: Sequence[Object], *, is_asked: bool
) -> str | None:
    for name in FURTHER.get(role, ()):
        column = by_name.get(name)
        if column is None or is_blank(column, rows):
            continue
        others = by_name.keys() - {name}
        needed = ASKED & others if name in ASKED_TOO else others
        if not is_asked and not needed:
            continue
        if role == "reference" or _are_sources(name, [row.get(column) for row in rows]):
            return column
    return None


def _are_sources(name: str, values: Sequence[object]) -> bool:
    """Whether a column of this name holds what rows have in common."""
    found = [value for value in values if value not in (None, "")]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in found):
        return False
    if any(len(str(one)) > LONGEST for one in found):
        return False
    kinds = len(set(found))
    return name not in TEXTS_TOO or (kinds < len(found) <= FOLD * kinds)


def is_blank(column: str, rows: Sequence[Object]) -> bool:
    """Tell whether no row seen has a value there."""
    return all(row.get(column) in (None, "") for row in rows)


def is_sure_name(role: str, column: str) -> bool:
    """Tell whether a column's name is a sure one of a role."""
    return plain(column) in GUESSES.get(role, ())


def is_further(role: str, column: str) -> bool:
    """Tell whether a column may fill a role, and may as well be something else."""
    return plain(column) in FURTHER.get(role, ())
