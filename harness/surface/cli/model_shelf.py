"""`harness model list`, `show`, `diff`, `verify` and `gc`: the artifacts and their lineage."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tabulate import tabulate

from harness.core.money import usd
from harness.core.scoring import case_values
from harness.core.words import count
from harness.engine.by_path import BY_PATH
from harness.errors import HarnessError, UsageError
from harness.records import Artifact, Json
from harness.store.opening import OlderStore
from harness.store.store import Store
from harness.surface.cli.app import App, options
from harness.surface.words import clean, one_line, percent

if TYPE_CHECKING:
    from harness.engine.shelf import Lineage

MEGABYTE = 1e6


@contextmanager
def looking(app: App) -> Iterator[Store | None]:
    """Lend the store for reading; None where there is none, which is not made by looking.

    One of an older harness is upgraded, as every other verb does it: a copy is kept beside it.
    """
    if not app.project.store.is_file():
        yield None
        return
    try:
        store = Store.open(app.project.store, read_only=True)
    except OlderStore:
        store = Store.open(app.project.store)
    with store:
        yield store


def found_artifact(app: App, store: Store | None, text: str, *, task: str | None) -> Artifact:
    """Return the artifact that `text` names. Raises UsageError."""
    from harness.engine.shelf import find_artifact

    if store is None:
        raise UsageError(
            f"no artifact {text!r}: there is no store at {app.project.store}. Make one with "
            "`harness tune TASK`, take one with `harness model adopt DIR --base B`, or name "
            "another store with --store PATH."
        )
    return find_artifact(store, text, task=task)


@click.command("list")
@click.argument("task", required=False)
@options()
@click.pass_obj
def list_command(store: str | None, task: str | None, as_json: bool) -> int:
    """List the artifacts (of one task), the newest last."""
    from harness.engine.shelf import shelved

    with App(store, as_json=as_json) as app, looking(app) as read:
        every = read.artifacts(task) if read else []
        held = [shelved(a, store=read, project=app.project) for a in every] if read else []
        app.answer(held)
        rows = [
            [
                clean(one.artifact.name),
                one.artifact.digest[:16],
                one.artifact.task,
                clean(one.artifact.origin or one.artifact.tuner),
                clean(one.artifact.base),
                one.artifact.rows or "–",
                _size(one.bytes),
                _kind(one.artifact),
                (one.made_at or "")[:16].replace("T", " "),
            ]
            for one in held
        ]
        heads = ["artifact", "digest", "task", "made by", "base", "rows", "size", "", "at"]
        none = f"no artifacts yet{f' of task {task}' if task else ''}: harness tune TASK"
        table = tabulate(rows, headers=heads, disable_numparse=True) if rows else none
        app.say(table)
    return 0


def _kind(artifact: Artifact) -> str:
    words = [
        "pilot" if artifact.is_pilot else "",
        f"{artifact.variant} of {(artifact.variant_of or '')[:8]}" if artifact.variant else "",
        f"after {artifact.start[:8]}" if artifact.start else "",
        "no wall" if artifact.wall_verdict is None and not artifact.is_pilot else "",
    ]
    return ", ".join(w for w in words if w)


def _size(count: int | None) -> str:
    return "gone" if count is None else f"{count / MEGABYTE:,.1f} MB"


@click.command("show")
@click.argument("artifact")
@click.option("--task", metavar="NAME", help="The task, where several have such an artifact.")
@options()
@click.pass_obj
def show_command(store: str | None, artifact: str, task: str | None, as_json: bool) -> int:
    """Show an artifact's lineage, runs and releases."""
    from harness.engine.shelf import lineage

    with App(store, as_json=as_json) as app, looking(app) as read:
        found = found_artifact(app, read, artifact, task=task)
        assert read is not None
        told = lineage(found, store=read, project=app.project)
        app.answer(told)
        app.say(*_show_lines(told, read))
    return 0


def _maker(a: Artifact) -> str:
    if a.origin == "elsewhere":
        return "another program, which is not named; adopted"
    if a.origin == BY_PATH:
        return (
            "nobody knows: a folder was named by its path (harness model adopt says what is known)"
        )
    return a.tuner + (f", adopted from {a.origin}" if a.origin else "")


def _parity(a: Artifact) -> str:
    if a.parity:
        return f"{count(len(a.parity), 'difference')} noted"
    candidate = f"{a.prompt or 'PROMPT'}@{a.base}+{a.name}"
    asked = f"ask: harness model parity {a.task} --candidate {candidate}"
    return f"not compared when it was adopted; {asked}" if a.origin else "no difference noted"


def _show_lines(told: Lineage, store: Store) -> list[str]:
    a = told.shelved.artifact
    licence = f"wall {a.wall_verdict}" if a.wall_verdict else a.override
    if a.is_pilot:
        licence = "none needed: a pilot is never released"
    facts: list[tuple[str, Any]] = [
        ("task", a.task),
        ("makes", "numbers for replies (a reward model): it is no candidate" if a.makes else None),
        ("made by", _maker(a)),
        ("made at", told.shelved.made_at),
        ("base", f"{a.base}  {a.base_digest[:16] or 'digest unknown'}"),
        ("prompt", f"{a.prompt}  {a.prompt_digest[:16]}" if a.prompt else "unknown"),
        ("template", a.template_digest[:16] or "unknown"),
        ("data", f"{a.rows or 'an unknown number of'} rows  {a.data_digest[:16] or 'unknown'}"),
        ("licence", licence or "no wall, and no reason recorded"),
        ("seed", a.recipe.get("seed", "unknown") if a.origin else a.seed),
        ("cost", None if a.cost_usd is None else usd(a.cost_usd)),
        ("answers by", a.backend),
        ("went on from", _name(told.start, a.start)),
        ("a form of", f"{_name(told.variant_of, a.variant_of)} ({a.variant})" if a.variant else ""),
        ("files", f"{a.folder}, {_size(told.shelved.bytes)}" if a.folder else "none: hosted"),
        ("parity", _parity(a)),
    ]
    lines = [f"{clean(a.name)}  {a.digest}"]
    lines += [f"  {n:<13} {one_line(str(v), width=300)}" for n, v in facts if v not in (None, "")]
    for title, table in (
        ("recipe", a.recipe),
        ("metrics", a.metrics),
        ("environment", a.environment),
    ):
        if table:
            pairs = ", ".join(f"{k} {_value(v)}" for k, v in sorted(table.items()))
            lines.append(f"  {title:<13} {one_line(pairs, width=600)}")
    for point in a.curve:
        loss = "" if point.loss is None else f", loss {point.loss:.3f}"
        score = "not scored" if point.score is None else percent(point.score, digits=1)
        lines.append(f"  at step {point.step:<5} {score}{loss}, {point.tokens:,} tokens")
    for what, some in (("its forms", told.variants), ("went on to", told.later)):
        for one in some:
            lines.append(f"  {what:<13} {clean(one.name)} {one.digest[:16]}")
    for run in told.runs:
        part = "" if run.is_complete else ", partial"
        score = _score(store, run.id)
        lines.append(f"  run {run.id[:8]}  {run.split}, {run.cases} cases{part}: {score}")
    for entry in told.releases:
        lines.append(f"  release       {entry.at[:16].replace('T', ' ')} {clean(entry.text)}")
    return lines


def _name(artifact: Artifact | None, digest: str | None) -> str | None:
    if digest is None:
        return None
    return f"{clean(artifact.name) if artifact else 'an artifact of another store'} {digest[:16]}"


def _value(value: Json) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score(store: Store, run_id: str) -> str:
    """The mean of `all` scores: the task that would name a primary may be gone."""
    values = [v for v in case_values(store.run(run_id), "all").values() if v is not None]
    if values and all(map(math.isnan, values)):
        return "–"  # nothing was measured
    known = [0.0 if math.isnan(v) else v for v in values]  # as in every table: no answer, no hit
    return percent(sum(known) / len(known), digits=1) if known else "unscored"


# ---------------------------------------------------------------- diff, verify


@click.command("diff")
@click.argument("first")
@click.argument("second")
@click.option("--task", metavar="NAME", help="The task, where several have such artifacts.")
@options()
@click.pass_obj
def diff_command(
    store: str | None, first: str, second: str, task: str | None, as_json: bool
) -> int:
    """Show how two artifacts differ.

    In settings, data, base, versions, metrics and scores. Exit 0: a difference is no fault.
    """
    from harness.engine.shelf import differences, lineage

    with App(store, as_json=as_json) as app, looking(app) as read:
        one = found_artifact(app, read, first, task=task)
        two = found_artifact(app, read, second, task=task)
        assert read is not None
        found = differences(one, two)
        scores = [
            {
                r.split: _score(read, r.id)
                for r in lineage(a, store=read, project=app.project).runs
                if r.is_complete
            }
            for a in (one, two)
        ]
        app.answer({"differences": found, "scores": scores})
        rows = [[d.name, *(_told(v) for v in (d.first, d.second))] for d in found]
        rows += [
            [f"score on {split}", scores[0].get(split, "–"), scores[1].get(split, "–")]
            for split in ("train", "dev", "test")
            if split in scores[0] or split in scores[1]
        ]
        heads = ["", f"{clean(one.name)} {one.digest[:8]}", f"{clean(two.name)} {two.digest[:8]}"]
        same = f"{one.digest[:16]} twice: the same artifact"
        alike = "nothing that is recorded differs but the files"
        app.say(
            tabulate(rows, headers=heads, disable_numparse=True)
            if rows
            else (same if one.digest == two.digest else alike)
        )
    return 0


def _told(value: Json) -> str:
    if value is None or value == "":
        return "–"
    text = _value(value)
    is_digest = len(text) == 64 and set(text) <= set("0123456789abcdef")
    return text[:16] if is_digest else one_line(text, width=60)


@click.command("verify")
@click.argument("artifact", required=False)
@click.option("--task", metavar="NAME", help="The task, or every artifact of it.")
@options()
@click.pass_obj
def verify_command(store: str | None, artifact: str | None, task: str | None, as_json: bool) -> int:
    """Check the files, base and template of one, or all.

    Exit 0: nothing is wrong. 1: something is; it is named. What cannot be checked here is said.
    """
    from harness.engine.shelf import verify_artifact

    with App(store, as_json=as_json) as app, looking(app) as read:
        if artifact is None:
            every = read.artifacts(task) if read else []
            # A pilot whose files were collected is no trouble: its curve is what was wanted.
            some = [
                a for a in every if not (a.is_pilot and not (app.project.home / a.folder).is_dir())
            ]
        else:
            some = [found_artifact(app, read, artifact, task=task)]
        results, is_wrong = [], False
        for one in dict.fromkeys(a.digest for a in some):
            known = next(a for a in reversed(some) if a.digest == one)
            conditions = verify_artifact(
                known, project=app.project, pool=app.pool, options=task_options(app, known)
            )
            results.append({"artifact": known.digest, "conditions": conditions})
            app.say(f"{clean(known.name)} {known.digest[:16]}")
            is_wrong |= any(c.holds is False for c in conditions)
            marks = {True: "ok", False: "WRONG", None: "not checked"}
            app.say(*(f"  {c.name}: {marks[c.holds]}: {clean(c.text)}" for c in conditions))
        app.answer(results)
        if not results:
            app.say("no artifacts yet: harness tune TASK")
        return 1 if is_wrong else 0


def task_options(app: App, artifact: Artifact) -> dict[str, Json]:
    """Return the task's settings of the artifact's base, none where the task is gone."""
    from harness.engine.candidates import backend_options

    try:
        return backend_options(app.task(artifact.task), artifact.base)
    except HarnessError:
        return {}


# ---------------------------------------------------------------- gc


@click.command("gc")
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=14.0,
    show_default=True,
    help="Nothing goes that changed since so many days.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options()
@click.pass_obj
def gc_command(store: str | None, days: float, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Remove what nothing needs.

    Pilots, half-made folders, trainings cut short, and folders that no record names. Never what
    was tuned or adopted, nor what a release, the ledger or a candidate names.
    """
    from harness.engine.sweeping import remove, waste

    with App(store, as_json=as_json) as app:
        if not app.project.home.is_dir() or not app.project.store.is_file():
            app.answer({"removed": [], "bytes": 0})
            app.say(f"nothing to remove: there is no store at {app.project.store}")
            return 0
        found = waste(
            app.project, app.store, days=days, now_s=time.time(), kept=_candidate_artifacts(app)
        )
        total = sum(one.bytes for one in found)
        for one in found:
            place = one.folder.relative_to(app.project.home)
            app.say(f"{place}  {_size(one.bytes)}  {one.reason}")
        app.say(f"{count(len(found), 'folder')}, {_size(total)}" if found else "nothing to remove")
        is_wanted = bool(found) and not dry_run
        if is_wanted and not yes:
            if as_json:
                raise UsageError("--json asks nothing: add --yes or --dry-run")
            is_wanted = click.confirm("Remove them?", default=False)
        freed = remove(found, note=lambda text: click.echo(text, err=True)) if is_wanted else 0
        gone = [one for one in found if not (is_wanted and one.folder.exists())]
        names = [str(one.folder.relative_to(app.project.home)) for one in gone]
        bytes_ = freed if is_wanted else total
        app.answer({"removed" if is_wanted else "would_go": names, "bytes": bytes_})
        if is_wanted:
            app.say(f"removed: {_size(freed)}")
    return 0


def _candidate_artifacts(app: App) -> list[str]:
    """The artifacts that task files name. Raises TaskError for a file that cannot be read: what it
    names is not known, so nothing is removed.
    """
    from harness.engine.candidates import named_artifacts
    from harness.engine.project import task_names

    return [a for name in task_names(app.project) for a in named_artifacts(app.task(name))]
