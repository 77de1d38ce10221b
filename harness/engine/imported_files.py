"""The files of a project that a Python file imports, read from the source: nothing is run.

Knows no task. What is installed is not followed, nor what is imported by a name that is made up
while running (`importlib.import_module(name)`).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

PROJECT_MARKS = ("pyproject.toml", ".git")
Below = Callable[[Path, tuple[str, ...]], list[Path]]
_READ: dict[bytes, list[ast.Import | ast.ImportFrom]] = {}
"""What was parsed, by its content: one command asks of the same files several times."""


def module_roots(folder: Path) -> tuple[Path, ...]:
    """Return where modules of the project around `folder` are found: in it, in the folders above
    it as far as its project goes (two, where nothing marks one), and in `src` of the last.
    """
    here = folder.resolve()
    above = [*here.parents][:4]
    marked = [n for n, f in enumerate(above) if any((f / m).exists() for m in PROJECT_MARKS)]
    above = above[: marked[0] + 1] if marked else above[:2]  # evals/TASK in a bare folder
    return tuple(dict.fromkeys([here, *above, *(f / "src" for f in above[-1:])]))


def imported_files(paths: Iterable[Path], *, roots: Sequence[Path]) -> dict[str, Path]:
    """Return what `paths` import from `roots`, and what that imports, by the way from its root.

    Imports within functions count. A file that is not Python imports nothing.
    """
    begun = [p.resolve() for p in paths]
    seen, found = set(begun), dict[str, Path]()
    todo = begun
    below = cache(_below)  # for this once: files come and go, and most names stand in many files
    while todo:
        path = todo.pop()
        for root, file in _imported(path, roots, below):
            if file not in seen:
                seen.add(file)
                found[file.relative_to(root).as_posix()] = file
                todo.append(file)
    return dict(sorted(found.items()))


def _imported(path: Path, roots: Sequence[Path], below: Below) -> Iterator[tuple[Path, Path]]:
    """Yield each file that `path` imports, with its root; its own packages' `__init__` too."""
    try:
        source = path.read_bytes()
        content = hashlib.sha256(source).digest()
        if content not in _READ:
            _READ[content] = [*_imports(ast.parse(source, filename=str(path)))]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    home = next((r for r in roots if path.is_relative_to(r)), path.parent)
    yield from _packages_around(path, home)
    for node in _READ[content]:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield from _of_name(tuple(name.name.split(".")), roots, below)
        else:
            parts = tuple(node.module.split(".")) if node.module else ()
            for name in node.names:  # `from a import b`: b is a module, or a name in a
                if not node.level:
                    yield from _of_name((*parts, name.name), roots, below)
                elif node.level <= len(path.parents):
                    base = path.parents[node.level - 1]
                    files = below(base, (*parts, name.name))
                    yield from ((home, f) for f in files if f.is_relative_to(home))


def _imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports, outer ones first. No expression holds one, and most nodes are those."""
    level: list[ast.AST] = [tree]
    while level:
        inner: list[ast.AST] = []
        for node in level:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield node
            for block in ("body", "handlers", "orelse", "finalbody", "cases"):
                inner += getattr(node, block, ())
        level = inner


def _packages_around(path: Path, home: Path) -> Iterator[tuple[Path, Path]]:
    for folder in path.parents:
        if folder == home or not (folder / "__init__.py").is_file():
            return
        yield home, folder / "__init__.py"


def _of_name(
    parts: tuple[str, ...], roots: Sequence[Path], below: Below
) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a dotted name, from the first root that has any."""
    if parts[:1] == ("harness",):  # installed, but where its own repository is the project
        return
    for root in roots:
        files = below(root, parts)
        if files:
            yield from ((root, file) for file in files)
            return


def _below(folder: Path, parts: tuple[str, ...]) -> list[Path]:
    """Return the files of a dotted name below `folder`, its packages' first."""
    files = []
    for part in parts:
        if (folder / f"{part}.py").is_file():
            files.append(folder / f"{part}.py")
            break
        folder /= part
        if (folder / "__init__.py").is_file():
            files.append(folder / "__init__.py")
        elif not folder.is_dir():
            break
    return files
