"""Answers of rows as checks of these rows, for a new task. Knows no file and no prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from harness.core.answer_kinds import are_labels, are_short, number_in, references_in
from harness.core.examples import Example
from harness.engine.text_files import strict_json
from harness.records import Json


def with_several(given: Sequence[Example], *, any_would_do: bool) -> tuple[list[Example], bool]:
    """Return the rows with the first of several short answers as theirs, and all of them in a check
    of the row; and whether there are any. Long ones stand in `also_right`: no check of texts fits
    them.
    """
    texts = [_texts(e.reference, any_would_do=any_would_do) for e in given]
    has_several = any(t and len(t) > 1 for t in texts)
    is_told = any_would_do or len({isinstance(e.reference, str) for e in given}) > 1
    is_marked = any(isinstance(e.reference, dict) for e in given)
    if not has_several or not all(texts) or not (is_told or is_marked):
        return list(given), False
    every = [text for several in texts for text in several or ()]
    if not are_short(every):
        return [_with_further(e, t or []) for e, t in zip(given, texts, strict=True)], False
    is_whole = are_labels(every) or any(number_in(t) is not None or len(t) < 3 for t in every)
    name, argument = ("one_of", "classes") if is_whole else ("contains_any", "texts")
    more = {} if name == "one_of" else {"normalise": ["case", "space"]}
    found = []
    for example, several in zip(given, texts, strict=True):
        check = {"name": name, "arguments": {argument: several, **more}}
        checks = [*(example.other.get("checks") or ()), check]
        other = {**example.other, "checks": checks}
        found.append(replace(example, reference=(several or [""])[0], other=other))
    return found, True


def _with_further(example: Example, texts: Sequence[str]) -> Example:
    """Return a row with the first of its answers as the reference, the others beside it."""
    further = {"also_right": list(texts[1:])} if len(texts) > 1 else {}
    return replace(example, reference=texts[0], other={**example.other, **further})


def with_answer_check(example: Example) -> Example:
    """Return a row whose answer is one of its checks: where rows are judged by their checks, one
    that has an answer too would else be right whatever is replied.
    """
    answer = example.reference
    if answer is None or is_preference(example):
        return example
    if isinstance(answer, str) and answer.strip()[:1] in {"{", "["}:
        with contextlib.suppress(ValueError):
            answer = strict_json(answer)
    if isinstance(answer, str):
        normalise = ["case", "space", "punctuation"]
        check: Json = {"name": "equals", "arguments": {"expected": answer, "normalise": normalise}}
    else:
        within = isinstance(answer, dict | list)  # a number stands in no prose
        check = {"name": "json_equal", "arguments": {"expected": answer, "within": within}}
    checks = [*(example.other.get("checks") or ()), check]
    return replace(example, other={**example.other, "checks": checks})


def _texts(answer: Json, *, any_would_do: bool) -> list[str] | None:
    """Return the texts that would do as an answer; None where it is none."""
    answer = references_in(answer) or answer
    if isinstance(answer, str):
        answer = [answer]
    if not isinstance(answer, list) or not answer or not all(isinstance(t, str) for t in answer):
        return None
    return list(dict.fromkeys(answer))


def is_preference(example: Example) -> bool:
    """Whether a row has a better and a worse answer."""
    worse, better = example.rejected, example.reference
    if worse is None or better is None or worse == better:
        return False
    return all(not isinstance(v, str) or v.strip() for v in (worse, better))
