"""`harness data`: read the raw rows before anything else, then work on them."""

from __future__ import annotations

import click

from harness.surface.cli.data_convert import convert
from harness.surface.cli.data_curate import curate_command
from harness.surface.cli.data_lint import lint_command
from harness.surface.cli.data_look import look_command
from harness.surface.cli.data_split import split_command
from harness.surface.cli.data_synth import synth_command


@click.group("data")
def command() -> None:
    """Look at data, then lint, split, convert, make and filter it."""


for _one in (look_command, lint_command, split_command, convert, synth_command, curate_command):
    command.add_command(_one)
