"""What each part of a prompt costs, and what removing it does, measured on dev. Knows no files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from harness.core.anatomy import Part, parts_of, removable, without
from harness.core.pairs import Pair, delta_bounds
from harness.engine.unrecorded import Measured, Variants
from harness.errors import NotEnoughEvidence, UsageError
from harness.ports.backends import ShowsTokens
from harness.records import Estimate, Prompt

CASES_COUNTED = 20
"""Cases whose tokens are counted: a part's tokens differ little from case to case."""
CHARACTERS_A_TOKEN = 4.0
"""Where nothing is known of the model: about what English takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """A part with its mean tokens a case, and the paired difference (the prompt without it, minus
    the whole) on dev; None where it cannot be removed.
    """

    part: Part
    tokens: float
    delta: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """A prompt taken apart. `counted` says how tokens were: by the backend, or estimated."""

    prompt: str
    parts: tuple[PartCost, ...]
    tokens: float
    counted: str
    estimate: Estimate


class TokenCounter:
    """Counts the tokens of what is sent: by the backend where it shows them, else by characters."""

    def __init__(self, variants: Variants) -> None:
        self._variants = variants
        self._cases = variants.task.split("dev")[:CASES_COUNTED]
        backend = variants.live.backend
        self._shows = backend if isinstance(backend, ShowsTokens) else None
        self._characters_a_token = CHARACTERS_A_TOKEN
        self.counted = f"estimated, {CHARACTERS_A_TOKEN:g} characters a token"
        if self._shows is not None:
            self.counted = "counted by the backend"

    def calibrate(self, whole: Measured) -> None:
        """Take the characters a token from replies that tell their tokens."""
        told = whole.usage.input_tokens
        if self._shows is None and told:
            self._characters_a_token = self._characters(whole.prompt) / told
            self.counted = (
                f"estimated, {self._characters_a_token:.1f} characters a token as the replies tell"
            )

    def tokens(self, prompt: Prompt) -> float:
        """Return the mean tokens of a request with `prompt`."""
        if self._shows is None:
            return self._characters(prompt) / self._characters_a_token
        requests = self._variants.requests(prompt, self._cases)
        return fmean(len(self._shows.token_ids(r)) for r in requests)

    def _characters(self, prompt: Prompt) -> float:
        requests = self._variants.requests(prompt, self._cases)
        return fmean(sum(len(m.content) for m in r.messages) for r in requests)


def anatomy(variants: Variants) -> Anatomy:
    """Return the parts of the candidate's prompt: one variant without each part that can be
    removed is asked on dev. Raises UsageError for a prompt of one part.
    """
    prompt = variants.prompt
    shorter = {p.number: s for p in removable(prompt) if (s := _variant(prompt, p))}
    if not shorter:
        raise UsageError(
            f"prompt {prompt.name!r} has no part that can be removed: every paragraph is filled in "
            "from the case"
        )
    whole, *others = variants.measure([prompt, *shorter.values()])
    counter = TokenCounter(variants)
    counter.calibrate(whole)
    total = counter.tokens(prompt)
    deltas = {
        number: paired(variants, one, whole) for number, one in zip(shorter, others, strict=True)
    }
    parts = parts_of(prompt)
    return Anatomy(
        prompt=prompt.name,
        parts=tuple(
            PartCost(
                part=part,
                tokens=total - counter.tokens(_variant(prompt, part) or _emptied(prompt)),
                delta=deltas.get(part.number),
            )
            for part in parts
        ),
        tokens=total,
        counted=counter.counted,
        estimate=_level(variants, whole),
    )


def paired(variants: Variants, one: Measured, whole: Measured, *, alpha: float = 0.05) -> Estimate:
    """Return the difference of two prompts on the dev cases that both scored."""
    cases = [
        c
        for c in variants.task.split("dev")
        if one.values.get(c.id) is not None and whole.values.get(c.id) is not None
    ]
    if not cases:
        raise NotEnoughEvidence(
            f"no dev case has the score {variants.task.settings.primary!r}: nothing to compare"
        )
    pair = Pair(
        name=variants.task.settings.primary,
        candidate=[_known(one.values[c.id]) for c in cases],
        baseline=[_known(whole.values[c.id]) for c in cases],
        clusters=[c.cluster for c in cases],
    )
    return delta_bounds(pair, alpha=alpha)


def _variant(prompt: Prompt, part: Part) -> Prompt | None:
    return without(prompt, {part.number}, name=prompt.name)


def _emptied(prompt: Prompt) -> Prompt:
    """Return the prompt with nothing in its user sections, to count what they hold."""
    from dataclasses import replace

    emptied = tuple((role, "" if role == "user" else text) for role, text in prompt.sections)
    return replace(prompt, sections=emptied)


def _level(variants: Variants, whole: Measured) -> Estimate:
    from harness.core.bounds import at_worst, mean_bounds

    cases = [c for c in variants.task.split("dev") if whole.values.get(c.id) is not None]
    values = at_worst([_known(whole.values[c.id]) for c in cases], missing=0.0)
    return mean_bounds(values, [c.cluster for c in cases])


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
