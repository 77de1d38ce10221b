"""Messages to a restaurant's help line, made up by rules: what a classical model can route."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

ASKED = {
    "calories": [
        "how many calories are in {it}",
        "the calorie count of {it}",
        "is {it} low calorie",
    ],
    "reservation": ["book a table at {place} for {n}", "reserve {n} seats", "get a table for {n}"],
    "how_busy": ["how long is the wait at {place}", "is {place} busy at {n}", "the wait for {n}"],
    "recipe": ["how do i cook {it}", "give me the recipe for {it}", "what goes into {it}"],
    "reviews": ["what do people say of {place}", "is {place} any good", "the review of {place}"],
}
ELSEWHERE = [
    "who won the {place} game", "set an alarm for {n}", "what time is it in {place}",
    "how tall is {place} tower", "translate {it} for me",
]  # fmt: skip
IT = ["a cookie", "lettuce soup", "fried rice", "two eggs", "the pancakes", "an oat bar"]
PLACE = ["zeus", "the red lobster", "neds", "ruth street grill", "casa lola", "zippys"]
POLITE = ["", "please ", "hi, ", "quick one: ", "hello there, "]


def routed(number: int, *, seed: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """Return so many different messages, each with its route and intent."""
    draw, found = random.Random(seed), {}
    while len(found) < number:
        intent = draw.choice([*ASKED, None])
        pattern = draw.choice(ASKED[intent] if intent else ELSEWHERE)
        text = draw.choice(POLITE) + pattern.format(
            it=draw.choice(IT), place=draw.choice(PLACE), n=draw.randint(2, 9)
        )
        route = {"intent": intent, "route": "auto" if intent else "human"}
        found.setdefault(text, route)
    return list(found.items())


def cases(sizes: Sequence[tuple[str, int]], *, seed: int = 0) -> list[dict[str, object]]:
    """Return rows of a case file, so many of each split."""
    splits = [split for split, n in sizes for _ in range(n)]
    made = routed(len(splits), seed=seed)
    return [
        {"id": f"m{i}", "split": split, "inputs": {"message": text}, "reference": route}
        for i, (split, (text, route)) in enumerate(zip(splits, made, strict=True))
    ]
