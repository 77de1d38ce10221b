"""Tells what a reply's text is or holds. Knows nothing of meaning."""

from __future__ import annotations

from collections.abc import Iterable

from harness.checks.base import CheckResult, held, listed, miss, near, scored, show, text_of
from harness.checks.normalise import normaliser
from harness.checks.patterns import TIMEOUT_S, search
from harness.errors import UsageError
from harness.records import Reply

Steps = str | Iterable[str]
"""Names of `harness.checks.normalise.STEPS`; `()` compares to the letter (after NFC)."""


def equals(
    reply: Reply | str, expected: str, *, normalise: Steps = ("case", "space")
) -> CheckResult:
    """Hold where the reply is `expected`, after normalisation of both; `()` asks to the letter.

    A miss shows where they part.
    """
    if not isinstance(expected, str):
        raise UsageError(
            f"equals: expected is a text, not {type(expected).__name__}. "
            "For JSON values there is checks.json_equal."
        )
    change = normaliser(normalise, name="equals")
    said, wanted = change(text_of(reply, name="equals")), change(expected)
    if said == wanted:
        return held("equals", f"the reply is {show(wanted)}")
    place = next(
        (i for i, (a, b) in enumerate(zip(said, wanted, strict=False)) if a != b),
        min(len(said), len(wanted)),
    )
    if len(said) + len(wanted) <= 120:
        raise miss("equals", f"expected {show(wanted)}, got {show(said)}")
    raise miss(
        "equals",
        f"they part at character {place} (lengths {len(wanted)} and {len(said)}):\n"
        f"  expected {near(wanted, place)}\n  got      {near(said, place)}",
    )


def _found(
    name: str, reply: Reply | str, texts: str | Iterable[str], normalise: Steps
) -> tuple[str, list[str], list[str]]:
    """Return the text of the reply, and which of `texts` it holds and which not."""
    text = text_of(reply, name=name)
    wanted = listed(texts, name=name, what="texts")
    change = normaliser(normalise, name=name)
    said = change(text)
    there = [w for w in wanted if change(w) in said]
    return text, there, [w for w in wanted if w not in there]


def contains(reply: Reply | str, text: str, *, normalise: Steps = ()) -> CheckResult:
    """Hold where the reply holds `text`; `normalise=("case",)` asks in any case."""
    said, there, _ = _found("contains", reply, text, normalise)
    if not there:
        raise miss("contains", f"{show(text)} is not in {show(said)}")
    return held("contains", f"{show(text)} is in {show(said)}")


def contains_any(reply: Reply | str, texts: Iterable[str], *, normalise: Steps = ()) -> CheckResult:
    """Hold where the reply holds at least one of `texts`."""
    said, there, _ = _found("contains_any", reply, texts, normalise)
    if not there:
        raise miss("contains_any", f"none of {show(list(texts))} is in {show(said)}")
    return held("contains_any", f"{show(there)} is in {show(said)}")


def contains_all(
    reply: Reply | str,
    texts: Iterable[str],
    *,
    normalise: Steps = (),
    at_least: float = 1.0,
) -> CheckResult:
    """Hold where the reply holds every one of `texts`; the score is the share that it holds."""
    said, there, lacking = _found("contains_all", reply, texts, normalise)
    share = len(there) / (len(there) + len(lacking))
    reason = f"in {show(said)}: {show(there)}"
    if lacking:
        reason = f"not in {show(said)}: {show(lacking)}"
    return scored("contains_all", share, at_least=at_least, reason=reason)


def starts_with(reply: Reply | str, text: str, *, normalise: Steps = ()) -> CheckResult:
    """Hold where the reply begins with `text`."""
    change = normaliser(normalise, name="starts_with")
    said = change(text_of(reply, name="starts_with"))
    if not said.startswith(change(text)):
        raise miss("starts_with", f"expected {show(text)} at the start, got {show(said[:200])}")
    return held("starts_with", f"it begins with {show(text)}")


def ends_with(reply: Reply | str, text: str, *, normalise: Steps = ()) -> CheckResult:
    """Hold where the reply ends with `text`."""
    change = normaliser(normalise, name="ends_with")
    said = change(text_of(reply, name="ends_with"))
    if not said.endswith(change(text)):
        raise miss("ends_with", f"expected {show(text)} at the end, got {show(said[-200:])}")
    return held("ends_with", f"it ends with {show(text)}")


def regex(
    reply: Reply | str,
    pattern: str,
    *,
    flags: str = "",
    whole: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> CheckResult:
    """Hold where `pattern` matches somewhere, or all of the reply where `whole`.

    `flags` are letters of `aimsx`. Patterns are those of the `regex` library, which takes all of
    `re`; one that runs past `timeout_s` is a miss, negated or not.
    """
    text = text_of(reply, name="regex")
    match = search(pattern, text, name="regex", flags=flags, whole=whole, timeout_s=timeout_s)
    if match is None:
        what = "does not match all of" if whole else "matches nothing in"
        raise miss("regex", f"{show(pattern)} {what} {show(text)}")
    return held("regex", f"{show(pattern)} matches {show(match[0])} at {match.start()}")
