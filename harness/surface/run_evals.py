"""Runs a task's evals in this process, as `pytest TASK_FOLDER` would. One way to score.

Knows nothing of what the scores are for.
"""

from __future__ import annotations

import gc
import io
import math
from collections.abc import Collection, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.checks.offline import OFFLINE
from harness.core.scoring import trial_value
from harness.engine.fetch import has_no_verdict
from harness.engine.tasks import Task
from harness.errors import BackendError, HarnessError, TaskError, UsageError
from harness.records import Fault, Run, Score, Trial
from harness.surface.eval_session import SESSION, EvalSession
from harness.surface.fault_lines import missing_replies, which
from harness.surface.forecasts import lines_before
from harness.surface.words import sentence

if TYPE_CHECKING:
    from harness.engine.judges import JudgeUse

# we are running already, so pytest cannot rewrite our own asserts; there are none that matter
KNOWN_NOISE = ("-W", "ignore:Module already imported so cannot:pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRun:
    """What an in-process run gave: pytest's exit code, one run a candidate, and what broke.

    `broke_off` is what pytest itself broke off with, as a plugin or a conftest.py can make it.
    `listed` are the items that `--collect-only` lists instead of running them.
    """

    exit_code: int
    runs: tuple[Run, ...]
    broken_files: tuple[str, ...] = ()
    error: HarnessError | None = None
    was_interrupted: bool = False
    has_broken_floors: bool = False
    notes: tuple[str, ...] = ()
    judges: tuple[JudgeUse, ...] = ()
    selected_none: bool = False
    spent_usd: float = 0.0
    broke_off: str = ""
    listed: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Watcher:
    """A pytest plugin that keeps the session, and what could not be collected."""

    task: Task
    is_forecast: bool = False
    session: EvalSession | None = None
    broken: list[str] = field(default_factory=list)
    was_interrupted: bool = False
    broke_off: str = ""
    is_partial: bool = False
    listed: tuple[str, ...] = ()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Keep the session, and tell it that its error is shown by us, and what we know."""
        self.session = config.stash[SESSION]
        self.session.is_watched = True
        self.session.known_task = self.task

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what a broken eval file said."""
        if report.failed:
            self.broken.append(report.longreprtext)

    def pytest_deselected(self) -> None:
        """Remember that not every item will run: -k, --lf, --only, --sample."""
        self.is_partial = True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say what the cases could show, where all of them are about to run; keep what is listed
        where none is.
        """
        option, ours = session.config.option, self.session
        if option.collectonly:
            self.listed = tuple(item.nodeid for item in session.items)
            return
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if not self.is_forecast or self.is_partial or ours is None or terminal is None:
            return
        if ours.error or session.testsfailed or getattr(option, "lf", False):
            return
        folder, may_cross = self.task.folder, option.override_boundary is not None
        try:
            evaluation, store = ours.evaluation_of(folder), ours.open.store(folder)
            lines = lines_before(evaluation, store, may_cross=may_cross)
        except HarnessError:
            return  # raised again where it is told
        for line in lines:
            terminal.write_line(line)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember that a person stopped it (pytest's own Interrupted is a subclass)."""
        self.was_interrupted = excinfo.type is KeyboardInterrupt

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Keep what ended pytest, for it is printed where nobody looks."""
        self.broke_off = excinfo.exconly().splitlines()[0]


def run_evals(
    task: Task,
    candidates: Sequence[str],
    *,
    store: Path,
    split: str = "dev",
    base_url: str | None = None,
    is_offline: bool = False,
    is_quiet: bool = True,
    is_forecast: bool = False,
    override_boundary: str | None = None,
    extra: Sequence[str] = (),
) -> EvalRun:
    """Run the evals of `task` for `candidates`; `is_quiet` shows progress alone.

    `is_forecast` has a run that leaves nothing out begin with what the cases could show.
    """
    arguments = [str(task.folder), f"--split={split}", f"--store={store}"]
    arguments += [f"--candidate={name}" for name in candidates]
    arguments += [f"--base-url={base_url}"] if base_url else []
    arguments += ["--offline"] if is_offline else []
    if override_boundary is not None:
        arguments.append(f"--override-boundary={override_boundary}")
    arguments += ["--no-header", "--tb=short", "-q", *KNOWN_NOISE, *extra]
    watcher = _Watcher(task, is_forecast and not is_offline)
    # the terminal plugin stays: a project's own addopts may hold options of it, such as -ra
    with redirect_stdout(io.StringIO()) if is_quiet else nullcontext():
        code = pytest.main(arguments, plugins=[watcher])
    gc.unfreeze()  # the session set it aside for a process that ends with it; this one goes on
    session = watcher.session
    return EvalRun(
        exit_code=int(code),
        runs=tuple(session.runs) if session else (),
        broken_files=tuple(watcher.broken),
        error=session.error if session else None,
        was_interrupted=watcher.was_interrupted,
        has_broken_floors=bool(session and session.broken_floors),
        notes=tuple(session.notes) if session else (),
        judges=tuple(session.judge_uses()) if session else (),
        selected_none=bool(session and session.selected_none),
        spent_usd=session.spent_usd if session else 0.0,
        broke_off=watcher.broke_off,
        listed=watcher.listed,
    )


def completed(run: EvalRun, *, deciding: Collection[str] | None = None) -> EvalRun:
    """Return `run` if it went through; misses and floors are no trouble.

    Raises KeyboardInterrupt, the error that stopped it, TaskError for a broken eval file, or
    BackendError where a backend did not answer, a judge's too: where scores are `deciding`, only a
    judge's that one of them lacks. What was answered is stored in every case.
    """
    if run.was_interrupted:
        raise KeyboardInterrupt
    if run.error is not None:
        raise run.error
    if run.broken_files:
        raise TaskError(run.broken_files[0].strip())
    if run.broke_off:
        raise TaskError(
            f"pytest broke off: {run.broke_off}. A conftest.py or a plugin may be why; "
            "`pytest` on the task's folder shows where."
        )
    if not run.runs and not run.listed:
        raise TaskError(
            "no eval ran: no selected test names `case`, `reply` or `trials` (`pytest "
            "--collect-only` on the task's folder lists all)"
        )
    for one in run.runs:
        missing = missing_replies(one)
        if missing:
            are_all = len(missing) == len(one.trials)
            raise BackendError(
                f"{one.candidate.name}: {len(missing)} of {len(one.trials)} trials have no reply"
                f"{which([t for t, _ in missing], of=one)}: "
                + sentence(missing[0][1].message)
                + (" The same command asks again." if are_all else " The others are kept; the ")
                + ("" if are_all else "same command asks for the rest.")
            )
    _refuse_unjudged(run.runs, deciding)
    return run


def _refuse_unjudged(runs: Sequence[Run], deciding: Collection[str] | None) -> None:
    def decides(trial: Trial) -> bool:
        values = [trial_value(trial, name) for name in deciding or ()]
        return deciding is None or any(v is not None and math.isnan(v) for v in values)

    for one in runs:
        open_ = [t for t in one.trials if t.fault and has_no_verdict(t.fault)]
        lost = [(t, t.fault) for t in open_ if t.fault and decides(t)]
        if lost:
            why = lost[0][1].message
            raise BackendError(
                f"{one.candidate.name}: {len(lost)} of {len(one.trials)} trials were not judged"
                f"{which([t for t, _ in lost], of=one)}: {sentence(why)} Replies and the other "
                f"scores are kept; the same command asks the {why.partition(' ')[0]} again."
            )
        for score in one.aggregates:
            is_open = (fault := _fault_of(score)) is not None and has_no_verdict(fault)
            if is_open and (deciding is None or score.name in deciding):
                raise BackendError(
                    f"{one.candidate.name}: {score.name} over all trials: {sentence(score.reason)} "
                    "Replies and the other scores are kept; the same command asks again."
                )


def _fault_of(aggregate: Score) -> Fault | None:
    if not aggregate.is_fault:
        return None
    return Fault(origin="harness", message=aggregate.reason, is_missing=True)


def refuse_unrecorded(runs: Sequence[Run]) -> None:
    """Raise UsageError where --offline left trials without a reply or a score."""
    told = []
    for one in runs:
        faults = [t.fault for t in one.trials if t.fault and t.fault.origin == "harness"]
        if lost := sum(f.message.endswith(OFFLINE) for f in faults):
            told.append(f"{lost} of {len(one.trials)} of {one.candidate.name}")
        lacking = [s.name for s in one.aggregates if s.is_fault and s.reason.endswith(OFFLINE)]
        told += [f"{name} of {one.candidate.name}" for name in lacking]
    if told:
        raise UsageError(
            f"trials without a recorded reply or score: {', '.join(told)}. "
            "Run it without --offline, and they are asked for."
        )
