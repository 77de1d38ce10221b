"""What a recipe of a hosted tuning may say. Knows nothing of files and jobs.

Source: the openai package 3.54, types/fine_tuning (made from the vendor's specification).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from harness import RecipeError

Auto = Literal["auto"]
Count = Annotated[int, pydantic.Field(ge=1)]
Positive = Annotated[float, pydantic.Field(gt=0)]


class Recipe(pydantic.BaseModel):
    """What the recipe of the tuner `openai` may say; `auto` leaves it to the server."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    n_epochs: Auto | Count = "auto"
    """How often every row is learnt."""
    batch_size: Auto | Count = "auto"
    """Rows of a step."""
    learning_rate_multiplier: Auto | Positive = "auto"
    """Times the server's own rate."""
    suffix: str | None = pydantic.Field(default=None, min_length=1, max_length=64)
    """A part of the tuned model's name, of at most 64 characters."""

    def hyperparameters(self) -> dict[str, Any]:
        """Return what is sent of it: only what was said."""
        said = self.model_dump(exclude={"suffix"})
        return {name: value for name, value in said.items() if value != "auto"}


class DpoRecipe(Recipe):
    """What the recipe of the tuner `openai-dpo` may say."""

    beta: Auto | Positive = "auto"
    """DPO's: how near it stays to where it began."""


R = TypeVar("R", bound=Recipe)


def read_recipe(kind: type[R], plain: Mapping[str, Any], *, tuner: str) -> R:
    """Return the recipe. Raises RecipeError naming what is unknown or out of range."""
    try:
        return kind.model_validate(dict(plain))
    except pydantic.ValidationError as exc:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()]
        known = ", ".join(kind.model_fields)
        raise RecipeError(
            f"{'; '.join(problems)}. Known keys: {known}.",
            keys=[str(e["loc"][0]) for e in exc.errors() if e["loc"]],
        ) from exc
