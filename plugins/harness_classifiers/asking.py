"""The check `classifier`. Knows nothing of how a model is found or run."""

from __future__ import annotations

from collections.abc import Mapping

from harness import CheckResult, Miss, Reply, UsageError
from harness_classifiers.model import classifier_of

_SHOWN = 80
_LABELS = 40
"""Probabilities that a reason shows at most."""


def classify(
    reply: Reply | str, label: str | list[str], *, model: str, at_least: float
) -> CheckResult:
    """Return the result of `classifier`, or raise its Miss."""
    if not isinstance(reply, Reply | str):
        raise UsageError(f"classifier: takes a Reply or a str first, not {type(reply).__name__}")
    text = reply.text if isinstance(reply, Reply) else reply
    wanted: object = [label] if isinstance(label, str) else label
    if (
        not isinstance(wanted, list | tuple)
        or not wanted
        or not all(isinstance(one, str) for one in wanted)
    ):
        raise UsageError("classifier: label is a label of the model, or several, as texts")
    if not isinstance(model, str) or not model:
        raise UsageError("classifier: model is a text: a folder, or a name in the cache")
    if not 0.0 <= at_least <= 1.0:
        raise UsageError(f"classifier: at_least is a share between 0 and 1, not {at_least!r}")
    found = classifier_of(model)
    names = [_label(one, known=found.labels, model=model) for one in wanted]
    if not text.strip():
        raise Miss("classifier: the reply is empty")
    said = found.classify(text)
    best = max(names, key=said.shares.__getitem__)
    value = said.shares[best]
    reason = f"(all: {_told(said.shares)}); got {_show(text)}"
    if said.cut:
        reason += f" ({said.cut})"
    if value < at_least - 1e-9:
        raise Miss(
            f"classifier: {_plain(best)} {value:.3f} is under at_least={at_least:g} {reason}",
            value=value,
        )
    return CheckResult(
        name="classifier", value=value, reason=f"{_plain(best)} {value:.3f} {reason}"
    )


def _label(wanted: str, *, known: tuple[str, ...], model: str) -> str:
    """Return the model's own writing of a label; letter case may differ where that is unique."""
    alike = [k for k in known if k.casefold() == wanted.casefold()]
    if wanted in known:
        return wanted
    if len(alike) == 1:
        return alike[0]
    listed = ", ".join(map(_plain, known[:_LABELS]))
    raise UsageError(f"classifier: {model} has no label {wanted!r}. It has: {listed}")


def _told(shares: Mapping[str, float]) -> str:
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    shown = [f"{_plain(name)} {share:.3f}" for name, share in ranked[:_LABELS]]
    more = len(ranked) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _plain(label: str) -> str:
    return label if label.isprintable() else repr(label)


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …")
