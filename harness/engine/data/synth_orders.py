"""Which requests make rows, in which order, and how their answers are read. Knows no store.

Orders come from the seed alone, never from what came back: so the same command asks the same
again, finds it recorded, and goes on where it stopped.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.checks.schema import problems_of
from harness.core.synth_holes import NO_SLICES, Hole, belongs
from harness.core.synth_origin import SYNTHETIC, UNLABELLED
from harness.core.synth_prompts import REWRITES, Facts, Kind, Order, prompt_digest, row_schema
from harness.core.words import listed
from harness.engine.boundary import INTERNAL
from harness.engine.text_files import strict_json
from harness.errors import UsageError
from harness.records import Case, Json, Reply, Split, digest

DIALOGUE = "messages"
_TURN = re.compile(r"^(system|user|assistant|tool): ?", re.MULTILINE)

SHOWN = {"self-instruct": 4, "documents": 3, "tag": 5, "class": 5}
ASKED_FOR = {"self-instruct": 4, "deepen": 2, "widen": 2, "documents": 3, "tag": 4, "class": 4}
REWRITTEN = 2


def seeded(*parts: object) -> random.Random:
    """Return draws that the parts fix, on every machine."""
    return random.Random(digest(list(parts)))


# ---------------------------------------------------------------- the text of a row


def text_field(seeds: Sequence[Case], named: str | None, *, without: Collection[str] = ()) -> str:
    """Return the input whose text is changed: the named one, else the one with most text. Inputs
    `without` are no text, as the paths of images.

    Raises UsageError where no seed has it as text.
    """
    sizes: dict[str, int] = {}
    for case in seeds:
        for name in case.inputs:
            text = text_at(case.inputs, name)
            if text is not None and name not in without:
                sizes[name] = sizes.get(name, 0) + len(text)
    if named is not None and named not in sizes:
        raise UsageError(f"--field {named}: no text in it. Inputs with text: {_names(sizes)}.")
    if not sizes:
        raise UsageError(
            f"no input of the rows is text that could be changed (as {seeds[0].id}; they have "
            f"{listed([*seeds[0].inputs])}): perturb changes a text"
        )
    return named or max(sizes, key=lambda name: (sizes[name], name))


def _names(some: Mapping[str, object]) -> str:
    return ", ".join(some) or "none"


def text_at(inputs: Mapping[str, Json], name: str) -> str | None:
    """Return the text of an input; of a dialogue, that of the last user's turn."""
    value = inputs.get(name)
    if isinstance(value, str):
        start, end = _spoken(value)
        return value[start:end]
    turn = _last_turn(value) if name == DIALOGUE else None
    return None if value is None or turn is None else str(value[turn]["content"])


def with_text(inputs: Mapping[str, Json], name: str, text: str) -> dict[str, Json]:
    """Return the inputs with another text there."""
    value = inputs[name]
    if isinstance(value, str):
        start, end = _spoken(value)
        return {**inputs, name: f"{value[:start]}{text}{value[end:]}"}
    turns, at = list(value), _last_turn(value)
    assert at is not None
    turns[at] = {**turns[at], "content": text}
    return {**inputs, name: turns}


def _spoken(text: str) -> tuple[int, int]:
    """Return where in an input the text stands that is changed: all of it, and of a dialogue that
    `harness init` wrote as lines of `user: ...` the last user's turn.
    """
    turns = list(_TURN.finditer(text))
    if not turns or turns[0].start():
        return 0, len(text)
    users = [n for n, turn in enumerate(turns) if turn[1] == "user"]
    if not users:
        return 0, len(text)
    last = users[-1]
    end = turns[last + 1].start() - 1 if last + 1 < len(turns) else len(text)
    return turns[last].end(), end


def digestible(case: Case) -> str:
    """Return a row as a model would write it."""
    return json.dumps([dict(case.inputs), case.reference], ensure_ascii=False)


def _last_turn(value: Json) -> int | None:
    if not isinstance(value, list):
        return None
    for n in range(len(value) - 1, -1, -1):
        turn = value[n]
        if isinstance(turn, dict) and turn.get("role") == "user":
            return n if isinstance(turn.get("content"), str) else None
    return None


# ---------------------------------------------------------------- orders


def self_instruct(seeds: Sequence[Case], *, seed: int) -> Iterator[Order]:
    """Yield orders without end, each from other seeds."""
    number = 0
    while True:
        rng = seeded("self-instruct", seed, number)
        drawn = rng.sample(list(seeds), min(SHOWN["self-instruct"], len(seeds)))
        yield Order(kind="self-instruct", seeds=tuple(drawn), n=ASKED_FOR["self-instruct"])
        number += 1


def from_each(
    seeds: Sequence[Case], kinds: Sequence[Kind], *, seed: int, name: str = ""
) -> Iterator[Order]:
    """Yield orders that each change one row; every row is taken once by each kind, then again."""
    number = 0
    while True:
        rng = seeded("each", seed, number)
        for n, case in enumerate(rng.sample(list(seeds), len(seeds))):
            kind = kinds[(n + number) % len(kinds)]
            count = REWRITTEN if kind in REWRITES else ASKED_FOR[kind]
            text = text_at(case.inputs, name) if kind in REWRITES else ""
            if text is not None:
                yield Order(kind=kind, seeds=(case,), n=count, text_field=name, text=text)
        number += 1


def from_documents(
    passages: Sequence[tuple[str, str]], seeds: Sequence[Case], *, seed: int
) -> Iterator[Order]:
    """Yield orders of one passage each, every passage in turn."""
    number = 0
    while True:
        rng = seeded("documents", seed, number)
        for one in rng.sample(list(passages), len(passages)):
            drawn = rng.sample(list(seeds), min(SHOWN["documents"], len(seeds)))
            yield Order(kind="documents", seeds=tuple(drawn), n=ASKED_FOR["documents"], passage=one)
        number += 1


def for_holes(holes: Sequence[Hole], seeds: Sequence[Case], *, seed: int) -> Iterator[Order]:
    """Yield orders for each hole in turn; rows that belong to it are shown before others."""
    number = 0
    while True:
        for hole in holes:
            place = [hole.key] if hole.key else []
            rng = seeded("holes", seed, number, hole.kind, hole.name, *place)
            mine = [c for c in seeds if belongs(c, hole)]
            rest = [c for c in seeds if not belongs(c, hole)]
            most = SHOWN[hole.kind]
            drawn = rng.sample(mine, min(most - 2, len(mine)))
            drawn += rng.sample(rest, min(most - len(drawn), len(rest)))
            yield Order(kind=hole.kind, seeds=tuple(drawn), n=ASKED_FOR[hole.kind], hole=hole)
        number += 1


# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What every row of one answer has in common: how it was made, of what, and for which split."""

    by: str
    split: Split
    model: str
    seed: int
    request: str


def read_answer(reply: Reply, *, order: Order, facts: Facts) -> list[dict[str, Any]] | str:
    """Return the rows of an answer, or why it has none: strict JSON of the schema that was asked
    for. One code fence around all of it is taken off.
    """
    if reply.finish_reason in {"length", "max_tokens"}:
        return "the answer was cut off by max_tokens"
    try:
        value = strict_json(_unfenced(reply.text))
    except ValueError:
        return "the answer is no JSON"
    # more rows than were asked for are no fault: they are rows
    problem = problems_of(value, row_schema(facts, order.kind, hole=order.hole, most=10_000))
    if not problem:
        rows: list[dict[str, Any]] = value["rows"]
        return rows
    whole = problems_of(value, ENVELOPE)
    if whole:
        return "the answer is no object of `rows`"
    good = [row for row in value["rows"] if not problems_of({"rows": [row]}, _schema(facts, order))]
    return good or "no row has the form that was asked for"


ENVELOPE = {
    "type": "object",
    "properties": {"rows": {"type": "array", "minItems": 1}},
    "required": ["rows"],
    "additionalProperties": False,
}


def rows_said(reply: Reply) -> int:
    """Return how many rows an answer holds, of whatever form."""
    try:
        value = strict_json(_unfenced(reply.text))
    except ValueError:
        return 0
    rows = value.get("rows") if isinstance(value, dict) else None
    return len(rows) if isinstance(rows, list) else 0


def _unfenced(text: str) -> str:
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text.partition("\n")[2].removesuffix("```").strip()
    return text


def _schema(facts: Facts, order: Order) -> Json:
    return row_schema(facts, order.kind, hole=order.hole, most=1)


def case_of(row: Mapping[str, Any], *, order: Order, facts: Facts, origin: Origin) -> Case:
    """Return a row of an answer as a case, with how it was made."""
    first = order.seeds[0] if order.seeds else None
    if order.kind in REWRITES:
        assert first is not None
        keeps = REWRITES[order.kind]
        reference = first.reference if keeps else _reference(row["reference"], facts)
        return variant(
            first,
            with_text(first.inputs, order.text_field, row["text"]),
            reference=reference,
            keeps_label=keeps,
            made=_provenance(order, origin) | {"label": "kept" if keeps else "made"},
        )
    cluster = (first.cluster or first.id) if first else ""
    documents: tuple[str, ...] = ()
    if order.passage is not None:
        documents = (order.passage[0],)
        cluster = f"document {order.passage[0].rpartition('#')[0]}"
    inputs, reference = dict(row["inputs"]), _reference(row["reference"], facts)
    return Case(
        id=f"{order.kind}-{digest([inputs, reference])[:10]}",
        inputs=inputs,
        split=origin.split,
        reference=reference,
        cluster=cluster,
        tags=_tags(order),
        documents=documents,
        provenance=_provenance(order, origin) | {"label": "made"},
    )


def variant(
    seed: Case,
    inputs: Mapping[str, Json],
    *,
    reference: Json,
    keeps_label: bool,
    made: Mapping[str, Json],
) -> Case:
    """Return `seed` with changed inputs; what is known of its answer stays where the label does."""
    tags = dict.fromkeys([*seed.tags, SYNTHETIC, *([] if reference is not None else [UNLABELLED])])
    return replace(
        seed,
        id=f"{made['kind']}-{digest([dict(inputs), reference])[:10]}",
        inputs=dict(inputs),
        reference=reference,
        cluster=seed.cluster or seed.id,
        tags=tuple(tags),
        checks=seed.checks if keeps_label else (),
        documents=seed.documents if keeps_label else (),
        rejected=seed.rejected if keeps_label else None,
        also_right=seed.also_right if keeps_label else (),
        line="",
        provenance=dict(made),
    )


def _reference(value: Json, facts: Facts) -> Json:
    if facts.is_json_text and not isinstance(value, str):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return value


def _tags(order: Order) -> tuple[str, ...]:
    """Return the slices of a made row: those that all of its seeds share, and its hole's. What was
    made from a row that may not leave this machine may not leave it either.
    """
    shared: list[str] = []
    if order.seeds and order.hole is None:
        first, *others = order.seeds
        shared = [t for t in first.tags if all(t in c.tags for c in others)]
    named = [order.hole.name] if order.hole and order.hole.kind == "tag" else []
    inside = [INTERNAL] if any(INTERNAL in c.tags for c in order.seeds) else []
    kept = [t for t in [*shared, *named] if t not in NO_SLICES]
    return tuple(dict.fromkeys([*kept, *inside, SYNTHETIC]))


def _provenance(order: Order, origin: Origin) -> dict[str, Json]:
    sources = [c.id for c in order.seeds]
    found: dict[str, Json] = {"made_by": origin.by, "kind": order.kind, "from": sources}
    if order.passage is not None:
        found["document"] = order.passage[0]
    if order.hole is not None:
        found["hole"] = order.hole.called
    return found | {
        "model": origin.model,
        "prompt_digest": prompt_digest(order.kind),
        "seed": origin.seed,
        "request": origin.request[:16],
    }
