"""Faults of single questions and answers, and of their lengths."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.core.lints import Measure
from harness.records import Message
from tests.core.lints.planted import clean_rows, sentence
from tests.engine.data.plants.base import Change, Plant, Sown, held, one_by_one


def field(**changes: Any) -> Change:
    return lambda row, rng: replace(row, **changes)


def asking(make: Callable[[random.Random], Any]) -> Change:
    return lambda row, rng: replace(row, inputs={"text": make(rng)})


def answering(make: Callable[[str, random.Random], Any]) -> Change:
    return lambda row, rng: replace(row, reference=make(str(row.inputs["text"]), rng))


def table(n: int) -> list[Example]:
    """Rows of a table with two inputs."""
    return [
        replace(row, inputs={"subject": f"case {i * 37}", **row.inputs})
        for i, row in enumerate(clean_rows(n))
    ]


BLANK_INPUTS = {
    "empty": field(inputs={"text": ""}),
    "blank": field(inputs={"text": " \n\t"}),
    "a space that does not break": field(inputs={"text": "\u00a0"}),
    "a space without width": field(inputs={"text": "\u200b"}),
    "null": field(inputs={"text": None}),
    "two, both empty": field(inputs={"subject": "", "text": " "}),
    "two, both null": field(inputs={"subject": None, "text": None}),
    "an empty list": field(inputs={"subject": [], "text": {}}),
    "no input": field(inputs={}),
    "a turn that says nothing": field(inputs={}, messages=(Message(role="user", content=" "),)),
    "a system message alone": field(
        inputs={"text": ""}, messages=(Message(role="system", content="Be brief."),)
    ),
}
FILLED_INPUTS = {
    "one of two empty": field(inputs={"subject": "", "text": "where is parcel 17?"}),
    "a zero": field(inputs={"n": 0, "text": None}),
    "false": field(inputs={"is_late": False}),
    "a sign": field(inputs={"text": "?"}),
    "an image": field(inputs={}, images=("data:image/png;base64,AAAA",)),
    "an image in a turn": field(
        inputs={},
        messages=(Message(role="user", content="", images=("data:image/png;base64,AAAA",)),),
    ),
}
STAND_INS = """
    n/a|N/A|NA|n.a.|none|None|null|NULL|NaN|nan|undefined|-|--|—|–|?|???|…|...|.|tbd|TBD|todo|TODO
    |TODO: write|tbc|#N/A|#REF!|#VALUE!|#NAME?|#DIV/0!|(empty)|[empty]|(blank)|[blank]|<empty>
    |[deleted]|[removed]|xxx|XXX|lorem ipsum dolor sit amet|(none)|\u200b
"""
SHORT = """
    0|no|No.|yes|N|nothing|1|false|x|A|ok|nan bread|Nana|none of these|todo list: buy bread|C#|+|-5
    |not available today|Tod|null and void|the dash - a sign|…and so on|empty the box|b.|Ø
"""


def each_of(texts: str) -> dict[str, Change]:
    return {
        ascii(text): field(reference=text)
        for text in map(str.strip, texts.replace("\n", "").split("|"))
    }


def corrected(asked: str, rng: random.Random) -> str:
    """The question with a word put right: nearly the same, and an answer."""
    words = asked.split()
    words[rng.randrange(len(words))] = "corrected"
    return " ".join(words)


COPIES = {
    "word for word": answering(lambda asked, rng: asked),
    "shouted": answering(lambda asked, rng: asked.upper()),
    "with a full stop": answering(lambda asked, rng: f"{asked}."),
    "with other spaces": answering(lambda asked, rng: f"  {asked.replace(' ', '  ')}\n"),
    "and more after it": answering(lambda asked, rng: f"{asked} Answer: {rng.randrange(99)}"),
    "and more before it": answering(lambda asked, rng: f"Question: {asked}\nAnswer: yes"),
    "a short one": lambda row, rng: replace(
        row, inputs={"text": (t := f"where is {rng.randrange(10**6)}")}, reference=t
    ),
}
NO_COPIES = {
    "a part of it": answering(lambda asked, rng: " ".join(asked.split()[:12])),
    "corrected": answering(corrected),
    "short and right": lambda row, rng: replace(row, inputs={"text": "yes"}, reference="Yes."),
    "quoted and answered": lambda row, rng: replace(
        row, inputs={"text": "Is it late?"}, reference=f"Is it late? By {rng.randrange(99)} hours."
    ),
    "a pair": lambda row, rng: replace(row, reference=row.inputs["text"], rejected=sentence(rng)),
}


@cache
def tokenizer() -> Any:
    """A real one, trained on clean rows: it knows their words, and spells others."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = [
        text for row in clean_rows(300, seed=77) for text in (row.inputs["text"], row.reference)
    ]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["?"], show_progress=False)
    made.train_from_iterator(texts, trainer)
    return made


def tokens_in(text: str) -> int:
    return len(tokenizer().encode(text).ids)


CONTEXT = 400


def long(beyond: int) -> Change:
    """A row of so many tokens more than the context holds."""

    def change(row: Example, rng: random.Random) -> Example:
        text = sentence(rng)
        left = CONTEXT + beyond - tokens_in(text) - tokens_in(str(row.reference))
        return replace(row, inputs={"text": text + " the" * left})  # a token each

    return change


MEASURE = Measure(
    model="local:small",
    tokens=lambda e: (tokens_in(str(e.inputs["text"])), tokens_in(str(e.reference))),
    context=CONTEXT,
)


def lengths(
    draw: Callable[[random.Random], int],
    seed: int,
    *,
    answers: Callable[[random.Random], str] | None = None,
) -> Sown:
    """A set of questions of drawn lengths, in words, with a few of a quite other length."""
    rng = random.Random(seed)
    rows = [
        replace(
            row,
            inputs={"text": " ".join(rng.choices(WORDS, k=max(1, draw(rng))))},
            reference=answers(rng) if answers else row.reference,
        )
        for row in clean_rows(600, seed=seed)
    ]
    bad = {}
    faults: dict[str, Change] = {
        "a file in the question": asking(lambda r: "word " * 60_000),
        "a file in the answer": answering(lambda asked, r: "word " * 20_000),
        "many rows in one": asking(lambda r: "\n".join(sentence(r) for _ in range(4_000))),
    }
    if seed != SOME_SHORT:
        faults["a question cut off"] = asking(lambda r: "T")
    if answers is None:
        faults["an answer cut off"] = answering(lambda asked, r: "Th")
    for at, (kind, change) in enumerate(k for k in faults.items() for _ in range(3)):
        rows[40 * at] = change(rows[40 * at], rng)
        bad[rows[40 * at].id] = kind
    return Sown(
        rows=held(rows), bad=bad, good={r.id: f"set {seed}" for r in rows if r.id not in bad}
    )


WORDS = sentence(random.Random(0), words=30).split()
LABELS = ("no", "yes", "refund", "other", "shipping_delay_complaint", "cancellation_request")


SOME_SHORT = 6
"""The set in which one question in forty is a single word."""


def length_sets(folder: Path) -> Iterable[Sown]:
    yield lengths(lambda r: int(r.lognormvariate(3.5, 0.5)), 1)
    yield lengths(lambda r: int(r.lognormvariate(3.5, 0.9)), 2)
    yield lengths(lambda r: 40, 3)
    yield lengths(lambda r: r.choice((5, 200)), 4)
    yield lengths(lambda r: 200 if r.random() < 0.1 else r.randrange(8, 14), 5)
    yield lengths(lambda r: int(r.expovariate(1 / 40)), SOME_SHORT)
    yield lengths(lambda r: 40, 7, answers=lambda r: r.choices(LABELS, (50, 40, 5, 3, 1, 1))[0])
    yield lengths(lambda r: 40, 8, answers=lambda r: str(int(r.lognormvariate(5, 3))))
    yield lengths(
        lambda r: 40, 9, answers=lambda r: "yes" if r.random() < 0.9 else sentence(r, words=2)
    )


PLANTS = (
    Plant(rule="empty-input", sow=one_by_one(BLANK_INPUTS, FILLED_INPUTS, make=table)),
    Plant(
        rule="empty-answer",
        sow=one_by_one(each_of(STAND_INS), each_of(SHORT), each=4, plain=600),
    ),
    Plant(
        rule="no-answer",
        sow=one_by_one(
            {"null": field(reference=None)},
            {
                "zero": field(reference=0),
                "false": field(reference=False),
                "an empty text": field(reference=""),
                "an empty list": field(reference=[]),
                "a call": field(reference=None, calls=({"name": "find", "arguments": {}},)),
            },
            each=20,
        ),
    ),
    Plant(rule="copied-answer", sow=one_by_one(COPIES, NO_COPIES)),
    Plant(
        rule="too-long",
        sow=one_by_one(
            {f"{n} too many": long(n) for n in (1, 2, 10, 400)},
            {f"{-n} left": long(n) for n in (0, -1, -10)},
            each=5,
            given={"measure": MEASURE},
        ),
    ),
    Plant(rule="length-outlier", sow=length_sets, recall=0.95),
)
