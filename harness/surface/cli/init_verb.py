"""`harness init`: a small task that runs, to read and then to fill with your own."""

from __future__ import annotations

import re
from importlib import resources
from importlib.util import find_spec

import click

from harness.errors import UsageError
from harness.surface.cli.app import App, options

NAME = re.compile(r"[a-z][a-z0-9_]*")


@click.command("init")
@click.argument("task")
@click.option("--model", metavar="SCHEME:MODEL", help="The task's model.")
@options()
@click.pass_obj
def command(store: str | None, task: str, model: str | None, as_json: bool) -> int:
    """Make a working task in this repository."""
    if not NAME.fullmatch(task):
        raise UsageError(f"{task!r}: a task is named like a Python module: letters, digits, _")
    with App(store, as_json=as_json) as app:
        folder = app.project.tasks / task
        if folder.exists():
            raise UsageError(f"{folder} exists already; choose another name, or remove it")
        chosen = model or default_model()
        if ":" not in chosen:
            raise UsageError(f"--model {chosen!r} is not SCHEME:MODEL, as in openai:gpt-x")
        starter = resources.files("harness.surface.cli") / "starter"
        files = {
            "task.toml": starter / "task.toml",
            "cases.jsonl": starter / "cases.jsonl",
            f"eval_{task}.py": starter / "eval.py.txt",
        }
        for prompt in (starter / "prompts").iterdir():
            files[f"prompts/{prompt.name}"] = prompt
        (folder / "prompts").mkdir(parents=True)
        for name, source in sorted(files.items()):
            text = source.read_text(encoding="utf-8")
            text = text.replace("@NAME@", task).replace("@MODEL@", chosen)
            (folder / name).write_text(text, encoding="utf-8")
        app.answer({"folder": str(folder), "files": sorted(files)})
        app.say(f"{folder}", *(f"  {name}" for name in sorted(files)), "")
        app.say("Read them, then:", f"  harness eval {task}", f"  harness ladder {task}")
        app.say(f"  harness wall {task}", "", f"The model is {chosen} (task.toml says so).")
    return 0


def default_model() -> str:
    """Return a model that runs here: the one that comes as a wheel, else a hosted one."""
    has_local = find_spec("torch") is not None and find_spec("transformers") is not None
    return "local:smollm2-135m" if has_local else "openai:YOUR-MODEL"
