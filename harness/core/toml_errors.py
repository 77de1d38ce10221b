"""Where a text is no TOML, as a person looks for it. Reads nothing."""

from __future__ import annotations

import re

_PLACE = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)$")


def line_and_words(error: Exception, text: str) -> tuple[int, str]:
    """Return the line (from 1) that an error of `tomllib` over `text` is about, and what it says.

    What is still open at the end of the text is told of its last line with words in it; an error
    that tells no place is one of the first.
    """
    place = _PLACE.search(str(error))
    if place is None:
        return 1, str(error)
    what = str(error)[: place.start()]
    if place[1] is None:
        return max(1, text.rstrip().count("\n") + 1), f"{what} at the end"
    return int(place[1]), f"{what} at column {place[2]}"
