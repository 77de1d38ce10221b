"""Reads what a report shows out of a task and its store. Knows nothing of HTML."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from harness.core.scoring import trial_value
from harness.core.tries import build_tries
from harness.engine.advise import last_release
from harness.engine.candidates import CONSTANT, REFERENCE
from harness.engine.ladder import (
    Ladder,
    is_present,
    read_ladder,
    scored_cases,
    title_of,
    try_scores,
    why_not_counted,
)
from harness.engine.project import Project
from harness.engine.release import arms_of, best_prompt
from harness.engine.tasks import Task
from harness.engine.variants import MeasuredForms
from harness.engine.walls import last_wall
from harness.errors import HarnessError, NotEnoughEvidence, TaskError
from harness.records import Artifact, Comparison, LedgerEntry, ParityCheck, Try, from_plain
from harness.store.store import Store
from harness.surface.report.forms import FormTable, form_table, latest
from harness.surface.report.model import (
    CaseView,
    ParityView,
    ReplyView,
    ReportData,
    Rung,
    RungKind,
    TagRow,
    TagTable,
)
from harness.surface.report.summaries import cost_rows, data_page
from harness.surface.slices import Slice, slices_of_task
from harness.surface.tables import estimate_of

MOST = 4
"""Candidates in the table by tag."""
VERSIONS = ("torch", "transformers", "peft", "trl", "numpy", "scipy", "pytest")


def gather(task: Task, store: Store, *, project: Project, at: str) -> ReportData:
    """Return everything that is known of `task`: verdicts, rungs, cases, cost, lineage, data."""
    dev, sealed = read_ladder(task, store), read_ladder(task, store, split="test")
    wall, release = last_wall(task, store), last_release(task, store)
    artifacts = tuple(a for a in store.artifacts(task.name) if not a.is_pilot)
    s = task.settings
    views = tuple(_case_views(task, store, dev, sealed))
    return ReportData(
        task=task.name,
        about=s.about,
        generated_at=at,
        harness_version=metadata.version("tuning-harness"),
        primary=s.primary,
        model=s.model,
        git_sha=_git_sha(project.root),
        versions={"python": platform.python_version(), **_versions()},
        target=s.target,
        target_reason=s.target_reason,
        min_gain=s.min_gain,
        wall=wall,
        release=release,
        comparisons=_comparisons(task, dev),
        rungs=_rungs(task, dev),
        tags=_tags(task, dev),
        cases=views,
        costs=cost_rows(views),
        artifacts=artifacts,
        parity=_parity(artifacts),
        parity_checks=_parity_checks(store.ledger(task=task.name, kind="parity")),
        forms=_forms(store.ledger(task=task.name, kind="variants")),
        waivers=s.waivers,
        ledger=tuple(store.ledger(task=task.name)),
        data=data_page(task.cases),
        commands=_commands(task, dev, release is not None),
    )


def _rungs(task: Task, ladder: Ladder) -> tuple[Rung, ...]:
    try:
        scores = try_scores(task, ladder)
    except (NotEnoughEvidence, TaskError):  # no case was scored: there is no rung to stand on
        scores = []
    tries = build_tries(scores, [c.cluster for c in scored_cases(task, ladder)])
    rungs = []
    for said, one in zip(scores, tries, strict=True):
        kind: RungKind = "tuned" if said.is_tuned else "other" if said.is_other_model else "prompt"
        rungs.append(Rung(result=one, kind=kind))
    rungs.sort(key=lambda r: r.kind == "tuned")
    return (*rungs, *_controls(task, ladder))


def _controls(task: Task, ladder: Ladder) -> list[Rung]:
    """What no model answered: the lazy answers and recorded replies that the tries are read
    against, and the reference last.
    """
    clusters = {c.id: c.cluster for c in task.split("dev")}
    rungs = []
    for run in ladder.runs:
        one = run.candidate
        estimate = estimate_of(run, task.settings.primary, clusters=clusters)
        if one.prompt is not None or estimate is None:
            continue
        is_lazy = one.backend.startswith(CONSTANT)
        note = "the same answer to all" if is_lazy else why_not_counted(run, task)
        result = Try(
            candidate=one.name,
            family="",
            run_id=run.id,
            estimate=estimate,
            is_counted=False,
            note=note if run.is_complete else f"{note}, partial run",
        )
        kind: RungKind = "reference" if one.backend == REFERENCE else "other"
        rungs.append(Rung(result=result, kind=kind))
    return sorted(rungs, key=lambda r: r.kind == "reference")


def _tags(task: Task, dev: Ladder) -> TagTable | None:
    """Return the best prompt and the tuned candidates by tag; None where there are no two tags."""
    try:
        best = best_prompt(task, dev)
    except HarnessError:
        best = ""  # no prompt was scored yet
    runs = [r for r in dev.runs if r.candidate.name == best and is_present(r, task)]
    runs += [r for r in dev.runs if r.candidate.artifact and r.is_complete][: MOST - len(runs)]
    cells: dict[str, list[Slice]] = {}
    for one in slices_of_task(runs, task):
        cells.setdefault(one.tag, []).append(one)
    if not cells:
        return None
    return TagTable(
        candidates=tuple(r.candidate.name for r in runs),
        rows=tuple(
            TagRow(
                tag=tag,
                cases=max(s.cases for s in some),
                cells=tuple(s.estimate for s in some),
                faults=tuple(s.faults for s in some) if any(s.faults for s in some) else (),
            )
            for tag, some in cells.items()
        ),
    )


def _comparisons(task: Task, dev: Ladder) -> tuple[Comparison, ...]:
    """Every tuned candidate against the best prompt, on dev."""
    found = []
    for run in dev.runs:
        if not run.candidate.artifact or not run.is_complete:
            continue
        try:
            best = best_prompt(task, dev)
            named = (r for r in dev.runs if r.candidate.name == best)
            baseline = next(r.candidate for r in named if is_present(r, task))
            arms = arms_of(task, dev, baseline=baseline, candidate=run.candidate)
            found.append(arms.comparison())
        except HarnessError:
            continue  # nothing to compare with is no trouble of the report's
    return tuple(found)


def _case_views(task: Task, store: Store, *ladders: Ladder) -> list[CaseView]:
    views = []
    for ladder in ladders:
        cases = {c.id: c for c in task.cases}
        shown: dict[str, list[ReplyView]] = {}
        for run in ladder.runs:
            title = title_of(run, task)
            replies = store.known_replies([t.reply_key for t in run.trials if t.reply_key])
            for trial in run.trials:
                reply = replies.get(trial.reply_key or "")
                shown.setdefault(trial.case_id, []).append(
                    ReplyView(
                        candidate=title,
                        trial=trial,
                        request=store.request_of(trial.reply_key or "") if reply else None,
                        reply=reply,
                        primary=_finite(trial_value(trial, task.settings.primary)),
                    )
                )
        views += [CaseView(case=cases[c], replies=tuple(r)) for c, r in shown.items() if c in cases]
    return views


def _parity(artifacts: tuple[Artifact, ...]) -> ParityView | None:
    if not artifacts:
        return None
    return ParityView(rows=artifacts[-1].rows, findings=artifacts[-1].parity)


def _parity_checks(entries: Sequence[LedgerEntry]) -> tuple[ParityCheck, ...]:
    """The last check of each artifact with each runtime."""
    last: dict[tuple[str | None, str], ParityCheck] = {}
    for entry in entries:
        check = from_plain(ParityCheck, entry.payload)
        last[check.artifact, check.runtime] = check
    return tuple(last.values())


def _forms(entries: Sequence[LedgerEntry]) -> tuple[FormTable, ...]:
    return latest([form_table(from_plain(MeasuredForms, e.payload), at=e.at) for e in entries])


def _commands(task: Task, dev: Ladder, is_released: bool) -> tuple[str, ...]:
    commands = [f"harness ladder {task.name}", f"harness wall {task.name}"]
    tuned = [r.candidate.name for r in dev.runs if r.candidate.artifact]
    if tuned:
        commands += [f"harness tune {task.name}"]
        commands += [
            f"harness eval {task.name} --candidate {shlex.quote(name)}"
            for name in dict.fromkeys(tuned)
        ]
    if is_released:
        commands.append(f"harness gate {task.name}")
    return (*commands, f"harness report {task.name}")


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else value  # noqa: PLR0124 - NaN alone differs


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git_sha(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
