"""`harness doctor`: is everything in order here?"""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec

import click

from harness.core.words import count
from harness.engine.candidates import candidate_names
from harness.engine.project import task_names
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import HarnessError
from harness.ports.manager import PluginWarning
from harness.surface.cli.app import App, options
from harness.surface.words import clean

EXTRAS = {
    "checks": ("py3langid", "rapidfuzz", "sacrebleu", "sqlglot"),
    "local": ("torch", "transformers", "safetensors", "gguf"),
    "grammar": ("xgrammar",),
    "tune": ("peft", "trl", "datasets", "accelerate"),
}
MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `holds` is None for what is absent and not needed."""

    what: str
    holds: bool | None
    text: str


@click.command("doctor")
@options()
@click.pass_obj
def command(store: str | None, as_json: bool) -> int:
    """Check this installation, the store and every task.

    Exit 0: nothing is broken. 1: something is, and the line says what to do.
    """
    with App(store, as_json=as_json) as app:
        findings = [*installation(), *_of_project(app)]
        app.answer(findings)
        for finding in findings:
            app.say(f"{MARKS[finding.holds]} {finding.what}: {clean(finding.text)}")
    return 1 if any(f.holds is False for f in findings) else 0


def installation() -> Iterator[Finding]:
    """Look at Python and the extras."""
    version = platform.python_version()
    yield Finding(what="python", holds=sys.version_info >= (3, 11), text=version)
    for extra, modules in EXTRAS.items():
        missing = [m for m in modules if find_spec(m) is None]
        if missing:
            text = f"absent ({', '.join(missing)}): pip install 'tuning-harness[{extra}]'"
            yield Finding(what=f"extra [{extra}]", holds=None, text=text)
        else:
            versions = ", ".join(f"{m} {metadata.version(m)}" for m in modules)
            yield Finding(what=f"extra [{extra}]", holds=True, text=versions)


def _of_project(app: App) -> Iterator[Finding]:
    yield Finding(what="project", holds=True, text=f"{app.project.root}, store {app.project.store}")
    place = app.project.store
    try:
        if not place.exists() and not place.parent.is_file():  # to look makes no store
            yield Finding(what="store", holds=None, text="none yet: the first run makes it")
        else:
            yield Finding(what="store", holds=True, text=count(len(app.store.runs()), "run"))
    except HarnessError as exc:
        yield Finding(what="store", holds=False, text=str(exc))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PluginWarning)
            infos = app.plugins.infos
            schemes = ", ".join(f"{s}:" for s in sorted(app.plugins.table("harness_backends")))
        for warning in caught:
            yield Finding(what="plugin", holds=False, text=str(warning.message))
        text = ", ".join(f"{i.name} ({i.distribution})" for i in infos) or "none"
        yield Finding(what="plugins", holds=True, text=f"{text}; schemes {schemes or 'none'}")
    except HarnessError as exc:
        yield Finding(what="plugins", holds=False, text=str(exc))
    names = task_names(app.project)
    for name in names:
        yield from _of_task(app, name)
    if not names:
        yield Finding(what="tasks", holds=None, text="none yet: harness init NAME makes one")


def _of_task(app: App, name: str) -> Iterator[Finding]:
    what = f"task {name}"
    try:
        task = app.task(name)
        _render_everything(task)
        scheme = task.settings.model.partition(":")[0]
        app.plugins.owner("harness_backends", scheme)
    except HarnessError as exc:
        yield Finding(what=what, holds=False, text=str(exc))
        return
    counts = ", ".join(f"{s} {len(task.split(s))}" for s in ("train", "dev", "test"))
    evals, known = len(task.eval_names), len(candidate_names(task))
    text = f"{count(evals, 'eval')}, {count(known, 'candidate')}, {counts}"
    yield Finding(what=what, holds=True, text=text)
    s = task.settings
    named = [c.backend for c in s.candidates.values()] + [j.backend for j in s.judges.values()]
    for model in dict.fromkeys([s.model, *filter(None, named)]):
        if lacks := app.pool.lacking(model):
            yield Finding(what=what, holds=None, text=f"{model} cannot answer: {lacks}")
    if leaks := app.leaks(task):
        text = f"{count(len(leaks), 'case')} in two splits. The first: {leaks[0].text}"
        yield Finding(what=what, holds=False, text=text)


def _render_everything(task: Task) -> None:
    """Fill every prompt with every case, so that a missing field shows before a model is asked."""
    from harness.engine.candidates import resolve_candidate

    requests = Requests(task)
    for prompt in task.prompts.values():
        candidate = resolve_candidate(task, prompt.name, artifact_digest=str)
        for case in task.cases:
            if case.split != "train":
                requests.of(candidate, case)
    if task.settings.tune:
        for case in task.split("train"):
            if case.reference is not None:
                requests.training_row(task.settings.tune.prompt, case)
