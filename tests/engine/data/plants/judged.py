"""Wrong answers: labels that words speak against, and references that a task's evals refuse."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from harness.core.examples import Example
from harness.engine.data.linting import task_rows
from harness.engine.tasks import load_task
from tests.engine.data.plants.base import Plant, Sown, held
from tests.engine.small import rows, write_task

TOPICS = {
    "billing": "invoice charge refund card bank fee payment receipt euro tax",
    "delivery": "parcel driver address door delay route van courier tracking late",
    "account": "password login email profile sign reset locked name settings phone",
    "product": "broken colour size battery screen button manual warranty part noise",
}
USUAL = """
    the please my a help about with for is not can you tell why when how what this that it
    today yesterday again still really very want need since order
"""
COMMON = USUAL.split()
ALL_WORDS = [word for words in TOPICS.values() for word in words.split()]


def labelled(n: int, *, seed: int, own_words: float = 0.85) -> list[Example]:
    """Questions whose words mostly tell their label, and sometimes those of another."""
    rng = random.Random(seed)
    found = []
    for i in range(n):
        label = rng.choice(sorted(TOPICS))
        words = rng.choices(COMMON, k=8)
        for _ in range(4):
            pool = TOPICS[label].split() if rng.random() < own_words else ALL_WORDS
            words.append(rng.choice(pool))
        rng.shuffle(words)
        text = " ".join(words)
        found.append(Example(place=f"r:{i}", id=f"r{i}", inputs={"text": text}, reference=label))
    return found


def spoilt(examples: list[Example], share: float, *, seed: int) -> tuple[list[Example], set[str]]:
    """The rows with a share of labels replaced by another one, and the ids of those."""
    rng = random.Random(seed)
    bad = {row.id for row in examples if rng.random() < share}
    others = {label: sorted(TOPICS.keys() - {label}) for label in TOPICS}
    done = [
        replace(r, reference=rng.choice(others[str(r.reference)])) if r.id in bad else r
        for r in examples
    ]
    return done, bad


def wrong_labels(folder: Path) -> Iterable[Sown]:
    """None, 3 or 10 % of 400 labels are wrong."""
    for share in (0.0, 0.03, 0.1):
        for seed in range(3):
            examples, bad = spoilt(labelled(400, seed=seed), share, seed=seed)
            yield Sown(
                rows=held(examples),
                bad=dict.fromkeys(bad, f"{share:.0%} of labels"),
                good={row.id: f"{share:.0%} of labels" for row in examples if row.id not in bad},
            )


EVALS = """
def test_is_a_number(case, reply):
    assert reply.text.strip().isdigit()


def test_right(case, reply):
    assert int(reply.text) == 2 * case.inputs["n"]


def test_score(reply, score):
    score(0.5)
"""
WRONG: dict[str, Callable[[int], str]] = {
    "one more": lambda n: str(2 * n + 1),
    "the number itself": lambda n: str(n or 1),
    "in words": lambda n: "twice as much",
    "with a unit": lambda n: f"{2 * n} EUR",
    "nothing": lambda n: "",
}
RIGHT: dict[str, Callable[[int], str]] = {
    "with blanks": lambda n: f" {2 * n}\n",
    "with zeros": lambda n: f"00{2 * n}",
}


def refused(folder: Path) -> Iterable[Sown]:
    """References of a task, some of which its own evals refuse. A score below 1 refuses nothing."""
    cases = rows(dev=60, train=120, test=20)
    kinds = [kind for kind in (*WRONG, *RIGHT) for _ in range(8)]
    named = {case["id"]: "right" for case in cases}
    for case, kind in zip(random.Random(5).sample(cases, len(kinds)), kinds, strict=True):
        case["reference"] = {**WRONG, **RIGHT}[kind](case["inputs"]["n"])
        named[case["id"]] = kind
    path = write_task(folder, some=cases)
    (path / "eval_double.py").write_text(EVALS)
    task = load_task(path)
    yield Sown(
        rows=task_rows(task),
        bad={name: kind for name, kind in named.items() if kind in WRONG},
        good={name: kind for name, kind in named.items() if kind not in WRONG},
        given={"task": task},
    )


PLANTS = (
    Plant(rule="label-error", sow=wrong_labels, recall=0.8, alarms=0.015),
    Plant(rule="fails-own-evals", sow=refused),
)
