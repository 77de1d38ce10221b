"""Tags that say how a row came to be. Knows no row.

They are slices of origin and not of what is asked; what exactly was done stands in a row's
`provenance`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harness.core.words import count

SYNTHETIC = "synthetic"
"""A row that was made, by a model or by changing another: reports split by it."""
UNLABELLED = "unlabelled"
"""A row whose answer nobody knows: a change did not keep it."""
DISTILLED = "distilled"
"""A row whose answer is a recorded reply that passed."""
HEALED = "healed"
"""A row whose answer was had by asking again, with the reasons."""
PAIRED = "paired"
"""A preference: a good answer, and a missed one of the same case."""
ORIGIN_TAGS = frozenset({SYNTHETIC, UNLABELLED, DISTILLED, HEALED, PAIRED})


def made_note(tags: Sequence[Collection[str]], *, split: str) -> str:
    """Say where most cases of a split were made; "" where most were collected.

    A score on made cases tells of what the maker thought of, not of what will be asked.
    """
    made = sum(SYNTHETIC in some for some in tags)
    if 2 * made <= len(tags):
        return ""
    return (
        f"{made} of the {count(len(tags), f'{split} case')} are made (tag `{SYNTHETIC}`): this "
        "tells how well what their maker thought of is answered. Collect real ones"
    )
