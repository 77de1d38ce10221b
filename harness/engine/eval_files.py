"""Loads a task's `eval_*.py` without pytest, and sorts out what can be called as it stands.

Knows nothing of replies. A function that asks for nothing but `case`, `reply` and `score` works
anywhere; one with other fixtures, parameters or marks, or under a fixture that every test gets, is
left out by name with the reason. Fixtures are read from the source (the files and the conftest.py
files above), so one that comes from a plugin or a star import is not seen.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.engine.eval_names import EvalNames
from harness.engine.eval_sources import OURS, conftests
from harness.engine.text_files import read_text
from harness.errors import HarnessError, TaskError, UsageError, words_of
from harness.records import digest

GIVEN = ("case", "reply", "score")
"""What a plain eval may ask for."""
_XUNIT = frozenset(
    {"setup_method", "teardown_method", "setup_class", "teardown_class", "setup", "teardown"}
)
_XUNIT_OF_MODULE = frozenset(
    {"setup_module", "teardown_module", "setup_function", "teardown_function"}
)
_LOADING = threading.Lock()  # sys.path and sys.modules are of the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainEval:
    """An eval that can be called as it stands. `asks` is what of GIVEN it takes; `holder` the
    class that it is a method of.
    """

    name: str
    function: Callable[..., Any]
    asks: tuple[str, ...]
    is_async: bool
    holder: type | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalFiles:
    """The evals of a folder, and, by name, why others are left out."""

    evals: tuple[PlainEval, ...]
    left_out: dict[str, str]


def load_eval_files(folder: Path) -> EvalFiles:
    """Return the evals in the `eval_*.py` of `folder`. Their code is run, as pytest would.

    Raises UsageError under `python -O`, and TaskError where a file cannot be imported, or two
    evals have one name.
    """
    if sys.flags.optimize:
        raise UsageError(
            "evals are made of asserts, which `python -O` (PYTHONOPTIMIZE) strips: every reply "
            "would pass. Start Python without it."
        )
    folder = folder.resolve()
    around = [_Fixtures.of(path) for path in conftests(folder)]
    evals: list[PlainEval] = []
    left_out: dict[str, str] = {}
    known = EvalNames()
    for path in sorted(folder.glob("eval_*.py")):
        module = _imported(path)
        fixtures = [*around, _Fixtures.of(path)]
        for name, function, holder in _tests(module):
            reason = _why_not(function, holder, module, fixtures)
            if reason != "":
                known.add(folder, name.removeprefix("test_"), function)
            if reason is None:
                evals.append(_plain(name, function, holder))
            elif reason:
                left_out[name.removeprefix("test_")] = reason
    return EvalFiles(evals=tuple(evals), left_out=left_out)


def fixtures_of(path: Path) -> set[str]:
    """Return the names of the fixtures that stand in an eval file, or in a conftest.py above it."""
    return {name for file in (*conftests(path.parent), path) for name in _Fixtures.of(file).names}


def _plain(name: str, function: Callable[..., Any], holder: type | None) -> PlainEval:
    return PlainEval(
        name=name.removeprefix("test_"),
        function=function,
        asks=tuple(_arguments(function, holder)),
        is_async=inspect.iscoroutinefunction(function),
        holder=holder,
    )


# ---------------------------------------------------------------- which functions


def _tests(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any], type | None]]:
    """Yield what pytest would collect: functions `test_*`, also those of classes `Test*`."""
    for name, value in list(vars(module).items()):
        if name.startswith("test_") and inspect.isroutine(value):
            yield name, value, None
        elif name.startswith("Test") and inspect.isclass(value):
            yield from _methods(value)


def _methods(holder: type) -> Iterator[tuple[str, Callable[..., Any], type]]:
    names = dict.fromkeys(n for cls in reversed(holder.__mro__) for n in vars(cls))
    for name in names:
        value = inspect.getattr_static(holder, name)
        if name.startswith("test_"):
            yield name, getattr(value, "__func__", value), holder
        elif name.startswith("Test") and inspect.isclass(value):
            yield from _methods(value)


def _arguments(function: Callable[..., Any], holder: type | None) -> list[str]:
    """Return the arguments that pytest would fill with fixtures: those without a default."""
    parameters = list(inspect.signature(function).parameters.values())
    is_static = holder is not None and isinstance(
        inspect.getattr_static(holder, function.__name__, None), staticmethod
    )
    if holder is not None and not is_static:
        parameters = parameters[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in named and p.default is p.empty]


def _why_not(
    function: Callable[..., Any],
    holder: type | None,
    module: ModuleType,
    fixtures: list[_Fixtures],
) -> str | None:
    """Return why an eval cannot be called as it stands: None where it can, "" for no eval."""
    asks = _arguments(function, holder)
    known = {name: f for f in fixtures for name in f.names}
    if not OURS & _reached(asks, fixtures):
        return ""
    more = [a for a in asks if a not in GIVEN]
    if more:
        return f"it asks for {', '.join(more)}"
    over = [a for a in asks if a in known]
    if over:
        return f"the fixture {over[0]} is replaced in {known[over[0]].path.name}"
    marks = [
        str(getattr(mark, "name", mark))
        for thing in (function, holder, module)
        for mark in _listed(getattr(thing, "pytestmark", ()))
    ]
    if marks:
        return f"it is marked {', '.join(dict.fromkeys(marks))}"
    always = [f"{name} of {f.path.name}" for f in fixtures for name in f.autouse]
    if always:
        return f"the fixture {always[0]} is for every test (autouse)"
    xunit = sorted(n for n in _XUNIT if holder is not None and hasattr(holder, n))
    xunit += sorted(n for n in _XUNIT_OF_MODULE if hasattr(module, n))
    if xunit:
        return f"{xunit[0]} is run around it"
    if holder is not None and "__init__" in {n for c in holder.__mro__[:-1] for n in vars(c)}:
        return f"its class {holder.__name__} has an __init__, so pytest does not collect it"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "it is a generator"
    return None


def _listed(marks: Any) -> list[Any]:
    return list(marks) if isinstance(marks, list | tuple) else [marks]


def _reached(asks: list[str], fixtures: list[_Fixtures]) -> set[str]:
    reached: set[str] = set()
    todo = list(asks)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [a for f in fixtures for a in f.names.get(name, ())]
    return reached


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixtures:
    """The fixtures of one file: what each asks for, and which are for every test."""

    path: Path
    names: dict[str, list[str]]
    autouse: list[str]

    @classmethod
    def of(cls, path: Path) -> _Fixtures:
        try:
            tree = ast.parse(read_text(path), filename=str(path))
        except (SyntaxError, ValueError, RecursionError) as exc:
            line = getattr(exc, "lineno", None) or 1
            raise TaskError(f"{path}:{line}: {getattr(exc, 'msg', None) or exc}") from exc
        names: dict[str, list[str]] = {}
        autouse = []
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                call = mark if isinstance(mark, ast.Call) else None
                target = call.func if call else mark
                last = (
                    target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                )
                if last != "fixture":
                    continue
                said = {k.arg: k.value for k in call.keywords} if call else {}
                name = _constant(said.get("name")) or node.name
                taken = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                names[str(name)] = [a.arg for a in taken]
                if _constant(said.get("autouse")):
                    autouse.append(str(name))
        return cls(path=path, names=names, autouse=autouse)


def _constant(node: ast.expr | None) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


# ---------------------------------------------------------------- importing


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: a cached file of the same second could be an older one."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _imported(path: Path) -> ModuleType:
    """Return an eval file as a module of a name of its own, which nothing else has.

    Modules beside it can be imported at its top, as pytest allows; they are kept apart from those
    of the same name elsewhere in the process.
    """
    name = f"harness_evals_{digest(str(path.parent))[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _LOADING, _Beside(path.parent):
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as exc:  # border: an eval file is anybody's code
            del sys.modules[name]
            if isinstance(exc, HarnessError):
                raise
            line = _line_in(exc, path)
            what = f"{type(exc).__name__}: {words_of(exc)}"
            raise TaskError(f"{path}:{line}: cannot be imported: {what}") from exc
    return module


def _line_in(exc: BaseException, path: Path) -> int:
    if isinstance(exc, SyntaxError) and exc.lineno:
        return exc.lineno
    line, trace = 1, exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


class _Beside:
    """While it lasts, modules beside the eval files are importable, and only those of this task."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = {p.stem for p in folder.glob("*.py")} | {
            p.parent.name for p in folder.glob("*/__init__.py")
        }
        self._hidden: dict[str, ModuleType] = {}

    def __enter__(self) -> None:
        self._hidden = self._taken()
        for name in self._hidden:
            del sys.modules[name]
        sys.path.insert(0, str(self._folder))
        importlib.invalidate_caches()

    def __exit__(self, *_: object) -> None:
        if str(self._folder) in sys.path:
            sys.path.remove(str(self._folder))
        for name in self._taken():
            del sys.modules[name]
        sys.modules.update(self._hidden)

    def _taken(self) -> dict[str, ModuleType]:
        return {n: m for n, m in list(sys.modules.items()) if n.split(".")[0] in self._names}
