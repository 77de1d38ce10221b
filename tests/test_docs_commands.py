"""Every `harness` command that a page shows can be typed: the verb is there, and so is each option.

What a page's commands do is tested beside the page; this finds an option that was renamed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from harness.surface.cli import group

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(p for p in ROOT.glob("docs/**/*.md") if p.name != "cli.md"),  # the program wrote that one
    *ROOT.glob("evals/**/*.md"),
    *ROOT.glob("reports/*.md"),
    *ROOT.glob("plugins/**/*.toml"),
]


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a page: lines of its blocks, and code within its sentences."""
    text = text.replace("\\\n", " ")
    for block in re.findall(r"```.*?\n(.*?)```", text, re.DOTALL):
        yield from re.findall(r"^\s*(?:\$ )?(harness .*)$", block, re.MULTILINE)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    yield from (" ".join(c.split()) for c in re.findall(r"`(harness [^`]+)`", prose))
    yield from re.findall(r"^#\s+(harness .*)$", text, re.MULTILINE)


def wrong_in(line: str) -> list[str]:
    """What of a command the program does not know: its verb, or options."""
    typed = re.split(r"\s{2,}|\s#\s|\s\|\s|\s>\s", line)[0]
    words = shlex.split(re.sub(r"[\[\]]", " ", typed))[1:]
    words = words[: words.index("--")] if "--" in words else words  # the rest is for pytest
    command: click.Command = group
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        known = command.get_command(click.Context(command), words[0])
        if known is None:
            return [words[0]]
        command = known
        words.pop(0)
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
    named = (w.split("=")[0].rstrip(".,") for w in words if re.match(r"--?[a-z]", w))
    return [name for name in named if name not in options]


def test_the_pages_show_many_commands() -> None:
    found = [c for page in PAGES for c in commands(page.read_text(encoding="utf-8"))]
    assert len(found) > 200
    assert wrong_in("harness data curate X --no-such --out F  # a comment") == ["--no-such"]
    assert wrong_in("harness model nothing") == ["nothing"]
    assert wrong_in("harness eval X --no-such -- --lf") == ["--no-such"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    found = commands(page.read_text(encoding="utf-8"))
    assert {c: wrong for c in found if (wrong := wrong_in(c))} == {}
