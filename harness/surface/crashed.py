"""What is said of an eval that took its worker of xdist with it, and what it scores: a fault.

Knows no time limit, no store.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

from harness.engine.eval_sources import dialogues
from harness.engine.evaluate import Evaluation, TrialId
from harness.errors import BackendError, HarnessError
from harness.surface.eval_outcomes import FOLDER, PATTERN
from harness.surface.eval_session import EvalSession
from harness.surface.eval_trials import EvalTrial

END_S = 2.0
"""How long a worker that is gone may take to say how it ended."""
INTERRUPTED = int(pytest.ExitCode.INTERRUPTED)


class Crashes:
    """The plugin of a session of xdist, in its controller."""

    def __init__(self, session: EvalSession) -> None:
        self._session = session
        self._under_way: set[str] = set()
        """By node id: xdist takes the next one for crashed where a worker ends between two."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note what begins in a worker."""
        self._under_way.add(nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note what is over, with what its fixtures do after it."""
        self._under_way.discard(nodeid)

    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Let the report of a crashed item name the case and why, and carry a fault of the eval.

        It carries none where the crash may be no eval's doing (a machine out of memory), where the
        item does not tell one trial, as under parameters of its own, or where the eval was scored
        before; a run that lacks a score for it is a partial one.
        """
        place, _, rest = crashitem.partition("::")
        path = self._session.config.rootpath / place
        try:
            evaluation = self._session.evaluation_of(path)
        except HarnessError:  # not an eval of a task that can be read: pytest's own error says it
            return
        if not (path.name == "task.toml" or path.match(PATTERN)):
            return
        function, _, title = rest.partition("[")  # a candidate's name may hold `::`
        name, title = function.rpartition("::")[2].removeprefix("test_"), title.removesuffix("]")
        titles = _titles(evaluation)
        # an eval with parameters of its own bears them behind; one case, or what pytest calls it
        cases = {t.case_id for t, its in titles if f"{title}-".startswith(f"{its}-")} - {""}
        all_of = f"the trials of {title}" if title in evaluation.candidates else title or rest
        who = cases.pop() if len(cases) == 1 else all_of
        worker = getattr(report, "node", None)
        is_its_own, why = _end_of(worker, limit="`eval_timeout_s` in task.toml")
        if is_its_own and not self._under_way:
            raise self._ended(_end_of(worker, limit="a backend's `timeout_s`")[1])
        report.longrepr = said = f"{who}: the process that ran it ended: {why}"
        found = [t for t, its in titles if its == title]
        if not is_its_own or len(found) != 1 or crashitem not in self._under_way:
            return
        [trial], folder = found, evaluation.task.folder
        if self._is_scored(folder, name, trial):
            return
        report.user_properties = [
            ("task", evaluation.task.name),
            ("eval", name),
            ("candidate", trial.candidate),
            ("case", trial.case_id),
            ("repeat", trial.repeat),
            ("fault", said),
        ]
        if name in dialogues(folder):
            report.user_properties.append(("is_dialogue", True))
        vars(report)[FOLDER] = str(folder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Tell a worker that ended before it was given its evals: xdist cannot send them."""
        try:
            return (yield)
        except OSError as exc:
            if not str(exc).startswith("cannot send"):
                raise
            raise self._ended("before it was told which evals to run") from exc

    def _ended(self, why: str) -> BaseException:
        """Return what ends the session: what ended a worker before any eval ran in it was a
        request, and every worker that comes after it sends that one again.
        """
        said = (
            f"a worker ended while it asked for replies: {why}. Its stack, where it shows one, "
            "names the requests that were under way. What was recorded is kept. Without `-n`, the "
            "request that ends its process costs its own case alone"
        )
        self._session.error = BackendError(said)
        return pytest.Session.Interrupted(said)

    def _is_scored(self, folder: Path, name: str, trial: TrialId) -> bool:
        seen = self._session.scores.of(folder)
        known = seen.scores.get(trial, ()) if trial.case_id else ()
        return sum(s.name == name for s in known) >= seen.parts.get(name, 1)


def _titles(evaluation: Evaluation) -> list[tuple[TrialId, str]]:
    """Return what items may be about, a trial or all of a candidate's, and how pytest writes it."""
    of_all = [TrialId(candidate=name, case_id="") for name in evaluation.candidates]
    ids = [*evaluation.trial_ids(), *of_all]
    titles = [EvalTrial(evaluation, id_).title for id_ in ids]
    return list(zip(ids, (t.encode("unicode_escape").decode() for t in titles), strict=True))


def _end_of(worker: Any, *, limit: str) -> tuple[bool, str]:
    """Return whether a worker ended by what ran in it, and how; `limit` is what that may pass."""
    if getattr(worker, "workeroutput", {}).get("exitstatus") == INTERRUPTED:
        return False, "it was interrupted, by `pytest.exit(...)`, KeyboardInterrupt or a person"
    process = getattr(getattr(getattr(worker, "gateway", None), "_io", None), "popen", None)
    try:
        code = None if process is None else process.wait(END_S)
    except TimeoutExpired:
        code = None
    if code is None:
        return False, (
            f"a crash in C code, or code that held Python for longer than {limit} and could not be "
            "ended in another way; or somebody ended it"
        )
    if code < 0:
        from harness.surface.post_mortem import CRASHES

        name = signal.Signals(-code).name
        if -code in CRASHES:
            return True, f"a crash in C code ({name})"
        return False, f"{name} came from outside (a person, or a machine out of memory)"
    if code == 1:
        return True, (
            f"exit code 1, of `os._exit`, or of code that held Python for longer than {limit} and "
            "could not be ended in another way"
        )
    return True, f"exit code {code}"
