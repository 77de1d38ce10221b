"""Keeps long texts whole inside the page, compressed. Knows nothing of who shows them.

The page carries one data island (gzip in base64: no character of a text can end the element that
holds it); the script unpacks it when a case is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass, field

from harness.records import Json

SHOWN = 900
"""How many characters of one text stand in the page itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A text in the page: what is shown, and where the whole stands if `more` were cut."""

    shown: str
    index: int | None = None
    more: int = 0


@dataclass(slots=True)
class Island:
    """Collects texts, each once; prompts as sent; and cases whose body the script builds."""

    texts: list[str] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    cases: dict[str, Json] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)

    def keep(self, text: str) -> int:
        """Return the place of `text`, which is stored once."""
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]

    def place(self, text: str, *, shown: int = SHOWN) -> Placed:
        """Return `text` whole where it is short, else its beginning and its place."""
        if len(text) <= shown:
            return Placed(shown=text)
        return Placed(shown=text[:shown], index=self.keep(text), more=len(text) - shown)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to carry."""
        return not (self.texts or self.sent or self.cases)

    def packed(self) -> str:
        """Return the island as base64 of gzip of ASCII JSON; the same for the same texts."""
        plain = {"texts": self.texts, "sent": self.sent, "cases": self.cases}
        blob = json.dumps(plain, separators=(",", ":"), ensure_ascii=True)
        return base64.b64encode(gzip.compress(blob.encode("ascii"), 9, mtime=0)).decode("ascii")


def unpack(packed: str) -> Json:
    """Return what `packed` holds: the inverse, for whoever reads a report by program."""
    return json.loads(gzip.decompress(base64.b64decode(packed)))
