"""What the terminal keeps of the reports of evals: little, and nothing that tells more is lost.

Knows no score. pytest keeps three reports an item to the end; of 100,000 items they are most of
what a run holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import PurePath
from struct import pack, unpack
from typing import Any, Literal, NamedTuple

import pytest

from harness.surface import eval_properties
from harness.surface.eval_outcomes import FOLDER, PATTERN
from harness.surface.eval_properties import Property, packed, unpacked

DEEP = 10
"""How often a line comes in one traceback from where on it is shown once."""


def fold_recursion(report: pytest.TestReport, config: pytest.Config) -> None:
    """Show the lines of a recursion once each: pytest folds them only where their variables repeat,
    and shows twenty frames where they differ; of one that swallows its own RecursionError until its
    time is up it shows a thousand. `--tb=native` shows all.
    """
    if config.option.fulltrace:
        return  # it holds the frames of pytest itself, which come again too
    for traceback, *_ in getattr(report.longrepr, "chain", ()):
        *entries, last = traceback.reprentries  # the last one says what was raised
        often = Counter(place for entry in entries if (place := _place(entry)) is not None)
        if "ecursion" not in (traceback.extraline or "") and max(often.values(), default=0) < DEEP:
            continue
        once = [entry for n, entry in enumerate(entries) if _is_first(entry, entries[:n])]
        if len(once) == len(entries):
            continue
        if _place(once[-1]) == _place(last):
            once.pop()
        traceback.reprentries = [*once, last]
        path, line = often.most_common(1)[0][0]
        traceback.extraline = (
            f"!!! Recursion: {path}:{line} comes again and again; each line is shown once "
            "(pytest --tb=native shows all)"
        )


def _is_first(entry: Any, before: Sequence[Any]) -> bool:
    place = _place(entry)
    return place is None or place not in map(_place, before)


def _place(entry: Any) -> tuple[str, int] | None:
    where = getattr(entry, "reprfileloc", None)
    return None if where is None else (where.path, where.lineno)


def slim(report: pytest.TestReport, config: pytest.Config) -> None:
    """Let go of what nobody asks a report for, once every plugin saw it and there are many.

    The report of a passed setup or teardown leaves the terminal's list: nothing is shown of it at
    the end, unless it holds what was printed or --durations asks how long it took. That of a call
    gives its place there to one that is made whole once somebody looks into it.
    """
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if not report.passed or reporter is None:
        return
    is_few = len(reporter.stats.get("passed", ())) <= eval_properties.MANY
    if is_few or not _is_of_an_eval(report.location[0]):
        return
    if report.when == "call":
        report.keywords = _slimmed(report)
        for category in ("passed", getattr(report, "harness_mark", "")):
            listed = reporter.stats.get(category)
            if listed and listed[-1] is report:
                listed[-1] = _brief(report) or report
    elif not report.sections and config.getoption("durations", None) is None:
        quiet = reporter.stats.get("")
        if quiet and quiet[-1] is report:
            quiet.pop()


@lru_cache(maxsize=64)
def _is_of_an_eval(path: str) -> bool:
    name = PurePath(path).name
    return name == "task.toml" or fnmatch(name, PATTERN)


class _About(NamedTuple):
    """What the reports of many calls have in common."""

    path: str
    line: int | None
    words: tuple[str, ...]
    properties: tuple[Property, ...]
    folder: str


class _Brief(pytest.TestReport):
    """The report of a call that passed and printed nothing, in the least room."""

    __slots__ = ("_about", "_case", "_id", "_times")
    _about: _About
    _case: str
    _times: bytes

    def __init__(self, its_id: Any, about: _About, case: str, times: bytes) -> None:
        self._id, self._about, self._case, self._times = its_id, about, case, times

    def __getattr__(self, name: str) -> Any:
        if name not in _WHOLE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._make_whole()
        return vars(self)[name]

    def __reduce__(self) -> Any:
        self._make_whole()
        return _report_of, (dict(vars(self)),)

    def _to_json(self) -> dict[str, Any]:
        self._make_whole()
        return super()._to_json()

    def _make_whole(self) -> None:
        about, mine = self._about, vars(self)
        duration, start, stop = unpack("3d", self._times)
        made = {
            "_id": self._id,
            "location": (about.path, about.line, _place_of(self._id)),
            "keywords": _Keywords(self._id, about.words),
            "outcome": "passed",
            "longrepr": None,
            "when": "call",
            "user_properties": unpacked(about.properties, self._case),
            "sections": [],
            "duration": duration,
            "start": start,
            "stop": stop,
            FOLDER: about.folder,
        }
        for name, value in made.items():
            mine.setdefault(name, value)


_WHOLE = frozenset({
    "location", "keywords", "outcome", "longrepr", "when", "user_properties", "sections",
    "duration", "start", "stop", FOLDER,
})  # fmt: skip


def _report_of(values: dict[str, Any]) -> pytest.TestReport:
    made = object.__new__(pytest.TestReport)
    vars(made).update(values)
    return made


def _brief(report: pytest.TestReport) -> _Brief | None:
    """Return what takes the place of a report; None where it holds more than that could."""
    mine, its_id, words = vars(report), getattr(report, "id", None), report.keywords
    path, line, place = report.location
    if (
        its_id is None  # a pytest before 9.1
        or type(report) is not pytest.TestReport
        or not _WHOLE.issuperset(mine.keys() - {"_id", "harness_mark"})
        or FOLDER not in mine
        or not isinstance(words, _Keywords)
        or report.sections
        or report.longrepr is not None
        or place != _place_of(its_id)
    ):
        return None
    properties, case = packed(report.user_properties)
    if case is None or isinstance(properties, list):
        return None
    times = pack("3d", report.duration, report.start, report.stop)
    about = _about(path, line, words.shared, properties, mine[FOLDER])
    made = _Brief(its_id, about, case, times)
    if "harness_mark" in mine:
        vars(made)["harness_mark"] = mine["harness_mark"]
    return made


def _place_of(its_id: Any) -> str:
    return f"{'.'.join(its_id.names)}[{its_id.params}]"


@lru_cache(maxsize=1024, typed=True)
def _about(*parts: Any) -> _About:
    return _About(*parts)


class _Keywords(Mapping[str, Literal[1]]):
    """The keywords of a report: an item's name and parameters, made when they are asked for, and
    those that it shares with others.
    """

    __slots__ = ("_id", "shared")

    def __init__(self, its_id: Any, shared: tuple[str, ...]) -> None:
        self._id = its_id
        self.shared = shared

    def __getitem__(self, key: str) -> Literal[1]:
        if key in self.shared or key in _own(self._id):
            return 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        yield from _own(self._id)
        yield from self.shared

    def __len__(self) -> int:
        return 2 + len(self.shared)

    def __repr__(self) -> str:
        return repr(dict(self))


def _own(its_id: Any) -> tuple[str, str]:
    return f"{its_id.names[-1]}[{its_id.params}]", its_id.params


def _slimmed(report: pytest.TestReport) -> Mapping[str, Literal[1]]:
    its_id = getattr(report, "id", None)  # since pytest 9.1
    if not its_id or not its_id.names or not its_id.params or type(report.keywords) is not dict:
        return report.keywords
    own = _own(its_id)
    shared = tuple(name for name in report.keywords if name not in own)
    whole = len(set(own)) == 2 and len(shared) + 2 == len(report.keywords)
    return _Keywords(its_id, _one(shared)) if whole else report.keywords


@lru_cache(maxsize=1024)
def _one(names: tuple[str, ...]) -> tuple[str, ...]:
    return names
