"""`harness model merge`, `export` and `adopt`: artifacts in other forms, and from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.words import count
from harness.errors import UsageError
from harness.records import Artifact
from harness.surface.cli.app import App, now, options
from harness.surface.cli.model_shelf import found_artifact, task_options
from harness.surface.words import clean

if TYPE_CHECKING:
    from harness.engine.exporting import Made

DEFAULT_TYPES = {"gguf": "q8_0", "safetensors": "f32"}
BASE = click.option(
    "--base",
    metavar="local:FOLDER",
    help="The base on this machine, where the artifact was tuned on one that is served.",
)
TASK = click.option("--task", metavar="NAME", help="The task, where several have such an artifact.")


@click.command("merge")
@click.argument("artifact")
@BASE
@TASK
@options()
@click.pass_obj
def merge_command(
    store: str | None, artifact: str, base: str | None, task: str | None, as_json: bool
) -> int:
    """Add an adapter into its base.

    A whole model as safetensors, which is an artifact of its own. The sum is made and kept in
    float32, whatever the base is in.
    """
    with App(store, as_json=as_json) as app:
        source = found_artifact(app, app.store, artifact, task=task)
        made = _make(app, source, "merged", base=base)
        app.answer({"artifact": made.artifact, "is_new": made.is_new, "notes": made.notes})
        app.say(*_made_lines(made), *_next(made.artifact, app))
    return 0


@click.command("export")
@click.argument("artifact")
@click.option("--to", "goal", required=True, type=click.Choice(list(DEFAULT_TYPES)))
@click.option(
    "--type", "kind", metavar="TYPE", help="f32, bf16, f16; for gguf also q8_0, q4_0, ... [q8_0]."
)
@click.option("--out", type=click.Path(path_type=Path), help="Copy the files to this new folder.")
@BASE
@TASK
@options()
@click.pass_obj
def export_command(
    store: str | None,
    artifact: str,
    goal: str,
    kind: str | None,
    out: Path | None,
    base: str | None,
    task: str | None,
    as_json: bool,
) -> int:
    """Make a GGUF file or safetensors of it.

    GGUF is for llama.cpp; safetensors are a whole model in a precision. What is made is an
    artifact of its own, with the same lineage; --out copies it anywhere.
    """
    from harness.engine.exporting import copy_out

    with App(store, as_json=as_json) as app:
        source = found_artifact(app, app.store, artifact, task=task)
        form = _form(goal, (kind or DEFAULT_TYPES[goal]).lower(), app)
        is_it = source.variant == form
        made = None if is_it else _make(app, source, form, base=base)
        result = source if made is None else made.artifact
        names = copy_out(result, out, project=app.project) if out else []
        app.answer(
            {"artifact": result, "is_new": bool(made and made.is_new), "out": out, "files": names}
        )
        app.say(*(_made_lines(made) if made else [f"{clean(result.name)} is {form} already"]))
        if out:
            app.say(f"copied: {out} ({count(len(names), 'file')})")
        app.say(*_next(result, app))
    return 0


def _form(goal: str, kind: str, app: App) -> str:
    form = f"gguf-{kind}"
    if goal == "safetensors":
        form = "merged" if kind == "f32" else f"merged-{kind}"
    known = sorted(app.plugins.table("harness_variants"))
    if form not in known:
        start = "gguf-" if goal == "gguf" else "merged"
        kinds = [n.removeprefix(start).removeprefix("-") or "f32" for n in known]
        some = ", ".join(
            k for n, k in zip(known, kinds, strict=True) if n.startswith(start) and k != n
        )
        more = (
            ". llama.cpp makes its k-quants from an f16 file: llama-quantize IN OUT Q4_K_M"
            if goal == "gguf"
            else ""
        )
        raise UsageError(f"--type {kind}: {goal} is written here as {some}{more}")
    return form


def _make(app: App, source: Artifact, form: str, *, base: str | None) -> Made:
    from harness.engine.exporting import make_variant

    return make_variant(
        source,
        form,
        project=app.project,
        plugins=app.plugins,
        store=app.store,
        at=now,
        base=base,
        options=task_options(app, source),
    )


def _made_lines(made: Made) -> list[str]:
    a = made.artifact
    was = "" if made.is_new else ", made before"
    size = a.metrics.get("bytes")
    told = f", {size / 1e6:,.1f} MB" if size else ""
    return [f"artifact {clean(a.name)} {a.digest[:16]}{told}{was}", *(f"  {n}" for n in made.notes)]


def _next(artifact: Artifact, app: App) -> list[str]:
    prompt, digest = artifact.prompt or "PROMPT", artifact.digest[:16]
    score = f"score it: harness eval {artifact.task} --candidate {prompt}@"
    kind = artifact.variant or ""
    if not kind.startswith("gguf-"):
        return [f"{score}{artifact.base}+{digest}"]
    file = app.project.home / artifact.folder / "gguf" / f"model-{kind.removeprefix('gguf-')}.gguf"
    url = "http://127.0.0.1:8080/v1#llama.cpp"
    return [
        f"serve it: llama-server -m {file} --jinja",
        f"{score}openai:{artifact.name}+{digest} --base-url {url}",
    ]


# ---------------------------------------------------------------- adopt


@click.command("adopt")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--base", required=True, metavar="SCHEME:MODEL", help="What it was tuned on.")
@click.option("--task", metavar="NAME", help="The task that it is for (default: the only one).")
@click.option("--prompt", metavar="NAME", help="The prompt it was trained with ([tune] prompt).")
@click.option(
    "--trained-on",
    type=click.Path(path_type=Path),
    help="The rows, a file or a folder: compared with dev and test, refused where they leak.",
)
@click.option("--tuner", metavar="NAME", help="Who made it: axolotl, unsloth, llama-factory, trl.")
@click.option("--name", help="What to call it (default: [tune] name).")
@click.option("--override", metavar="REASON", help="Why it was trained without a wall.")
@options()
@click.pass_obj
def adopt_command(
    store: str | None,
    folder: Path,
    base: str,
    task: str | None,
    prompt: str | None,
    trained_on: Path | None,
    tuner: str | None,
    name: str | None,
    override: str | None,
    as_json: bool,
) -> int:
    """Register what was trained elsewhere.

    The safe files of an adapter or model are copied. It needs no wall, since the training is done;
    that there was none is shown with it for ever.
    """
    from harness.engine.adopting import adopt_folder
    from harness.engine.project import task_names

    with App(store, as_json=as_json) as app:
        if task is None:
            names = task_names(app.project)
            if len(names) != 1:
                known = ", ".join(names) or "none yet (make one: harness init NAME)"
                raise UsageError(f"for which task? --task NAME. Known: {known}")
            task = names[0]
        loaded = app.task(task)
        app.refuse_leaks(loaded, "train", is_anew=True)
        done = adopt_folder(
            folder,
            base=base,
            task=loaded,
            project=app.project,
            plugins=app.plugins,
            store=app.store,
            at=now,
            name=name,
            prompt=prompt,
            trained_on=trained_on,
            origin=tuner,
            override=override,
        )
        a = done.artifact
        app.answer(done)
        maker = "another program" if a.tuner == "elsewhere" else a.tuner
        licence = f"wall {a.wall_verdict}" if a.wall_verdict else f"no wall: {a.override}"
        app.say(
            f"artifact {clean(a.name)} {a.digest[:16]}, made by {clean(maker)}",
            f"  base {clean(a.base)} {a.base_digest[:16]}",
            f"  licence: {clean(licence)}",
            *(f"  {clean(note)}" for note in done.notes),
        )
        if done.left_out:
            shown = ", ".join(done.left_out[:6]) + (" ..." if len(done.left_out) > 6 else "")
            app.say(f"  left out: {clean(shown)}")
        prompt_name = a.prompt or "PROMPT"
        backend = a.base if a.base.startswith("local:") else "openai:SERVED_NAME"
        more = "" if a.base.startswith("local:") else " --base-url URL"
        app.say(
            "",
            f"score it: harness eval {a.task} --candidate "
            f"{prompt_name}@{backend}+{a.digest[:16]}{more}",
        )
    return 0
