"""What is wrong with an eval function as pytest collects it, told before anything is asked.

Knows nothing of trials or scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pytest

from harness.engine.eval_names import place_of
from harness.engine.eval_sources import OURS
from harness.errors import TaskError

SKIPS = ("skip", "skipif", "xfail")
_UNKNOWN = pytest.StashKey[dict[tuple[str, str], TaskError]]()


def note_unknown_fixtures(item: pytest.Item, function: object) -> None:
    """Note of a function of an eval file that it, or a fixture of it, asks for a fixture that there
    is not. Whether it will be called at all is known once items are chosen.
    """
    fixtures: Any = getattr(item, "_fixtureinfo", None)
    if fixtures is None:
        return
    known = fixtures.name2fixturedefs
    unknown = [n for n in fixtures.names_closure if n not in known and n != "request"]
    if not unknown:
        return
    name = unknown[0]
    asking = next((some[-1].func for some in known.values() if name in some[-1].argnames), function)
    near = get_close_matches(name, sorted(_names(item.path)), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "`pytest --fixtures` lists those there are."
    what = getattr(asking, "__name__", "an eval")
    error = f"{place_of(asking)}: {what} asks for {name!r}, which is no fixture. {hint}"
    item.config.stash.setdefault(_UNKNOWN, {})[_place(item)] = TaskError(error)


def refuse_unknown_fixtures(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Raise TaskError where one of the chosen items asks for a fixture that there is not: pytest
    says so at each case anew, once all replies are paid for.

    One that is skipped, or fails as expected, may do without the plugin that has the fixture.
    """
    noted = config.stash.get(_UNKNOWN, {})
    for item in items if noted else ():
        error = noted.get(_place(item))
        if error is not None and not any(map(item.get_closest_marker, SKIPS)):
            raise error


def _place(item: pytest.Item) -> tuple[str, str]:
    above = item.parent.nodeid if item.parent is not None else ""
    return above, getattr(item, "originalname", None) or item.name


def _names(file: Path) -> set[str]:
    from harness.engine.eval_files import GIVEN, fixtures_of

    return fixtures_of(file) | OURS | set(GIVEN)
