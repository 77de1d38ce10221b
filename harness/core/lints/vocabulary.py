"""Words that a model may not know: abbreviations, words of no list, words in many pieces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar

from harness.core.lints.base import KEPT, Finding, Lint, Place, Row, Rule
from harness.core.wording import texts_of
from harness.core.words import count

HELD = 50_000
"""Different words that are kept; beyond, the rarest are forgotten."""
SHOWN = 20
PIECES = 4
LEAST_ROWS = 20
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# a y is a vowel, but at the end of words like `qty`
_VOWEL = re.compile(r"[aeiouàáâãäåæèéêëìíîïòóôõöøùúûüýœ]|y(?!$)|^\wy$", re.IGNORECASE)
_USUAL_WORDS = """
    mr mrs ms dr st vs tv pc cd dvd ml mg kg km cm mm ft lb lbs kb mb gb tb hz khz mhz ghz pm nd rd
    th ll ve xx xv nth hmm shh psst tsk pst html http https www css sql xml pdf jpg png gif svg csv
    txt ssh ftp tcp dns vpn npm llm llms gpt nlp rgb sms mms gps lcd hr hrs yr yrs wk wks ltd llc
    plc gmbh phd msc bsc cpr hdmi mph kph rpm ppm gmt pst ps nb cf bbc nhs cnn nba nfl brb btw tldr
    cry dry fly fry ply pry shy sky sly spry spy sty thy try why wry gdy czy przy trzy
"""
_USUAL = frozenset(_USUAL_WORDS.split())


class VocabularyLint(Lint):
    """Finds strange words. `words` is a list of known ones; `pieces` tells into how many tokens a
    model cuts a word.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="abbreviation",
            severity="note",
            about="Words without a vowel (`PKT`, `QTY`) stand in one row of fifty, or more, but "
            "for some that all know (`PDF`). What they mean is knowledge of the house: no public "
            "text has it.",
            fix="Give the prompt a glossary, and measure it, before tuning teaches the words.",
        ),
        Rule(
            name="unknown-word",
            severity="note",
            about="Words that are not in the list of `--words` stand in one row of fifty, or more.",
            fix="Correct the misspelt ones; explain the others in the prompt.",
        ),
        Rule(
            name="fragmented-word",
            severity="note",
            about="Frequent words that the model's tokenizer cuts into four pieces or more: the "
            "model has seen them rarely, and each use costs tokens.",
            fix="Explain them in the prompt; compare a model with another tokenizer.",
        ),
    )

    def __init__(
        self, *, words: Collection[str] = (), pieces: Callable[[str], int] | None = None
    ) -> None:
        self._known = frozenset(w.casefold() for w in words)
        self._pieces = pieces
        self._counts: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._places: dict[int, Place] = {}
        self._rows = 0
        self._strange: list[tuple[str, str, list[tuple[str, int]]]] = []

    def see(self, row: Row) -> None:
        """Count each word once a row."""
        self._rows += 1
        words = set(_WORD.findall("\n".join(texts_of(row.example)).casefold()))
        self._counts.update(words)
        for word in words.difference(self._first):
            self._first[word] = row.number
        least = 1
        while len(self._counts) > HELD:
            for word in [w for w, n in self._counts.items() if n <= least]:
                del self._counts[word], self._first[word]
            least *= 2

    def wanted(self) -> Iterable[int]:
        """Return the first row of each word that is frequent and strange."""
        if self._rows < LEAST_ROWS:
            return ()
        least = max(3, self._rows // 1000)
        often = [(w, n) for w, n in self._counts.most_common() if n >= least]
        self._find(
            "abbreviation",
            [(w, n) for w, n in often if _is_short(w)],
            "{} without a vowel, {}",
        )
        if self._known:
            self._find(
                "unknown-word",
                [(w, n) for w, n in often if not self._is_known(w)],
                "{} of no list, {}",
            )
        if self._pieces is not None:
            cut = [(w, n, self._pieces(w)) for w, n in often[:2000] if len(w) > 3]
            self._find(
                "fragmented-word",
                [(w, n) for w, n, pieces in cut if pieces >= PIECES],
                "{} of four tokens or more, {}",
            )
        return {self._first[w] for _, _, words in self._strange for w, _ in words[:KEPT]}

    def again(self, row: Row) -> None:
        """Remember the row's name."""
        self._places[row.number] = row.place

    def _find(self, name: str, words: list[tuple[str, int]], text: str) -> None:
        if sum(n for _, n in words) >= max(1, self._rows / 50):
            self._strange.append((name, text, words))

    def findings(self) -> Iterable[Finding]:
        """Return the words that are frequent and strange."""
        for name, text, words in self._strange:
            uses = sum(n for _, n in words)
            yield self.found(
                name,
                text.format(count(len(words), "word"), count(uses, "use"))
                + ": "
                + ", ".join(w for w, _ in words[:SHOWN]),
                count=uses,
                rows=[self._place(w).told(f"{w}: {count(n, 'row')}") for w, n in words[:KEPT]],
            )

    def _place(self, word: str) -> Place:
        number = self._first[word]
        return self._places.get(number) or Place("", f"row {number + 1}")

    def _is_known(self, word: str) -> bool:
        stems = {word, word.removesuffix("'s"), word.removesuffix("s"), word.removesuffix("es")}
        return bool(stems & self._known) or all(p in self._known for p in word.split("-"))


def _is_short(word: str) -> bool:
    return 2 <= len(word) <= 8 and word not in _USUAL and word.isascii() and not _VOWEL.search(word)
