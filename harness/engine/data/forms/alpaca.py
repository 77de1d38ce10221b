"""Alpaca's rows: `instruction`, `input`, `output`; `system` and `history` as LLaMA-Factory adds.

Source: https://github.com/tatsu-lab/stanford_alpaca (data release) and LLaMA-Factory's
data/README.md, Alpaca Format.
"""

from __future__ import annotations

from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import (
    Form,
    Object,
    answer_text,
    is_texts,
    kind_of,
    meta_of,
    text_of,
    with_meta,
)
from harness.engine.text_files import strict_json
from harness.records import Json, Message

KEYS = frozenset({"instruction", "input", "output", "system", "history", "chosen", "rejected"})


def parse(row: Object, place: str) -> Example:
    """Return an Alpaca row. Raises ValueError."""
    instruction = row.get("instruction")
    if not isinstance(instruction, str):
        raise ValueError(f"`instruction` must be text, not {kind_of(instruction)}")
    inputs: dict[str, Json] = {"instruction": instruction}
    given = row.get("input")
    if given not in (None, ""):
        inputs["input"] = given
    reference = answer_text(row.get("chosen", row.get("output")), "output")
    rejected = answer_text(row.get("rejected"), "rejected")
    messages: list[Message] = []
    if row.get("system"):
        messages.append(Message(role="system", content=str(row["system"])))
    history = row.get("history")
    if isinstance(history, str) and history.startswith("["):  # a cell of a table
        history = strict_json(history)
    if not isinstance(history or [], list | tuple):
        raise ValueError(f"`history` must be a list, not {kind_of(history)}")
    for pair in history or ():
        if not (is_texts(pair) and len(pair) == 2):
            raise ValueError("`history` must hold pairs of question and answer")
        messages.append(Message(role="user", content=pair[0]))
        messages.append(Message(role="assistant", content=pair[1]))
    meta: dict[str, Any] = meta_of(row, KEYS)
    return Example(
        place=place,
        inputs=inputs,
        messages=tuple(messages),
        reference=reference,
        rejected=rejected,
        **meta,
    )


def write(example: Example) -> dict[str, Json]:
    """Return an example as an Alpaca row. Raises ValueError where it has no place for it."""
    if example.images or any(m.images for m in example.messages):
        raise ValueError("it has images, which Alpaca rows have no place for")
    system, history, last = _turns(example)
    inputs = dict(example.inputs)
    instruction = inputs.pop("instruction", None)
    if not isinstance(instruction, str):
        if instruction is not None:
            inputs["instruction"] = instruction
        instruction = last
    rest = inputs.pop("input", "") if set(inputs) == {"input"} else _lines(inputs)
    if not instruction and len(inputs) == 1:  # as every other form asks it: without its name
        instruction, rest = text_of(next(iter(inputs.values()))), ""
    elif not instruction:
        instruction, rest = text_of(rest), ""
    row: dict[str, Json] = {"instruction": instruction, "input": text_of(rest)}
    row["output"] = None if example.reference is None else text_of(example.reference)
    if example.rejected is not None:
        row |= {"chosen": row.pop("output"), "rejected": text_of(example.rejected)}
    if system:
        row["system"] = system
    if history:
        row["history"] = history
    if any(k in KEYS for k in example.other):
        raise ValueError("it holds further keys with names that Alpaca uses")
    return with_meta(row, example)


def _turns(example: Example) -> tuple[str, list[list[str]], str]:
    """Return the system text, pairs of earlier turns, and the last user turn."""
    said = list(example.messages)
    system = ""
    if said and said[0].role == "system":
        system = said.pop(0).content
    last = ""
    if said and said[-1].role == "user":
        last = said.pop().content
    if any(m.tool_calls or m.role in {"tool", "system"} for m in said):
        raise ValueError("it has tool or system turns, which Alpaca rows have no place for")
    roles = [m.role for m in said]
    if roles != ["user", "assistant"] * (len(said) // 2):
        raise ValueError("its turns do not alternate, and Alpaca's `history` holds pairs")
    pairs = [[said[i].content, said[i + 1].content] for i in range(0, len(said), 2)]
    return system, pairs, last


def _lines(inputs: dict[str, Json]) -> str:
    return "\n".join(f"{name}: {text_of(value)}" for name, value in inputs.items())


FORM = Form(
    name="alpaca",
    about="`instruction`, `input`, `output` (`system`, `history`, `chosen`, `rejected`)",
    carries="instruction and input, system and earlier turns, reference, rejected, id, split, "
    "cluster, tags, provenance, further keys",
    parse=parse,
    marks=lambda row: (
        0.95 if "instruction" in row and ("output" in row or "chosen" in row) else 0.0
    ),
    why="rows have `instruction` and `output`",
    write=write,
)
