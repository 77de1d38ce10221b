"""Evals as pytest items. Knows how pytest works; leaves asking and remembering to the engine.

Items are collected as usual, one a case and candidate; before the first runs, the engine fetches
what the selected items need, all candidates at once. A miss is a measurement and stays `passed`
with a mark; what fails a run is a fault, or a floor that was asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.checks.base import Unmeasured
from harness.core.judge_verdicts import JudgeVerdict
from harness.engine.dialogue import Dialogue
from harness.engine.evaluate import TrialId
from harness.engine.outcomes import JOIN
from harness.engine.project import task_folder_of
from harness.engine.spending import not_asked
from harness.engine.tasks import REFERENCE
from harness.engine.views import NoReference, TrialView, eval_case
from harness.errors import HarnessError, UsageError
from harness.records import Candidate, Case, Reply, Request
from harness.surface import caps
from harness.surface.builtin_collector import collector_of
from harness.surface.eval_calls import EvalCalls
from harness.surface.eval_outcomes import SETTLED, TURNS, NoReply, judged, mark_of
from harness.surface.eval_session import SESSION, EvalSession, trial_of
from harness.surface.selection import ONLY
from harness.surface.words import escaped

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
        "--only",
        choices=ONLY,
        default=None,
        help="the cases that the newest recorded runs of the candidate missed, that ended in a "
        "fault, or that changed since",
    )
    group.addoption(
        "--sample",
        type=_positive,
        default=None,
        metavar="N",
        help="N cases, always the same ones; a larger N keeps the smaller's",
    )
    group.addoption(
        "--repeats",
        type=_positive,
        default=None,
        metavar="N",
        help="ask each case N times; a run with other repeats than the task's is no try",
    )
    caps.add_options(group)
    group.addoption(
        "--override-boundary",
        default=None,
        metavar="REASON",
        help="why cases tagged internal may be sent to an external backend; recorded for ever",
    )
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


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Let eval files be collected, with pytest's own assertion messages."""
    config.addinivalue_line("python_files", PATTERN)
    config.stash[SESSION] = EvalSession(config)
    config.pluginmanager.register(EvalCalls(config.stash[SESSION]), "harness-eval-calls")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what the session opened."""
    config.stash[SESSION].close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone an `eval_*.py` that belongs to no task."""
    if collection_path.match(PATTERN) and task_folder_of(collection_path.parent) is None:
        return True
    return None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the built-in evals that a task's own files ask for."""
    return collector_of(file_path, parent) if file_path.name == "task.toml" else None


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
    items.sort(key=lambda item: "trials" in getattr(item, "fixturenames", ()))


def _stop(config: pytest.Config, error: HarnessError) -> None:
    """Stop before anything is asked: our caller, or the controller of xdist, says why."""
    ours = config.stash[SESSION]
    ours.error = error
    if not ours.is_watched and not hasattr(config, "workerinput"):
        raise pytest.UsageError(str(error)) from error


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
        raise NoReply(str(session.error), fault=not_asked(session.error))
    outcome = session.outcome(request.path, harness_trial)
    if outcome.reply is None:
        what = outcome.fault.message if outcome.fault else "no reply"
        raise NoReply(f"{harness_case.id}: {what}", fault=outcome.fault)
    return outcome.reply


@pytest.fixture
def ask(harness_case: Case, harness_trial: TrialId, request: pytest.FixtureRequest) -> Dialogue:
    """A dialogue with the candidate: `ask()` sends its own request, `ask("text")` goes on."""
    session = request.config.stash[SESSION]
    keys = request.node.stash[TURNS] = []

    def answer(asked: Request) -> Reply:
        if session.error is not None:
            raise NoReply(str(session.error), fault=not_asked(session.error))
        outcome = session.turn(request.path, harness_trial, asked)
        if outcome.reply is None:
            what = outcome.fault.message if outcome.fault else "no reply"
            raise NoReply(f"{harness_case.id}: {what}", fault=outcome.fault)
        keys.append(outcome.key)
        return outcome.reply

    if harness_trial.candidate == REFERENCE and harness_case.reference is None:
        raise NoReference("no reference")
    evaluation = session.evaluation_of(request.path)
    is_recorded = evaluation.is_recorded(harness_trial.candidate)
    return Dialogue(
        Request(messages=()) if is_recorded else evaluation.request(harness_trial),
        answer=answer,
        images=harness_case.images,
        only_turn_of=harness_trial.candidate if is_recorded else "",
    )


@pytest.fixture
def judge(
    reply: Reply, harness_trial: TrialId, request: pytest.FixtureRequest
) -> Callable[[str], JudgeVerdict]:
    """Call `judge("name")` for the verdict of a judge of task.toml on the reply."""
    session, node = request.config.stash[SESSION], request.node
    given: dict[str, str] = {}

    def ask(name: str) -> JudgeVerdict:
        found, given[name] = session.judged(request.path, name, harness_trial)
        node.user_properties.append(("judge", JOIN.join(sorted(set(given.values())))))
        node.user_properties.append(("judged_by", " ".join(given)))
        if found.verdict is None:
            what = found.fault.message if found.fault else f"judge {name}: no verdict"
            raise NoReply(f"{harness_trial.case_id}: {what}", fault=found.fault)
        if found.verdict.value is None:
            raise Unmeasured(f"judge {name}: {found.verdict.reason}")
        return found.verdict

    return ask


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
    ours, option = session.config.stash[SESSION], session.config.option
    if _CONTROLLER and _CONTROLLER[-1] is ours:
        _CONTROLLER.pop()
    if hasattr(session.config, "workeroutput") and (option.only or option.sample is not None):
        session.config.workeroutput["harness_selection"] = {
            "notes": ours.notes,
            "selected_none": ours.selected_none,
            "error": str(ours.error) if ours.error else "",
        }
    if not hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        try:
            ours.finish(was_interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
        except HarnessError as exc:
            ours.error = exc
            pytest.exit(str(exc), returncode=exc.exit_code)
        if ours.broken_floors and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear what a worker of xdist chose, and what stopped its choice; each says the same."""
    told = getattr(node, "workeroutput", {}).get("harness_selection")
    ours = node.config.stash[SESSION]
    if told:
        ours.notes = list(told["notes"])
        ours.selected_none = told["selected_none"]
        if told["error"]:
            ours.error = UsageError(told["error"])


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config) -> Generator[None, Any, Any]:
    """Let half a surrogate pair, as models send it, cross from a worker of xdist as an escape."""
    data = yield
    return escaped(data) if hasattr(config, "workerinput") and data else data


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of the run."""
    session = terminalreporter.config.stash[SESSION]
    for line in session.summary_lines():
        terminalreporter.write_line(line)
