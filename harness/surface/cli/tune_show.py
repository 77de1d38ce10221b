"""The lines of `harness tune`: before, during and after a training."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.core.words import count
from harness.engine.candidates import candidate_names
from harness.engine.tasks import Task
from harness.records import Artifact, CurvePoint
from harness.surface.words import clean, number, one_line, percent

if TYPE_CHECKING:
    from harness.engine.tune_preview import Preview
    from harness.ports.tuners import TrainProgress

EVERY_S = 10.0
LIVE_S = 0.5
HANGING = 12
"""Where the words of a plan stand: its lines go on there."""


class Watched:
    """Prints a training as it goes, to the standard error: a line every ten seconds, and on a
    terminal one that changes in its place.
    """

    def __init__(self) -> None:
        self._began = time.time()
        self._shown = 0.0
        self._is_live = sys.stderr.isatty()
        self._is_open = False
        self._first: TrainProgress | None = None
        self._last: TrainProgress | None = None

    def report(self, step: TrainProgress) -> None:
        """Print a step where it is time, and the first and the last one."""
        if self._last is None or step.step <= self._last.step:  # of a training after the first
            self._first = step
        self._last = step
        every = LIVE_S if self._is_live else EVERY_S
        if time.monotonic() - self._shown < every and step.step < step.steps:
            return
        self._shown = time.monotonic()
        line = step_line(step, since=self._first)
        if not self._is_live:
            click.echo(line, err=True)
            return
        room = shutil.get_terminal_size((80, 24)).columns - 1
        click.echo(f"\r\x1b[K{line[:room]}", err=True, nl=step.step == step.steps)
        self._is_open = step.step < step.steps

    def looked(self, point: CurvePoint, is_best: bool) -> None:
        """Print a look at dev."""
        score = "not scored" if point.score is None else percent(point.score)
        best = ", the best so far: kept" if is_best else ""
        self._line(f"step {point.step}: dev {score}{best}")

    def note(self, text: str) -> None:
        """Print a remark."""
        self._line(clean(text))

    def _line(self, text: str) -> None:
        click.echo(f"\r\x1b[K{text}" if self._is_open else text, err=True)
        self._is_open = False

    def cut_short(self, home: Path) -> None:
        """Say how to go on with a training that ended in its midst."""
        if self._last is None:
            return
        # job.json is written as a training begins: states of others are none of this one's
        kept = any(
            job.stat().st_mtime > self._began - 0.05 and any((job.parent / "state").glob("**/*"))
            for job in (home / "tuning").glob("*/job.json")
        )
        said = "the same command goes on from there (--fresh: begins anew)"
        self._line(
            f"cut short after step {self._last.step} of {self._last.steps}; "
            + (f"its state is kept: {said}" if kept else "nothing of it is kept")
        )


def step_line(step: TrainProgress, *, since: TrainProgress | None) -> str:
    """Return a step as a line. The time to go is told from the steps after the first one, `since`:
    that one warms up, and after a kill the ones before it were another process's.
    """
    done = step.step - since.step if since else 0
    pace = (step.seconds - since.seconds) / done if since and done else 0.0
    left = pace * (step.steps - step.step)
    parts = [
        f"step {step.step} of {step.steps}",
        *([f"loss {step.loss:.3f}"] if step.loss is not None else []),
        *(f"{n.replace('_', ' ')} {value:.3g}" for n, value in sorted(step.numbers.items())),
        *([f"{step.tokens / step.seconds:.0f} tokens/s"] if step.tokens and step.seconds else []),
        *([f"{step.memory_gb:.1f} GB"] if step.memory_gb is not None else []),
        f"{duration(step.seconds)}{f', about {duration(left)} to go' if left else ''}",
    ]
    return ", ".join(parts)


def filled(lines: Sequence[str], *, hanging: int = 4) -> list[str]:
    """Return lines within the width of a terminal; elsewhere as they are, which is
    easier to search.
    """
    if not sys.stdout.isatty():
        return list(lines)
    room = max(40, shutil.get_terminal_size((80, 24)).columns - 1)
    rest = " " * hanging
    made = []
    for line in lines:
        whole = textwrap.wrap(
            line, room, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
        )
        made += whole or [""]
    return made


def preview_lines(shown: Preview) -> list[str]:
    """Return what a training would be."""
    recipe = ", ".join(f"{k} = {v}" for k, v in shown.recipe.items()) or "the tuner's defaults"
    lines = [
        f"{shown.name}: {shown.tuner} on {shown.base}, prompt {shown.prompt}"
        + (f", going on from {shown.start[:16]}" if shown.start else ""),
        f"  rows      {shown.rows}",
        *(f"            {clean(text)}" for text in shown.dropped),
    ]
    if (tokens := shown.tokens) is not None:
        lines.append(
            f"  tokens    {number(float(tokens.given))} given, {number(float(tokens.learnt))} "
            f"learnt; longest row {tokens.longest} ({tokens.longest_case})"
        )
    lines.append(f"  recipe    {one_line(recipe)}")
    if (estimate := shown.estimate) is not None:
        lines.append(
            f"  estimate  {count(estimate.steps, 'step')}, "
            f"{_time(estimate.least_seconds, estimate.seconds)}, "
            + (
                "memory not known"
                if estimate.memory_gb is None
                else f"{estimate.memory_gb:.1f} GB of memory"
            )
            + (f", ${estimate.cost_usd:.2f}" if estimate.cost_usd else "")
        )
        lines += [f"            {clean(fact)}" for fact in estimate.facts]
    if shown.check_every is not None:
        every = "step" if shown.check_every == 1 else f"{shown.check_every} steps"
        lines.append(
            f"  dev       {count(shown.check_cases, 'case')} after each {every}; the best "
            "checkpoint is kept"
        )
    if shown.parity is not None:
        found = parity_line(shown.parity_rows, [f.name for f in shown.parity])
        lines.append(f"  parity    {found}")
    lines.append(f"  licence   {one_line(shown.licence)}")
    lines += [f"  note      {clean(text)}" for text in shown.notes]
    lines += [f"  refused   {clean(text)}" for text in shown.refusals]
    return lines


def artifact_lines(artifact: Artifact) -> list[str]:
    """Return what was made."""
    lines = [
        f"artifact {artifact.name} {artifact.digest[:16]}",
        f"  {artifact.rows} rows, prompt {artifact.prompt}, base {artifact.base}",
        *([f"  gone on from {artifact.start[:16]}"] if artifact.start else []),
        f"  parity: {parity_line(artifact.rows, [f.name for f in artifact.parity])}"
        if artifact.backend is None
        else f"  answered by {artifact.backend}: no token ids are known, so parity is not checked",
        f"  licence: {one_line(artifact.override or f'wall {artifact.wall_verdict}')}",
    ]
    if "dev_looks" in artifact.metrics:
        m = artifact.metrics
        looks = (
            f"  dev: {count(int(m['dev_looks']), 'look')} at {count(int(m['dev_cases']), 'case')}"
        )
        lines.append(
            f"{looks}, best {percent(m['dev_score'])} at step {m['best_step']:.0f}; a choice on "
            "dev, so only sealed cases tell what it is worth"
            if "best_step" in m
            else f"{looks}, 0 % at each: no case right, and no checkpoint chosen (the last is kept)"
        )
    if artifact.cost_usd:
        lines.append(f"  cost: ${artifact.cost_usd:.2f}")
    return lines


def next_line(task: Task, artifact: Artifact) -> str:
    """Return what to do with what was made."""
    if artifact.makes == "scorer":
        return "it ranks replies, and is no candidate: harness_trl.scorer.load_scorer"
    return f"score it: harness eval {task.name} --candidate {candidate_of(task, artifact)}"


def candidate_of(task: Task, artifact: Artifact) -> str:
    """Return what `--candidate` calls `artifact`."""
    if artifact.name in candidate_names(task):
        return artifact.name
    return f"{artifact.prompt}@{artifact.base}+{artifact.name}"


def parity_line(rows: int, findings: Sequence[str]) -> str:
    """Return what parity found, in a few words."""
    if not findings:
        return f"{rows} rows compared id by id, no difference"
    return f"{rows} rows compared; warnings: {', '.join(sorted(set(findings)))}"


def duration(seconds: float) -> str:
    """Return `0.4 s`, `62 s`, `5 min`, `3.5 h`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _time(least: float | None, value: float | None) -> str:
    if value is None:
        return "time not known"
    return (
        f"about {duration(value)}"
        if least is None
        else f"about {duration(least)} to {duration(value)}"
    )
