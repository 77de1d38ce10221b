"""Rows that stand twice, in sets of train and test, among rows that only look alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from tests.core.lints.planted import clean_rows, edited, sentence
from tests.engine.data.plants.base import Plant, Sown, held

Second = Callable[[Example, random.Random], Example]
"""Makes a second row of a first one."""
MANY = 2_000
"""Rows from which pairs are proposed by sketches."""
OTHER_ANSWER = "We cannot help you with this case, as it is not one of ours at all."


def asking(change: Callable[[str, random.Random], str], **more: Any) -> Second:
    return lambda row, rng: replace(
        row, inputs={"text": change(str(row.inputs["text"]), rng)}, **more
    )


def again(**more: Any) -> Second:
    return asking(lambda text, rng: text, **more)


def words(change: Callable[[list[str], random.Random], list[str]]) -> Callable[[str, Any], str]:
    return lambda text, rng: " ".join(change(text.split(), rng))


def at(rng: random.Random, some: list[str]) -> int:
    return rng.randrange(2, len(some) - 2)


def left_out(some: list[str], rng: random.Random) -> list[str]:
    i = at(rng, some)
    return some[:i] + some[i + 1 :]


def put_in(some: list[str], rng: random.Random) -> list[str]:
    i = at(rng, some)
    return [*some[:i], f"x{rng.randrange(99)}", *some[i:]]


def half_new(text: str, rng: random.Random) -> str:
    some, new = text.split(), sentence(rng).split()
    return " ".join(some[: len(some) // 2] + new[len(new) // 2 :])


def shuffled(some: list[str], rng: random.Random) -> list[str]:
    return rng.sample(some, len(some))


SAME: dict[str, Callable[[str, random.Random], str]] = {
    "word for word": lambda text, rng: text,
    "shouted": lambda text, rng: text.upper(),
    "other spaces": lambda text, rng: f"  {text.replace(' ', '  ')}\n",
    "closing marks": lambda text, rng: f"{text} ?!",
    "full-width letters": lambda text, rng: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text
    ),
}
NEARLY: dict[str, Callable[[str, random.Random], str]] = {
    "a word changed": lambda text, rng: edited(rng, text),
    "a word left out": words(left_out),
    "a word put in": words(put_in),
    "words before": lambda text, rng: f"Hello, {text}",
    "words after": lambda text, rng: f"{text}. Thank you",
}
ALIKE: dict[str, Callable[[str, random.Random], str]] = {
    "half of it": half_new,
    "the same words in another order": words(shuffled),
    "another question": lambda text, rng: sentence(rng),
    "every third word changed": lambda text, rng: " ".join(
        f"y{rng.randrange(10**6)}" if i % 3 == 0 else w for i, w in enumerate(text.split())
    ),
}


def pairs(
    faults: Mapping[str, Second],
    alike: Mapping[str, Second],
    *,
    split: str = "train",
    other: str = "test",
    each: int = 10,
    plain: int = 200,
    first: Callable[[Example], Example] = lambda row: row,
) -> Callable[[Path], list[Sown]]:
    """Rows of one split and, of some of them, a second one in the `other`. Both rows of a faulty
    pair are to be found.
    """

    def sow(folder: Path) -> list[Sown]:
        rng = random.Random(30)
        kinds = [kind for kind in (*faults, *alike) for _ in range(each)]
        rows = [first(row) for row in clean_rows(plain + len(kinds), seed=3, split=split)]
        named = {row.id: "plain" for row in rows}
        seconds = []
        for row, kind in zip(rows, kinds, strict=False):
            new = replace({**faults, **alike}[kind](row, rng), id=f"second-{row.id}", split=other)
            seconds.append(new)
            named[row.id] = named[new.id] = kind
        rows += seconds
        rng.shuffle(rows)
        return [
            Sown(
                rows=held(rows),
                bad={name: kind for name, kind in named.items() if kind in faults},
                good={name: kind for name, kind in named.items() if kind not in faults},
            )
        ]

    return sow


def seconds(
    texts: Mapping[str, Callable[[str, random.Random], str]], **more: Any
) -> dict[str, Second]:
    return {kind: asking(change, **more) for kind, change in texts.items()}


def with_tools(name: str) -> Second:
    tools = ({"type": "function", "function": {"name": name}},)
    return again(tools=tools, reference=OTHER_ANSWER)


def renumbered(row: Example, rng: random.Random) -> Example:
    return replace(row, inputs={"text": sentence(rng)}, cluster=f"own {rng.randrange(10**9)}")


def sourced(row: Example) -> Example:
    return replace(row, cluster=f"customer {row.id}")


def from_source(row: Example, rng: random.Random) -> Example:
    return replace(row, inputs={"text": sentence(rng)}, reference=f"case {rng.randrange(10**9)}")


def swapped(row: Example, rng: random.Random) -> Example:
    return replace(row, reference=row.rejected, rejected=row.reference)


def preferred(row: Example) -> Example:
    return replace(row, rejected=f"No, {row.id} is none of ours.")


Sow = Callable[[Path], list[Sown]]


def ids(folder: Path) -> list[Sown]:
    """Equal ids at rows that differ; ids that differ by case or a blank are others."""
    rows = clean_rows(400, seed=9)
    bad: dict[str, str] = {}
    for i in range(40):
        rows[2 * i] = replace(rows[2 * i], id=rows[2 * i + 1].id)
        bad[rows[2 * i].id] = "an id twice"
    for i in range(100, 120):
        rows[2 * i] = replace(rows[2 * i], id=f"{rows[2 * i + 1].id}x")
        rows[2 * i + 1] = replace(rows[2 * i + 1], id=f"{rows[2 * i + 1].id}X")
    for i in range(300, 320):
        rows[i] = replace(rows[i], id="", place=f"rows.jsonl:{i + 1}")
    good = {row.id or row.place.rpartition(":")[2]: "own id" for row in rows if row.id not in bad}
    return [Sown(rows=held(rows), bad=bad, good=good)]


def both(*sows: Sow) -> Sow:
    return lambda folder: [sown for sow in sows for sown in sow(folder)]


def thumb(row: Example) -> Example:
    return replace(row, is_good=True)


def structured(row: Example) -> Example:
    return replace(row, reference={"topic": "parcel", "days": 7})


PLANTS = (
    Plant(
        rule="leak",
        sow=pairs(
            {
                **seconds(SAME),
                "another answer": again(reference=OTHER_ANSWER),
                "other tools": with_tools("find"),
            },
            seconds({**ALIKE, "a word changed": NEARLY["a word changed"]}),
        ),
    ),
    Plant(
        rule="near-leak",
        sow=both(
            pairs(seconds(NEARLY), seconds({**ALIKE, **SAME})),
            pairs(seconds(NEARLY), seconds({**ALIKE, **SAME}), plain=MANY),
        ),
    ),
    Plant(
        rule="source-leak",
        sow=pairs(
            {"one source": from_source, "one source, nearly the same": again()},
            {"another source": renumbered},
            each=20,
            first=sourced,
        ),
    ),
    Plant(
        rule="label-conflict",
        sow=both(
            pairs(
                {kind: asking(change, reference=OTHER_ANSWER) for kind, change in SAME.items()},
                {
                    "the same answer": again(),
                    "an answer too many": again(reference=None),
                    "other tools": with_tools("find"),
                    **seconds({**NEARLY, **ALIKE}, reference=OTHER_ANSWER),
                },
                other="train",
            ),
            pairs(
                {"preferred both ways": swapped},
                {
                    "preferred twice": again(),
                    "better than another": again(rejected="No, never."),
                    "the better of another": again(reference="Yes, at once."),
                },
                first=preferred,
            ),
            pairs(
                {"a thumb down": again(is_good=False)},
                {
                    "a thumb up again": again(),
                    "of another answer": again(is_good=False, reference=OTHER_ANSWER),
                },
                first=thumb,
            ),
            pairs(
                {"another value": again(reference={"topic": "parcel", "days": 8})},
                {
                    "keys in another order": again(reference={"days": 7, "topic": "parcel"}),
                    "a whole number as a fraction": again(
                        reference={"topic": "parcel", "days": 7.0}
                    ),
                },
                first=structured,
            ),
        ),
    ),
    Plant(
        rule="duplicate",
        sow=pairs(
            seconds(SAME),
            {
                "another answer": again(reference=OTHER_ANSWER),
                "no answer": again(reference=None),
                "other tools": with_tools("find"),
                **seconds({**ALIKE, **NEARLY}),
            },
            other="train",
        ),
    ),
    Plant(
        rule="near-duplicate",
        sow=both(
            pairs(seconds(NEARLY), seconds({**ALIKE, **SAME}), other="train"),
            pairs(seconds(NEARLY), seconds({**ALIKE, **SAME}), other="train", plain=MANY),
        ),
    ),
    Plant(rule="duplicate-id", unit="id", sow=ids),
)
