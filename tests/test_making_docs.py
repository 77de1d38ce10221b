"""The commands of docs/synth.md and docs/curate.md are commands: every option is one there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from harness.surface.cli.data_curate import curate_command
from harness.surface.cli.data_synth import synth_command

DOCS = Path(__file__).resolve().parents[1] / "docs"
VERBS: dict[str, click.Command] = {"synth": synth_command, "curate": curate_command}


def commands() -> list[tuple[str, str]]:
    found = []
    for name in VERBS:
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            found += [(name, line) for line in block.splitlines() if f" data {name} " in line]
    return found


@pytest.mark.parametrize(("name", "line"), commands())
def test_a_command_of_the_page_can_be_typed(name: str, line: str) -> None:
    VERBS[name].make_context(name, shlex.split(line)[3:])


def test_the_page_names_every_change_there_is() -> None:
    from harness.engine.data.synth_setting import KINDS

    text = (DOCS / "synth.md").read_text(encoding="utf-8")
    assert [k for kinds in KINDS.values() for k in kinds if f"`{k}`" not in text] == [
        "tag",
        "class",
    ]
