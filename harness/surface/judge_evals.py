"""Judges in an eval run: which items need which, the eval of each, and the lines below the table.

Knows nothing of sessions or stores.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from inspect import getsource
from types import CodeType
from typing import TYPE_CHECKING, Any

import pytest

from harness.engine.eval_sources import Function, judges_called
from harness.errors import Miss
from harness.records import Condition
from harness.surface.words import clean, money, percent

if TYPE_CHECKING:
    from harness.core.judge_verdicts import JudgeVerdict
    from harness.engine.judges import JudgeUse

MANY_FLIPS = 0.30
"""From this share of pairs that flip with the order, a judge cannot tell these sides apart.

Source: the rule of docs/judges.md.
"""

JudgeFixture = Callable[[str], "JudgeVerdict"]


def judge_eval(name: str) -> Callable[..., None]:
    """Return the eval of a judge that no eval function asks for: its score is the judge's."""

    def test_judge(judge: JudgeFixture, score: Any, request: pytest.FixtureRequest) -> None:
        verdict = judge(name)
        if not verdict.score:
            raise Miss(verdict.reason)
        score(verdict.score)
        if verdict.score < 1:
            request.node.user_properties.append(("reason", verdict.reason))

    test_judge.__name__ = test_judge.__qualname__ = f"test_{name}"
    test_judge.__doc__ = f"The score of the judge {name}."
    vars(test_judge)["harness_judges"] = (name,)
    return test_judge


def judges_needed(item: pytest.Item, known: Collection[str]) -> list[str]:
    """Return the judges that an item will ask for, as far as its source tells: those that it
    calls. Any other is asked when it is called.
    """
    if "judge" not in getattr(item, "fixturenames", ()):
        return []
    function = getattr(item, "obj", None)
    named = getattr(function, "harness_judges", None)
    if named is None:
        code = getattr(function, "__code__", None)
        named = _called(code) if isinstance(code, CodeType) else ()
    return sorted(set(named) & set(known))


@lru_cache(maxsize=256)
def _called(code: CodeType) -> frozenset[str]:
    """Return the names that a function calls `judge` with, once for all of its items."""
    try:
        source = getsource(code)
        tree = ast.parse(f"if 1:\n{source}" if source[:1].isspace() else source)  # of a method
    except (OSError, SyntaxError):  # made by code, or the file is gone: asked when it is called
        return frozenset()
    own = next((n for n in ast.walk(tree) if isinstance(n, Function | ast.Lambda)), None)
    return frozenset(judges_called([own]) if own else ())


def judge_lines(
    uses: Sequence[JudgeUse],
    *,
    conditions: Mapping[str, Condition],
    advisors: Mapping[str, Sequence[str]],
) -> list[str]:
    """Return what judges did, and what may rest on them. `conditions` and `advisors` are by task:
    whether what decides is certified, and the judges' scores that decide nothing.
    """
    lines = [_use_line(use) for use in uses]
    for use in uses:
        if use.unreadable:
            lines.append(
                f"judge {use.name}: {use.unreadable} of {use.verdicts} verdicts unreadable: "
                "unscored, and no miss"
            )
        if use.pairs:
            share = use.flipped / use.pairs
            lines.append(
                f"judge {use.name}: {use.flipped} of {use.pairs} pairs ({percent(share)}) flip "
                "with the order"
                + (": too many, do not use it for these sides" if share > MANY_FLIPS else "")
            )
        for who, found in use.preferences.items():
            if found.n:
                against = f" against {clean(use.against)}" if use.against else ""
                lines.append(f"judge {use.name}: {clean(who)}{against} {found.text}")
    lines += [
        f"{', '.join(names)}: a judge's score, shown as advice; no verdict rests on it"
        for names in advisors.values()
    ]
    lines += [
        f"{clean(task)}: {clean(condition.text)}"
        for task, condition in conditions.items()
        if condition.holds is not True
    ]
    return [*lines, ""] if lines else []


def _use_line(use: JudgeUse) -> str:
    tokens = ""
    if use.input_tokens is not None or use.output_tokens is not None:
        sent, got = ("–" if n is None else f"{n:,}" for n in (use.input_tokens, use.output_tokens))
        tokens = f", {sent} tokens in, {got} out"
    cost = "" if use.cost_usd is None else f", {money(use.cost_usd)}"
    asked = f"{use.requests:,} request{'' if use.requests == 1 else 's'}"
    if use.unanswered:
        none = "none" if use.unanswered == use.requests else f"{use.unanswered:,} not"
        asked += f", {none} answered"
    return f"judge {use.name} ({clean(use.backend)}): {asked}{tokens}{cost}"
