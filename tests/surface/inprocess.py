"""The command line in this process: as quick as a function call, on the same small project."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness import checks
from tests.surface.toy import Toy


@dataclass(frozen=True)
class Said:
    """What a verb did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""

        def refuse(constant: str) -> Any:
            raise ValueError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


Harness = Callable[..., Said]
"""Runs a verb in a folder that is no project."""


class Cli:
    """Runs verbs in the project of `toy`, each as if in a new process."""

    def __init__(
        self, toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.toy = toy
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(toy.root)
        monkeypatch.syspath_prepend(str(toy.root / "site"))
        monkeypatch.setenv("SENT", str(toy.sent_log))
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def __call__(self, *arguments: str, **environment: str) -> Said:
        self._forget()
        self._capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = importlib.import_module("harness.surface.cli").run(list(arguments))
        said = self._capsys.readouterr()
        self._forget()
        assert "Traceback (most recent call last)" not in said.out + said.err, said.out + said.err
        return Said(code, said.out, said.err)

    def _forget(self) -> None:
        """Forget the project's own modules, which another project may have too, and the verbs:
        a click command keeps the help option of the first context that it is used in.
        """
        for name in list(sys.modules):
            is_theirs = name == "adder" or name.startswith(("eval_", "conftest"))
            if is_theirs or f"{name}.".startswith("harness.surface.cli."):
                del sys.modules[name]
        sys.path[:] = [p for p in sys.path if Path(p).name not in {"toy", "mine"}]
        checks.use_plugins(None)
