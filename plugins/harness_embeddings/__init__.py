"""The check `similar`: how near in meaning a reply is. Knows no torch until a text is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness import CheckResult, Reply


def similar(reply: Reply | str, expected: str | list[str], *, at_least: float = 0.8) -> CheckResult:
    """Score the cosine between the embeddings of the reply and of `expected`, or of the nearest of
    several; below 0 it is 0.

    The model is all-MiniLM-L6-v2 (English; 256 tokens: what is said later is not compared, and the
    reason tells). Near wording passes whatever it says: "it is safe" and "it is not safe" are 0.9
    alike. Calibrate `at_least` on labelled replies.
    Source: Reimers & Gurevych (2019), Sentence-BERT, EMNLP 3982-3992.
    """
    from harness_embeddings.cosine import compare

    return compare(reply, expected, at_least=at_least)


def _identity() -> str:
    from harness_embeddings.model import IDENTITY

    return IDENTITY


similar.identity = _identity  # type: ignore[attr-defined]


@harness.hookimpl
def harness_checks() -> Mapping[str, Any]:
    """Offer the check `similar`."""
    return {"similar": similar}
