"""The lines of `harness tune`: before, during and after a training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.engine.tasks import Task, candidate_names
from harness.records import Artifact, CurvePoint
from harness.surface.words import clean, number, one_line, percent

if TYPE_CHECKING:
    from harness.engine.tune_preview import Preview
    from harness.ports.protocols import TrainProgress

EVERY_S = 10.0


class Watched:
    """Prints a training as it goes, to the standard error."""

    def __init__(self) -> None:
        self._began = time.time()
        self._shown = 0.0
        self._steps = 0
        self._last: TrainProgress | None = None

    def report(self, step: TrainProgress) -> None:
        """Print a step, at most every ten seconds, and the last one."""
        self._last = step
        if time.monotonic() - self._shown < EVERY_S and step.step < step.steps:
            return
        self._shown = time.monotonic()
        left = step.seconds / max(step.step, 1) * (step.steps - step.step)
        parts = [
            f"step {step.step} of {step.steps}, loss {step.loss:.3f}",
            *(f"{name} {value:.3g}" for name, value in sorted(step.numbers.items())),
            f"{number(step.tokens / max(step.seconds, 1e-9))} tokens/s",
            *([f"{step.memory_gb:.1f} GB"] if step.memory_gb is not None else []),
            f"{step.seconds:.0f} s, about {left:.0f} s to go",
        ]
        click.echo(", ".join(parts), err=True)

    def looked(self, point: CurvePoint, is_best: bool) -> None:
        """Print a look at dev."""
        score = "not scored" if point.score is None else percent(point.score)
        best = ", the best so far: kept" if is_best else ""
        click.echo(f"step {point.step}: dev {score}{best}", err=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        click.echo(clean(text), err=True)

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
        click.echo(
            f"cut short after step {self._last.step} of {self._last.steps}; "
            + (f"its state is kept: {said}" if kept else "nothing of it is kept"),
            err=True,
        )


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
            f"  estimate  {estimate.steps} steps, {_time(estimate.seconds)}, "
            + (
                "memory not known"
                if estimate.memory_gb is None
                else f"{estimate.memory_gb:.1f} GB of memory"
            )
            + ("" if estimate.cost_usd is None else f", ${estimate.cost_usd:.2f}")
        )
        lines += [f"            {clean(fact)}" for fact in estimate.facts]
    if shown.check_every is not None:
        lines.append(
            f"  dev       {shown.check_cases} cases after each {shown.check_every} steps; the best "
            "checkpoint is kept"
        )
    lines += [f"  leak      {clean(text)}" for text in shown.leaks[:5]]
    if len(shown.leaks) > 5:
        lines.append(f"            and {len(shown.leaks) - 5} more")
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
        lines.append(
            f"  dev: {m['dev_looks']:.0f} looks at {m['dev_cases']:.0f} cases, best "
            f"{percent(m['dev_score'])} at step {m['best_step']:.0f}; a choice on dev, so only "
            "sealed cases tell what it is worth"
        )
    if artifact.cost_usd is not None:
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


def _time(value: float | None) -> str:
    if value is None:
        return "time not known"
    return f"about {value:.0f} s" if value < 120 else f"about {value / 60:.0f} min"
