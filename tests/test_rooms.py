"""A folder says what a line may touch (docs/architecture.md): imports are read, not run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STDLIB = sys.stdlib_module_names

# Which of our rooms and which libraries each room may import; lazily or not, it is one arrow.
PARSERS = {
    "jsonschema", "py3langid", "rapidfuzz", "referencing", "regex", "sacrebleu", "sqlglot",
}  # fmt: skip
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "harness.errors": (set(), set()),
    "harness.plain": (set(), set()),
    "harness.records": ({"errors", "plain", "records"}, set()),
    "harness.core": ({"records", "errors", "core"}, {"numpy", "scipy", "jinja2"}),
    "harness.checks": ({"records", "errors", "ports", "checks"}, PARSERS | {"numpy"}),
    "harness.ports": ({"records", "errors", "ports"}, {"pluggy"}),
    "harness.store": ({"records", "errors", "store"}, {"sqlite_utils", "filelock"}),
    "harness.engine": (
        {"records", "errors", "core", "checks", "ports", "store", "engine"},
        {"msgspec", "numpy", "zstandard", "datasets", "openpyxl", "pyarrow", "yaml"}
        | {"cleanlab", "sklearn", "threadpoolctl"},
    ),
    "harness.surface": (
        {"records", "errors", "core", "store", "ports", "engine", "surface", "checks"},
        {"click", "tabulate", "pytest", "jinja2", "filelock"},
    ),
    "harness.__main__": ({"surface"}, set()),
    "harness.testing": ({"records", "errors", "ports", "store", "testing"}, {"pytest"}),
}
# Standard modules that reach out of the process, and the rooms that may not use them.
REACHES_OUT = {
    "os", "io", "pathlib", "tempfile", "shutil", "socket", "http", "urllib", "subprocess",
    "sqlite3", "time", "datetime", "random", "asyncio", "threading", "logging", "secrets",
}  # fmt: skip
NO_REACH = {"harness.plain", "harness.records", "harness.errors", "harness.core"}
NO_NETWORK = {"harness.checks", "harness.ports", "harness.store"}
# Plugins stand alone, but for what is shared by law (docs/decisions/0007): the one renderer of
# tuning and inference, what every backend over HTTP needs to keep a key and read a failure, and
# what an optimiser begins with and learns from.
SHARED = {
    "harness_anthropic": {"harness_http"},
    "harness_apps": {"harness_http"},
    "harness_classifiers": {"harness_transformers"},
    "harness_dspy": {"harness_gepa"},
    "harness_embeddings": {"harness_transformers"},
    "harness_openai": {"harness_http"},
    "harness_servers": {"harness_transformers"},
    "harness_trl": {"harness_transformers"},
}
NETWORK = {"socket", "http", "urllib", "subprocess", "asyncio"}


def modules() -> list[Path]:
    return sorted((ROOT / "harness").rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    return ".".join(name.split(".")[:2])


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            base = node.module or ""
            found += [
                (node.lineno, f"{base}.{a.name}" if base == "harness" else base) for a in node.names
            ]
    return found


def problems(path: Path, name: str) -> list[str]:
    """Every import of `path` that its room may not make."""
    room = room_of(name)
    if name == "harness":
        return []  # the front door only names homes, lazily
    rooms, libraries = ROOMS[room]
    found = []
    for line, target in imports(path):
        top = target.split(".")[0]
        place = f"{name}:{line} imports {target}"
        if top == "harness":
            second = target.split(".")[1] if "." in target else ""
            if second not in rooms:
                found.append(f"{place}: {room} may import {sorted(rooms)}")
        elif top.startswith("harness_"):
            found.append(f"{place}: the harness never imports a plugin")
        elif top in STDLIB:
            if room in NO_REACH and top in REACHES_OUT:
                found.append(f"{place}: {room} touches nothing")
            if room in NO_NETWORK and top in NETWORK:
                found.append(f"{place}: {room} has no network")
        elif top not in libraries:
            found.append(f"{place}: {room} may use {sorted(libraries)}")
    return found


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_every_import_stays_in_its_room(path: Path) -> None:
    assert problems(path, dotted(path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=str)
def test_plugins_use_only_the_names_that_harness_exports(path: Path) -> None:
    for line, target in imports(path):
        top = target.split(".")[0]
        if top.startswith("harness_"):
            own = path.relative_to(ROOT / "plugins").parts[0]
            allowed = {own, *SHARED.get(own, set())}
            assert top in allowed, f"{path}:{line}: {own} may import {sorted(allowed)}, not {top}"
        if target.startswith("harness."):
            assert target.count(".") == 1, f"{path}:{line}: import {target} from `harness` instead"
            exported = ast.literal_eval(_homes()) | {"checks": ""}
            assert target.split(".")[1] in exported, f"{path}:{line}: {target} is not exported"


def _homes() -> str:
    tree = ast.parse((ROOT / "harness/__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOMES":
            return ast.unparse(node.value)
    raise AssertionError("no _HOMES in harness/__init__.py")


def test_the_engine_never_prints() -> None:
    for path in (ROOT / "harness").rglob("*.py"):
        if "surface" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            assert not (called and node.func.id == "print"), f"{path}:{node.lineno} prints"


def test_the_room_test_sees_a_forbidden_import(tmp_path: Path) -> None:
    """A guard that cannot fail guards nothing."""
    bad = tmp_path / "bad.py"
    bad.write_text("import time\nfrom harness.engine import fetch\nimport requests\n")
    found = problems(bad, "harness.core.bad")
    assert len(found) == 3
