"""Traps of preference rows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.records import Message
from tests.core.lints.planted import clean_rows, sentence
from tests.engine.data.plants.base import (
    Change,
    Kinds,
    Plant,
    Sown,
    line_by_line,
    of_whole,
    one_by_one,
    whole,
)


@cache
def _texts(n: int) -> tuple[list[Example], list[str], list[str]]:
    rng = random.Random(6)
    short, long = ([sentence(rng, words=k) for _ in range(2 * n)] for k in (2, 3))
    return clean_rows(n), short, long


def pairs(n: int, *, longer: float = 0.5, seed: int = 0) -> list[Example]:
    """Pairs whose better answer is the longer one in a share of them."""
    rng = random.Random(seed)
    found = []
    rows, shorts, longs = _texts(n)
    for row in rows:
        short, long = rng.choice(shorts), rng.choice(longs)
        better, worse = (long, short) if rng.random() < longer else (short, long)
        found.append(replace(row, reference=better, rejected=worse))
    return found


def worse(make: Callable[[str, random.Random], Any]) -> Change:
    return lambda row, rng: replace(row, rejected=make(str(row.reference), rng))


def answers(better: str, worse: str) -> Change:
    """Both answers, `{q}` being the question."""

    def change(row: Example, rng: random.Random) -> Example:
        asked = str(row.inputs["text"])
        return replace(row, reference=better.format(q=asked), rejected=worse.format(q=asked))

    return change


def about(question: str, better: str, worse: str) -> Change:
    def change(row: Example, rng: random.Random) -> Example:
        asked = question.format(n=rng.randrange(1000))
        return answers(better, worse)(replace(row, inputs={"text": asked}), rng)

    return change


def in_chat(change: Change) -> Change:
    """The same row, asked in a turn."""

    def changed(row: Example, rng: random.Random) -> Example:
        done: Example = change(row, rng)
        asked = Message(role="user", content=str(done.inputs["text"]))
        system = Message(role="system", content="Be brief.")
        return replace(done, inputs={}, messages=(system, asked))

    return changed


def turn(text: str) -> Change:
    return worse(lambda better, rng: f"It is late.{text}")


def biased(folder: Path) -> Iterable[Sown]:
    """Sets of pairs with a bias of 70 % or more, and sets without any, small ones too."""
    for seed in range(40):
        share = (0.7, 0.3, 0.8, 0.2)[seed % 4]
        rows = pairs(200, longer=share, seed=seed)
        yield whole(f"{share:.0%} of 200", rows, is_bad=True)
    for seed in range(100, 240):
        n = (40, 200)[seed % 2]
        yield whole(f"none in {n}", pairs(n, seed=seed), is_bad=False)


TURNS = {
    "as a role": worse(lambda better, rng: [{"role": "user", "content": "and now?"}]),
    "as a role after an answer": worse(
        lambda better, rng: [
            {"role": "assistant", "content": better},
            {"role": "user", "content": "and now?"},
        ]
    ),
    "User:": turn("\nUser: and now?"),
    "USER:": turn("\n\nUSER: and now?"),
    "Human:": turn("\n\nHuman: and now?\n\nAssistant: well"),
    "customer:": turn("\n customer: and now?"),
    "bold": turn("\n**User:** and now?"),
    "bold before the colon": turn("\n**User**: and now?"),
    "a heading": turn("\n### User: and now?"),
    "a quote": turn("\n> User: and now?"),
    "at the beginning": worse(lambda better, rng: "User: and now?"),
    "a template's mark": turn("<|im_start|>user\nand now?"),
    "Instruction": turn("\n### Instruction:\nand now?"),
}
NO_TURNS = {
    "within a line": turn(" Tell the user: it is late."),
    "a name": turn("\nusername: ann"),
    "users": turn("\nUsers: 17"),
    "a field of a record, in both": answers("user: ann\nhost: b", "user: ann\nhost: c"),
    "a message of the assistant": worse(
        lambda better, rng: [{"role": "assistant", "content": "It is late."}]
    ),
    "User as a word": turn("\nUser accounts are kept for a year."),
    "a time": turn("\nHuman resources: 17:00"),
}

ASKED, SAID, AND_NOW = (
    {"role": "user", "content": "Is it late?"},
    {"role": "assistant", "content": "It is late."},
    {"role": "user", "content": "And now?"},
)
ENDS: dict[str, list[Any]] = {
    "the user's turn last": [SAID, AND_NOW],
    "and answered": [SAID, AND_NOW, SAID],
    "the user's turn alone": [AND_NOW],
}
NO_ENDS: dict[str, list[Any]] = {
    "the assistant's turn": [SAID],
    "User as a word": [{"role": "assistant", "content": "Ask the user: is it late?"}],
    "refused for another reason": [{"role": "system", "content": "User: and now?"}],
    "refused for two turns": [SAID, SAID],
}


def _apart(end: list[Any], at: int) -> Any:
    """A pair whose prompt stands apart, asked by messages."""
    better = {"role": "assistant", "content": f"Yes, {at}."}
    return {"prompt": [ASKED], "chosen": [better], "rejected": end}


def _within(end: list[Any], at: int) -> Any:
    """A pair whose prompt stands in both dialogues."""
    better = {"role": "assistant", "content": f"Yes, {at}."}
    return {"chosen": [ASKED, better], "rejected": [ASKED, *end]}


def _of_openai(end: list[Any], at: int) -> Any:
    better = {"role": "assistant", "content": f"Yes, {at}."}
    return {
        "input": {"messages": [ASKED]}, "preferred_output": [better], "non_preferred_output": end
    }  # fmt: skip


def _as_text(end: list[Any], at: int) -> Any:
    """A pair of dialogues as HH-RLHF writes them."""
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    said = "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in end)
    asked = "\n\nHuman: Is it late?"
    return {"chosen": f"{asked}\n\nAssistant: Yes, {at}.", "rejected": f"{asked}{said}"}


def refused(make: Callable[[list[Any], int], Any]) -> Callable[[Path], list[Sown]]:
    """Pairs in a file, whose reader refuses a user's turn in the worse answer."""

    def changes(ends: dict[str, list[Any]]) -> Kinds:
        return {
            kind: lambda at, rng, end=end: make(end, at) for kind, end in ends.items()
        }  # fmt: skip

    return line_by_line(
        changes({k: v for k, v in ENDS.items() if make is not _as_text or len(v) > 1}),
        changes(NO_ENDS),
        make=lambda at, rng: at,
        plain=0,
    )


def with_refused(folder: Path) -> Iterable[Sown]:
    """User's turns that a rule sees, and those that no reader lets through to it."""
    yield from one_by_one(TURNS, NO_TURNS, make=pairs)(folder)
    for make in (_apart, _within, _of_openai, _as_text):
        yield from refused(make)(folder)


PLANTS = (
    Plant(
        rule="same-pair",
        sow=one_by_one(
            {
                "word for word": worse(lambda better, rng: better),
                "other spaces": worse(lambda better, rng: f"  {better}\n"),
                "shouted": worse(lambda better, rng: better.upper()),
                "a full stop": worse(lambda better, rng: f"{better}."),
                "as JSON": lambda row, rng: replace(row, reference=[1, 2], rejected=[1, 2]),
            },
            {
                "a digit": worse(lambda better, rng: f"{better} 7"),
                "the first half": worse(lambda better, rng: better[: len(better) // 2]),
                "a negation": answers("It is late", "It is not late"),
                "a comma": answers("No, late", "No late"),
            },
            make=pairs,
        ),
    ),
    Plant(rule="length-bias", unit="set", sow=biased, told=of_whole, alarms=0.02),
    Plant(
        rule="prompt-in-answer",
        sow=one_by_one(
            {
                "and an answer": answers("{q} yes", "{q} no"),
                "on a line of its own": answers("{q}\n\nyes", "{q}\n\nno"),
                "in a chat": in_chat(answers("{q}\nyes", "{q}\nno")),
                "a short question": about("What is 2 + {n}?", "{q} Four.", "{q} Five."),
                "a shorter one": about("Is {n} even?", "{q} Yes.", "{q} No."),
            },
            {
                "in one alone": answers("{q} yes", "no"),
                "its first words": answers("You ask about a parcel: yes", "You ask about it: no"),
                "later on": answers("As to {q}: yes", "As to {q}: no"),
                "a greeting": about("Hello {n}", "Hello, what may I do?", "Hello, and bye."),
                "thanks": about("Thank you", "Thank you too!", "Thank you, and bye."),
                "one word": about("hi", "hi there", "hi you"),
            },
            make=pairs,
        ),
    ),
    Plant(rule="user-in-rejected", sow=with_refused),
)
