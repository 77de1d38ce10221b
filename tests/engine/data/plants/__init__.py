"""Faults that a person knows of, planted for every rule of `harness data lint`.

`python -m tests.engine.data.plants` measures anew what docs/lints.md shows.
"""

from tests.engine.data.plants import (
    answers,
    chat,
    checked,
    classes,
    judged,
    numbers,
    preferences,
    twins,
    vocabulary,
)
from tests.engine.data.plants.base import Plant

PLANTS: tuple[Plant, ...] = (
    *chat.PLANTS,
    *twins.PLANTS,
    *answers.PLANTS,
    *classes.PLANTS,
    *numbers.PLANTS,
    *preferences.PLANTS,
    *vocabulary.PLANTS,
    *checked.PLANTS,
    *judged.PLANTS,
)
