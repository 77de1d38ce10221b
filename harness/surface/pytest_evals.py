"""Evals as pytest items. Knows how pytest works; leaves asking and remembering to the engine.

Items are collected as usual, one a case and candidate; before the first runs, the engine fetches
what the selected items need, all candidates at once. A miss is a measurement and stays `passed`
with a mark; what fails a run is a fault, or a floor that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine.evaluate import TrialId
from harness.engine.project import task_folder_of
from harness.engine.tasks import REFERENCE
from harness.engine.views import NoReference, TrialView, eval_case
from harness.errors import HarnessError
from harness.records import Candidate, Case, Reply
from harness.surface.eval_outcomes import SETTLED, NoReply, judged, mark_of
from harness.surface.eval_session import SESSION, EvalSession, trial_of

PATTERN = "eval_*.py"


def add_options(parser: pytest.Parser) -> None:
    """Declare the options of an eval run."""
    group = parser.getgroup("evals", "evals (tuning-harness)")
    group.addoption(
        "--candidate",
        action="append",
        default=[],
        metavar="NAME",
        help="a candidate of the task, or PROMPT@SCHEME:MODEL[+ARTIFACT]; repeatable "
        "(default: the task's default_candidates, else reference)",
    )
    group.addoption("--split", default="dev", choices=["train", "dev", "test"])
    group.addoption("--base-url", default=None, help="base URL of an OpenAI-compatible server")
    group.addoption("--store", default=None, help="the store (default: .harness/harness.db)")
    group.addoption("--offline", action="store_true", help="recorded replies alone")
    group.addoption(
        "--look-is-counted",
        action="store_true",
        help="the look at the sealed split is in the ledger already (harness gate says so)",
    )
    group.addoption(
        "--floor",
        action="append",
        default=[],
        metavar="SCORE=VALUE",
        help="fail the run where a candidate's mean of SCORE is below VALUE; repeatable",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let eval files be collected, with pytest's own assertion messages."""
    config.addinivalue_line("python_files", PATTERN)
    config.stash[SESSION] = EvalSession(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what the session opened."""
    config.stash[SESSION].close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone an `eval_*.py` that belongs to no task."""
    if collection_path.match(PATTERN) and task_folder_of(collection_path.parent) is None:
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one item a case and candidate, or one a candidate for an aggregate."""
    if "harness_trial" not in metafunc.fixturenames:
        return
    session = metafunc.config.stash[SESSION]
    try:
        evaluation = session.evaluation_of(metafunc.definition.path)
    except HarnessError as exc:
        session.error = exc
        raise pytest.Collector.CollectError(str(exc)) from exc
    if "harness_case" in metafunc.fixturenames:
        trials = evaluation.trial_ids()
    else:
        trials = [TrialId(candidate=name, case_id="") for name in evaluation.candidates]
    metafunc.parametrize("harness_trial", trials, ids=[_item_id(t) for t in trials])


def _item_id(trial: TrialId) -> str:
    repeat = f"-{trial.repeat}" if trial.repeat else ""
    return f"{trial.candidate}-{trial.case_id}{repeat}" if trial.case_id else trial.candidate


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort aggregates last: they see every trial of the same pass."""
    items.sort(key=lambda item: "trials" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Fetch every reply that the selected items need, then let them run."""
    ours, option = session.config.stash[SESSION], session.config.option
    will_stop = session.testsfailed and not option.continue_on_collection_errors
    if not option.collectonly and not will_stop:
        try:
            ours.prefetch(session.items)
        except HarnessError as exc:
            ours.error = exc
            if ours.is_watched:
                session.items.clear()  # our caller shows the error in its own way
            elif not hasattr(session.config, "workerinput"):
                raise pytest.UsageError(str(exc)) from exc
    return (yield)


# ---------------------------------------------------------------- fixtures


@pytest.fixture
def harness_trial() -> TrialId:
    """The trial of this item; given by parametrisation."""
    pytest.fail("this fixture is for eval_*.py files in a folder with a task.toml", pytrace=False)


@pytest.fixture
def harness_case(harness_trial: TrialId, request: pytest.FixtureRequest) -> Case:
    """The case of this item; asking for it makes one item a case."""
    evaluation = request.config.stash[SESSION].evaluation_of(request.path)
    return evaluation.cases[harness_trial.case_id]


@pytest.fixture
def case(harness_case: Case) -> Case:
    """The case: `inputs`, `reference`, `tags`. Reading an absent reference leaves it unscored."""
    return eval_case(harness_case)


@pytest.fixture
def candidate(harness_trial: TrialId, request: pytest.FixtureRequest) -> Candidate:
    """The candidate that answered."""
    evaluation = request.config.stash[SESSION].evaluation_of(request.path)
    return evaluation.candidates[harness_trial.candidate]


@pytest.fixture
def reply(harness_case: Case, harness_trial: TrialId, request: pytest.FixtureRequest) -> Reply:
    """The candidate's reply to the case. Where there is none, the item is a fault."""
    session = request.config.stash[SESSION]
    if harness_trial.candidate == REFERENCE and harness_case.reference is None:
        raise NoReference("no reference")
    if session.error is not None:  # in a worker of xdist, which may not stop by itself
        raise NoReply(str(session.error))
    outcome = session.outcome(request.path, harness_trial)
    if outcome.reply is None:
        what = outcome.fault.message if outcome.fault else "no reply"
        raise NoReply(f"{harness_case.id}: {what}", fault=outcome.fault)
    return outcome.reply


@pytest.fixture
def trials(harness_trial: TrialId, request: pytest.FixtureRequest) -> list[TrialView]:
    """Every trial of the candidate that has a reply, as case and reply; where none has, a fault."""
    found = request.config.stash[SESSION].views(request.path, harness_trial.candidate)
    if not found and harness_trial.candidate == REFERENCE:
        raise NoReference("no case has a reference")
    if not found:
        raise NoReply(f"{harness_trial.candidate}: no case has a reply")
    return found


@pytest.fixture
def score(request: pytest.FixtureRequest) -> Any:
    """Call `score(value)` with a number in [0, 1] to score other than 1 for a pass."""
    stash = request.node.stash

    def give(value: float) -> None:
        value = float(value)
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"score({value}): a score is a number in [0, 1]")
        stash[GIVEN] = value

    return give


GIVEN = pytest.StashKey[float]()

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
    trial = trial_of(item)
    if trial is None or call.when == "teardown":
        return None
    return judged(item, call, trial, given=item.stash.get(GIVEN, None))


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


_CONTROLLER: list[EvalSession] = []  # logreport is given no config


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember whose reports these are."""
    _CONTROLLER.append(session.config.stash[SESSION])


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Write the runs, in the controller alone, and hold the floors."""
    ours = session.config.stash[SESSION]
    if _CONTROLLER and _CONTROLLER[-1] is ours:
        _CONTROLLER.pop()
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        try:
            ours.finish(was_interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
        except HarnessError as exc:
            ours.error = exc
            pytest.exit(str(exc), returncode=exc.exit_code)
        if ours.broken_floors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of the run."""
    session = terminalreporter.config.stash[SESSION]
    for line in session.summary_lines():
        terminalreporter.write_line(line)
