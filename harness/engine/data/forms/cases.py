"""Our own cases, one a line. Knows no task.

A dialogue is the input `messages`, with `tools` beside it; an answer of tool calls is the
reference `{"tool_calls": [...]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, is_objects, is_texts, kind_of, text_of
from harness.engine.data.forms.turns import plain_turns, turns
from harness.records import SPLITS, Case, Json, to_plain

KEYS = frozenset(
    {
        "id",
        "split",
        "inputs",
        "reference",
        "cluster",
        "tags",
        "checks",
        "documents",
        "rejected",
        "provenance",
        "also_right",
    }
)


def is_checks(value: Json) -> bool:
    """Whether a value has the shape of a case's checks; a stranger's key of that name may not."""
    return is_objects(value) and all(
        isinstance(one.get("name"), str)
        and isinstance(one.get("arguments", {}), Mapping)
        and one.keys() <= {"name", "arguments"}
        for one in value
    )


BESIDE: Mapping[str, Callable[[Json], bool]] = {
    "checks": is_checks, "documents": is_texts, "also_right": is_texts,
}  # fmt: skip
"""What an Example keeps of a case in `other`, and what tells it from another's key."""
NEAREST = {
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "training": "train",
    "testing": "test",
}
"""What others call a split, and what it is here."""


def parse(row: Object, place: str) -> Example:
    """Return a case as an example. Raises ValueError."""
    identity, inputs = row.get("id"), row.get("inputs")
    if not isinstance(identity, str) or not identity:
        raise ValueError("`id` must be text that is not empty")
    if not isinstance(inputs, Mapping):
        raise ValueError(f"`inputs` must be an object, not {kind_of(inputs)}")
    split, tags = row.get("split", ""), row.get("tags", ())
    if split not in (*SPLITS, ""):
        raise ValueError(f"`split` must be train, dev or test, not {split!r}")
    if not is_texts(tags):
        raise ValueError("`tags` must be a list of texts")
    for key in row:
        if key not in KEYS:
            raise ValueError(f"{key}: no such key. Keys of a case: {', '.join(sorted(KEYS))}")
    cluster, made = row.get("cluster"), row.get("provenance") or {}
    if not isinstance(made, Mapping):
        raise ValueError(f"`provenance` must be an object, not {kind_of(made)}")
    for key, is_one in BESIDE.items():
        if not is_one(row.get(key) or []):
            what = "objects with a `name` and `arguments`" if is_one is is_checks else "texts"
            raise ValueError(f"`{key}` must be a list of {what}")
    other = {k: row[k] for k in BESIDE if row.get(k)}
    return Example(
        place=place,
        id=identity,
        split=split,
        cluster=cluster if isinstance(cluster, str) and cluster != identity else "",
        tags=tuple(tags),
        rejected=row.get("rejected"),
        provenance=made,
        other=other,
        **lifted(inputs, row.get("reference")),
    )


def of_case(case: Case, *, pictured: tuple[str, ...] = ()) -> Example:
    """Return a case of a task as an example: its inputs, ids, cluster, split and tags are kept.
    `pictured` are the inputs that name its images.
    """
    other: dict[str, Json] = {}
    if case.checks:
        other["checks"] = [to_plain(c) for c in case.checks]
    if case.documents:
        other["documents"] = list(case.documents)
    if case.also_right:
        other["also_right"] = list(case.also_right)
    return Example(
        place=case.line,
        id=case.id,
        split=case.split,
        cluster=case.cluster if case.cluster != case.id else "",
        tags=case.tags,
        rejected=case.rejected,
        provenance=case.provenance,
        images=case.images,
        pictured=pictured,
        other=other,
        **lifted(case.inputs, case.reference),
    )


def lifted(inputs: Mapping[str, Json], reference: Json) -> dict[str, Any]:
    """Return the fields that inputs and reference fill: dialogues and tool calls in their place."""
    found: dict[str, Any] = {"inputs": inputs, "reference": reference}
    dialogue = inputs.get("messages")
    if isinstance(dialogue, list):
        try:
            messages, extras = turns(dialogue, key="messages")
        except ValueError:
            messages, extras = (), {}
        if messages and not extras:
            rest = {k: v for k, v in inputs.items() if k != "messages"}
            tools = rest.get("tools")
            if isinstance(tools, list) and tools:
                found["tools"] = tuple(tools)
                del rest["tools"]
            found |= {"messages": messages, "inputs": rest}
    if isinstance(reference, Mapping) and set(reference) <= {"content", "tool_calls"}:
        calls = reference.get("tool_calls")
        if isinstance(calls, list) and calls:
            found |= {"reference": reference.get("content"), "calls": tuple(calls)}
    return found


def write(example: Example) -> dict[str, Json]:
    """Return an example as a row of a case file. Raises ValueError where it cannot be one."""
    inputs = dict(example.inputs)
    if example.messages:
        inputs["messages"] = plain_turns(example.messages)
    if example.tools:
        inputs["tools"] = list(example.tools)
    reference = example.reference
    if example.calls:
        reference = {"tool_calls": list(example.calls)}
        if example.reference is not None:
            reference["content"] = example.reference
    split = NEAREST.get(example.split, example.split)
    if split not in SPLITS:
        raise ValueError(f"its split is {example.split!r}; a case is in train, dev or test")
    row: dict[str, Json] = {"id": example.id, "split": split, "inputs": inputs}
    if reference is not None:
        row["reference"] = reference
    if _is_pair(reference, example.rejected):
        row["rejected"] = example.rejected
    if example.cluster:
        row["cluster"] = example.cluster
    if example.tags:
        row["tags"] = list(example.tags)
    if example.provenance:
        row["provenance"] = dict(example.provenance)
    beside = {k: v for k, v in example.other.items() if k in BESIDE and BESIDE[k](v)}
    return row | beside


def _is_pair(better: Json, worse: Json) -> bool:
    """Whether a task would load the two replies as a preference; else the worse one is lost."""
    if better is None or worse is None:
        return False
    texts = [text_of(value) for value in (better, worse)]
    return texts[0] != texts[1] and all(text.strip() for text in texts)


def marks(row: Object) -> float:
    """Tell how sure a row makes us."""
    needed = {"id", "inputs"} <= row.keys() and isinstance(row["inputs"], Mapping)
    return 0.99 if needed and row.keys() <= KEYS else 0.0


FORM = Form(
    name="cases",
    about="our own case files",
    carries="inputs, messages, tools, reference, calls, rejected, id, split, cluster, tags, "
    "checks, documents, provenance, further right answers",
    parse=parse,
    marks=marks,
    why="rows have `id`, `inputs` and no key that a case has not",
    write=write,
)
