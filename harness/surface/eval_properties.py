"""The properties of eval items, kept once for all that differ in the case alone.

Knows what a property is called, and nothing of what it says.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

Property = tuple[str, object]
Packed = list[Property] | tuple[Property, ...]
"""Properties as they are, or a tuple that the items of other cases share."""

MANY = 1000
"""Of fewer items nobody needs to be sparing."""
CASE = "case"
ALIKE = frozenset({"task", "eval", "candidate", "repeat", "score", "parts"})
"""What many items say in the same words."""
_PLAIN = frozenset({str, int, float, type(None)})
_OF_ANY_CASE: Property = (CASE, None)


@lru_cache(maxsize=1024, typed=True)
def alike(name: str, value: Hashable) -> Property:
    """Return a property that many items share, as one object; 1 and 1.0 stay apart."""
    return name, value


@lru_cache(maxsize=1024, typed=True)
def _shared(*flat: Hashable) -> tuple[Property, ...]:
    named = zip(flat[::2], flat[1::2], strict=True)
    return tuple(_OF_ANY_CASE if n == CASE else alike(str(n), v) for n, v in named)


def packed(properties: list[Property]) -> tuple[Packed, str | None]:
    """Return properties in the least room, and the case's id where it was taken out of them."""
    case: str | None = None
    flat: list[Any] = []
    for name, value in properties:
        if name == CASE and case is None and isinstance(value, str):
            case = value
            flat += (name, None)
        elif name in ALIKE and type(value) in _PLAIN:
            flat += (name, value)
        else:
            return properties, None
    return (properties, None) if case is None else (_shared(*flat), case)


def unpacked(kept: Sequence[Property], case: str | None) -> list[Property]:
    """Return the properties that were packed, as a list of their own."""
    if isinstance(kept, list):
        return list(kept)
    return [(CASE, case) if one is _OF_ANY_CASE else one for one in kept]
