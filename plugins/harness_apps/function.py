"""The `python:` backend: a callable of yours, so that a whole pipeline or agent is a candidate.

`python:package.module:function` is found from the task's folder and those above it in its
project, then from the folder that the command was started in, then among what is installed. Plain
or async, it takes the Request, or the last user text where its first parameter is annotated `str`
or called `text`; it returns a Reply, a text, or a mapping of a Reply's fields. What it honours it
says itself (`answer.honours = {"tools"}`); what it does not declare is refused.

Its source file is part of a reply's identity, and so is what of its project that file imports.
What is installed, a data file or a model behind it is not: raise `epoch`, or the option `version`,
where one of those changed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from harness import (
    BackendConfig,
    BackendError,
    HarnessError,
    Reply,
    Request,
    UsageError,
    imported_files,
    module_roots,
    words_of,
)

ABILITIES = frozenset({"schema", "seed", "tools", "stop", "logprobs", "images"})
# of the backend; every other option is a keyword of the function
_OWN = {"version"}
CONCURRENCY = 8
_REPLY = {f.name for f in fields(Reply)}


class PythonBackend:
    """What both kinds of callables have in common."""

    def __init__(self, function: Callable[..., Any], *, config: BackendConfig) -> None:
        self.name = f"python:{config.model}"
        options = dict(config.options)
        self.concurrency = int(config.concurrency or CONCURRENCY)
        given = {k: v for k, v in options.items() if k not in _OWN}
        self._takes_text = _takes_text(function, given, name=self.name)
        self._call = partial(function, **given)
        self._roots = _roots(config)
        self.honours = _honours(function, name=self.name)
        self.identity: Mapping[str, str] = {"source": _source_digest(function, config, self._roots)}
        said = getattr(function, "is_external", None)
        if isinstance(said, bool):
            self.is_external = said
        self._is_free = said is False
        self.cost_hint = (
            'return {"text": ..., "cost_usd": ...}, or write '
            f"{config.model.rpartition(':')[2]}.is_external = False where it asks no hosted model"
        )

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _argument(self, request: Request) -> Request | str:
        if not self._takes_text:
            return request
        turns = [m for m in request.messages if m.role != "system"]
        if len(turns) != len(request.messages) or [m.role for m in turns] != ["user"]:
            shown = ", ".join(m.role for m in request.messages[:3]) or "none"
            raise BackendError(
                f"{self.name} takes one user text, and this has {len(request.messages)} turns "
                f"({shown}). Have the function take the Request, or ask with one user section"
            )
        return turns[0].content

    def _measured(self, value: object, *, start: float) -> Reply:
        """The reply with its seconds, and a cost of 0 where it asks no hosted model."""
        reply = self._reply(value)
        if reply.latency_s is None:
            reply = replace(reply, latency_s=time.perf_counter() - start)
        if reply.cost_usd is None and self._is_free:
            reply = replace(reply, cost_usd=0.0)
        return reply

    def _reply(self, value: object) -> Reply:
        if isinstance(value, Reply):
            return value
        if isinstance(value, str):
            return Reply(text=value)
        if not isinstance(value, Mapping):
            kind = type(value).__name__
            raise BackendError(f"{self.name} returned a {kind}, not a Reply, text or mapping")
        if "text" not in value or set(value) - _REPLY:
            raise BackendError(
                f"{self.name} returned a mapping with {sorted(map(str, value))}; it needs `text`, "
                f"and may hold {sorted(_REPLY - {'text'})}"
            )
        given: dict[str, Any] = dict(value)
        for name in ("tool_calls", "logprobs", "spans"):
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        return Reply(**given)

    def _raised(self, exc: BaseException) -> BackendError:
        """Say where it was raised: in the project, and below it where that is elsewhere."""
        every = traceback.extract_tb(exc.__traceback__)
        frames = [f for f in every if Path(f.filename) != Path(__file__)]
        ours = [f for f in frames if any(Path(f.filename).is_relative_to(r) for r in self._roots)]
        ours = [f for f in ours if "site-packages" not in f.filename]
        found = list(dict.fromkeys(f"{f.filename}:{f.lineno}" for f in (*ours[-1:], *frames[-1:])))
        place = ", raised at ".join(found)
        return BackendError(
            f"{self.name}: {type(exc).__name__}: {words_of(exc)}{f' ({place})' if place else ''}"
        )


class PlainBackend(PythonBackend):
    """A plain function, which the engine runs in a thread."""

    def answer(self, request: Request) -> Reply:
        """Return what the function returns. Raises BackendError for what it raises."""
        argument = self._argument(request)
        start = time.perf_counter()
        try:
            value = self._call(argument)
        except HarnessError:
            raise
        except (Exception, SystemExit) as exc:  # border: someone's function can raise anything
            raise self._raised(exc) from exc
        return self._measured(value, start=start)


class AsyncBackend(PythonBackend):
    """An async function, which shares the loop that asks."""

    async def answer(self, request: Request) -> Reply:
        """Return what the function returns. Raises BackendError for what it raises."""
        argument = self._argument(request)
        start = time.perf_counter()
        try:
            made: Awaitable[object] = self._call(argument)
            value = await made
        except HarnessError:
            raise
        except (Exception, SystemExit) as exc:  # border: someone's function can raise anything
            raise self._raised(exc) from exc
        return self._measured(value, start=start)


def make_backend(config: BackendConfig) -> PythonBackend:
    """Return the backend of `MODULE:FUNCTION`. Raises UsageError where it cannot be had."""
    name = f"python:{config.model}"
    module_name, _, attribute = config.model.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{name}: write python:package.module:function")
    if config.artifact is not None:
        raise UsageError(f"{name} cannot load the artifact {config.artifact.name}")
    function: Any = _import(module_name, roots=_roots(config), name=name)
    for part in attribute.split("."):
        if not hasattr(function, part):
            known = [n for n, v in vars(function).items() if callable(v) and n[0] != "_"]
            shown = ", ".join(known[:8]) or "nothing to call"
            raise UsageError(f"{name}: no {part!r} in {module_name}. It has {shown}.")
        function = getattr(function, part)
    if isinstance(function, type):
        raise UsageError(f"{name} is a class: make an object of it in the module, and name that")
    if not callable(function):
        raise UsageError(f"{name} is a {type(function).__name__}, which cannot be called")
    called = function if inspect.isroutine(function) else type(function).__call__
    kind = AsyncBackend if inspect.iscoroutinefunction(_plain(called)) else PlainBackend
    return kind(function, config=config)


def _roots(config: BackendConfig) -> tuple[Path, ...]:
    folders = module_roots(config.folder) if config.folder else ()
    return tuple(dict.fromkeys(f.resolve() for f in [*folders, Path.cwd()]))


def _import(module_name: str, *, roots: tuple[Path, ...], name: str) -> Any:
    top = module_name.partition(".")[0]
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(top, [str(r) for r in roots])
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if spec and spec.origin and loaded and Path(loaded).resolve() != Path(spec.origin).resolve():
        raise UsageError(
            f"{name}: the module {top!r} at {spec.origin} cannot be loaded, since one of that name "
            f"is loaded from {loaded}. Give it another name."
        )
    try:
        with _on_path(roots):
            return importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise UsageError(f"{name}: {module_name} imports {exc.name}, which is absent") from exc
        looked = ", ".join(map(str, roots))
        raise UsageError(f"{name}: no module {exc.name!r} in {looked}, nor installed") from exc
    except (Exception, SystemExit) as exc:  # border: someone's module can raise anything
        last = traceback.extract_tb(exc.__traceback__)[-1]
        raise UsageError(
            f"{name}: {module_name} cannot be imported: {type(exc).__name__}: {words_of(exc)} "
            f"({last.filename}:{last.lineno})"
        ) from exc


@contextmanager
def _on_path(roots: tuple[Path, ...]) -> Iterator[None]:
    """Have `roots` first on the search path for a while: what is imported later finds none."""
    added = [str(r) for r in roots]
    sys.path[:0] = added
    try:
        yield
    finally:
        for entry in added:  # the first of its name is ours, whatever the module did to the path
            if entry in sys.path:
                sys.path.remove(entry)


def _takes_text(function: Callable[..., Any], given: Mapping[str, Any], *, name: str) -> bool:
    """Whether it takes the last user text. Raises UsageError where it cannot be called so."""
    try:
        signature = inspect.signature(function)
        signature.bind(None, **given)
    except TypeError as exc:
        takes = f"{name} takes {signature}"
        raise UsageError(
            f"{takes}: it is called with the request and {sorted(given) or 'nothing else'} "
            f'({exc}). Its keywords are the options under [backends."{name}"].'
        ) from exc
    except ValueError:  # a builtin that does not tell
        return False
    first = next(iter(signature.parameters.values()))
    return first.annotation in (str, "str") or first.name == "text"


def _honours(function: object, *, name: str) -> frozenset[str]:
    said = getattr(function, "honours", ())
    if isinstance(said, str) or not set(said) <= ABILITIES:
        raise UsageError(f"{name}.honours is {said!r}; known are {sorted(ABILITIES)}")
    return frozenset(said)


def _plain(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return inspect.unwrap(function)


def _source_digest(function: Any, config: BackendConfig, roots: Sequence[Path]) -> str:
    """The sha256 of the file that the callable is written in and of the module that it is named
    in (which differ where an object of a library is called), with what they import.
    """
    plain = _plain(function)
    plain = plain if inspect.isroutine(plain) else type(plain)
    named = sys.modules.get(config.model.partition(":")[0])
    files = dict.fromkeys(f for f in (_file_of(plain), _file_of(named)) if f is not None)
    if not files:  # compiled, or built in
        return "unknown"
    summed = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    for name, file in imported_files(files, roots=roots).items():
        summed.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return summed.hexdigest()


def _file_of(written: Any) -> Path | None:
    try:
        source = inspect.getsourcefile(written)
    except (OSError, TypeError):  # of no file: typed at a prompt, compiled, or built in
        return None
    return Path(source) if source and Path(source).is_file() else None
