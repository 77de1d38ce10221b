"""The eval functions of a task, read from their source: nothing is imported or run.

Knows nothing of pytest but how it names things.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.engine.text_files import read_text
from harness.errors import TaskError
from harness.records import Json

Function = ast.FunctionDef | ast.AsyncFunctionDef
OURS = frozenset({"ask", "case", "reply", "candidate", "judge", "trials", "harness_trial"})
"""The fixtures that make a test an eval."""
OF_A_CASE = frozenset({"ask", "case", "reply", "judge"})
"""Those that make it the eval of one case."""


def eval_functions(folder: Path) -> list[str]:
    """Return the names of a task's eval functions without `test_`, read from the source: those
    that ask for one of our fixtures, by themselves or through a fixture that stands beside them
    or in a conftest.py above.

    Raises TaskError where a file is not Python.
    """
    return [name for _, name, asked in _asked(folder) if OURS & asked]


def evals_in(folder: Path, files: Container[Path]) -> list[str]:
    """Return those of `eval_functions` that stand in some of the folder's files."""
    return [name for path, name, asked in _asked(folder) if path in files and OURS & asked]


def aggregates(folder: Path) -> list[str]:
    """Return those of `eval_functions` that give one number for all replies of a candidate."""
    return [n for _, n, asked in _asked(folder) if OURS & asked and OF_A_CASE.isdisjoint(asked)]


def dialogues(folder: Path) -> list[str]:
    """Return those of `eval_functions` that ask by themselves alone: no reply is fetched before."""
    return [n for _, n, asked in _asked(folder) if "ask" in asked and "reply" not in asked]


def judges_asked(folder: Path, known: Iterable[str]) -> dict[str, set[str]]:
    """Return, by eval function, which judges of `known` it asks: those that its source, or that of
    a fixture that it reaches, calls by name; every one that they name, where `judge` is called
    something else there. One that asks none is left out.
    """
    sources: dict[str, list[Function]] = {}
    for path in _files(folder):
        for function in _functions(path):
            sources.setdefault(function.name, []).append(function)
    found = {}
    for _, name, asked in _asked(folder):
        reached = [f for one in (f"test_{name}", *asked) for f in sources.get(one, ())]
        if "judge" in asked:
            called = judges_called(reached) or set[str]().union(*map(_texts, reached))
            if judges := called & set(known):
                found[name] = judges
    return found


def judges_called(functions: Sequence[Function | ast.Lambda]) -> set[str]:
    """Return the names that functions call `judge` with. Where they do anything else with it, as
    ask in a loop or hand it on, every text in them may be one.
    """
    called: set[str] = set()
    for function in functions:
        named = set()
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Name(id="judge") as name,
                    args=[ast.Constant(value=str(text))],
                    keywords=[],
                ):
                    called.add(text)
                    named.add(name)
        uses = {n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == "judge"}
        if uses - named:
            return set[str]().union(*map(_texts, functions))
    return called


def texts_in(files: Iterable[Path]) -> set[str]:
    """Return every text that stands in Python files. A file that is not Python holds none."""
    found = set()
    for file in files:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            tree = ast.parse(file.read_bytes(), filename=str(file))
            found |= _texts(tree)
    return found


def _texts(tree: ast.AST) -> set[str]:
    constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def texts_of(value: Json | Sequence[Mapping[str, Json]]) -> set[str]:
    """Return every text within a value of JSON."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, Sequence):
        return set[str]().union(*map(texts_of, value))
    return set()


def _asked(folder: Path) -> list[tuple[Path, str, set[str]]]:
    """Return the tests without `test_`, each after its file, and all that it asks for, fixtures of
    fixtures too.
    """
    asks: dict[str, set[str]] = {}
    tests = []
    for path in _files(folder):
        for function in _functions(path):
            names = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
            asks.setdefault(function.name, set()).update(a.arg for a in names)
            if function.name.startswith("test_") and path.name != "conftest.py":
                tests.append((path, function.name))
    return [(path, t.removeprefix("test_"), _reached(t, asks)) for path, t in tests]


def _files(folder: Path) -> list[Path]:
    return [*conftests(folder), *sorted(folder.glob("eval_*.py"))]


def conftests(folder: Path) -> Iterator[Path]:
    """Yield the conftest.py files that hold for `folder`: its own, then those above it, up to the
    root of the project.
    """
    for place in [folder, *folder.parents]:
        if (place / "conftest.py").is_file():
            yield place / "conftest.py"
        if (place / ".git").exists() or (place / "pyproject.toml").exists():
            return


def _functions(path: Path) -> Iterator[Function]:
    """Yield the functions of a module and of its classes, not those within functions."""
    try:
        tree = ast.parse(read_text(path), filename=str(path))
    except (SyntaxError, ValueError, RecursionError) as exc:
        line = getattr(exc, "lineno", None) or 1
        raise TaskError(f"{path}:{line}: {getattr(exc, 'msg', None) or exc}") from exc
    bodies: list[list[ast.stmt]] = [tree.body]
    while bodies:
        for node in bodies.pop(0):
            if isinstance(node, ast.ClassDef):
                bodies.append(node.body)
            elif isinstance(node, Function):
                yield node


def _reached(name: str, asks: Mapping[str, set[str]]) -> set[str]:
    """Return all that a function asks for, fixtures of fixtures included."""
    reached: set[str] = set()
    todo = [name]
    while todo:
        new = asks.get(todo.pop(), set()) - reached
        reached |= new
        todo += new
    return reached
