"""`harness init TASK --from FILE`: a spreadsheet becomes a task, and a number with its interval."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.first_checks import first_check
from harness.core.first_evals import FirstCheck
from harness.core.first_prompts import bare_prompt, task_prompt, with_tools
from harness.core.scoring import case_values
from harness.core.words import count
from harness.engine.candidates import CONSTANT, REFERENCE, REPLAY
from harness.engine.data.bad_rows import refuse_bad
from harness.engine.data.bringing import Brought, bring
from harness.engine.data.new_task import prompt_name, task_toml, write_task
from harness.engine.data.reading import Reading
from harness.engine.tasks import Task
from harness.engine.text_files import read_text
from harness.errors import HarnessError, TaskError, UsageError
from harness.records import Run
from harness.surface.cli.app import App
from harness.surface.cli.data_source import bad_json, left_out_lines, refuse_if_nothing
from harness.surface.cli.init_columns import open_mapped
from harness.surface.words import clean, from_here, interval, one_line

SAMPLE = 10
TARGET = 0.9
SEVERAL = frozenset({"openai-evals", "inspect"})
"""Forms where an answer that is a list of texts is several, of which any would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line asked for."""

    name: str
    file: Path
    form: str | None
    mapped: Mapping[str, str]
    prompt: Path | None
    model: str
    candidate: str | None
    target: float | None
    base_url: str | None
    is_asking: bool
    is_sure: bool
    skip_bad: bool = False


def init_from(app: App, wish: Wish) -> int:
    """Make the task, run ten cases, and say what was and what was not carried over."""
    folder = app.project.tasks / wish.name
    if folder.exists():
        raise UsageError(f"{folder} exists already; choose another name, or remove it")
    _check_candidate(app, wish)
    text = None if wish.prompt is None else read_text(wish.prompt)
    reading, columns, ignored, left = open_mapped(
        wish.file,
        form=wish.form,
        mapped=wish.mapped,
        prompt=text or "",
        is_asking=wish.is_asking,
        is_sure=wish.is_sure,
    )
    rows = list(reading)
    refuse_if_nothing(reading)
    if not wish.skip_bad:
        refuse_bad(reading, form="name their form with --form")
    brought = bring(
        rows,
        origin=str(wish.file),
        folder=wish.file.parent,
        home=folder,
        ignored=ignored,
        any_would_do=reading.form in SEVERAL,
    )
    made = _written(folder, wish, brought, text=text)
    told_of = " ".join(brought.dropped)
    lost = [
        f"the column {c!r} (--map {c}=NAME carries it)" for c in left if f"`{c}`" not in told_of
    ]
    if text is not None and brought.system.strip() not in made.prompt:
        lost.append("the system message that every row has: the prompt of --prompt stands instead")
    lost += _lost(reading, brought)
    lacks = app.pool.lacking(wish.model)
    is_later = bool(lacks) and made.candidate != made.name  # else the run itself says so
    later = [f"{wish.model} cannot answer yet: {lacks}"] if is_later else []
    told: dict[str, Any] = {
        "folder": str(folder),
        "files": sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()),
        "cases": brought.counts,
        "joined": brought.joined,
        "check": {"kind": made.check.kind, "why": made.check.why, "primary": made.check.primary},
        "not_carried_over": lost,
        "columns": columns,
        "notes": [*brought.notes, *made.notes, *later],
        **bad_json(reading),
    }
    app.say(
        *_made_lines(folder, reading, brought, made.check, columns=columns),
        *_bullets("notes", told["notes"]),
    )
    app.say(*_bullets("not carried over", lost), "")
    return _first_run(app, wish, made, brought, told=told)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """The task as it was written. `candidate` is measured first, `name` is that of its prompt."""

    task: Task
    check: FirstCheck
    name: str
    prompt: str
    candidate: str
    notes: Sequence[str]


def _written(folder: Path, wish: Wish, brought: Brought, *, text: str | None) -> _Made:
    """Write the task: its cases, a prompt, a first check."""
    check = first_check(
        brought.answers,
        has_case_checks=brought.has_case_checks,
        has_several=brought.has_several,
        has_further=brought.has_further,
    )
    prompt, notes = _prompt(wish.prompt, text, brought)
    prompt = with_tools(prompt) if brought.tools else prompt
    name = prompt_name(wish.prompt)
    is_own = (wish.candidate or "").startswith((CONSTANT, REPLAY)) or wish.candidate == REFERENCE
    candidate = wish.candidate if is_own and wish.candidate else name
    origin = _safe(wish.file.name)
    settings = task_toml(
        brought,
        check,
        origin=origin,
        model=wish.model,
        candidate=candidate,
        target=TARGET if wish.target is None else wish.target,
        is_own_target=wish.target is not None,
    )
    task = write_task(
        folder, brought, check, settings=settings, prompts={name: prompt}, origin=origin
    )
    return _Made(task=task, check=check, name=name, prompt=prompt, candidate=candidate, notes=notes)


def _first_run(app: App, wish: Wish, made: _Made, brought: Brought, *, told: dict[str, Any]) -> int:
    """Run ten cases, and say what comes next."""
    try:
        told["number"] = _first_number(app, made.task, made.candidate, base_url=wish.base_url)
    except HarnessError as exc:
        told |= {"number": None, "error": from_here(str(exc)), "exit_code": exc.exit_code}
        app.answer(told)
        app.say(f"The task is made; its first run did not go through: {clean(told['error'])}", "")
        app.say("When that is mended:", f"  harness eval {wish.name} --sample {SAMPLE}")
        if made.candidate == made.name and not isinstance(exc, TaskError):  # no model's doing
            app.say(
                f"Or with a model that {'sees images' if brought.images else 'answers'}:",
                f"  harness eval {wish.name} --candidate '{made.name}@SCHEME:MODEL' "
                f"--sample {SAMPLE}",
            )
        return exc.exit_code
    app.answer(told)
    again = "" if made.candidate == made.name else f" --candidate {made.name}"
    dev = brought.counts["dev"]
    app.say(
        "",
        "Next:",
        f"  harness eval {wish.name}{again}  # {wish.model} on all {dev} dev cases",
        f"  harness data look {wish.name}  # read the rows",
        f"  harness ladder {wish.name}  # more prompts, each with its interval",
    )
    return 0


def _check_candidate(app: App, wish: Wish) -> None:
    """Raise UsageError for a model or a file of replies that is not there."""
    own = wish.candidate or ""
    if own.startswith(REPLAY) and not Path(own.removeprefix(REPLAY)).is_file():
        raise UsageError(f"--candidate {own}: no such file {own.removeprefix(REPLAY)}")
    known = sorted(app.plugins.table("harness_backends"))
    scheme = wish.model.partition(":")[0]
    if scheme not in known:
        near = difflib.get_close_matches(scheme, known, n=1)
        hint = f" Did you mean {near[0]}:?" if near else ""
        raise UsageError(f"no backend {scheme!r}. Known: {', '.join(known)}.{hint}")


def _safe(text: str) -> str:
    """Return a file's name as a comment can hold it."""
    return one_line(text.replace('"', "'").replace("\\", "/"), width=80)


def _prompt(path: Path | None, text: str | None, brought: Brought) -> tuple[str, list[str]]:
    shown = [name for name in brought.inputs if name not in brought.images]
    first: Any = brought.rows[0]["inputs"]
    as_json = [name for name in shown if not isinstance(first[name], str)]
    if path is None or text is None:
        bare = bare_prompt(shown or brought.inputs, system=brought.system, as_json=as_json)
        return bare, ["no --prompt: the prompt is the inputs alone"]
    return task_prompt(
        text,
        path=str(path),
        inputs=brought.inputs,
        renamed=brought.renamed,
        images=brought.images,
        as_json=as_json,
    )


# ---------------------------------------------------------------- what was made


def _made_lines(
    folder: Path,
    reading: Reading,
    brought: Brought,
    check: FirstCheck,
    *,
    columns: Sequence[str],
) -> list[str]:
    counts = ", ".join(f"{split} {n}" for split, n in brought.counts.items())
    sure = "" if reading.confidence >= 0.9 else f", {100 * reading.confidence:.0f} % sure"
    many = f"{count(len(brought.rows), 'case')} of {clean(reading.path.name)}"
    lines = [
        f"{from_here(str(folder))}: {many} ({counts})",
        f"  read as      {reading.form}{sure}",
        *[f"  file         {clean(note)}" for note in reading.container.notes],
        *(
            [f"  columns      {clean(', '.join(columns))} (--map says otherwise)"]
            if columns
            else []
        ),
        *([] if columns else [f"  columns      {clean(note)}" for note in reading.plan.notes]),
        f"  asked        {', '.join(clean(name) for name in brought.inputs)}",
        f"  answered     {check.why}",
        f"  first check  {check.kind}: eval_{folder.name}.py, `test_{check.primary}`"
        if check.primary != "checks"
        else f"  first check  {check.kind}",
    ]
    if check.caution:
        lines.append(f"               {check.caution}")
    if brought.joined:
        many = f"{count(brought.joined, 'row')} that repeat{'s' * (brought.joined == 1)}"
        lines.append(f"  joined       {many} another, question and answer")
    answers = Counter(str(row["inputs"]) for row in brought.rows)
    several = sum(n for n in answers.values() if n > 1)
    if several:
        lines.append(
            f"  {several} rows ask what another asks, and answer differently: they count as one "
            f"source (harness data lint {folder.name} names them)"
        )
    return lines


def _lost(reading: Reading, brought: Brought) -> list[str]:
    lost = [f"{what}: {n}" for what, n in brought.dropped.items()]
    return [*lost, *reading.left] + [line.strip() for line in left_out_lines(reading)]


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"  {title}", *(f"    - {clean(line)}" for line in lines)] if lines else []


def _first_number(app: App, task: Task, candidate: str, *, base_url: str | None) -> dict[str, Any]:
    """Run ten dev cases, the right answers and the candidate; return what was measured."""
    from harness.surface.run_evals import completed, run_evals
    from harness.surface.tables import estimate_of

    primary = task.settings.primary
    has_answers = any(c.reference is not None for c in task.split("dev"))
    names = [REFERENCE, candidate] if has_answers and candidate != REFERENCE else [candidate]
    if not task.split("dev"):
        raise TaskError(f"{task.folder}: no dev cases to run")
    outcome = completed(
        run_evals(
            task,
            names,
            store=app.project.store,
            base_url=base_url,
            extra=[f"--sample={SAMPLE}"],
        )
    )
    clusters = {case.id: case.cluster for case in task.split("dev")}
    runs = {run.candidate.name: run for run in outcome.runs}
    run = runs[candidate]
    estimate = estimate_of(run, primary, clusters=clusters)
    if estimate is None:
        raise TaskError(f"{task.folder}: no case was scored by `{primary}`{_why_not(run, primary)}")
    asked = len({trial.case_id for trial in run.trials})
    app.say(
        f"{clean(candidate)}{_backend(run)} on {count(asked, 'dev case')}: "
        f"{primary} {interval(estimate)}, each bound 95 % sure"
    )
    app.say(*_miss_lines(run, primary))
    right = runs.get(REFERENCE)
    passed = None if right is None else estimate_of(right, primary, clusters=clusters)
    if right is not None and passed is not None and candidate != REFERENCE:
        if passed.mean >= 0.9999:
            known = [v for v in case_values(right, primary).values() if v is not None]
            app.say(f"The right answers themselves pass the check ({len(known)} of {asked}).")
        else:
            app.say(
                f"The right answers themselves score {100 * passed.mean:.0f} %: mend the check "
                f"first (harness eval {task.name} --candidate reference)."
            )
    return {"candidate": candidate, "score": primary, "cases": asked, "estimate": estimate}


def _why_not(run: Run, primary: str) -> str:
    """Return what its eval ended in at the first case, as where a library is absent."""
    scores = (s for t in run.trials for s in t.scores if s.name == primary and s.reason)
    first = next(scores, None)
    return "" if first is None else f": {first.reason}"


def _backend(run: Run) -> str:
    backend = run.candidate.backend
    return "" if run.candidate.name == backend else f"@{clean(backend)}"


def _miss_lines(run: Run, primary: str) -> list[str]:
    """Return the first misses, with what was expected."""
    missed = [
        (trial.case_id, score.reason)
        for trial in run.trials
        for score in trial.scores
        if score.name == primary and score.value is not None and score.value < 1 and score.reason
    ]
    lines = [f"  m {clean(case)}: {one_line(reason, width=100)}" for case, reason in missed[:3]]
    return [*lines, f"  … and {len(missed) - 3} more"] if len(missed) > 3 else lines


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
