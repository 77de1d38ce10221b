"""Labels: never seen, written twice, rare, or nearly the only one."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.lints.base import Finding
from tests.core.lints.planted import clean_rows
from tests.engine.data.plants.base import Plant, Sown, held, of_whole, whole

USUAL = ("refund", "address", "delay", "other")
COUNTRIES = ("US", "IT", "DE", "NA", "FR")
GRADES = (
    "A",
    "A+",
    "A-",
    "B",
    "B+",
    "C",
    "C#",
    "C++",
    "+",
    "-",
    "<",
    "<=",
    "1",
    "1.5",
    "15",
    "no 1",
)


def labelled(labels: Sequence[tuple[str, str]], *, seed: int) -> list:  # type: ignore[type-arg]
    """A row for each label and split, in any order."""
    some = list(labels)
    random.Random(seed).shuffle(some)
    rows = clean_rows(len(some), seed=seed)
    return [
        replace(row, reference=label, split=split)
        for row, (label, split) in zip(rows, some, strict=True)
    ]


def details(finding: Finding) -> list[str]:
    """The labels that a finding names, without their counts."""
    found = [re.sub(r"(?:: \d+|, \d+ rows)$", "", p.detail) for p in finding.rows]
    return [ast.literal_eval(text) if text[:1] in "'\"" else text for text in found]


def unseen(folder: Path) -> Iterable[Sown]:
    """Of each label of test, some rows; train has most of them, once at the least."""
    rng = random.Random(1)
    for seed in range(5):
        never = [f"topic {rng.randrange(10**6)}" for _ in range(4)]
        once = [f"theme {rng.randrange(10**6)}" for _ in range(6)]
        only_train = [f"matter {rng.randrange(10**6)}" for _ in range(6)]
        rows = [(label, "train") for label in USUAL for _ in range(40)]
        rows += [(label, split) for label in once for split in ("train", "test")]
        rows += [(label, "train") for label in only_train]
        rows += [(label, "test") for label in USUAL for _ in range(10)]
        rows += [(label, rng.choice(("dev", "test"))) for label in never for _ in range(2)]
        good = {f"{label}": "seen" for label in (*USUAL, *once, *only_train)}
        yield Sown(
            rows=held(labelled(rows, seed=seed)),
            bad=dict.fromkeys(never, "never in train"),
            good=good,
        )


SPELLINGS = {
    "Refund": "refund",
    "address ": "address",
    "late  delivery": "late delivery",
    "OTHER.": "other",
    "ｗｉｄｅ": "wide",
    "cafe\u0301": "caf\u00e9",
    "STRASSE": "straße",
    "Is it late?": "is it late",
    "a\u00a0lot": "a lot",
    "E-Mail": "e-mail",
}


def spelt(folder: Path) -> Iterable[Sown]:
    """Labels written in two ways; and sets of labels that differ by a sign that matters."""
    bad = {f"{text}": "twice" for pair in SPELLINGS.items() for text in pair}
    alone = ("delay", "delays", "re-fund", "late_delivery", "other matters", "email", "cafe", "lot")
    rows = [(label, "train") for label in (*bad, *alone) for _ in range(9)]
    yield Sown(
        rows=held(labelled(rows, seed=2)), bad=bad, good=dict.fromkeys(alone, "another word")
    )
    for labels in (GRADES, COUNTRIES):
        rows = [(label, "") for label in labels for _ in range(9)]
        yield Sown(rows=held(labelled(rows, seed=3)), good=dict.fromkeys(labels, "by a sign"))


def counted(counts: Mapping[str, int], *, seed: int) -> list:  # type: ignore[type-arg]
    return labelled([(label, "") for label, n in counts.items() for _ in range(n)], seed=seed)


def balanced(folder: Path) -> Iterable[Sown]:
    """Sets of 200 answers, of which so many are one label."""
    for seed in range(20):
        most = 181 + seed % 19
        rows = counted({"no": most, "yes": 200 - most}, seed=seed)
        yield whole(f"{most} of 200", rows, is_bad=True)
        rows = counted({"no": 179 - 4 * seed, "yes": 21 + 4 * seed}, seed=seed)
        yield whole(f"{179 - 4 * seed} of 200", rows, is_bad=False)
        yield whole("texts", clean_rows(200, seed=seed), is_bad=False)


def rare(folder: Path) -> Iterable[Sown]:
    """Labels of one to four rows, beside labels of five and more; texts are no labels."""
    for seed in range(10):
        few = {f"topic {seed}{n}": n for n in range(1, 5)}
        enough = {f"theme {seed}{n}": n for n in (5, 6, 9)} | dict.fromkeys(USUAL, 30)
        yield Sown(
            rows=held(counted(few | enough, seed=seed)),
            bad={label: f"{n} rows" for label, n in few.items()},
            good={label: f"{n} rows" for label, n in enough.items()},
        )


PLANTS = (
    Plant(rule="unseen-class", unit="label", sow=unseen, told=details),
    Plant(rule="class-spelling", unit="label", sow=spelt, told=details),
    Plant(rule="class-balance", unit="set", sow=balanced, told=of_whole),
    Plant(rule="rare-class", unit="label", sow=rare, told=details),
)
