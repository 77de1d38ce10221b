"""What a recipe of the tuner `sklearn` may say. Knows no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from harness import RecipeError

Kind = Literal["auto", "numbers", "classes", "labels", "nearest"]
Positive = Annotated[float, pydantic.Field(gt=0)]


class Recipe(pydantic.BaseModel):
    """What the recipe of a classical model may say."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "auto"
    """`numbers` (ridge regression), `classes` (logistic regression over whole replies),
    `labels` (JSON lists: one logistic regression a label), `nearest` (the reply of the nearest
    training row); `auto`: by the replies."""
    c: Literal["auto"] | Positive = "auto"
    """How freely the logistic regression fits; `auto` takes the best of a cross-validation."""
    alpha: Literal["auto"] | Positive = "auto"
    """How stiffly the ridge regression fits; `auto` as above."""
    folds: int = pydantic.Field(default=5, ge=2, le=20)
    """Parts of the training rows in a cross-validation."""
    words: int = pydantic.Field(default=2, ge=1, le=4)
    """The longest run of words that is a feature."""
    characters: tuple[int, int] = (2, 5)
    """The lengths of pieces of words that are features; [0, 0]: none."""
    least_rows: int = pydantic.Field(default=1, ge=1)
    """In how many rows a feature must stand."""
    most_share: float = pydantic.Field(default=0.95, gt=0, le=1)
    """In how large a share of the rows it may stand."""
    most_features: int = pydantic.Field(default=50_000, ge=1)
    """How many are kept."""
    log: Literal["auto"] | bool = "auto"
    """Fit the logarithm of numbers."""

    @pydantic.field_validator("characters")
    @classmethod
    def _lengths_in_order(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value != (0, 0) and not 1 <= value[0] <= value[1] <= 8:
            raise ValueError("two lengths of 1 to 8, the shorter first; or [0, 0] for none")
        return value


def read_recipe(plain: Mapping[str, object]) -> Recipe:
    """Return the recipe. Raises RecipeError naming what is unknown or out of range."""
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
        raise RecipeError(
            f"{'; '.join(problems)}. Known keys: {known}.",
            keys=[str(e["loc"][0]) for e in exc.errors() if e["loc"]],
        ) from exc
