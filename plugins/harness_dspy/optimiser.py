"""MIPROv2 over a job: examples, instructions, and the best of both. Knows no backend and no eval.

Examples are train cases that the seed prompt answers right, with that very reply: they are found
through the job, all at once, and stand below the instructions in the system section.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from harness_gepa.seed import MOST_RETURNED, SECTION, is_cut_short, seed_of, unscored

from harness import BackendError, Case, OptimisedPrompt, OptimiseJob, ScoredReply
from harness_dspy.library import Stop, search
from harness_dspy.plan import Plan, plan

MOST_EXAMPLES = 4
DRAWS = 4
"""Draws of the search for each prompt that can be judged: one drawn before costs nothing."""
DRAWN_ANEW = 3
"""An empty reply of the reflection model is drawn anew."""
LONGEST_SHOWN = 2000  # characters of one case that the proposer reads
HEAD = "Examples of cases, each with a right reply:"

PREAMBLE = """A language model is given a task by instructions (its system message) and a user \
message with the case. The task: {about}

The user message is made from this template, which stays as it is:
```
{turn}
```
An instruction that you propose is the whole text of the system message. {marks}"""

Examples = Sequence[Mapping[str, str]]


class Mipro:
    """The optimiser: rewrites the system section, or adds one where the seed has none."""

    def optimise(self, job: OptimiseJob) -> Sequence[OptimisedPrompt]:
        """Return up to two prompts, by their mean on the judging cases. Raises UsageError where
        the budget or the cases do not reach, BackendError where nobody answers.
        """
        chosen = plan(job)
        job.note(
            f"dspy: learns from {len(chosen.known.shown)} cases, judges by {len(chosen.judges)} of "
            f"{len(job.dev)} dev cases, at most {job.max_calls} calls"
        )
        one = _Search(job=job, plan=chosen)
        seed = seed_of(job)
        marks = "It uses no double curly braces."
        if seed.kept:
            marks = f"It keeps {seed.kept} as it is written, and uses no other double curly braces."
        try:
            search(
                instructions=one.first,
                known=one.known(),
                sets=one.sets(),
                reflect=one.reflect,
                preamble=PREAMBLE.format(about=job.about, turn=seed.turn, marks=marks),
                judge=one.judge,
                texts=chosen.instructions,
                rounds=DRAWS * chosen.rounds,
                seed=job.seed,
            )
        except Stop:
            pass
        except Exception:
            # dspy wraps what its model raised: the reader wants the reason itself
            if one.error is None:
                raise
        return one.best()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A prompt that was judged in full. `is_ours` where a file can hold it."""

    sections: Mapping[str, str]
    mean: float
    examples: int
    is_ours: bool


@dataclass(slots=True, kw_only=True)
class _Search:
    """What the library calls back: the reflection model and the judge."""

    job: OptimiseJob
    plan: Plan
    judged: dict[str, _Judged] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def first(self) -> str:
        """The instructions to begin with: a prompt without any is told by the task's sentence."""
        return self.job.sections.get(SECTION, "").strip() or self.job.about

    # ------------------------------------------------------------ what it begins with

    def known(self) -> list[dict[str, str]]:
        """Return the cases as the proposer reads them; references only where they are train's."""
        rows = []
        for case in self.plan.known.shown:
            row = {"case": self._shown(case)[:LONGEST_SHOWN]}
            if self.plan.known.shows_references and case.reference_text:
                row["reply"] = case.reference_text[:LONGEST_SHOWN]
            rows.append(row)
        return rows

    def sets(self) -> list[list[dict[str, str]]]:
        """Ask the seed prompt, and return as many sets of examples as there are instructions: the
        first has none. No set at all where no reply was right.
        """
        asked = self.job.ask([(self.job.sections, case) for case in self.plan.tried])
        pool = [
            {"case": self._shown(case), "reply": one.reply}
            for case, one in zip(self.plan.tried, asked, strict=True)
            if one.score == 1
        ]
        pool = [one for one in pool if not re.search(r"\{\{|\{%|\{#|^@\w", str(one), re.MULTILINE)]
        self.job.note(f"dspy: {len(pool)} of {len(asked)} tried train cases can be examples")
        if not pool:
            return []
        rng = random.Random(self.job.seed)
        most = min(MOST_EXAMPLES, len(pool))
        drawn = [
            rng.sample(pool, rng.randint(1, most)) for _ in range(self.plan.instructions - 1)
        ]  # fmt: skip
        return [[], *drawn]

    def _shown(self, case: Case) -> str:
        """Return what a prompt fills in of a case, or all of it where that cannot be told."""
        named = set(re.findall(r"\w+", " ".join(self.job.marks)))
        names = [n for n in case.inputs if n in named] or list(case.inputs)
        return "\n".join(f"{name}: {_text(case.inputs[name])}" for name in names)

    # ------------------------------------------------------------ what it calls back

    def reflect(self, prompt: str) -> str:
        """Ask the reflection model. The library would go on without it, so an error is kept."""
        if self.error is not None:
            raise self.error
        try:
            for _ in range(DRAWN_ANEW):
                said = self.job.reflect(prompt)
                if said.strip():
                    return said
            raise BackendError(f"dspy: the reflection model said nothing, {DRAWN_ANEW} times")
        except Exception as exc:
            self.error = exc
            raise

    def judge(self, instructions: str | None, examples: Examples) -> float:
        """Return the mean of a prompt on the judging cases. Raises Stop where the budget or the
        backend does not reach to the end of it.
        """
        sections = {**self.job.sections, SECTION: self._system(instructions, examples)}
        key = sections[SECTION]
        if key in self.judged:
            return self.judged[key].mean
        if self.job.calls_left() < len(self.plan.judges):
            raise Stop
        found = self.job.ask([(sections, case) for case in self.plan.judges])
        if is_cut_short(found):
            self.job.note("dspy: the budget ended while a prompt was judged; it is left out")
            raise Stop
        if error := unscored(found, who="dspy"):
            self.error = error
            raise Stop
        return self._judged(key, sections, found, examples)

    def _judged(
        self,
        key: str,
        sections: Mapping[str, str],
        found: Sequence[ScoredReply],
        examples: Examples,
    ) -> float:
        mean = sum(one.score or 0.0 for one in found) / len(found)
        who = f"rewrite {len(self.judged)}" if self.judged else "the seed prompt"
        self.judged[key] = _Judged(
            sections=sections,
            mean=mean,
            examples=len(examples),
            is_ours=any(one.is_asked for one in found),
        )
        also = f" with {len(examples)} examples" if examples else ""
        left = self.job.calls_left()
        self.job.note(f"dspy: {who}{also} scores {mean:.2f}; {left} calls left")
        return mean

    def _system(self, instructions: str | None, examples: Examples) -> str:
        text = (instructions or self.job.sections.get(SECTION, "")).strip("\n")
        shown = [f"{one['case']}\nReply: {one['reply']}" for one in examples]
        return "\n\n".join(part for part in (text, HEAD if shown else "", *shown) if part)

    # ------------------------------------------------------------ what comes of it

    def best(self) -> list[OptimisedPrompt]:
        """Return the best rewrites. Raises what stopped the search where there is none."""
        if not self.judged:
            raise self.error or BackendError("dspy: the seed prompt could not be judged")
        seed, *others = self.judged.values()
        ranked = sorted((o for o in others if o.is_ours), key=lambda o: -o.mean)[:MOST_RETURNED]
        if self.error is not None:
            if not ranked:
                raise self.error
            self.job.note(f"dspy: stopped early: {self.error}")
        return [
            OptimisedPrompt(sections=one.sections, note=self._note(one, seed)) for one in ranked
        ]  # fmt: skip

    def _note(self, one: _Judged, seed: _Judged) -> str:
        version = metadata.version("dspy")
        examples = f"; {one.examples} examples from train" if one.examples else ""
        notes = "".join(f"; {note}" for note in self.plan.known.notes)
        return (
            f"dspy {version} MIPROv2: {one.mean:.2f} against {seed.mean:.2f} of the seed on "
            f"{len(self.plan.judges)} dev cases{examples}{notes}"
        )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
