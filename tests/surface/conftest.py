from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli, Harness, Said
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process, in a new project with the task `toy`."""
    return Cli(Toy(tmp_path / "project"), monkeypatch, capsys)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of what one would wait between tries."""
    monkeypatch.setattr("harness.engine.lanes.FIRST_WAIT_S", 0.005)


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """The command line in this process, in a folder that is no project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = importlib.import_module("harness.surface.cli").run(list(arguments))
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return Said(code, said.out, said.err)

    return run
