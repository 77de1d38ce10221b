"""Tips for a prompt, from what misses said. Knows nothing of stores.

A tip tells what replies did wrong, never what a case's answer is: a reason that holds any part of
its case's reference is not used; what the eval itself says it wants stands in for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.records import Json

MOST_TIPS = 6
_SPECIFIC = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|“[^”]*”|-?\d+(?:[.,:]\d+)*")
_CODE = re.compile(r"^\s*(assert\b|where\b|\+|E\s)|==|!=| is (not )?None\b")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """One score that came out against a reply on dev. `held_back` is the case's reference."""

    case_id: str
    name: str
    reason: str
    held_back: Json = None


def tips_from(missed: Sequence[Missed], wants: Mapping[str, str], *, told: str = "") -> list[str]:
    """Return up to six tips, what went wrong most often first. `wants` says what each eval wants;
    the words of `told` stand in the prompt already, and give nothing away.

    A reason is used where at least two cases were missed for it, once what is special to a case
    (quoted texts, numbers) is taken out; the names of evals alone make no tip.
    """
    said: Counter[tuple[str, str]] = Counter()
    by_eval: Counter[str] = Counter()
    for one in missed:
        by_eval[one.name] += 1
        reason = general(one, told=told)
        if reason:
            said[one.name, reason] += 1
    tips: dict[str, int] = {}
    for (_, reason), times in said.items():
        if times > 1:
            tips[f"A frequent mistake: {reason}. Do not make it."] = times
    for name, times in by_eval.items():
        if want := wants.get(name):
            tips[f"Mind this, it was often missed: {want}"] = times
    return sorted(tips, key=lambda tip: (-tips[tip], tip))[:MOST_TIPS]


def general(missed: Missed, *, told: str = "") -> str:
    """Return the reason of a miss without what is special to its case; empty where that tells
    nothing, or where it would tell something of the case's reference.
    """
    first = missed.reason.strip().partition("\n")[0].strip()
    if not first or _CODE.search(first):
        return ""
    plain = re.sub(r"\s+", " ", _SPECIFIC.sub("…", first)).strip().rstrip(".")
    words = {w.lower() for w in _WORD.findall(plain)}
    secrets = {w.lower() for text in _leaves(missed.held_back) for w in _WORD.findall(text)}
    secrets -= {w.lower() for w in _WORD.findall(told)}
    return "" if words & secrets or len(words) < 3 else plain[:200]


def _leaves(value: Json) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)
