"""What an optimiser asks through: rendered, fetched, scored and counted. Knows no search.

Every reply comes by the engine's own fetch, so that it is stored, capped and asked all at once;
scores are those of the task's evals outside pytest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.optimised import rewritten
from harness.core.scoring import trial_value
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Evaluation, TrialId, fetch_all
from harness.engine.fetch import Ask, Outcome, Progress, fetch, was_not_asked
from harness.engine.plain_evals import PlainEvals
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.errors import BackendError, TaskError, UsageError
from harness.ports.optimisers import ScoredReply, Sections
from harness.records import Case, Decoding, Message, Prompt, Request, Trial
from harness.store.store import Store

REFLECTION_TOKENS = 2048
SPENT = "not asked: the budget of {calls} calls is spent (--max-calls)"

_Pair = tuple[str, str]
"""A prompt's digest and a case's id."""


def reflection_request(text: str, live: LiveBackend, *, seed: int = 0) -> Request:
    """Return what the reflection model is sent. It is drawn, since the same prompt's second rewrite
    should be another one; what it said is in the store all the same.
    """
    drawn = Decoding(
        temperature=1.0,
        max_tokens=REFLECTION_TOKENS,
        seed=seed if "seed" in live.honours else None,
    )
    return Request(messages=(Message(role="user", content=text),), decoding=drawn)


@dataclass(slots=True, kw_only=True)
class Desk:
    """One job's asking. `calls` are the pairs of prompt and case that were counted."""

    task: Task
    seed_prompt: Prompt
    name: str
    cases: Mapping[str, Case]
    evals: PlainEvals
    reflector: LiveBackend
    reflector_url: str | None
    pool: BackendPool
    store: Store
    progress: Progress
    spending: Spending | None
    max_calls: int
    seed: int = 0
    base_url: str | None = None
    reflections: int = 0
    _is_broke: bool = False
    _scored: dict[_Pair, ScoredReply] = field(default_factory=dict)
    _prompts: dict[tuple[tuple[str, str], ...], Prompt | str] = field(default_factory=dict)
    _said: dict[str, int] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        """How many pairs of prompt and case were asked so far."""
        return len(self._scored)

    def calls_left(self) -> int:
        """Return how many more may be asked."""
        return 0 if self._is_broke else self.max_calls - self.calls

    # ------------------------------------------------------------ asking the task's model

    def ask(self, pairs: Sequence[tuple[Sections, Case]]) -> list[ScoredReply]:
        """Return what came of each pair, in order. Raises UsageError for a case that the optimiser
        was not given.
        """
        given = [(self._prompt(sections), self._case(case)) for sections, case in pairs]
        new: dict[_Pair, tuple[Prompt, Case]] = {}
        for prompt, case in given:
            if isinstance(prompt, Prompt):
                pair = (prompt.digest, case.id)
                if pair not in self._scored and len(new) < self.calls_left():
                    new[pair] = (prompt, case)
        lost = self._ask(new) if new else {}
        return [self._answer(prompt, case, lost) for prompt, case in given]

    def _answer(
        self, prompt: Prompt | str, case: Case, lost: Mapping[_Pair, ScoredReply]
    ) -> ScoredReply:
        if isinstance(prompt, str):
            return ScoredReply(case_id=case.id, score=0.0, reasons=(prompt,), is_asked=False)
        pair = (prompt.digest, case.id)
        known = self._scored.get(pair) or lost.get(pair)
        if known is not None:
            return known
        return ScoredReply(
            case_id=case.id, reasons=(SPENT.format(calls=self.max_calls),), is_asked=False
        )

    def _prompt(self, sections: Sections) -> Prompt | str:
        """Return the prompt with these texts, or why it is none."""
        texts = tuple(sorted(sections.items()))
        if texts not in self._prompts:
            try:
                made = rewritten(self.seed_prompt, dict(texts), name=f"optimised-{self.name}")
            except TaskError as exc:
                self._prompts[texts] = str(exc)
            else:
                self._prompts[texts] = made
        return self._prompts[texts]

    def _case(self, case: Case) -> Case:
        known = self.cases.get(getattr(case, "id", ""))
        if known is None or known != case:
            name = getattr(case, "id", case)
            raise UsageError(
                f"optimiser {self.name} asks about case {name!r}, which it was not given: it may "
                "use the cases of its job, as they are"
            )
        return known

    def _ask(self, new: Mapping[_Pair, tuple[Prompt, Case]]) -> dict[_Pair, ScoredReply]:
        """Ask and score; return those that the money did not reach to, which do not count."""
        wanted: dict[_Pair, tuple[Evaluation, TrialId]] = {}
        by_prompt: dict[tuple[str, str], Evaluation] = {}
        for pair, (prompt, case) in new.items():
            place = (prompt.digest, case.split)
            if place not in by_prompt:
                by_prompt[place] = self._evaluation(prompt, case)
            evaluation = by_prompt[place]
            (name,) = evaluation.candidates
            wanted[pair] = (evaluation, TrialId(candidate=name, case_id=case.id))
        fetch_all(
            [(one, [t for e, t in wanted.values() if e is one]) for one in by_prompt.values()],
            store=self.store,
            progress=self.progress,
            spending=self.spending,
        )
        outcomes = {pair: one.outcomes[trial] for pair, (one, trial) in wanted.items()}
        replied = [(p, o.reply) for p, o in outcomes.items() if o.reply is not None]
        scored = self.evals.scores_of([(new[p][1], reply) for p, reply in replied])
        for (pair, reply), found in zip(replied, scored, strict=True):
            trial = Trial(case_id=pair[1], scores=found.scores, fault=found.fault)
            missed = [s for s in found.scores if s.value is None or s.value < 1]
            self._scored[pair] = ScoredReply(
                case_id=pair[1],
                reply=reply.text,
                score=self._value(trial),
                reasons=tuple(f"{s.name}: {s.reason or 'missed'}" for s in missed),
            )
        lost = {}
        for pair, outcome in outcomes.items():
            if outcome.reply is None:
                answer = self._failed(pair, outcome)
                if answer.is_asked:
                    self._scored[pair] = answer
                else:
                    lost[pair] = answer
        return lost

    def _evaluation(self, prompt: Prompt, case: Case) -> Evaluation:
        task = replace(self.task, prompts={**self.task.prompts, prompt.name: prompt})
        candidate = resolve_candidate(
            task, prompt.name, base_url=self.base_url, artifact_digest=str
        )
        return Evaluation(task, [candidate], split=case.split, pool=self.pool)

    def _failed(self, pair: _Pair, outcome: Outcome) -> ScoredReply:
        fault = outcome.fault
        if was_not_asked(fault):
            self._is_broke = True
            return ScoredReply(case_id=pair[1], reasons=(fault.message,), is_asked=False)  # type: ignore[union-attr]
        value = self._value(Trial(case_id=pair[1], fault=fault))
        return ScoredReply(
            case_id=pair[1], score=value, reasons=(fault.message if fault else "no reply",)
        )

    def _value(self, trial: Trial) -> float | None:
        value = trial_value(trial, self.task.settings.primary)
        return None if value is None or math.isnan(value) else value

    # ------------------------------------------------------------ asking the reflection model

    def reflect(self, text: str) -> str:
        """Return what the reflection model says to `text`. Raises BackendError."""
        repeat = self._said.get(text, 0)
        self._said[text] = repeat + 1
        request = reflection_request(text, self.reflector, seed=self.seed + repeat)
        key = self.reflector.key(
            request,
            base_url=self.reflector_url,
            repeat=repeat,
            epoch=self.task.settings.epoch or None,
        )
        # what may leave this machine was settled before the first request
        ask = Ask(key=key, request=request, live=self.reflector, who="reflection", case=key)
        outcome = fetch([ask], store=self.store, progress=self.progress, spending=self.spending)[
            key
        ]
        if outcome.reply is None:
            fault = outcome.fault
            self._is_broke = self._is_broke or was_not_asked(fault)
            raise BackendError(f"reflection: {fault.message if fault else 'no reply'}")
        self.reflections += 1
        return outcome.reply.text
