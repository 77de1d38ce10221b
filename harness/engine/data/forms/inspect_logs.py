"""Samples of an Inspect log: what was asked, and the target. Knows no score.

Only read. A sample that was asked several times (epochs) is one row.
Source: Inspect's log file format, as harness.engine.scores.inspect_log reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import Form, Object, kind_of
from harness.engine.data.forms.turns import turns
from harness.records import Json


def expand(log: Object) -> Iterator[tuple[str, Object]]:
    """Yield the samples of a log that is one object; a sample is itself."""
    if "samples" not in log and "eval" not in log:
        yield "", log
        return
    samples = log.get("samples")
    if not isinstance(samples, list) or not samples:
        raise ValueError("no samples in it: run Inspect with --log-samples")
    for number, sample in enumerate(samples, start=1):
        if not isinstance(sample, Mapping):
            raise ValueError(f"sample {number} is no object")
        yield f"#{number}", sample


def parse(row: Object, place: str) -> Example | None:
    """Return a sample; None for a later epoch of one. Raises ValueError."""
    if "id" not in row or "input" not in row:
        raise ValueError("not a sample of Inspect: it needs `id` and `input`")
    if row.get("epoch", 1) != 1:
        return None
    given: dict[str, Any] = {}
    inputs: dict[str, Json] = {}
    if isinstance(row["input"], str):
        inputs["input"] = row["input"]
    elif isinstance(row["input"], list):
        plain = [_message(m) for m in row["input"]]
        given["messages"], _ = turns(plain, key="input")
    else:
        raise ValueError(f"`input` must be text or messages, not {kind_of(row['input'])}")
    if row.get("choices"):
        inputs["choices"] = row["choices"]
    target = row.get("target")
    if isinstance(target, list):
        target = target[0] if len(target) == 1 else (target or None)
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise ValueError(f"`metadata` must be an object, not {kind_of(metadata)}")
    metadata = dict(metadata)
    cluster = metadata.pop("cluster", "")
    other: dict[str, Json] = {"metadata": metadata} if metadata else {}
    return Example(
        place=place,
        id=str(row["id"]),
        inputs=inputs,
        reference=target if target != "" else None,
        cluster=cluster if isinstance(cluster, str) else str(cluster),
        other=other,
        **given,
    )


def _message(message: Json) -> Json:
    """Return an Inspect message as OpenAI writes it: content parts have other names there."""
    if not isinstance(message, Mapping):
        return message
    content = message.get("content")
    if isinstance(content, list):
        parts = []
        for part in content:
            if isinstance(part, Mapping) and part.get("type") == "image":
                parts.append({"type": "image_url", "image_url": {"url": part.get("image")}})
            elif not (isinstance(part, Mapping) and part.get("type") == "reasoning"):
                parts.append(part)
        content = parts
    found: dict[str, Json] = {"role": message.get("role"), "content": content}
    for key in ("tool_calls", "tool_call_id"):
        if message.get(key):
            found[key] = message[key]
    return found


def marks(row: Object) -> float:
    """Tell how sure a row makes us."""
    if isinstance(row.get("eval"), Mapping) and "samples" in row:
        return 0.99
    return 0.99 if {"id", "epoch", "input", "target"} <= row.keys() else 0.0


FORM = Form(
    name="inspect",
    about="samples of an Inspect log, `.eval` or `.json`",
    carries="(only read) input or messages, choices, target, id, cluster, metadata",
    parse=parse,
    marks=marks,
    why="rows are samples with `id`, `epoch`, `input` and `target`",
    expand=expand,
)
