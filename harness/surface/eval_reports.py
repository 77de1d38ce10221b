"""What the terminal keeps of the reports of evals: little, and nothing that is shown is lost.

Knows no score. pytest keeps three reports an item to the end; of 100,000 items they are most of
what a run holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import PurePath
from typing import Any, Literal

import pytest

from harness.surface.eval_outcomes import PATTERN


def slim(report: pytest.TestReport, config: pytest.Config) -> None:
    """Let go of what nobody asks a report for, once every plugin saw it.

    The report of a passed setup or teardown leaves the terminal's list: nothing is shown of it at
    the end, unless it holds what was printed or --durations asks how long it took.
    """
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if not report.passed or reporter is None or not _is_of_an_eval(report.location[0]):
        return
    if report.when == "call":
        report.keywords = _slimmed(report)
    elif not report.sections and config.getoption("durations", None) is None:
        quiet = reporter.stats.get("")
        if quiet and quiet[-1] is report:
            quiet.pop()


@lru_cache(maxsize=64)
def _is_of_an_eval(path: str) -> bool:
    name = PurePath(path).name
    return name == "task.toml" or fnmatch(name, PATTERN)


class _Keywords(Mapping[str, Literal[1]]):
    """The keywords of a report: an item's name and parameters, made when they are asked for, and
    those that it shares with others.
    """

    __slots__ = ("_id", "_shared")

    def __init__(self, its_id: Any, shared: tuple[str, ...]) -> None:
        self._id = its_id
        self._shared = shared

    def __getitem__(self, key: str) -> Literal[1]:
        if key in self._shared or key in _own(self._id):
            return 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        yield from _own(self._id)
        yield from self._shared

    def __len__(self) -> int:
        return 2 + len(self._shared)

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
