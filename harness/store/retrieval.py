"""Finds the texts, or the example cases, nearest to a text, by words. Knows nothing of prompts or
models.

SQLite's FTS5 in memory, ranked by its bm25 over Porter stems: no vectors, no download, the same
order on every machine.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Collection, Sequence

from harness.errors import StoreError
from harness.records import Case

WORD = re.compile(r"[^\W_]+")
LONGEST_QUERY = 500
"""Distinct words of a query that are looked for: a longer one costs time and changes little."""


class WordIndex:
    """Texts that can be asked for by nearness to a query. Safe to use from several threads."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._size = len(texts)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        try:
            self._connection.execute(
                "CREATE VIRTUAL TABLE texts USING fts5(words, tokenize = 'porter unicode61')"
            )
        except sqlite3.OperationalError as exc:
            raise StoreError(
                f"retrieval needs SQLite with FTS5: {exc}. Use a Python whose sqlite3 has it "
                "(python.org's and conda's do), or prompts without `retrieve` and `documents`."
            ) from exc
        with self._connection:
            self._connection.executemany(
                "INSERT INTO texts (rowid, words) VALUES (?, ?)",
                ((row, " ".join(_words(text))) for row, text in enumerate(texts)),
            )

    def order(self, query_text: str) -> list[int]:
        """Return every row, the nearest first; those that share no word with the query come last,
        in their order.
        """
        ranked = self.matches(query_text)
        seen = set(ranked)
        return ranked + [row for row in range(self._size) if row not in seen]

    def matches(self, query_text: str) -> list[int]:
        """Return the rows that share a word with the query, the nearest first, equally near ones
        in their order.
        """
        words = list(dict.fromkeys(word.lower() for word in _words(query_text)))[:LONGEST_QUERY]
        ranked: list[int] = []
        if words:
            # Each word in quotes: AND, NEAR, *, : and ( are then words like any other.
            query = " OR ".join(f'"{word}"' for word in words)
            with self._lock:
                ranked = [
                    row
                    for (row,) in self._connection.execute(
                        "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank, rowid", (query,)
                    )
                ]
        return ranked


class ShotIndex:
    """Cases that can be asked for by nearness of `text(case)` to a query."""

    def __init__(self, cases: Sequence[Case], text: Callable[[Case], str]) -> None:
        # Rows in order of id, so that equal ranks fall in that order.
        self._cases = sorted(cases, key=lambda case: case.id)
        self._index = WordIndex([text(case) for case in self._cases])

    def nearest(
        self,
        query_text: str,
        k: int,
        *,
        exclude_clusters: Collection[str] = frozenset(),
        exclude_ids: Collection[str] = frozenset(),
    ) -> list[Case]:
        """Return up to `k` cases, the nearest first, equally near ones in order of id.

        Where fewer than `k` share a word with the query, the rest follow in order of id. A case
        without a cluster is alone in its own: "" in `exclude_clusters` excludes nothing.
        """
        found: list[Case] = []
        for row in self._index.order(query_text):
            if len(found) >= k:
                break
            case = self._cases[row]
            is_excluded = case.cluster != "" and case.cluster in exclude_clusters
            if not is_excluded and case.id not in exclude_ids:
                found.append(case)
        return found


def _words(text: str) -> list[str]:
    # Letters and digits alone: neither NUL nor a lone surrogate gets as far as SQLite.
    return WORD.findall(text)
