"""docs/first-numbers.md is a spreadsheet, a prompt and a command: it says what it shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.pages import run_command

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/first-numbers.md"


def blocks() -> list[tuple[str, str, str]]:
    return re.findall(r"```(\w+) ?(\S*)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_spreadsheet_of_the_page_becomes_the_number_that_it_shows(tmp_path: Path) -> None:
    for _, name, text in blocks():
        if name:
            (tmp_path / name).write_text(text, encoding="utf-8")
    commands = [text.strip() for language, _, text in blocks() if language == "sh"]
    shown = next(text for language, name, text in blocks() if language == "text" and not name)
    made = run_command(commands[0], tmp_path)
    assert made.returncode == 0, made.stderr
    assert shown in made.stdout
    look = run_command(commands[1].splitlines()[1], tmp_path)
    assert look.returncode == 0, look.stderr
    assert "9 rows of the test split stay sealed" in look.stdout


def test_the_readme_begins_with_the_command_of_the_page() -> None:
    command = next(text for language, _, text in blocks() if language == "sh")
    assert command in (ROOT / "README.md").read_text(encoding="utf-8").replace(" \\\n   ", "")
