"""OpenAI evals' samples: `input` (messages or text) and `ideal` (one answer or several).

Source: openai/evals, docs/build-eval.md and evals/elsuite/basic/match.py.
"""

from __future__ import annotations

from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, is_texts, meta_of, text_of, with_meta
from harness.engine.data.forms.turns import EXTRAS, asked, plain_turns, turns
from harness.records import Json

KEYS = frozenset({"input", "ideal"})


def parse(row: Object, place: str) -> Example:
    """Return a sample; several ideal answers are a list. Raises ValueError."""
    if "input" not in row:
        raise ValueError("there is no `input`")
    given: dict[str, Any] = meta_of(row, KEYS)
    asked_row = row["input"]
    if isinstance(asked_row, str) and not asked_row.startswith('[{"'):
        given["inputs"] = {"input": asked_row}
    else:
        given["messages"], extras = turns(asked_row, key="input")
        if extras:
            given["other"] = {**given.get("other", {}), EXTRAS: extras}
    ideal = row.get("ideal")
    if ideal is not None and not isinstance(ideal, str) and not is_texts(ideal):
        raise ValueError("`ideal` must be text, or a list of texts")
    return Example(place=place, reference=ideal, **given)


def write(example: Example) -> dict[str, Json]:
    """Return a sample with `input` and `ideal`."""
    if example.inputs.keys() == {"input"} and not example.messages and not example.images:
        question: Json = text_of(example.inputs["input"])
    else:
        question = plain_turns(asked(example), example.other.get(EXTRAS))
    row: dict[str, Json] = {"input": question}
    reference = example.reference
    if reference is not None:
        is_list = is_texts(reference) and reference
        row["ideal"] = list(reference) if is_list else text_of(reference)
    if any(k in KEYS for k in example.other):
        raise ValueError("it holds further keys with names that OpenAI evals uses")
    row = with_meta(row, example)
    row.pop(EXTRAS, None)
    return row


FORM = Form(
    name="openai-evals",
    about="samples of OpenAI's evals: `input` and `ideal`",
    carries="messages or one input, images, reference (also several), id, split, cluster, tags, "
    "provenance, further keys",
    parse=parse,
    marks=lambda row: 0.95 if {"input", "ideal"} <= row.keys() else 0.0,
    why="rows have `input` and `ideal`",
    write=write,
)
