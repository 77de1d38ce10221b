"""`harness init`: a small task that runs, to read and then to fill with your own."""

from __future__ import annotations

import re
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click

from harness.errors import UsageError
from harness.surface.cli.app import App, options
from harness.surface.cli.data_source import columns_of, skip_bad_option
from harness.surface.words import clean

NAME = re.compile(r"[a-z][a-z0-9_]*")


@click.command("init")
@click.argument("task")
@click.option("--model", metavar="SCHEME:MODEL", help="The task's model.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your rows: CSV, XLSX, JSON Lines, promptfoo, an Inspect log, ...",
)
@click.option("--form", metavar="FORM", help="What FILE is (default: told from it).")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="COLUMN=ROLE",
    help="What a column is: answer, id, cluster, tags, split, ignore, or an input's name.",
)
@click.option(
    "--prompt", type=click.Path(path_type=Path), metavar="FILE", help="The prompt to begin with."
)
@click.option(
    "--candidate", metavar="SCHEME:MODEL", help="What answers; constant:TEXT and replay:FILE too."
)
@click.option(
    "--target",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="T",
    help="The mean score that you need.",
)
@skip_bad_option("Leave out rows of FILE that cannot be read.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the columns as they are guessed.")
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str,
    model: str | None,
    source: Path | None,
    form: str | None,
    mapped: tuple[str, ...],
    prompt: Path | None,
    candidate: str | None,
    target: float | None,
    skip_bad: bool,
    yes: bool,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Make a working task in this repository.

    With --from, of your own rows: their columns are guessed (and asked about on a terminal),
    repeated rows are joined, a first check is guessed, and ten cases are run.
    """
    if not NAME.fullmatch(task):
        raise UsageError(f"{task!r}: a task is named like a Python module: letters, digits, _")
    with App(store, as_json=as_json) as app:
        if source is not None:
            from harness.surface.cli.init_from import Wish, init_from, is_terminal

            return init_from(
                app,
                Wish(
                    name=task,
                    file=source,
                    form=form,
                    mapped=columns_of(mapped),
                    prompt=prompt,
                    model=_model(model, candidate),
                    candidate=candidate,
                    target=target,
                    base_url=base_url,
                    is_asking=not yes and not as_json and is_terminal(),
                    is_sure=yes,
                    skip_bad=skip_bad,
                ),
            )
        given: dict[str, object] = {
            "--form": form, "--map": mapped, "--prompt": prompt, "--candidate": candidate,
            "--target": target, "--base-url": base_url, "--skip-bad": skip_bad,
        }  # fmt: skip
        for name, value in given.items():
            if value:
                raise UsageError(f"{name} goes with --from FILE, your own rows")
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
        for one in (starter / "prompts").iterdir():
            files[f"prompts/{one.name}"] = one
        (folder / "prompts").mkdir(parents=True)
        for name, content in sorted(files.items()):
            text = content.read_text(encoding="utf-8")
            text = text.replace("@NAME@", task).replace("@MODEL@", chosen)
            (folder / name).write_text(text, encoding="utf-8")
        lacks = app.pool.lacking(chosen)
        told = {"folder": str(folder), "files": sorted(files)}
        app.answer({**told, "lacks": lacks} if lacks else told)
        app.say(f"{folder}", *(f"  {name}" for name in sorted(files)), "")
        app.say("Read them, then:", f"  harness eval {task}", f"  harness ladder {task}")
        app.say(f"  harness wall {task}", "", f"The model is {chosen} (task.toml says so).")
        app.say(*([f"It cannot answer yet: {clean(lacks)}"] if lacks else []))
    return 0


def _model(model: str | None, candidate: str | None) -> str:
    """Return the task's model: as said, else what answers, where that is one."""
    chosen = model or candidate or default_model()
    if chosen.startswith(("constant:", "replay:")) or chosen == "reference":
        chosen = default_model()
    if ":" not in chosen:
        raise UsageError(f"{chosen!r} is not SCHEME:MODEL, as in openai:gpt-x or constant:TEXT")
    return chosen


def default_model() -> str:
    """Return a model that runs here: the one that comes as a wheel, else a hosted one."""
    has_local = find_spec("torch") is not None and find_spec("transformers") is not None
    return "local:smollm2-135m" if has_local else "openai:YOUR-MODEL"
