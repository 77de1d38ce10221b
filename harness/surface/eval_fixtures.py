"""What eval functions ask for by name: `case`, `reply`, `ask` and the rest.

Knows pytest's fixtures; what they give comes from the session. None but `score`, `ask` and `judge`
asks for pytest's `request`: pytest makes it anew for each fixture, and that took longer than all
else in an item whose reply is known.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness.checks.base import Unmeasured
from harness.engine.candidates import REFERENCE
from harness.engine.fetch import not_asked
from harness.engine.outcomes import JOIN
from harness.engine.views import NoReference, TrialView, eval_case
from harness.records import Candidate, Case, Reply, Request
from harness.surface.eval_outcomes import GIVEN, TURNS, NoReply
from harness.surface.eval_session import EvalSession
from harness.surface.eval_trials import ARGUMENT, EvalTrial, eval_trial_of

if TYPE_CHECKING:
    from harness.core.judge_verdicts import JudgeVerdict
    from harness.engine.dialogue import Dialogue
    from harness.engine.fetch import Outcome


class EvalFixtures:
    """The fixtures of one session."""

    def __init__(self, session: EvalSession) -> None:
        self._session = session
        self._fixtures: Any = None
        self._at_once: frozenset[str] = frozenset()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give an eval its case and its reply at once, where it needs no fixture of a stranger:
        pytest takes longer over each than over the rest of an item. What raises is left to it.
        """
        trial = eval_trial_of(item)
        fixtures: Any = getattr(item, "_fixtureinfo", None)
        if trial is None or not trial.id.case_id:
            return
        if fixtures is not self._fixtures:  # shared by the items of one function
            self._fixtures = fixtures
            names = fixtures.names_closure if is_plain(fixtures) else ()
            self._at_once = frozenset(n for n in names if n == ARGUMENT or is_ours(fixtures, n))
        given: dict[str, Any] = getattr(item, "funcargs", {})
        for name in self._at_once:
            if name == ARGUMENT:
                given[name] = trial
            elif name == "case":
                given[name] = eval_case(trial.case)
            else:
                with suppress(NoReference, NoReply):
                    given[name] = self._reply(trial)

    @pytest.fixture
    def harness_trial(self) -> EvalTrial:
        """The trial of this item; given by parametrisation."""
        pytest.fail(
            "this fixture is for eval_*.py files in a folder with a task.toml", pytrace=False
        )

    @pytest.fixture
    def case(self, harness_trial: EvalTrial) -> Case:
        """The case: `inputs`, `reference`, `tags`. Reading an absent reference leaves it
        unscored.
        """
        return eval_case(harness_trial.case)

    @pytest.fixture
    def candidate(self, harness_trial: EvalTrial) -> Candidate:
        """The candidate that answered."""
        return harness_trial.evaluation.candidates[harness_trial.id.candidate]

    @pytest.fixture
    def reply(self, harness_trial: EvalTrial) -> Reply:
        """The candidate's reply to the case. Where there is none, the item is a fault."""
        return self._reply(harness_trial)

    @pytest.fixture
    def ask(self, harness_trial: EvalTrial, request: pytest.FixtureRequest) -> Dialogue:
        """A dialogue with the candidate: `ask()` sends its own request, `ask("text")` goes on."""
        from harness.engine.dialogue import Dialogue

        keys = request.node.stash[TURNS] = []

        def answer(asked: Request) -> Reply:
            self._need_no_error()
            outcome = self._session.turn(request.node, harness_trial, asked)
            reply = _reply_in(outcome, harness_trial)
            keys.append(outcome.key)
            return reply

        _need_reference(harness_trial)
        evaluation, name = harness_trial.evaluation, harness_trial.id.candidate
        is_recorded = evaluation.is_recorded(name)
        return Dialogue(
            Request(messages=()) if is_recorded else evaluation.request(harness_trial.id),
            answer=answer,
            images=harness_trial.case.images,
            only_turn_of=name if is_recorded else "",
        )

    @pytest.fixture
    def judge(
        self, reply: Reply, harness_trial: EvalTrial, request: pytest.FixtureRequest
    ) -> Callable[[str], JudgeVerdict]:
        """Call `judge("name")` for the verdict of a judge of task.toml on the reply."""
        node = request.node
        given: dict[str, str] = {}

        def ask(name: str) -> JudgeVerdict:
            found, given[name] = self._session.judged(harness_trial, name)
            node.user_properties.append(("judge", JOIN.join(sorted(set(given.values())))))
            node.user_properties.append(("judged_by", " ".join(given)))
            if found.verdict is None:
                what = found.fault.message if found.fault else f"judge {name}: no verdict"
                raise NoReply(f"{harness_trial.id.case_id}: {what}", fault=found.fault)
            if found.verdict.value is None:
                raise Unmeasured(f"judge {name}: {found.verdict.reason}")
            return found.verdict

        return ask

    @pytest.fixture
    def trials(self, harness_trial: EvalTrial) -> list[TrialView]:
        """Every trial of the candidate that has a reply, as case and reply; where none has, a
        fault.
        """
        found, name = self._session.views(harness_trial), harness_trial.id.candidate
        if not found and name == REFERENCE:
            raise NoReference("no case has a reference")
        if not found:
            raise NoReply(f"{name}: no case has a reply")
        return found

    @pytest.fixture
    def score(self, request: pytest.FixtureRequest) -> Any:
        """Call `score(value)` with a number in [0, 1] to score other than 1 for a pass."""
        if eval_trial_of(request.node) is None:  # an ordinary test, of which nothing is recorded
            pytest.fail(
                "`score` is for evals, which name `case`, `reply` or `trials` too: "
                "def test_close(case, reply, score)",
                pytrace=False,
            )
        stash = request.node.stash

        def give(value: float) -> None:
            value = float(value)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"score({value}): a score is a number in [0, 1]")
            stash[GIVEN] = value

        return give

    def _reply(self, trial: EvalTrial) -> Reply:
        _need_reference(trial)
        self._need_no_error()
        return _reply_in(self._session.outcome(trial), trial)

    def _need_no_error(self) -> None:
        error = self._session.error
        if error is not None:  # in a worker of xdist, which may not stop by itself
            raise NoReply(str(error), fault=not_asked(error))


def is_plain(fixtures: Any) -> bool:
    """Tell whether an eval needs ours alone, which none else asks for, and no `request`."""
    if fixtures is None or "request" in fixtures.argnames:
        return False
    needed = [some[-1] for some in fixtures.name2fixturedefs.values() if some]
    return all(f.scope == "function" and asks_for_none(f.func) for f in needed)


def is_ours(fixtures: Any, name: str) -> bool:
    """Tell whether `case` or `reply` is ours: an eval may take it as a parameter of its own."""
    stack: Any = fixtures.name2fixturedefs.get(name) if name in {"case", "reply"} else ()
    return bool(stack) and str(stack[-1].func.__module__).startswith("harness.surface.")


def asks_for_none(function: object) -> bool:
    """Tell fixtures that reach for no other by name: ours, and those that pytest makes of
    parameters and of `setup_function`.
    """
    return str(getattr(function, "__module__", "")).startswith(("harness.surface.", "_pytest.py"))


def _need_reference(trial: EvalTrial) -> None:
    if trial.id.candidate == REFERENCE and trial.case.reference is None:
        raise NoReference("no reference")


def _reply_in(outcome: Outcome, trial: EvalTrial) -> Reply:
    if outcome.reply is None:
        what = outcome.fault.message if outcome.fault else "no reply"
        raise NoReply(f"{trial.id.case_id}: {what}", fault=outcome.fault)
    return outcome.reply
