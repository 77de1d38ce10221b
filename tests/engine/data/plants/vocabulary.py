"""Strange words: abbreviations, words of no list, words that a tokenizer cuts to pieces."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.core.examples import Example
from harness.core.lints.base import Finding
from harness.engine.data.linting import Settings
from tests.core.lints.planted import PLACES, TOPICS, VERBS, clean_rows
from tests.engine.data.plants.answers import tokens_in
from tests.engine.data.plants.base import Plant, Sown, held

_ABBREVIATIONS = "pkt pkts qty shpmt hvy dlvry rcvd mfg wrhs crtn blk xfr"
_SPOKEN = """
    mr mrs dr vs tv pc km kg mm mb gb pdf html http sql css jpg why my by try sky fly dry cry shy
    gym myth rhythm lynx hmm psst nth xx sms gps vpn dns tcp ssh cpr ltd hr hrs
"""
_UNKNOWN = "qzorp blenkin mertle sproddy glimpf troopa wuxel krandle yopsin vabbet"
_KNOWN = "late again please slowly customers boxes driver's well-known Tuesday"
_IN_PIECES = "qzorpxkw blenkinvu mertlezq sproddyxo glimpfwyk troopaxuz wuxelkop krandleqy"
ABBREVIATIONS, SPOKEN = _ABBREVIATIONS.split(), _SPOKEN.split()
UNKNOWN, KNOWN, IN_PIECES = _UNKNOWN.split(), _KNOWN.split(), _IN_PIECES.split()


def spread(words: Sequence[str], *, seed: int, rows: int = 400, uses: int = 8) -> list[Example]:
    """Rows into which each word is written so many times."""
    rng = random.Random(seed)
    examples = clean_rows(rows, seed=seed)
    for word in words:
        for at in rng.sample(range(rows), uses):
            some = str(examples[at].inputs["text"]).split()
            some.insert(rng.randrange(len(some)), word)
            examples[at] = replace(examples[at], inputs={"text": " ".join(some)})
    return examples


def words_named(finding: Finding) -> list[str]:
    return [p.detail.partition(": ")[0] for p in finding.rows]


def planted(
    bad: Sequence[str], alike: Sequence[str], *, settings: Settings, given: Mapping[str, Any]
) -> Iterable[Sown]:
    usual = {*map(str.lower, (*TOPICS, *VERBS, *PLACES)), "the", "near", "before", "and"}
    for seed in range(2):
        yield Sown(
            rows=held(spread((*bad, *alike), seed=seed)),
            bad=dict.fromkeys(bad, "strange"),
            good={word.lower(): word for word in (*alike, *usual)},
            settings=settings,
            given=given,
        )


def abbreviations(folder: Path) -> Iterable[Sown]:
    return planted(ABBREVIATIONS, SPOKEN, settings=Settings(), given={})


def unknown(folder: Path) -> Iterable[Sown]:
    text = (
        "the near before and clock o'clock late again please slowly customer box driver well known"
    )
    listed = frozenset(map(str.lower, (*TOPICS, *VERBS, *PLACES, *text.split(), "Tuesday")))
    return planted(UNKNOWN, KNOWN, settings=Settings(words=listed), given={})


def in_pieces(folder: Path) -> Iterable[Sown]:
    return planted(IN_PIECES, (), settings=Settings(), given={"pieces": tokens_in})


PLANTS = (
    Plant(rule="abbreviation", unit="word", sow=abbreviations, told=words_named),
    Plant(rule="unknown-word", unit="word", sow=unknown, told=words_named),
    Plant(rule="fragmented-word", unit="word", sow=in_pieces, told=words_named),
)
