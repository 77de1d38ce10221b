"""What references have in common: labels, numbers, JSON of one shape, or free text.

Knows nothing of files and prompts. What is said of a shape is true of many references and tells
none of them: a value is named only where several clusters have it, or all rows may be shown.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.records import Json

MOST_LABELS = 20
LONGEST_LABEL = 60
MOST_KEYS = 40
DEEPEST = 6
ANSWER = "answer"
"""The key of the JSON object that a constrained reply wraps a label or a number in."""
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a reply looks. `words` tell a model; `schema` holds a reply to it, at `answer_key` where
    the answer is no JSON itself. `why_no_schema` says why there is none.
    """

    words: str = ""
    schema: Json = None
    answer_key: str = ""
    why_no_schema: str = ""


def shape_of(references: Sequence[Json], clusters: Sequence[str], *, is_train: bool) -> Shape:
    """Return the shape of `references`, one of each `clusters`. Without `is_train` the rows are
    those that are measured, so a value of fewer than two clusters is never named.
    """
    if not references:
        return Shape(why_no_schema="no row to learn from has a reference")
    kept = list(zip(references, clusters, strict=True))
    least = 1 if is_train else 2
    objects = [_object(r) for r in references]
    if all(o is not None for o in objects):
        schema = _schema(objects, list(clusters), least=least)
        listed = "; ".join(_key_words(schema))
        words = "Reply with one JSON object alone: no explanation, no code fence."
        return Shape(words=f"{words} Its keys: {listed}." if listed else words, schema=schema)
    if not all(isinstance(r, str) for r in references):
        return Shape(
            words="Reply with the JSON value alone: no explanation, no code fence.",
            why_no_schema="the references are of several kinds",
        )
    if all(_INTEGER.fullmatch(r) for r in references) and len(set(references)) > len(kept) / 2:
        return _wrapped("Reply with the number alone.", {"type": "integer"})
    labels = _labels([(str(r), c) for r, c in kept], least=least)
    if labels:
        listed = ", ".join(labels)
        words = f"Reply with exactly one of these, and nothing else: {listed}."
        return _wrapped(words, {"type": "string", "enum": labels})
    lengths = sorted(len(str(r).split()) for r in references)
    usual = int(median(lengths))
    words = "Reply with the answer alone: no explanation."
    if len(lengths) >= 5:
        words += (
            f" About {usual} {'word' if usual == 1 else 'words'}; rarely more than {lengths[-1]}."
        )
    return Shape(words=words, why_no_schema="the references are free text")


def _wrapped(words: str, kind: Json) -> Shape:
    schema = {
        "type": "object",
        "properties": {ANSWER: kind},
        "required": [ANSWER],
        "additionalProperties": False,
    }
    return Shape(words=words, schema=schema, answer_key=ANSWER)


def _labels(pairs: Sequence[tuple[str, str]], *, least: int) -> list[str]:
    """Return the labels that the references are drawn from; none where they are no labels."""
    seen: dict[str, set[str]] = {}
    for label, cluster in pairs:
        seen.setdefault(label, set()).add(cluster)
    is_short = all(0 < len(s.strip()) == len(s) <= LONGEST_LABEL and "\n" not in s for s in seen)
    is_few = 1 < len(seen) <= MOST_LABELS and len(pairs) >= 2 * len(seen)
    is_shared = all(len(clusters) >= least for clusters in seen.values())
    return sorted(seen) if is_short and is_few and is_shared else []


def _object(reference: Json) -> Json:
    """Return a reference as a JSON object; None where it is none."""
    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except (ValueError, RecursionError):
            return None
    return reference if isinstance(reference, dict) else None


def _kind(value: Json) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def _schema(values: Sequence[Json], clusters: Sequence[str], *, least: int, depth: int = 0) -> Json:
    """Return a JSON schema that all of `values` obey, as narrow as they bear."""
    groups: dict[str, list[int]] = {}
    for n, value in enumerate(values):
        groups.setdefault(_kind(value), []).append(n)
    if {"integer", "number"} <= set(groups):
        groups["number"] += groups.pop("integer")
    found = []
    for kind in sorted(groups):
        some = [values[n] for n in groups[kind]]
        of = [clusters[n] for n in groups[kind]]
        found.append(_of_kind(kind, some, clusters=of, least=least, depth=depth))
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {}


def _of_kind(
    kind: str, values: Sequence[Json], *, clusters: Sequence[str], least: int, depth: int
) -> Json:
    if kind == "string":
        labels = _labels(list(zip(values, clusters, strict=True)), least=max(2, least))
        return {"type": kind, "enum": labels} if labels else {"type": kind}
    if kind == "array" and depth < DEEPEST:
        items = [(v, c) for some, c in zip(values, clusters, strict=True) for v in some]
        if not items:
            return {"type": kind}
        inner = _schema([v for v, _ in items], [c for _, c in items], least=least, depth=depth + 1)
        return {"type": kind, "items": inner}
    if kind != "object" or depth >= DEEPEST:
        return {"type": kind}
    times = Counter(key for value in values for key in value)
    # keys that are data (names, dates) are seen once each: nothing is known of the next
    if len(times) > MOST_KEYS or (len(values) > 2 and max(times.values(), default=2) == 1):
        return {"type": kind}
    properties = {}
    for key in times:
        some = [(v[key], c) for v, c in zip(values, clusters, strict=True) if key in v]
        properties[key] = _schema(
            [v for v, _ in some], [c for _, c in some], least=least, depth=depth + 1
        )
    return {
        "type": kind,
        "properties": properties,
        "required": [key for key in times if times[key] == len(values)],
        "additionalProperties": False,
    }


def _key_words(schema: Json) -> list[str]:
    always = schema.get("required", [])
    return [
        f'"{key}" ({_in_words(inner)}{"" if key in always else "; only where it applies"})'
        for key, inner in schema.get("properties", {}).items()
    ]


def _in_words(schema: Json) -> str:
    if "anyOf" in schema:
        return " or ".join(_in_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(f'"{label}"' for label in schema["enum"])
    kind = str(schema.get("type", "any value"))
    if kind == "array" and "items" in schema:
        return f"list of {_in_words(schema['items'])}"
    if kind == "object" and schema.get("properties"):
        return "object with " + ", ".join(_key_words(schema))
    return {"string": "text", "array": "list"}.get(kind, kind)
