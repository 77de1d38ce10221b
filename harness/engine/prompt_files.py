"""The prompt files of a task, and the JSON files that they name. Knows no case."""

from __future__ import annotations

import json
from pathlib import Path

from harness.core.prompts import front_matter, parse_prompt
from harness.engine.tables import Misfit, as_table
from harness.engine.taskfile import DecodingTable
from harness.engine.text_files import read_text, strict_json
from harness.errors import TaskError
from harness.records import Json, Prompt

MADE = "made"
"""The folder of made prompts, in that of the prompts."""


def prompt_files(folder: Path) -> list[Path]:
    """Return the prompt files of a task's folder: those that people wrote, then those that were
    made for it. Raises TaskError where two have one name.
    """
    written = sorted((folder / "prompts").glob("*.md"))
    made = sorted((folder / "prompts" / MADE).glob("*.md"))
    names = {p.stem: p for p in written}
    for path in made:
        if path.stem in names:
            raise TaskError(f"{path}:1: {names[path.stem]} has that name already: rename one")
    return [*written, *made]


def read_prompt(path: Path, folder: Path) -> Prompt:
    """Return the prompt in `path`, of the task in `folder`. Raises TaskError with file and line."""
    text = read_text(path)
    settings, _, _ = front_matter(text, path=str(path))
    schema, tools = (_json_beside(folder, settings.get(key)) for key in ("schema", "tools"))
    if tools is not None and (wrong := _no_tools(tools)):
        raise TaskError(f"{folder / str(settings['tools'])}: {wrong}")
    try:
        as_table(DecodingTable, settings.get("decoding", {}), "decoding")
    except Misfit as exc:
        raise TaskError(f"{path}:1: {exc.told('decoding')}") from exc
    try:
        prompt = parse_prompt(
            text, name=path.stem, path=str(path), schema=schema, tools=tools or ()
        )
    except (TypeError, ValueError) as exc:  # `shots = "many"`
        raise TaskError(f"{path}:1: shots, seed or documents: {exc}") from exc
    if prompt.shots < 0:
        raise TaskError(f"{path}:1: shots: {prompt.shots} is less than none")
    if prompt.documents < 0:
        raise TaskError(f"{path}:1: documents: {prompt.documents} is less than none")
    return prompt


def _json_beside(folder: Path, name: object) -> Json:
    """Return what the JSON file `name` of the task's folder holds; None without a name."""
    if not name:
        return None
    path = folder / str(name)
    try:
        return strict_json(read_text(path))
    except ValueError as exc:
        cause = exc.__cause__
        line = f":{cause.lineno}" if isinstance(cause, json.JSONDecodeError) else ""
        raise TaskError(f"{path}{line}: {exc}") from exc


def _no_tools(tools: Json) -> str:
    """Return why `tools` are no tools that a model can be offered; empty where they are."""
    shape = '{"type": "function", "function": {"name", "description", "parameters"}}'
    if not isinstance(tools, list) or not tools:
        return f"holds no list of tools, each {shape}"
    names = []
    for number, tool in enumerate(tools, start=1):
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            return f"tool {number} is not {shape}"
        if not isinstance(inner.get("parameters", {}), dict):
            return f"tool {number} ({inner['name']}): parameters are a JSON schema, an object"
        if inner["name"] in names:
            return f"tool {number}: a second {inner['name']!r}"
        names.append(inner["name"])
    return ""
