"""Questions about passages as SQuAD has them, in articles or flat. Knows no file.

Only read. The first answer is the reference, different others are as right; a question without an
answer (SQuAD 2.0) has none, and the tag `unanswerable`.
Source: https://rajpurkar.github.io/SQuAD-explorer, and the hub's `rajpurkar/squad`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, is_texts, kind_of, meta_of
from harness.records import Json

_KNOWN = frozenset({"context", "question", "answers", "title", "is_impossible"})
_OF_QUESTION = frozenset({"question", "answers"})
UNANSWERABLE = "unanswerable"


def expand(row: Object) -> Iterator[tuple[str, Object]]:
    """Yield the questions of an article; a flat row is itself. Raises ValueError."""
    if "paragraphs" not in row:
        yield "", row
        return
    rest = {key: value for key, value in row.items() if key != "paragraphs"}
    number = 0
    for paragraph in _objects(row, "paragraphs"):
        for question in _objects(paragraph, "qas"):
            number += 1
            yield f"#{number}", {**rest, "context": paragraph.get("context"), **question}


def _objects(row: Object, key: str) -> list[Mapping[str, Json]]:
    found = row.get(key)
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"`{key}` must be a list of objects")
    return found


def parse(row: Object, place: str) -> Example:
    """Return a question with its passage. Raises ValueError."""
    for key in ("context", "question"):
        if not isinstance(row.get(key), str):
            raise ValueError(f"`{key}` must be text, not {kind_of(row.get(key))}")
    answers = list(dict.fromkeys(text.strip() for text in _texts(row.get("answers"))))
    rest: dict[str, Any] = meta_of(row, _KNOWN)
    if isinstance(title := row.get("title"), str) and title:
        rest.setdefault("cluster", title)  # its questions share their source
    if answers[1:]:
        rest["other"] = {**rest.get("other", {}), "also_right": answers[1:]}
    if not answers:
        rest["tags"] = (*rest.get("tags", ()), UNANSWERABLE)
    return Example(
        place=place,
        inputs={"context": row["context"], "question": row["question"]},
        reference=answers[0] if answers else None,
        **rest,
    )


def _texts(answers: Json) -> list[str]:
    """Return the texts of answers: a list of objects, or an object of lists as the hub has it."""
    if isinstance(answers, Mapping) and is_texts(answers.get("text")):
        return list(answers["text"])
    if isinstance(answers, list) and all(
        isinstance(a, Mapping) and isinstance(a.get("text"), str) for a in answers
    ):
        return [a["text"] for a in answers]
    raise ValueError(
        "`answers` must be a list of objects with `text`, or an object with such lists"
    )


def marks(row: Object) -> float:
    """Tell how sure a row makes us."""
    if {"title", "paragraphs"} <= row.keys():
        found = row["paragraphs"]
        first = found[0] if isinstance(found, list) and found else None
        return 0.95 if isinstance(first, Mapping) and "qas" in first else 0.0
    if not row.keys() >= {"context", *_OF_QUESTION}:
        return 0.0
    try:
        _texts(row["answers"])
    except ValueError:
        return 0.0
    return 0.95


FORM = Form(
    name="squad",
    about="SQuAD: `context`, `question` and `answers`, flat or in articles",
    carries="(only read) context and question, the first answer as reference, the others as "
    "further right answers, the title as cluster, id, split, tags, further keys",
    parse=parse,
    marks=marks,
    why="rows have `context`, `question` and `answers`",
    expand=expand,
)
