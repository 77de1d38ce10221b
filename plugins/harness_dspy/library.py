"""What of dspy is replaced: its model, its examples and its judge. Knows nothing of cases.

dspy is given a model that asks through the job, so that it asks nobody itself: no litellm, no
cache, no thread, no progress bar. What is left of MIPROv2 is what it is known for: how instructions
are proposed, and how pairs of instructions and examples are searched.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy
import optuna

MODEL = "reflection"
PROPOSED = "proposed_instruction"
_TITLE = re.compile(r"^[*\s]*(?:[\w'-]+\s+){0,4}instructions?[*\s]*:[*\s]*", re.IGNORECASE)

Judge = Callable[[str | None, Sequence[Mapping[str, str]]], float]
"""Told instructions (None: those that the search began with) and examples, each a mapping of `case`
and `reply`, it gives the prompt's mean. It may raise Stop."""


class Stop(BaseException):
    """Ends the search from within; dspy takes every Exception for a score of 0."""


class Reflecting:
    """An engine of dspy (its word for what answers) over a function."""

    def __init__(self, reflect: Callable[[str], str], *, preamble: str) -> None:
        self.reflect, self.preamble = reflect, preamble

    def complete(self, request: Any) -> Any:
        """Answer one request of dspy's proposer, as one text."""
        texts = [p.text for m in request.messages for p in m.parts if hasattr(p, "text")]
        parts = [self.preamble, request.system or "", *texts]
        said = self.reflect("\n\n".join(part for part in parts if part))
        return dspy.lm15.Response(
            id=MODEL,
            model=MODEL,
            message=dspy.lm15.Message.assistant(said),
            finish_reason="stop",
            usage=dspy.lm15.Usage(),
        )


class Lenient(dspy.ChatAdapter):  # type: ignore[misc]
    """Takes a reply without dspy's field marks for the one field that was asked for, and keeps
    every instruction that was `proposed`, whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proposed: list[str] = []

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Return the fields of a reply."""
        try:
            found: dict[str, Any] = super().parse(signature, completion)
        except dspy.AdapterParseError:
            text = _unfenced(completion.split("[[ ## completed ## ]]", maxsplit=1)[0])
            if len(signature.output_fields) != 1 or not text:
                raise
            found = dict.fromkeys(signature.output_fields, text)
        if PROPOSED in found:
            self.proposed.append(_TITLE.sub("", found[PROPOSED]))
        return found


def _unfenced(text: str) -> str:
    before, fence, rest = text.partition("```")
    return (rest.partition("```")[0] if fence else before).strip()


class Searching(dspy.MIPROv2):  # type: ignore[misc]
    """MIPROv2 with given sets of examples, and a judge that is asked about a whole prompt."""

    def __init__(
        self,
        *,
        lm: Any,
        adapter: Lenient,
        sets: Sequence[Sequence[Mapping[str, str]]],
        judge: Judge,
        instructions: int,
        seed: int,
    ) -> None:
        super().__init__(
            metric=None,
            prompt_model=lm,
            task_model=lm,
            auto=None,
            num_candidates=instructions,
            seed=seed,
        )
        self.adapter, self.sets, self.judge = adapter, sets, judge

    def _bootstrap_fewshot_examples(self, *given: Any, **settings: Any) -> Any:
        # `augmented` is dspy's word for an example that a model's own reply is part of
        made = [[dspy.Example(augmented=True, **one) for one in some] for some in self.sets]
        return {0: made} if made else None

    def _propose_instructions(self, *given: Any, **settings: Any) -> Any:
        found = super()._propose_instructions(*given, **settings)
        # as they were said: dspy takes up to five words before a colon away, whatever they say
        for n, text in enumerate(self.adapter.proposed[1 : len(found[0])], 1):
            found[0][n] = text  # the first is the seed's own
        return found

    def _optimize_prompt_parameters(
        self, program: Any, instructions: Any, examples: Any, evaluate: Any, *rest: Any
    ) -> Any:
        # not as they were given: dspy takes the indent of a text away
        (began,) = (one.signature.instructions for one in program.predictors())

        def ours(candidate: Any, **settings: Any) -> Any:
            (predictor,) = candidate.predictors()
            shown = [{"case": d["case"], "reply": d["reply"]} for d in predictor.demos]
            text = predictor.signature.instructions
            return dspy.Prediction(score=self.judge(None if text == began else text, shown))

        return super()._optimize_prompt_parameters(program, instructions, examples, ours, *rest)


def search(
    *,
    instructions: str,
    known: Sequence[Mapping[str, str]],
    sets: Sequence[Sequence[Mapping[str, str]]],
    reflect: Callable[[str], str],
    preamble: str,
    judge: Judge,
    texts: int,
    rounds: int,
    seed: int,
) -> None:
    """Search from `instructions`, with `texts` of them in all, until `rounds` draws were judged.

    `known` are cases that the proposer reads; `sets` are examples to choose from, a set at a time.
    """
    lm = dspy.LM(
        MODEL, engine=Reflecting(reflect, preamble=preamble), cache=False, num_retries=0
    )  # fmt: skip
    student = dspy.Predict(dspy.Signature("case -> reply", instructions))
    rows = [dspy.Example(**one).with_inputs("case") for one in known]
    adapter = Lenient()
    searching = Searching(
        lm=lm, adapter=adapter, sets=sets, judge=judge, instructions=texts, seed=seed
    )
    most = 1 if sets else 0
    with _quiet(), dspy.context(lm=lm, adapter=adapter, disable_history=True):
        searching.compile(
            student,
            trainset=rows,
            valset=rows,  # the judge knows its own cases
            num_trials=rounds,
            max_bootstrapped_demos=most,
            max_labeled_demos=0,
            minibatch=False,
            program_aware_proposer=False,  # there is no program but one call
            seed=seed,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the libraries print, log and warn of to themselves."""
    loggers = [logging.getLogger("dspy"), logging.getLogger("optuna")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
