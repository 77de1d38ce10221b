"""The check `classifier`: what a text classifier on this machine says of a reply. Knows no torch
until a reply is classified.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness import CheckResult, Reply


def classifier(
    reply: Reply | str, label: str | list[str], *, model: str, at_least: float = 0.5
) -> CheckResult:
    """Score how probable a text classifier of transformers finds `label`, or the likeliest of
    several: `checks.no.classifier(reply, "toxic", model="models/toxicity")`.

    `model` is a folder (seen from where the command runs), or a name in the cache of Hugging Face;
    nothing is downloaded, and nothing is sent anywhere. Its weights are part of what scores: write
    `model` as one text in the evals or the cases, for one that is put together while they run is
    not found there. What is longer than the model reads is cut, and the reason tells. Calibrate
    `at_least` on labelled replies.
    """
    from harness_classifiers.asking import classify

    return classify(reply, label, model=model, at_least=at_least)


def _identity(texts: Collection[str]) -> str:
    from harness_classifiers.finding import identity_among

    return identity_among(texts)


classifier.identity = _identity  # type: ignore[attr-defined]


@harness.hookimpl
def harness_checks() -> Mapping[str, Any]:
    """Offer the check `classifier`."""
    return {"classifier": classifier}
