"""Words that a model may not know: abbreviations, words of no list, words in many pieces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar

from harness.core.lints.base import Finding, Lint, Place, Row, Rule
from harness.core.wording import texts_of

HELD = 100_000
"""Different words that are kept; beyond, those seen once are forgotten."""
SHOWN = 20
PIECES = 4
LEAST_ROWS = 20
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ]", re.IGNORECASE)
_USUAL_WORDS = """
    mr mrs ms dr st vs tv pc cd dvd ml mg kg km cm mm ft lb kb mb gb tb hz khz mhz ghz pm nd rd th
    ll ve xx xv nth hmm shh pst html http https www css sql xml pdf jpg png gif
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
            about="Words without a vowel (`ASSTD`, `PKT`) stand in one row of fifty, or more. What "
            "they mean is knowledge of the house: no public text has it.",
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
        self._first: dict[str, Place] = {}
        self._rows = 0

    def see(self, row: Row) -> None:
        """Count each word once a row."""
        self._rows += 1
        for word in {w.casefold() for text in texts_of(row.example) for w in _WORD.findall(text)}:
            self._counts[word] += 1
            self._first.setdefault(word, row.place)
        if len(self._counts) > HELD:
            for word in [w for w, n in self._counts.items() if n == 1]:
                del self._counts[word], self._first[word]

    def findings(self) -> Iterable[Finding]:
        """Return the words that are frequent and strange."""
        if self._rows < LEAST_ROWS:
            return
        least = max(3, self._rows // 1000)
        often = [(w, n) for w, n in self._counts.most_common() if n >= least]
        yield from self._told(
            "abbreviation",
            [(w, n) for w, n in often if _is_short(w)],
            "{} words without a vowel stand in {} rows",
        )
        if self._known:
            yield from self._told(
                "unknown-word",
                [(w, n) for w, n in often if not self._is_known(w)],
                "{} words of no list stand in {} rows",
            )
        if self._pieces is not None:
            cut = [(w, n, self._pieces(w)) for w, n in often[:2000] if len(w) > 3]
            yield from self._told(
                "fragmented-word",
                [(w, n) for w, n, pieces in cut if pieces >= PIECES],
                "{} words are cut into four tokens or more; they stand in {} rows",
            )

    def _told(self, name: str, words: list[tuple[str, int]], text: str) -> Iterable[Finding]:
        uses = sum(n for _, n in words)
        if uses < self._rows / 50:
            return
        yield self.found(
            name,
            text.format(len(words), uses) + ": " + ", ".join(w for w, _ in words[:SHOWN]),
            count=uses,
            rows=[self._first[w].told(f"{w}: {n} rows") for w, n in words],
        )

    def _is_known(self, word: str) -> bool:
        stems = {word, word.removesuffix("'s"), word.removesuffix("s"), word.removesuffix("es")}
        return bool(stems & self._known) or all(p in self._known for p in word.split("-"))


def _is_short(word: str) -> bool:
    return 2 <= len(word) <= 8 and word not in _USUAL and word.isascii() and not _VOWEL.search(word)
