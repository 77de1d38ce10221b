"""docs/formats.md: its commands do what they say, and its table lists the forms that there are."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from harness.engine.data.forms.registry import FORMS

PAGE = (Path(__file__).resolve().parents[1] / "docs/formats.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"```csv (\S+)\n(.*?)```", PAGE, re.DOTALL):
        Path(name).write_text(text)
    found = re.findall(r"^(harness .*?)\s+# exit (\d)$", PAGE, re.MULTILINE)
    assert len(found) == 2
    for command, code in found:
        run = importlib.import_module("harness.surface.cli").run
        assert run(shlex.split(command)[1:]) == int(code), command


def test_the_table_is_that_of_the_program() -> None:
    for form in FORMS:
        assert f"| `{form.name}` | {form.about} | {form.carries} |" in PAGE
