"""`harness model parity`: is what was trained what is served?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.words import count
from harness.surface.cli.app import App, now, options
from harness.surface.words import clean

if TYPE_CHECKING:
    from harness.engine.tasks import Task
    from harness.records import Candidate, ParityCheck


@click.command("parity")
@click.argument("task", required=False)
@click.option("--candidate", metavar="NAME", help="A tuned candidate (default: the task's own).")
@click.option(
    "--against",
    metavar="URL",
    help="The server that will serve it, its kind at the end: http://localhost:8000/v1#vllm.",
)
@click.option("--model", metavar="NAME", help="What the server calls it (default: as it lists it).")
@click.option(
    "--prepared",
    type=click.Path(path_type=Path, exists=True),
    help="Rows prepared elsewhere: JSONL, or a folder of the datasets library. Needs no task.",
)
@click.option("--base", metavar="SCHEME:MODEL", help="With --prepared: the model that was tuned.")
@click.option("--rows", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--no-logits", is_flag=True, help="Ask for no reply: compare prompts alone.")
@options()
@click.pass_obj
def parity_command(
    store: str | None,
    task: str | None,
    candidate: str | None,
    against: str | None,
    model: str | None,
    prepared: Path | None,
    base: str | None,
    rows: int,
    no_logits: bool,
    as_json: bool,
) -> int:
    """Compare what was trained with what is served, token by token.

    Exit 0: no difference that matters. 1: one does; it is named after its cause. What a server
    does not show is said. A task's check is recorded, and stands in its report.
    """
    if bool(task) == bool(prepared):
        raise click.UsageError("name a TASK, or rows prepared elsewhere: --prepared DIR --base B")
    if bool(prepared) != bool(base):
        raise click.UsageError("--prepared and --base go together: the rows, and what was tuned")
    if model and not against:
        raise click.UsageError("--model is what the server of --against calls it")
    with App(store, as_json=as_json) as app:
        if prepared is not None:
            check = _of_rows(
                app, prepared, base=str(base), against=against, model=model, rows=rows,
                with_logits=not no_logits,
            )  # fmt: skip
        else:
            check = _of_task(
                app, str(task), candidate, against=against, model=model, rows=rows,
                with_logits=not no_logits,
            )  # fmt: skip
        app.answer({"holds": check.holds, "check": check})
        app.say(*parity_lines(check))
    return 0 if check.holds else 1


def _of_task(
    app: App,
    name: str,
    text: str | None,
    *,
    against: str | None,
    model: str | None,
    rows: int,
    with_logits: bool,
) -> ParityCheck:
    from harness.engine.parity_check import check_artifact, parity_entry
    from harness.errors import UsageError
    from harness.store.artifacts import verify

    task = app.task(name)
    text = text or (task.settings.tune.name if task.settings.tune else None)
    if text is None:
        raise UsageError(f"which candidate? --candidate NAME. {_tuned(app, task)}")
    candidate = app.candidate(task, text)
    if candidate.artifact is None:
        raise UsageError(
            f"candidate {text!r} has no artifact: nothing was trained for it, so there is nothing "
            f"to compare. {_tuned(app, task)}"
        )
    artifact = app.store.artifact(candidate.artifact, task=task.name)
    verify(artifact, base=app.project.home)
    check = check_artifact(
        task,
        candidate,
        artifact,
        store=app.store,
        pool=app.pool,
        plugins=app.plugins,
        project=app.project,
        runtime=_server(app, against, model=model, hint=artifact.name) if against else None,
        with_logits=with_logits,
        most=rows,
    )
    app.store.record(parity_entry(check, at=now()))
    return check


def _tuned(app: App, task: Task) -> str:
    """Return what is said of the candidates that could be compared."""
    made = [a for a in app.store.artifacts(task.name) if not (a.is_pilot or a.makes)]
    names = dict.fromkeys(f"{a.prompt or 'PROMPT'}@{a.base}+{a.name}" for a in made)
    if not names:
        return f"Nothing was tuned yet for task {task.name!r}: harness tune {task.name}"
    return f"Those that were tuned: {', '.join(map(clean, names))}"


def _of_rows(
    app: App,
    path: Path,
    *,
    base: str,
    against: str | None,
    model: str | None,
    rows: int,
    with_logits: bool,
) -> ParityCheck:
    from harness.engine.prepared import check_prepared
    from harness.records import Candidate

    backend = base if ":" in base else f"local:{base}"
    return check_prepared(
        path,
        base=Candidate(name=backend, backend=backend),
        runtime=_server(app, against, model=model, hint=None) if against else None,
        pool=app.pool,
        with_logits=with_logits,
        most=rows,
    )


def _server(app: App, url: str, *, model: str | None, hint: str | None) -> Candidate:
    """Return the candidate that asks the server at `url`, under the name that it has there."""
    from harness.errors import UsageError
    from harness.records import Candidate

    if model is None:
        asker = app.pool.get(Candidate(name=url, backend="openai:any", base_url=url)).backend
        names = list(asker.served_names())  # type: ignore[attr-defined] # openai: has it
        if len(names) != 1 and hint not in names:
            shown = ", ".join(names[:8]) or "none"
            raise UsageError(
                f"{url} lists {count(len(names), 'model')} ({shown}): say which one serves "
                "it, --model NAME"
            )
        model = names[0] if len(names) == 1 else hint
    return Candidate(name=f"openai:{model}", backend=f"openai:{model}", base_url=url)


def parity_lines(check: ParityCheck) -> list[str]:
    """Return a check in plain words: what was compared, what differs, what is not known."""
    lines = [f"{clean(check.candidate)} against {clean(check.runtime)}"]
    lines += [f"  compared: {clean(text)}" for text in check.compared]
    lines += [f"  not shown: {clean(text)}" for text in check.unknown]
    for found in check.findings:
        where = f" in {clean(found.case_id)}" if found.case_id else ""
        mark = "✗" if found.severity == "fail" else "!"
        lines.append(f"  {mark} {found.name}{where}: {clean(found.detail)}")
    failed = sum(f.severity == "fail" for f in check.findings)
    if failed:
        lines.append(f"parity fails: {count(failed, 'difference')}")
    elif not check.compared:
        lines.append("nothing was compared")
    else:
        lines.append("parity holds" + (", with warnings" if check.findings else ""))
    return lines
