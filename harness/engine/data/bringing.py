"""From a file of rows to the cases of a new task. Knows no prompt, no check and no terminal.

Whatever a case has no place for is counted by name in `dropped`: nothing goes in silence.
"""

from __future__ import annotations

import keyword
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core.answer_kinds import plain_answers
from harness.core.examples import Example
from harness.core.wording import says_something
from harness.engine.data.first_splits import first_splits
from harness.engine.data.forms import cases
from harness.engine.data.forms.promptfoo_asserts import check_of, is_only_measured
from harness.engine.data.forms.turns import EXTRAS
from harness.engine.data.offered import (
    DIALOGUE,
    dialogue_text,
    name_of,
    plain_call,
    reference_of,
    said_turns,
    shared_tools,
)
from harness.engine.data.row_checks import is_preference, with_answer_check, with_several
from harness.errors import TaskError
from harness.records import SPLITS, Json, canonical_json

FEWEST = 2
_IMAGE = re.compile(r"\.(png|jpe?g|gif|webp)$", re.IGNORECASE)
MOST_KEYS = 12
"""Keys of an object up to which each is named where it is not carried over."""
_NOTHING: tuple[Json, ...] = (None, "", [], {})
_CARRIED = frozenset({"checks", "documents", "also_right", EXTRAS})
_KEPT = ("checks", "also_right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The cases of a new task, as rows of a case file, and what became of the others.

    `inputs` are the names that a prompt may use; `renamed` what a column was called before.
    `images` names the inputs that are image files. `system` is what every row's system message
    says, `tools` what every row offers. `has_several`: rows have answers of which any would do, and
    checks that say so. `dropped` counts what was not carried over.
    """

    rows: tuple[dict[str, Json], ...]
    inputs: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Json, ...] = ()
    images: tuple[str, ...] = ()
    system: str = ""
    tools: tuple[Json, ...] = ()
    has_several: bool = False
    joined: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Cases a split."""
        found = Counter(str(row["split"]) for row in self.rows)
        return {split: found[split] for split in SPLITS}

    @property
    def has_further(self) -> bool:
        """Whether rows have further answers, as right as theirs."""
        return any("also_right" in row for row in self.rows)

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
    any_would_do: bool = False,
    seed: int = 0,
) -> Brought:
    """Return the cases in `examples`, of a file in `folder`, for a task whose folder is `home`.
    `any_would_do`: an answer that is a list of texts is several, as the file's form has it.

    Raises TaskError where there is nothing to make a task of.
    """
    dropped: Counter[str] = Counter()
    notes: list[str] = []
    every = [_with_own_checks(_without(e, ignored), dropped) for e in examples]
    tools = shared_tools(every)
    if tools:
        offered = ", ".join(f"`{name_of(tool)}`" for tool in tools)
        notes.append(f"the tools that every row offers are in tools.json: {offered}")
    given = _filling(_turned(every, dropped, notes, are_offered=bool(tools)), dropped)
    given = [e for e in given if _asks(e, dropped)]
    given = _answered(given, dropped)
    given, joined = _joined(given)
    if len(given) < FEWEST:
        raise TaskError(
            f"{origin}: {len(given)} usable {'row' if len(given) == 1 else 'rows'} of "
            f"{len(every)}, and no interval can be told from "
            f"fewer than {FEWEST}.{_why(dropped)}"
        )
    given, renamed = _renamed(given, notes)
    given, images = _images(given, folder=folder, home=home)
    system = _shared(given, dropped)
    if not tools and (offering := sum(bool(e.tools) for e in given)):
        dropped["rows' tools: not the same named ones in every row, as a prompt's are"] += offering
    given, has_several = with_several(given, any_would_do=any_would_do)
    if not has_several and any(e.other.get("checks") for e in given):
        given = [with_answer_check(e) for e in given]
    answers = plain_answers([e.reference for e in given if e.reference is not None])
    told = iter(answers)
    given = [e if e.reference is None else replace(e, reference=next(told)) for e in given]
    given = _filled(given, notes)
    splits = first_splits(given, seed=seed, notes=notes)
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
        has_several=has_several,
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


def _with_own_checks(example: Example, dropped: Counter[str]) -> Example:
    """Return a row without what is called as our checks and answers are, and is none."""
    strange = [
        name
        for name, is_one in cases.BESIDE.items()
        if name in example.other and not is_one(example.other[name])
    ]
    if not strange:
        return example
    dropped.update(f"rows' `{name}`" for name in strange)
    return replace(example, other={k: v for k, v in example.other.items() if k not in strange})


def _asks(example: Example, dropped: Counter[str]) -> bool:
    """Whether anything is asked."""
    if any(says_something(value) for value in example.inputs.values()):
        return True
    dropped["rows that ask nothing"] += 1
    return False


def _answered(given: list[Example], dropped: Counter[str]) -> list[Example]:
    """Return the rows with an answer or a check, where any has one."""
    good = [e for e in given if _says(e.reference) or "checks" in e.other]
    if not good:
        return [replace(e, reference=None) for e in given]
    if len(good) < len(given):
        dropped["rows without an answer"] += len(given) - len(good)
    return good


def _says(answer: Json) -> bool:
    """Whether an answer is one: an empty list may be, white space is none."""
    return says_something(answer) if isinstance(answer, str) else answer is not None


def _turned(
    every: Sequence[Example], dropped: Counter[str], notes: list[str], *, are_offered: bool
) -> list[Example]:
    """Return the rows with their messages as inputs, and tool calls as an answer: calls where the
    prompt will offer the tools, else JSON.
    """
    found = []
    has_dialogue = any(len(said_turns(e.messages)) > 1 for e in every)
    # where some rows ask by a text and others by a message, both are the same input
    plain = {name for e in every if not e.messages for name in e.inputs}
    is_mixed = plain == {"input"} and all(not e.inputs for e in every if e.messages)
    single = DIALOGUE if has_dialogue else "input" if is_mixed else "message"
    if has_dialogue:
        notes.append("the turns of a dialogue became one text, the input `dialogue`")
    for example in every:
        inputs = dict(example.inputs)
        turns = said_turns(example.messages)
        if turns:
            inputs[single] = dialogue_text(turns) if has_dialogue else turns[0][1]
        elif is_mixed and has_dialogue and inputs:
            inputs = {single: f"user: {inputs['input']}"}
        reference = example.reference
        if example.calls and are_offered:
            reference = reference_of(example)
        elif example.calls:
            dropped["answers' tool calls as such: they became JSON, `name` and `arguments`"] += 1
            calls = [plain_call(call) for call in example.calls]
            reference = calls[0] if len(calls) == 1 else calls
        if example.images and not any(_is_image(v) for v in inputs.values()):
            dropped["rows' images that are no files"] += 1
        found.append(replace(example, inputs=inputs, reference=reference, calls=()))
    return found


def _filling(given: Sequence[Example], dropped: Counter[str]) -> list[Example]:
    """Return the rows without inputs that are empty in every one of them."""
    names = dict.fromkeys(name for e in given for name in e.inputs)
    empty = {n for n in names if all(e.inputs.get(n) in _NOTHING for e in given)}
    if not empty or len(empty) == len(names):
        return list(given)
    for name in names:
        if name in empty:
            dropped[f"the input `{name[:60]}`, which is empty in every row"] += len(given)
    return [replace(e, inputs={k: v for k, v in e.inputs.items() if k not in empty}) for e in given]


def _joined(given: Sequence[Example]) -> tuple[list[Example], int]:
    """Return the rows without those that ask and answer what one before them does."""
    seen: set[str] = set()
    found = []
    for example in given:
        own = [example.other.get(name) for name in _KEPT]
        key = canonical_json([dict(example.inputs), example.reference, example.rejected, *own])
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


def _shared(given: Sequence[Example], dropped: Counter[str]) -> str:
    """Return the system text that all rows have."""
    texts = Counter("\n\n".join(m.content for m in e.messages if m.role == "system") for e in given)
    system = next(iter(texts)) if len(texts) == 1 else ""
    if len(texts) > 1:
        dropped["rows' system messages, which differ"] += sum(n for t, n in texts.items() if t)
    return system


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
                dropped.update(_named(name, value))
        if example.is_good is not None:
            dropped["rows' thumbs, up or down"] += 1
        if example.provenance:
            dropped["rows' provenance"] += 1
        if example.rejected is not None and not is_preference(example):
            dropped["rejected answers without a better one"] += 1


def _named(name: str, value: Json) -> list[str]:
    """Return what is lost with a value: an object's keys and the kinds of asserts by their names,
    so that a person can tell what is missing.
    """
    if name == "assert" and isinstance(value, list):
        return list(dict.fromkeys(_assert(one) for one in value if isinstance(one, Mapping)))
    if isinstance(value, Mapping) and len(value) <= MOST_KEYS:
        keys = [f"`{name}.{str(key)[:60]}`" for key, v in value.items() if v not in _NOTHING]
        return [f"rows' {key}" for key in keys]
    return [f"rows' `{name[:60]}`"]


def _assert(one: Mapping[str, Json]) -> str:
    kind = str(one.get("type"))[:60]
    if is_only_measured(one):
        return f"asserts of weight 0, which cannot fail, `{kind}`"
    if isinstance(one.get("type"), str) and check_of(one) is not None:
        return f"asserts that decide together, as no check of ours does, `{kind}`"
    return f"asserts that no check of ours means, `{kind}`"


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
        if is_preference(example):
            row["rejected"] = example.rejected
        if example.cluster:
            row["cluster"] = example.cluster
        if example.tags:
            row["tags"] = list(example.tags)
        yield row | {key: example.other[key] for key in _KEPT if example.other.get(key)}
