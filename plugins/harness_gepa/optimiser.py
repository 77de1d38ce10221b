"""GEPA over a job. Knows nothing of backends, stores and evals: it asks through the job.

The library is given an adapter and a function for its reflection model, so that it asks nobody
itself: no `litellm`, no tracker, no file, no print.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import gepa

from harness import BackendError, Case, OptimisedPrompt, OptimiseJob, ScoredReply
from harness_gepa.plan import MINIBATCH, Plan, plan
from harness_gepa.seed import MOST_RETURNED, SECTION, is_cut_short, seed_of, unscored

LONGEST_SHOWN = 2000  # characters of one reply or one input that a reflection is shown

TEMPLATE = """A language model is given a task by instructions (its system message) and a user \
message with the case. You improve the instructions.

The task: {about}

The user message is made from this template, which stays as it is:
```
{turn}
```

The instructions now:
```
<curr_param>
```

Cases with the model's reply, and what was found about it:

<side_info>

Find out what the task asks for that the instructions do not say: the form of the answer, rules, \
facts of the field, ways to solve it. Write new instructions that would have got these replies \
right, and others like them; do not repeat single cases in them. {marks} Give the new \
instructions, and nothing else, between ``` marks."""


class Gepa:
    """The optimiser: rewrites the system section, or adds one where the seed has none."""

    def optimise(self, job: OptimiseJob) -> Sequence[OptimisedPrompt]:
        """Return up to two prompts, by their mean on the judging cases. Raises UsageError where
        the budget or the cases do not reach, BackendError where nobody answers.
        """
        chosen = plan(job)
        job.note(
            f"gepa: learns from {len(chosen.feedback)} cases, judges by {len(chosen.judges)} of "
            f"{len(job.dev)} dev cases, at most {job.max_calls} calls"
        )
        search = _Search(job=job, plan=chosen)
        seed = seed_of(job)
        marks = "Do not use double curly braces."
        if seed.kept:
            marks = f"Keep {seed.kept} as it is written, and use no other double curly braces."
        template = TEMPLATE.format(about=job.about, turn=seed.turn, marks=marks)
        try:
            gepa.optimize(
                seed_candidate={SECTION: seed.text},
                trainset=list(chosen.feedback),
                valset=list(chosen.judges),
                adapter=search,
                reflection_lm=search.reflect,
                reflection_prompt_template=template,
                reflection_minibatch_size=MINIBATCH,
                max_metric_calls=job.max_calls,  # repeats count here, so that it always ends
                stop_callbacks=[search.should_stop],
                callbacks=[search],
                logger=_Silent(),
                seed=job.seed,
            )
        except _Spent:
            job.note("gepa: the budget ended while a prompt was judged; it is left out")
        return search.best()


class _Spent(Exception):
    """The calls or the money ended within an evaluation."""


class _Silent:
    def log(self, message: str) -> None:
        """Say nothing: what a person should know is told through the job."""


@dataclass(slots=True, kw_only=True)
class _Search:
    """What the library calls back: adapter, reflection model, stopper and listener in one."""

    job: OptimiseJob
    plan: Plan
    judged: list[tuple[str, float]] = field(default_factory=list)
    error: Exception | None = None
    propose_new_texts: Callable[..., Any] | None = None

    # ------------------------------------------------------------ the adapter

    def evaluate(
        self, batch: list[Case], candidate: dict[str, str], capture_traces: bool = False
    ) -> gepa.EvaluationBatch[tuple[Case, ScoredReply], str]:
        """Score one prompt on some cases."""
        sections = {**self.job.sections, SECTION: candidate[SECTION]}
        found = self.job.ask([(sections, case) for case in batch])
        if is_cut_short(found):
            raise _Spent
        if error := unscored(found, who="gepa"):
            raise error
        return gepa.EvaluationBatch(
            outputs=[one.reply for one in found],
            scores=[one.score or 0.0 for one in found],
            trajectories=list(zip(batch, found, strict=True)) if capture_traces else None,
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],
        eval_batch: gepa.EvaluationBatch[tuple[Case, ScoredReply], str],
        components_to_update: list[str],
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what the reflection model reads of the replies."""
        rows = [self._row(case, one) for case, one in eval_batch.trajectories or ()]
        return dict.fromkeys(components_to_update, rows)

    def _row(self, case: Case, one: ScoredReply) -> dict[str, Any]:
        found = ["right" if one.score == 1 else f"score {one.score or 0:.2f}", *one.reasons]
        answer = case.reference_text
        if answer and self.plan.shows_references and one.score != 1:
            found.append(f"a right answer: {answer}")
        if answer and not self.plan.shows_references:  # an assertion's words spell it out
            found = [text.replace(answer, "[the right answer]") for text in found]
        return {
            "Inputs": {name: _shown(value) for name, value in case.inputs.items()},
            "Reply": _shown(one.reply),
            "What was found": "\n".join(found),
        }

    # ------------------------------------------------------------ the rest

    def reflect(self, prompt: Any) -> str:
        """Ask the reflection model. The library would log an error and go on, so it is kept."""
        if self.error is not None:
            raise self.error
        try:
            return self.job.reflect(str(prompt))
        except Exception as exc:
            self.error = exc
            raise

    def should_stop(self, state: Any) -> bool:
        """Stop before a step that the budget might not reach to the end of."""
        return self.error is not None or self.job.calls_left() < self.plan.dearest_step

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Keep what was judged in full; only that is ever returned."""
        text, mean = event["candidate"][SECTION], float(event["average_score"])
        self.judged.append((text, mean))
        number = len(self.judged) - 1
        who = "the seed prompt" if number == 0 else f"rewrite {number}"
        self.job.note(f"gepa: {who} scores {mean:.2f}; {self.job.calls_left()} calls left")

    def best(self) -> list[OptimisedPrompt]:
        """Return the best rewrites. Raises what stopped the search where there is none."""
        if not self.judged:
            raise self.error or BackendError("gepa: the seed prompt could not be judged")
        (seed, base), *others = self.judged
        unique = {text: mean for text, mean in others if text not in ("", seed)}
        ranked = sorted(unique.items(), key=lambda found: -found[1])[:MOST_RETURNED]
        if not ranked and self.error is not None:
            raise self.error
        if self.error is not None:
            self.job.note(f"gepa: stopped early: {self.error}")
        notes = "".join(f"; {note}" for note in self.plan.notes)
        version = metadata.version("gepa")
        return [
            OptimisedPrompt(
                sections={**self.job.sections, SECTION: text},
                note=f"gepa {version}: {mean:.2f} against {base:.2f} of the seed on "
                f"{len(self.plan.judges)} dev cases{notes}",
            )
            for text, mean in ranked
        ]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"
