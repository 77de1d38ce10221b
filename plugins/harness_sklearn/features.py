"""Texts as weighted words and pieces of words (TF-IDF). Knows no model and no library but numpy.

The same function makes the features that are trained and those that are served: there is nothing
in between that could differ.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from harness import Message

Floats = NDArray[np.float64]
_WORD = re.compile(r"\w+")
_KINDS = ("w", "c")
"""The two kinds of features, each of length 1 on its own: words, and pieces of words."""


def seen(messages: Sequence[Message]) -> str:
    """Return what a classical model is shown of a request: its last user turn."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")


def terms(text: str, *, words: int, characters: tuple[int, int]) -> Iterator[str]:
    """Yield the features of `text`: runs of up to `words` words, and pieces of padded words."""
    found = _WORD.findall(text.lower())
    for length in range(1, words + 1):
        for start in range(len(found) - length + 1):
            yield "w " + " ".join(found[start : start + length])
    shortest, longest = characters
    for word in found if longest else ():
        padded = f" {word} "
        for length in range(shortest, longest + 1):
            for start in range(len(padded) - length + 1):
                yield "c" + padded[start : start + length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which features are made: see `terms`."""

    words: int = 2
    characters: tuple[int, int] = (2, 5)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The features that a model knows, in the order of its columns, with their weights."""

    shape: Shape
    names: tuple[str, ...]
    idf: Floats

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """The column of each feature."""
        return {name: column for column, name in enumerate(self.names)}

    def row(self, text: str) -> tuple[NDArray[np.int64], Floats]:
        """Return the columns of `text`'s features, rising, and their values.

        A value is (1 + log count) x idf; each kind is scaled to length 1.
        """
        made = terms(text, words=self.shape.words, characters=self.shape.characters)
        counts = Counter(c for t in made if (c := self.columns.get(t)) is not None)
        columns = np.array(sorted(counts), dtype=np.int64)
        values = np.array([1 + math.log(counts[int(c)]) for c in columns], dtype=np.float64)
        values = values * self.idf[columns] if len(columns) else values
        for kind in _KINDS:
            mine = np.array([self.names[int(c)][0] == kind for c in columns], dtype=bool)
            length = float(np.sqrt((values[mine] ** 2).sum())) if mine.any() else 0.0
            if length > 0:
                values[mine] /= length
        return columns, values


def learn_vocabulary(
    texts: Sequence[str], *, shape: Shape, least: int, most_share: float, most: int
) -> Vocabulary:
    """Return the features that stand in at least `least` texts and at most `most_share` of them,
    the `most` of them that stand in the most.

    What stands in nearly every text is the prompt's own wording. idf is scikit-learn's smooth one:
    log((1 + n) / (1 + df)) + 1.
    """
    in_texts: Counter[str] = Counter()
    for text in texts:
        in_texts.update(set(terms(text, words=shape.words, characters=shape.characters)))
    limit = most_share * len(texts)
    ranked = sorted(
        ((t, n) for t, n in in_texts.items() if least <= n <= limit), key=lambda p: (-p[1], p[0])
    )
    kept = sorted(islice(ranked, most))
    n = len(texts)
    idf = np.array([math.log((1 + n) / (1 + df)) + 1 for _, df in kept], dtype=np.float64)
    return Vocabulary(shape=shape, names=tuple(t for t, _ in kept), idf=idf)
