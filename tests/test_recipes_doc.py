"""The recipes that plugins ship are their tuners' typed settings, and the pages name every key."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from harness_trl.recipe import Recipe, chosen_by_size

from harness.ports.manager import Plugins

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/recipes.md"
MARKED = re.compile(r"^#(\w+ = (?!<).*)$", re.MULTILINE)


def recipe_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe_files", ROOT / "docs/recipe_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = recipe_files()
SHIPPED = {name: made for recipes in FILES.RECIPES.values() for name, made in recipes.items()}


def test_the_page_names_every_key_of_a_recipe() -> None:
    table = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    named = [key for cell in table for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(Recipe.model_fields)


def test_every_tuner_ships_a_recipe_which_is_what_its_settings_say() -> None:
    made = FILES.texts()
    there = {
        p: p.read_text(encoding="utf-8") for p in (ROOT / "plugins").glob("*/recipes/**/*.toml")
    }
    assert there == made, "run docs/generate.py"
    plugins = Plugins().load()
    found = {name: Path(path).resolve() for name, path in plugins.table("harness_recipes").items()}
    assert set(found.values()) == set(made)
    assert {name.partition("/")[0] for name in found} == set(plugins.table("harness_tuners"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_line_that_is_marked_says_what_the_tuner_does_without_it(name: str) -> None:
    kind, settings, _ = SHIPPED[name]
    [text] = [t for p, t in FILES.texts().items() if p.as_posix().endswith(f"recipes/{name}.toml")]
    said = tomllib.loads(text)
    assert said == settings
    needed: dict[str, Any] = {"command": "train"} if name == "command" else {}
    default = kind.model_validate({**said, **needed})
    if issubclass(kind, Recipe):  # as for a model of 0.1e9 parameters
        chosen = chosen_by_size(kind, method=default.method, parameters=100_000_000)
        kept = {k: v for k, v in chosen.items() if not (default.method == "full" and k == "rank")}
        default = default.model_copy(update={k: v for k, v in kept.items() if k not in said})
    whole = kind.model_validate({**tomllib.loads(MARKED.sub(r"\1", text)), **needed})
    assert whole == default
    # a key that is left out of the file would be one that nobody finds
    keys = set(re.findall(r"^#?(\w+) = ", text, re.MULTILINE))
    assert set(kind.model_fields) - keys <= {"rank", "alpha", "dropout", "targets"}
    assert ("rank" in kind.model_fields) == ("rank" in keys or said.get("method") == "full")
