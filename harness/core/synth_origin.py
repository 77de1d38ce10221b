"""Tags that say how a row came to be. Knows no row.

They are slices of origin and not of what is asked; what exactly was done stands in a row's
`provenance`.
"""

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
