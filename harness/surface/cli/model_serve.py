"""`harness model serve`: a tuned model on this machine, ready once parity is shown."""

from __future__ import annotations

import click

from harness.errors import BackendError, UsageError
from harness.records import Artifact
from harness.surface.cli.app import App, now, options
from harness.surface.cli.model_parity import parity_lines
from harness.surface.cli.model_shelf import found_artifact, task_options
from harness.surface.words import clean


@click.command("serve")
@click.argument("artifact")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The port of 127.0.0.1 (default: one that this artifact always gets).",
)
@click.option(
    "--runtime",
    metavar="NAME",
    help="transformers, llama.cpp or vllm (default: what reads its files).",
)
@click.option("--context", type=click.IntRange(min=16), help="Tokens a request may have.")
@click.option("--slots", type=click.IntRange(min=1), default=2, help="Requests at once [2].")
@click.option("--check", is_flag=True, help="Stop once parity is known: for CI.")
@click.option("--task", metavar="NAME", help="The task, where several have such an artifact.")
@options()
@click.pass_obj
def serve_command(
    store: str | None,
    artifact: str,
    port: int | None,
    runtime: str | None,
    context: int | None,
    slots: int,
    check: bool,
    task: str | None,
    as_json: bool,
) -> int:
    """Serve it at 127.0.0.1, once parity holds.

    An existing server is started and asked for what was trained; only if parity holds is it said to
    be ready. Ctrl-C stops it. Exit 1: parity fails. 4: the server does not start, or it stopped.
    """
    from harness.engine.parity_check import check_artifact, parity_entry, prompt_is_gone
    from harness.engine.serving import runtime_for, serving

    with App(store, as_json=as_json) as app:
        source = found_artifact(app, app.store, artifact, task=task)
        loaded = app.task(source.task)
        if source.prompt not in loaded.prompts:
            raise UsageError(prompt_is_gone(source, loaded))
        if not source.folder:
            raise UsageError(f"artifact {source.name!r} is hosted: it is served already")
        chosen = runtime or runtime_for(source, app.project)
        served_one = _readable(app, source, chosen)
        with serving(
            served_one,
            runtime=chosen,
            project=app.project,
            plugins=app.plugins,
            port=port or 0,
            context=context,
            slots=slots,
        ) as served:
            name = f"{source.prompt}@openai:{served.model}+{served_one.digest[:16]}"
            candidate = app.candidate(loaded, name, base_url=served.url)
            found = check_artifact(
                loaded,
                candidate,
                served_one,
                store=app.store,
                pool=app.pool,
                plugins=app.plugins,
                project=app.project,
            )
            app.store.record(parity_entry(found, at=now()))
            app.say(*parity_lines(found), *(f"  {clean(n)}" for n in served.notes))
            app.answer(
                {
                    "ready": found.holds,
                    "url": served.url,
                    "model": served.model,
                    "candidate": name,
                    "log": str(served.log),
                    "check": found,
                }
            )
            if not found.holds:
                app.say("not served: what is served must be what was trained")
                return 1
            app.say(
                "",
                f"ready: {served.url}",
                f"  model {served.model}; its log: {served.log}",
                f"  harness eval {loaded.name} --candidate '{name}' --base-url '{served.url}'",
            )
            if check:
                return 0
            app.pool.close()  # the model that parity was compared with is not needed any more
            app.say("Ctrl-C stops it")
            served.wait()
            # not raised: the one JSON value was printed when it was ready
            return app.fail(
                BackendError(f"{served.runtime}'s server stopped by itself: see {served.log}")
            )


def _readable(app: App, source: Artifact, runtime: str) -> Artifact:
    """Return what `runtime` can read of `source`: an adapter is merged for one that reads none."""
    from harness.engine.exporting import make_variant
    from harness.engine.serving import needs_merging

    if not needs_merging(source, app.project, runtime=runtime):
        return source
    made = make_variant(
        source,
        "merged",
        project=app.project,
        plugins=app.plugins,
        store=app.store,
        at=now,
        options=task_options(app, source),
    )
    app.say(
        f"served as {clean(made.artifact.name)} {made.artifact.digest[:16]}: {runtime} reads "
        "no adapters, and the sum in float32 is the same model"
    )
    return made.artifact
