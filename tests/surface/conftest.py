from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process, in a new project with the task `toy`."""
    return Cli(Toy(tmp_path / "project"), monkeypatch, capsys)
