"""From a file of rows to the cases of a new task. Knows no prompt, no check and no terminal.

Whatever a case has no place for is counted by name in `dropped`: nothing goes in silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import keyword
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.core.first_checks import plain_answers
from harness.core.groups import Groups
from harness.core.near import normalised
from harness.core.twins import Pair, Twins, asked_code
from harness.core.wording import wording_of
from harness.engine.data.forms.cases import NEAREST
from harness.engine.data.forms.turns import EXTRAS
from harness.errors import TaskError, UsageError
from harness.records import SPLITS, Json, canonical_json

FEWEST = 2
ALL_DEV = 20
"""Rows below which all are dev: a share of so few would be no evidence at all."""
_IMAGE = re.compile(r"\.(png|jpe?g|gif|webp)$", re.IGNORECASE)
_CARRIED = frozenset({"checks", "documents", EXTRAS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The cases of a new task, as rows of a case file, and what became of the others.

    `inputs` are the names that a prompt may use; `renamed` what a column was called before.
    `images` names the inputs that are image files. `system` is what every row's system message
    says; `tools` what every row offers. `dropped` counts what was not carried over.
    """

    rows: tuple[dict[str, Json], ...]
    inputs: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Json, ...] = ()
    images: tuple[str, ...] = ()
    system: str = ""
    tools: tuple[Json, ...] = ()
    joined: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Cases a split."""
        found = Counter(str(row["split"]) for row in self.rows)
        return {split: found[split] for split in SPLITS}

    @property
    def has_case_checks(self) -> bool:
        """Whether the rows bring checks of their own."""
        return any("checks" in row for row in self.rows)


def bring(
    examples: Iterable[Example],
    *,
    origin: str,
    folder: Path,
    home: Path,
    ignored: Sequence[str] = (),
    seed: int = 0,
) -> Brought:
    """Return the cases in `examples`, of a file in `folder`, for a task whose folder is `home`.

    Raises TaskError where there is nothing to make a task of.
    """
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    every = [_without(e, ignored) for e in examples]
    given = _turned(every, dropped, notes)
    given = [e for e in given if _asks(e, dropped)]
    given = _answered(given, dropped)
    given, joined = _joined(given)
    if len(given) < FEWEST:
        raise TaskError(
            f"{origin}: {len(given)} usable rows of {len(every)}, and no interval can be told from "
            f"fewer than {FEWEST}.{_why(dropped)}"
        )
    given, renamed = _renamed(given, notes)
    given, images = _images(given, folder=folder, home=home)
    system, tools = _shared(given, dropped)
    answers = plain_answers([e.reference for e in given if e.reference is not None])
    told = iter(answers)
    given = [e if e.reference is None else replace(e, reference=next(told)) for e in given]
    given = _filled(given, notes)
    splits = _splits(given, seed=seed, notes=notes, origin=origin)
    _count_rest(given, dropped)
    names = tuple(dict.fromkeys(name for e in given for name in e.inputs))
    return Brought(
        rows=tuple(_rows(given, splits)),
        inputs=names,
        renamed=renamed,
        answers=tuple(answers),
        images=images,
        system=system,
        tools=tools,
        joined=joined,
        dropped=dict(dropped),
        notes=tuple(notes),
    )


def _why(dropped: Mapping[str, int]) -> str:
    if not dropped:
        return ""
    return " Not usable: " + "; ".join(f"{what}: {n}" for what, n in dropped.items()) + "."


def _without(example: Example, ignored: Sequence[str]) -> Example:
    if not ignored:
        return example
    return replace(example, inputs={k: v for k, v in example.inputs.items() if k not in ignored})


def _asks(example: Example, dropped: Counter[str]) -> bool:
    """Whether anything is asked."""
    if any(v not in (None, "", [], {}) for v in example.inputs.values()):
        return True
    dropped["rows that ask nothing"] += 1
    return False


def _answered(given: list[Example], dropped: Counter[str]) -> list[Example]:
    """Return the rows with an answer or a check, where any has one."""
    good = [e for e in given if e.reference not in (None, "") or "checks" in e.other]
    if not good:
        return [replace(e, reference=None) for e in given]
    if len(good) < len(given):
        dropped["rows without an answer"] += len(given) - len(good)
    return good


def _turned(every: Sequence[Example], dropped: Counter[str], notes: list[str]) -> list[Example]:
    """Return the rows with their messages as inputs, and tool calls as an answer of JSON."""
    found = []
    has_dialogue = any(len(_turns(e)) > 1 for e in every)
    if has_dialogue:
        notes.append("the turns of a dialogue became one text, the input `dialogue`")
    for example in every:
        inputs = dict(example.inputs)
        turns = _turns(example)
        if turns:
            said = "\n".join(f"{role}: {text}" for role, text in turns)
            inputs["dialogue" if has_dialogue else "message"] = (
                said if has_dialogue else turns[0][1]
            )
        reference = example.reference
        if example.calls:
            dropped["answers' tool calls as such: they became JSON, `name` and `arguments`"] += 1
            calls = [_call(call) for call in example.calls]
            reference = calls[0] if len(calls) == 1 else calls
        if example.images and not any(_is_image(v) for v in inputs.values()):
            dropped["rows' images that are no files"] += 1
        found.append(replace(example, inputs=inputs, reference=reference, calls=()))
    return found


def _turns(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages if m.role != "system"]


def _call(call: Json) -> Json:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping):
        return call
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    return {"name": inner.get("name"), "arguments": arguments}


def _joined(given: Sequence[Example]) -> tuple[list[Example], int]:
    """Return the rows without those that ask and answer what one before them does."""
    seen: set[str] = set()
    found = []
    for example in given:
        key = canonical_json([dict(example.inputs), example.reference, example.rejected])
        if key not in seen:
            seen.add(key)
            found.append(example)
    return found, len(given) - len(found)


def _renamed(given: list[Example], notes: list[str]) -> tuple[list[Example], dict[str, str]]:
    """Return the rows with inputs whose names a template can use."""
    names = list(dict.fromkeys(name for e in given for name in e.inputs))
    renamed: dict[str, str] = {}
    taken = {name for name in names if is_usable(name)}
    for name in names:
        if is_usable(name):
            continue
        plain = re.sub(r"\W+", "_", name.strip().lower()).strip("_") or "input"
        plain = f"_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain
        number, chosen = 2, plain
        while chosen in taken or not is_usable(chosen):
            chosen, number = f"{plain}_{number}", number + 1
        taken.add(chosen)
        renamed[name] = chosen
    if not renamed:
        return given, {}
    notes += [f"the column {old!r} is the input `{new}`" for old, new in renamed.items()]
    return [
        replace(e, inputs={renamed.get(k, k): v for k, v in e.inputs.items()}) for e in given
    ], renamed


def is_usable(name: str) -> bool:
    """Whether a template can name this input."""
    return name.isidentifier() and not keyword.iskeyword(name) and name not in _TEMPLATE_WORDS


_TEMPLATE_WORDS = {"examples", "documents", "true", "false", "none", "loop", "self"}


def _is_image(value: Json) -> bool:
    return isinstance(value, str) and "\n" not in value and bool(_IMAGE.search(value))


def _images(
    given: list[Example], *, folder: Path, home: Path
) -> tuple[list[Example], tuple[str, ...]]:
    """Return the rows with image files named from the task's folder, and which inputs name them."""
    first = given[0].inputs
    names = [
        name
        for name, value in first.items()
        if _is_image(value)
        and all(
            _is_image(e.inputs.get(name)) and (folder / str(e.inputs[name])).is_file()
            for e in given
        )
    ]
    if not names:
        return given, ()
    start = home.resolve()
    found = []
    for example in given:
        paths = {
            name: os.path.relpath((folder / str(example.inputs[name])).resolve(), start)
            for name in names
        }
        found.append(replace(example, inputs={**example.inputs, **paths}, images=()))
    return found, tuple(names)


def _shared(given: Sequence[Example], dropped: Counter[str]) -> tuple[str, tuple[Json, ...]]:
    """Return the system text that all rows have, and the tools that all rows offer."""
    texts = Counter("\n\n".join(m.content for m in e.messages if m.role == "system") for e in given)
    system = next(iter(texts)) if len(texts) == 1 else ""
    if len(texts) > 1:
        dropped["rows' system messages, which differ"] += sum(n for t, n in texts.items() if t)
    offered = Counter(canonical_json(list(e.tools)) for e in given if e.tools)
    if offered:
        dropped["rows' tools: a prompt offers them (`tools` in its front matter)"] += sum(
            offered.values()
        )
    return system, ()


def _filled(given: list[Example], notes: list[str]) -> list[Example]:
    """Return the rows with every input in each: what a row lacks is empty there."""
    names = dict.fromkeys(name for e in given for name in e.inputs)
    lacking = Counter(name for e in given for name in names if e.inputs.get(name) is None)
    if not lacking:
        return given
    shown = ", ".join(f"`{name}` in {n}" for name, n in lacking.most_common(5))
    notes.append(f"inputs that rows lack are empty there: {shown}")
    return [
        replace(e, inputs={n: "" if e.inputs.get(n) is None else e.inputs[n] for n in names})
        for e in given
    ]


def _count_rest(given: Sequence[Example], dropped: Counter[str]) -> None:
    """Count what a case has no place for."""
    for example in given:
        for name, value in example.other.items():
            if name not in _CARRIED and value not in (None, "", [], {}):
                dropped[f"rows' `{name}`"] += 1
        if example.is_good is not None:
            dropped["rows' thumbs, up or down"] += 1
        if example.provenance:
            dropped["rows' provenance"] += 1
        if example.rejected is not None and not _is_preference(example):
            dropped["rejected answers without a better one"] += 1


def _is_preference(example: Example) -> bool:
    worse, better = example.rejected, example.reference
    if worse is None or better is None or worse == better:
        return False
    return all(not isinstance(v, str) or v.strip() for v in (worse, better))


def _rows(given: Sequence[Example], splits: Sequence[str]) -> Iterable[dict[str, Json]]:
    ids: set[str] = set()
    for number, (example, split) in enumerate(zip(given, splits, strict=True), start=1):
        name = (example.id or f"r{number:04d}")[:180]
        plain, again = name, 2
        while name in ids:
            name, again = f"{plain}-{again}", again + 1
        ids.add(name)
        row: dict[str, Any] = {"id": name, "split": split, "inputs": dict(example.inputs)}
        if example.reference is not None:
            row["reference"] = example.reference
        if _is_preference(example):
            row["rejected"] = example.rejected
        if example.cluster:
            row["cluster"] = example.cluster
        if example.tags:
            row["tags"] = list(example.tags)
        yield row | ({"checks": example.other["checks"]} if example.other.get("checks") else {})


# ---------------------------------------------------------------- splits


def shares(rows: int) -> tuple[float, float]:
    """Return the shares of dev and test: evidence first, 500 cases each at most.

    Below 500 rows two in five are dev and two in five test, since intervals come from cases; what
    is left is enough for examples in a prompt. Of many rows, most are left to train on.
    """
    size = min(500, max(200, rows // 10))
    share = min(0.4, size / rows)
    return share, share


def _splits(given: Sequence[Example], *, seed: int, notes: list[str], origin: str) -> list[str]:
    """Return the split of each row: its own where the file tells, else by its source's hash."""
    own = [NEAREST.get(e.split.strip().lower(), e.split.strip().lower()) for e in given]
    strange = next((e for e, s in zip(given, own, strict=True) if s not in {*SPLITS, ""}), None)
    if strange is not None:
        raise UsageError(
            f"{strange.place}: the split is {strange.split!r}; known are train, dev and test. "
            "If the column says something else, map it: --map split=tags, or split=ignore"
        )
    groups = _groups(given)
    if any(own):
        if "dev" in own:
            return [s or "train" for s in own]
        notes.append("the file has no dev split: two in five of its train sources became dev")
        return [
            s if s == "test" else "dev" if _draw(group, seed) < 0.4 else "train"
            for s, group in zip(own, groups, strict=True)
        ]
    if len(set(groups)) < ALL_DEV:
        notes.append(
            f"{len(set(groups))} sources are too few to hold some back: all are dev, and a release "
            "needs test cases"
        )
        return ["dev"] * len(given)
    dev, test = shares(len(given))
    return [_split_of(_draw(group, seed), dev=dev, test=test) for group in groups]


def _split_of(draw: float, *, dev: float, test: float) -> str:
    return "dev" if draw < dev else "test" if draw < dev + test else "train"


def _groups(given: Sequence[Example]) -> list[str]:
    """Return the source of each row: rows of one cluster, and rows that ask the same or nearly so,
    are one, and stand in one split.
    """
    asked = [canonical_json(dict(e.inputs)) for e in given]
    keys: dict[str, int] = {}
    groups = Groups()
    for number, example in enumerate(given):
        same = f"asked {asked_code(example)}"  # but for case, spacing and closing punctuation
        for key in (same, *([f"of {example.cluster}"] if example.cluster else [])):
            groups.join(keys.setdefault(key, number), number)
    for pair in _near(given):
        groups.join(pair.one, pair.other)
    # the first row's own words name a group, so that its split stays when rows are added behind it
    roots = [groups.root(number) for number in range(len(given))]
    return [given[root].cluster or asked[root] for root in roots]


def _near(given: Sequence[Example]) -> list[Pair]:
    wording, twins = wording_of(given[:2000]), Twins()
    for example in given:
        content, context = wording.parts(example)
        twins.add(example, content=normalised(content), context=context)
    for number in sorted(twins.settle()):
        twins.again(number, normalised(wording.parts(given[number])[0]))
    return twins.pairs()


def _draw(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the source and the seed alone."""
    code = hashlib.sha256(f"{seed} {group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(code[:8]) / 2**64
