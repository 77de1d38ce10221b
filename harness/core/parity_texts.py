"""Why the texts of two prompts differ, named after the usual cause. Knows nothing of tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from harness.records import TrainingRow

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}"
    rf"|\d{{1,2}}\s+{_MONTH},?\s+\d{{4}}|{_MONTH}\s+\d{{1,2}},?\s+\d{{4}}"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day|\d{1,2}:\d{2}(?::\d{2})?",
    re.IGNORECASE,
)
_THINKING = re.compile(r"<think(?:ing)?>(?:(?!</think).)*(?:</think(?:ing)?>|\Z)\s*", re.DOTALL)
_OPENS = re.compile(r"</?think(?:ing)?>|enable_thinking|/no_think")
_CLOCK = re.compile(r"strftime_now|date_string|datetime|current_date|today_date")

Named = tuple[str, str]


def has_thinking(text: str) -> bool:
    """Return whether `text` holds the marks of a thinking template."""
    return bool(_OPENS.search(text))


def holds_date(text: str) -> bool:
    """Return whether `text` names a day."""
    return bool(_DATE.search(text))


def tells_the_date(template: str) -> str | None:
    """Return what in a chat template's source makes it print the day, where something does."""
    found = _CLOCK.search(template)
    return found[0] if found else None


def text_cause(
    row: TrainingRow, trained: str, *, served: str, specials: Sequence[str]
) -> Named | None:
    """Return the name and the words of what makes two prompts' texts differ, None where unknown."""
    if _squeezed(trained) == _squeezed(served):
        longer = "trained" if len(trained) > len(served) else "served"
        return "white-space", (
            f"the prompts differ in white space alone, the {longer} one has more: one template "
            "trims or joins what the other does not"
        )
    if _DATE.sub("", trained) == _DATE.sub("", served):
        dates = [sorted(set(_DATE.findall(text))) for text in (trained, served)]
        return "date-in-template", (
            f"the template prints the day: trained {dates[0]}, served {dates[1]}. Fix the date in "
            "the template (date_string), or the prompt changes every day"
        )
    if _without_thinking(trained) == _without_thinking(served):
        side = "trained" if len(trained) > len(served) else "served"
        return "thinking", (
            f"the {side} prompt has a block of thinking that the other lacks: the template's "
            "switch for it (enable_thinking) stands otherwise on the two sides"
        )
    bare = [_without(text, specials) for text in (trained, served)]
    if bare[0] == bare[1]:
        only = [s for s in specials if trained.count(s) != served.count(s)]
        return "specials-differ", (
            f"the prompts differ in control tokens alone, {', '.join(map(repr, only)) or 'placed'}"
            f"{'' if only else ' elsewhere'}: one side's template or tokenizer leaves them out"
        )
    if _plainer(trained) == _plainer(served):
        return "normaliser", (
            "the prompts differ in letters that a normaliser maps onto each other (case, accents, "
            "widths): the tokenizers have different normalisers"
        )
    return _tools(row, trained, served) or _system(row, trained, served)


def _tools(row: TrainingRow, trained: str, served: str) -> Named | None:
    if not row.tools:
        return None
    parts = re.findall(r'"name":\s*"([^"]+)"', str(row.tools).replace("'", '"'))
    lost = [
        (name, side)
        for name in parts
        for side, text, other in (("served", served, trained), ("trained", trained, served))
        if name in other and name not in text
    ]
    if lost:
        return "tools-lost", f"the {lost[0][1]} prompt does not show the tool {lost[0][0]!r}"
    return "tool-rendering", (
        "the tools are written otherwise on the two sides (order of keys, spaces, the wrapping in "
        '{"type": "function"})'
    )


def _system(row: TrainingRow, trained: str, served: str) -> Named | None:
    """Both prompts begin with a system turn that nobody wrote, and they are not the same."""
    if not row.messages or any(m.role == "system" for m in row.messages):
        return None
    first = row.messages[0].content
    heads = [text.partition(first) for text in (trained, served)]
    if not first or any(not found for _, found, _ in heads) or heads[0][2] != heads[1][2]:
        return None
    return "default-system-prompt", (
        "no system turn was asked for, and the prompts begin otherwise: trained "
        f"{heads[0][0][:80]!r}, served {heads[1][0][:80]!r}. Write a system section into the "
        "prompt, so that both sides have it"
    )


def _squeezed(text: str) -> str:
    return re.sub(r"[\s▁]+", "", text)


def _without_thinking(text: str) -> str:
    return re.sub(r"</?think(?:ing)?>|/no_think", "", _THINKING.sub("", text)).strip()


def _without(text: str, specials: Sequence[str]) -> str:
    for special in sorted(specials, key=len, reverse=True):
        text = text.replace(special, "")
    return text


def _plainer(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in apart if not unicodedata.combining(c))
