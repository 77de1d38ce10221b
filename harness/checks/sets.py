"""Tells how far the set that a reply names agrees with the expected one, or which class it is.

Knows nothing of how the items are told apart beyond their text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.checks.asserted import finds
from harness.checks.base import CheckResult, listed, miss, scored, show, text_of
from harness.checks.normalise import normaliser
from harness.checks.parts import frozen
from harness.errors import UsageError
from harness.records import Json, Reply

SHOWN = 8


def f1_of(name: str, got: Counter[str], expected: Counter[str], *, at_least: float) -> CheckResult:
    """Score the F1 of two multisets; both empty agree fully."""
    common = (got & expected).total()
    size = got.total() + expected.total()
    value = 2 * common / size if size else 1.0
    return scored(name, value, at_least=at_least, reason=_difference(got, expected, common))


def _difference(got: Counter[str], expected: Counter[str], common: int) -> str:
    parts = [f"{common} of {expected.total()} expected items found"]
    for word, left in (("missing", expected - got), ("not expected", got - expected)):
        if left:
            some = ", ".join(show(item, 60) for item in list(left.elements())[:SHOWN])
            more = f" and {left.total() - SHOWN} more" if left.total() > SHOWN else ""
            parts.append(f"{word}: {some}{more}")
    return "; ".join(parts)


def items_of(
    value_or_reply: Reply | str | Iterable[Json],
    *,
    name: str,
    separator: str | None,
    normalise: str | Iterable[str],
) -> Counter[str]:
    """Return the set of items as normalised texts, each counted once.

    A Reply or str is split at `separator`, or read as a JSON array where that is None.
    """
    if isinstance(value_or_reply, Reply | str):
        if separator is None:
            from harness.checks.json_ import value_of

            items = value_of(value_or_reply, name=name)
            if not isinstance(items, list):
                raise miss(name, f"expected a JSON array, got {show(items)}")
        else:
            items = [i for i in text_of(value_or_reply, name=name).split(separator) if i.strip()]
    else:
        items = list(value_or_reply)
    change = normaliser(normalise, name=name)
    return Counter({change(i) if isinstance(i, str) else frozen(i) for i in items})


def set_f1(
    value_or_reply: Reply | str | Iterable[Json],
    expected: Iterable[Json],
    *,
    at_least: float = 1.0,
    separator: str | None = None,
    normalise: str | Iterable[str] = ("case", "space"),
) -> CheckResult:
    """Score the F1 of the reply's items against `expected`; a miss names what lacks and what is
    too many. A reply is read as a JSON array, or split at `separator`.

    Source: van Rijsbergen (1979), Information Retrieval, ch. 7, with beta 1.
    """
    got, wanted = _both("set_f1", value_or_reply, expected, separator, normalise)
    return f1_of("set_f1", got, wanted, at_least=at_least)


def set_precision(
    value_or_reply: Reply | str | Iterable[Json],
    expected: Iterable[Json],
    *,
    at_least: float = 1.0,
    separator: str | None = None,
    normalise: str | Iterable[str] = ("case", "space"),
) -> CheckResult:
    """Score the share of the reply's items that are expected (1 where it has none)."""
    got, wanted = _both("set_precision", value_or_reply, expected, separator, normalise)
    common = (got & wanted).total()
    value = common / got.total() if got else 1.0
    reason = _difference(got, wanted, common)
    return scored("set_precision", value, at_least=at_least, reason=reason)


def set_recall(
    value_or_reply: Reply | str | Iterable[Json],
    expected: Iterable[Json],
    *,
    at_least: float = 1.0,
    separator: str | None = None,
    normalise: str | Iterable[str] = ("case", "space"),
) -> CheckResult:
    """Score the share of `expected` that the reply names (1 where nothing is expected)."""
    got, wanted = _both("set_recall", value_or_reply, expected, separator, normalise)
    common = (got & wanted).total()
    value = common / wanted.total() if wanted else 1.0
    reason = _difference(got, wanted, common)
    return scored("set_recall", value, at_least=at_least, reason=reason)


def _both(
    name: str,
    value_or_reply: Reply | str | Iterable[Json],
    expected: Iterable[Json],
    separator: str | None,
    normalise: str | Iterable[str],
) -> tuple[Counter[str], Counter[str]]:
    if isinstance(expected, str):
        raise UsageError(f"{name}: expected is a list of items, not the text {show(expected)}")
    got = items_of(value_or_reply, name=name, separator=separator, normalise=normalise)
    return got, items_of(list(expected), name=name, separator=separator, normalise=normalise)


@finds
def one_of(
    reply: Reply | str,
    classes: Iterable[str],
    *,
    normalise: str | Iterable[str] = ("case", "space", "punctuation"),
) -> str:
    """Return which of `classes` the whole reply names, as it is written there.

    A miss shows the reply and the classes.
    """
    text = text_of(reply, name="one_of")
    known = listed(classes, name="one_of", what="classes")
    change = normaliser(normalise, name="one_of")
    said = change(text)
    for label in known:
        if said == change(label):
            return label
    raise miss("one_of", f"{show(text)} is none of {show(known)}")


def token_f1(
    reply: Reply | str,
    expected: str,
    *,
    at_least: float = 1.0,
    normalise: str | Iterable[str] = ("case", "articles", "punctuation", "space"),
) -> CheckResult:
    """Score the F1 of the words of the reply against those of `expected`, each as often as it
    stands there.

    Source: Rajpurkar et al. (2016), SQuAD, EMNLP, section 6.1 (F1), for one answer.
    """
    change = normaliser(normalise, name="token_f1")
    got = Counter(change(text_of(reply, name="token_f1")).split())
    return f1_of("token_f1", got, Counter(change(expected).split()), at_least=at_least)
