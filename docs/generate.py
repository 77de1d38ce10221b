"""Writes the reference pages from the program itself; a test holds them equal.

Run it as `python docs/generate.py`.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import click

from harness.engine import taskfile
from harness.ports import hookspecs
from harness.surface.cli import VERBS, group

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py; change the program, then run it again. -->\n"


def cli() -> str:
    """Return the page of the command line."""
    context = click.Context(group, info_name="harness", max_content_width=100, terminal_width=100)
    parts = [NOTE, "# The command line\n", _block(group.get_help(context))]
    for verb in VERBS:
        command = importlib.import_module(f"harness.surface.cli.{verb}_verb").command
        parts += _command(command, f"harness {verb}")
    return "\n".join(parts) + "\n"


def _command(command: click.Command, name: str) -> list[str]:
    context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
    parts = [f"## {name}\n", _block(command.get_help(context))]
    if isinstance(command, click.Group):
        for sub, inner in sorted(command.commands.items()):
            parts += _command(inner, f"{name} {sub}")
    return parts


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def task() -> str:
    """Return the page of task.toml."""
    parts = [NOTE, "# task.toml\n", "An unknown key is an error that names the known ones.\n"]
    tables = [
        ("", taskfile.TaskFile),
        ("[decoding]", taskfile.DecodingTable),
        ("[candidates.NAME]", taskfile.CandidateTable),
        ("[tune]", taskfile.TuneTable),
        ("[budgets]", taskfile.BudgetTable),
    ]
    for heading, model in tables:
        parts.append(f"## {heading or 'Top level'}\n\n{inspect.getdoc(model)}\n")
        parts.append("| key | default | meaning |\n| --- | --- | --- |")
        for name, field in model.model_fields.items():
            parts.append(f"| `{name}` | {_default(field)} | {field.description} |")
        parts.append("")
    parts.append("## A row of the case file\n")
    parts.append(
        "JSON Lines, UTF-8; a row is "
        + ", ".join(
            f"`{name}`{'' if field.is_required() else ' (optional)'}"
            for name, field in taskfile.CaseRow.model_fields.items()
        )
        + "."
    )
    return "\n".join(parts) + "\n"


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.default
    if value is None or isinstance(value, taskfile.Strict) or value in ({}, ()):
        return ""
    return f"`{value if not isinstance(value, tuple) else ', '.join(value)}`"


def plugins() -> str:
    """Return the page of the hooks."""
    parts = [NOTE, "# Plugins\n", inspect.getdoc(hookspecs) or "", ""]
    for name, function in vars(hookspecs).items():
        if name.startswith("harness_"):
            signature = ", ".join(inspect.signature(function).parameters)
            parts += [f"## {name}({signature})\n", inspect.getdoc(function) or "", ""]
    protocols = importlib.import_module("harness.ports.protocols")
    for name in ("Backend", "BackendConfig", "Tuner", "TuneJob"):
        parts += [f"## {name}\n", inspect.getdoc(getattr(protocols, name)) or "", ""]
    return "\n".join(parts).rstrip() + "\n"


PAGES = {"cli.md": cli, "task.md": task, "plugins.md": plugins}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
