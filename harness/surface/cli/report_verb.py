"""`harness report`: everything known of a task, in one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from harness.surface.cli.app import App, now, options


@click.command("report")
@click.argument("task")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Default: .harness/reports/TASK.html",
)
@options()
@click.pass_obj
def command(store: str | None, task: str, out: Path | None, as_json: bool) -> int:
    """Write the report of a task, one HTML file."""
    from harness.surface.report.page import write_report
    from harness.surface.report_gather import gather

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev", "test")
        path = (out or app.project.home / "reports" / f"{loaded.name}.html").absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_report(gather(loaded, app.store, project=app.project, at=now()), path)
        app.answer({"path": str(path), "bytes": path.stat().st_size})
        app.say(f"report: {path} ({path.stat().st_size / 1000:.0f} kB; open it in a browser)")
    return 0
