"""Evals as pytest items. Knows how pytest works; leaves asking and remembering to the engine.

Items are collected as usual, one a case and candidate; before the first runs, the engine fetches
what the selected items need, all candidates at once. A miss is a measurement and stays `passed`
with a mark; what fails a run is a fault, or a floor that was asked for.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.engine.evaluate import TrialId
from harness.engine.project import task_folder_of
from harness.errors import HarnessError
from harness.surface import eval_properties
from harness.surface.alike_failures import fold_alike
from harness.surface.builtin_collector import collector_of
from harness.surface.caps import first_dialogues
from harness.surface.eval_calls import EvalCalls
from harness.surface.eval_fixtures import EvalFixtures
from harness.surface.eval_items import EvalItem, eval_items, keys_of_pytest, share_ids
from harness.surface.eval_outcomes import (
    GIVEN,
    PATTERN,
    SETTLED,
    TURNS,
    judged,
    mark_of,
)
from harness.surface.eval_recording import Recording
from harness.surface.eval_refusals import refuse_unknown_fixtures
from harness.surface.eval_reports import fold_recursion, slim
from harness.surface.eval_session import SESSION, EvalSession
from harness.surface.eval_trials import ARGUMENT, OF_A_CASE, EvalTrial, eval_trial_of
from harness.surface.words import escaped, from_here

RECORDING = pytest.StashKey[Recording]()
DONE = pytest.StashKey[Sequence[pytest.StashKey[Any]]]()
"""The keys of an item's stash that nobody asks for once it ran."""


def pytest_configure(config: pytest.Config) -> None:
    """Let eval files be collected, with pytest's own assertion messages."""
    gc.unfreeze()  # what a session before this one, in the same process, set aside
    config.addinivalue_line("python_files", PATTERN)
    session = config.stash[SESSION] = EvalSession(config)
    config.stash[RECORDING] = Recording(session)
    done: Sequence[pytest.StashKey[Any]] = (GIVEN, SETTLED, TURNS, *keys_of_pytest(config))
    config.stash[DONE] = done
    config.pluginmanager.register(EvalCalls(session), "harness-eval-calls")
    config.pluginmanager.register(EvalFixtures(session), "harness-eval-fixtures")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what the session opened. pytest collected garbage just now, and will once more."""
    config.stash[RECORDING].close()
    config.stash[SESSION].open.close()
    _set_aside(config.stash[SESSION])
    if "torch" in sys.modules:  # libraries below it report what was never collected as leaked
        gc.unfreeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone an `eval_*.py` that belongs to no task."""
    if collection_path.match(PATTERN) and task_folder_of(collection_path.parent) is None:
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the built-in evals that a task's own files ask for."""
    return collector_of(file_path, parent) if file_path.name == "task.toml" else None


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Function] | None:
    """Collect eval functions as items that hold little until they run, and once they ran."""
    is_ours = collector.path.name == "task.toml" or collector.path.match(PATTERN)
    return (
        eval_items(collector, name, obj, collector.config.stash[SESSION].plan) if is_ours else None
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item a case and candidate, or one a candidate for an aggregate."""
    if ARGUMENT not in metafunc.fixturenames:
        return
    session = metafunc.config.stash[SESSION]
    try:
        evaluation = session.evaluation_of(metafunc.definition.path)
    except HarnessError as exc:
        session.error = exc
        if session.is_watched:  # nothing will run, and our caller says why
            metafunc.parametrize(ARGUMENT, [])
            return
        raise pytest.Collector.CollectError(from_here(str(exc))) from exc
    if OF_A_CASE.isdisjoint(metafunc.fixturenames):
        ids = [TrialId(candidate=name, case_id="") for name in evaluation.candidates]
    else:
        ids = evaluation.trial_ids()
    trials = [EvalTrial(evaluation, id_) for id_ in ids]
    if session.plan.is_brief:
        session.plan.trials, trials = trials, trials[:1]
    metafunc.parametrize(ARGUMENT, trials, ids=[t.title for t in trials])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what `--only` and `--sample` ask for; sort aggregates last: they see every trial of
    the same pass. (`-k` has filtered already, `--lf` wraps this: each filters what is left.)
    """
    ours, option = config.stash[SESSION], config.option
    if option.only or option.sample is not None:
        try:
            kept = ours.select(items)
        except HarnessError as exc:
            _stop(config, exc)
            kept = []
        chosen = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = kept
    if not option.collectonly:
        try:
            refuse_unknown_fixtures(config, items)
        except HarnessError as exc:
            _stop(config, exc)
    if ours.error is not None and hasattr(config, "workeroutput"):
        _tell_controller(config, ours.error)
        if not option.continue_on_collection_errors:
            items.clear()  # a worker of xdist runs what it has collected, whatever went wrong
    first = first_dialogues(items) if option.max_cost is not None else frozenset()
    items.sort(key=lambda item: ("trials" in getattr(item, "fixturenames", ()), item not in first))


def _tell_controller(config: Any, error: HarnessError) -> None:
    told = {"text": str(error), "exit_code": error.exit_code}
    config.workeroutput["harness_error"] = told


def _stop(config: pytest.Config, error: HarnessError) -> None:
    """Stop before anything is asked: our caller, or the controller of xdist, says why."""
    ours = config.stash[SESSION]
    ours.error = error
    if not ours.is_watched and not hasattr(config, "workerinput"):
        raise pytest.UsageError(from_here(str(error))) from error


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Fetch every reply that the selected items need, then let them run; where both are quick,
    they run while later replies are on their way (`eval_arrivals`).

    What is there before and after lives to the end of the session: it is set aside from the
    collector of garbage, which would look through all of it several times more, for a tenth of a
    cached run.
    """
    ours, option = session.config.stash[SESSION], session.config.option
    will_stop = session.testsfailed and not option.continue_on_collection_errors
    if ours.error is not None and ours.is_watched:
        session.items.clear()  # what could not be read or chosen: our caller says it in its own way
    elif not option.collectonly and not will_stop:
        if ours.tasks:
            share_ids(session)
        _set_aside(ours)
        try:
            ours.prefetch(session.items)
        except HarnessError as exc:
            _end(session, exc)
            session.items.clear()
        _set_aside(ours)
    try:
        done = yield
    except KeyboardInterrupt as exc:  # xdist's own, in the controller, where a worker stopped
        is_a_persons = type(exc) is KeyboardInterrupt
        if is_a_persons or ours.error is None or ours.is_watched or session.testsfailed:
            raise
        raise pytest.UsageError(from_here(str(ours.error))) from ours.error
    except pytest.exit.Exception:
        if ours.error is None:  # a stranger's
            raise
        _end(session, ours.error)
        done = None
    finally:
        ours.end_fetch()
    if session.config.pluginmanager.hasplugin("dsession") and not ours.is_watched:
        _stop_as_workers_did(session)
    return done


def _end(session: pytest.Session, error: HarnessError) -> None:
    """End a session that may ask nobody; return where our caller says why."""
    ours = session.config.stash[SESSION]
    ours.error = error
    if hasattr(session.config, "workerinput"):
        _tell_controller(session.config, error)
        session.shouldstop = "a worker could not go on"
        raise session.Failed(session.shouldstop) from error
    if not ours.is_watched:
        raise pytest.UsageError(from_here(str(error))) from error


def _stop_as_workers_did(session: pytest.Session) -> None:
    """End the controller of xdist as one process ends where its collection went wrong."""
    error, option = session.config.stash[SESSION].error, session.config.option
    if error is not None and not session.testsfailed:
        raise pytest.UsageError(from_here(str(error))) from error
    if error is not None and not option.continue_on_collection_errors:
        raise session.Interrupted("errors during collection")


def _set_aside(ours: EvalSession) -> None:
    if ours.tasks:
        gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let an eval item drop what running it needed, once everybody has its reports: of many."""
    done = yield
    if isinstance(item, EvalItem) and len(item.session.items) > eval_properties.MANY:
        item.let_go(item.config.stash[DONE])
    return done


# ---------------------------------------------------------------- outcomes


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Leave an eval uncalled where a fixture of it missed, or found nothing to score."""
    return True if SETTLED in pyfuncitem.stash else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> pytest.TestReport | None:
    """Turn the end of an eval item into a score; leave other tests to pytest."""
    if call.when == "teardown":
        return None
    trial = eval_trial_of(item)
    if trial is None:
        return None
    item.config.stash[SESSION].scores.latest = trial.id
    report = judged(item, call, trial)
    if report is not None and report.failed:
        fold_recursion(report, item.config)
    return report


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Show a miss as `m`, an unscored item as `u`, and one without a reply as `F`."""
    return mark_of(report)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the score of every report; runs in the process that writes."""
    if _CONTROLLER:
        _CONTROLLER[-1].see(report)
        if not hasattr(_CONTROLLER[-1].config, "workerinput"):
            slim(report, _CONTROLLER[-1].config)


_CONTROLLER: list[EvalSession] = []  # logreport is given no config


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember whose reports these are, and show those of one bug a few times."""
    _CONTROLLER.append(session.config.stash[SESSION])
    fold_alike(session.config)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Write the runs, in the controller alone, and hold the floors."""
    ours, option = session.config.stash[SESSION], session.config.option
    if _CONTROLLER and _CONTROLLER[-1] is ours:
        _CONTROLLER.pop()
    if hasattr(session.config, "workeroutput") and (option.only or option.sample is not None):
        session.config.workeroutput["harness_selection"] = {
            "notes": ours.notes,
            "selected_none": ours.selected_none,
        }
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        try:
            was_interrupted = exitstatus == pytest.ExitCode.INTERRUPTED
            session.config.stash[RECORDING].finish(was_interrupted=was_interrupted)
        except HarnessError as exc:
            ours.error = exc
            if not ours.is_watched:
                pytest.exit(from_here(str(exc)), returncode=exc.exit_code)
            session.exitstatus = exc.exit_code
        if ours.broken_floors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker of xdist chose, and what stopped it: the first, if not all alike."""
    output = getattr(node, "workeroutput", {})
    ours = node.config.stash[SESSION]
    if told := output.get("harness_selection"):
        ours.notes = list(dict.fromkeys([*told["notes"], *ours.notes]))  # each worker says the same
        ours.selected_none = told["selected_none"]
    if (told := output.get("harness_error")) and ours.error is None:
        ours.error = HarnessError(told["text"])
        ours.error.exit_code = told["exit_code"]


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config) -> Generator[None, Any, Any]:
    """Let half a surrogate pair, as models send it, cross from a worker of xdist as an escape."""
    data = yield
    return escaped(data) if hasattr(config, "workerinput") and data else data


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of the run."""
    for line in terminalreporter.config.stash[RECORDING].summary_lines():
        terminalreporter.write_line(line)
