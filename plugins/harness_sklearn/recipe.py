"""What a recipe of the tuner `sklearn` may say. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from harness import UsageError

Kind = Literal["auto", "numbers", "classes", "labels", "nearest"]
Positive = Annotated[float, pydantic.Field(gt=0)]


class Recipe(pydantic.BaseModel):
    """What the recipe of a classical model may say.

    `kind`: `numbers` (ridge regression), `classes` (logistic regression over whole replies),
    `labels` (JSON lists: one logistic regression a label), `nearest` (the reply of the nearest
    training row) or `auto`, by the replies. `c` and `alpha`: how freely the logistic and the ridge
    regression fit; `auto` takes the best of a cross-validation in `folds` parts of the training
    rows. `words` and `characters`: the longest run of words, and the lengths of pieces of words
    ([0, 0]: none). `least_rows`: in how many rows a feature must stand; `most_share`: in how large
    a part of them it may; `most_features`: how many are kept. `log`: fit the logarithm of numbers.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "auto"
    c: Literal["auto"] | Positive = "auto"
    alpha: Literal["auto"] | Positive = "auto"
    folds: int = pydantic.Field(default=5, ge=2, le=20)
    words: int = pydantic.Field(default=2, ge=1, le=4)
    characters: tuple[int, int] = (2, 5)
    least_rows: int = pydantic.Field(default=1, ge=1)
    most_share: float = pydantic.Field(default=0.95, gt=0, le=1)
    most_features: int = pydantic.Field(default=50_000, ge=1)
    log: Literal["auto"] | bool = "auto"

    @pydantic.field_validator("characters")
    @classmethod
    def _lengths_in_order(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value != (0, 0) and not 1 <= value[0] <= value[1] <= 8:
            raise ValueError("two lengths of 1 to 8, the shorter first; or [0, 0] for none")
        return value


def read_recipe(plain: Mapping[str, object]) -> Recipe:
    """Return the recipe. Raises UsageError naming what is unknown or out of range."""
    try:
        return Recipe.model_validate(dict(plain))
    except pydantic.ValidationError as exc:
        problems = [
            f"unknown key {e['loc'][0]!r}"
            if e["type"] == "extra_forbidden"
            else f"{'.'.join(map(str, e['loc']))}: {e['msg']}"
            for e in exc.errors()
        ]
        known = ", ".join(Recipe.model_fields)
        raise UsageError(f"recipe of sklearn: {'; '.join(problems)}. Known keys: {known}.") from exc
