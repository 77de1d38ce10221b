"""The command line in this process: as quick as a function call, on the same small project."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
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
        monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(toy.temporary))
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        # a file that changes within a second, and keeps its size, is taken for the one before
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def __call__(self, *arguments: str, **environment: str) -> Said:
        return self._run(
            lambda: importlib.import_module("harness.surface.cli").run(list(arguments)), environment
        )

    def pytest(self, *arguments: str, **environment: str) -> Said:
        """What `pytest` does where no parent waits for it; with workers, which have to find the
        project by themselves, in a process of its own. For what ends its process, or is to have a
        parent, there is `toy.pytest`.
        """
        if "-n" in arguments:
            done = self.toy.pytest(*arguments, **environment)
            return Said(done.returncode, done.stdout, done.stderr)
        return self._run(lambda: pytest.main(list(arguments)), environment)

    def _run(self, run: Callable[[], int], environment: Mapping[str, str]) -> Said:
        self._forget()
        self._capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = run()
        said = self._capsys.readouterr()
        self._forget()
        assert "Traceback (most recent call last)" not in said.out + said.err, said.out + said.err
        return Said(code, said.out, said.err)

    def _forget(self) -> None:
        """Forget the project's own modules, which another project may have too, and the verbs:
        a click command keeps the help option of the first context that it is used in.
        """
        here = f"{self.toy.root}{os.sep}"
        for name, module in list(sys.modules.items()):
            is_theirs = name == "adder" or name.startswith(("eval_", "conftest"))
            is_here = str(getattr(module, "__file__", "")).startswith(here)
            if is_theirs or is_here or f"{name}.".startswith("harness.surface.cli."):
                del sys.modules[name]
        ours = {"toy", "mine", self.toy.root.name}
        sys.path[:] = [p for p in sys.path if Path(p).name not in ours]
        checks.use_plugins(None)
