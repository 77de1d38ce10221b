"""A first check for a new task, guessed from its answers. Knows no file and runs nothing.

What is guessed is written as a short eval that a person can read and sharpen, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harness.core.answer_kinds import (
    are_labels,
    are_short,
    differ_without_punctuation,
    number_in,
    spelled_once,
)
from harness.core.first_evals import SIMILAR, TOLERANCE, FirstCheck
from harness.core.first_structured import call_check, list_check, object_check
from harness.records import Json

MOST_LABELS = 100
"""Labels that are written into the eval file."""

_SQL = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_KNOWN = '''
def test_known(reply):
    """The reply is one of the labels, and nothing else."""
    checks.one_of(reply, LABELS)


'''


def first_check(
    answers: Sequence[Json],
    *,
    has_case_checks: bool = False,
    has_several: bool = False,
    has_further: bool = False,
) -> FirstCheck:
    """Return evals that suit all `answers`, none of which is None. `has_several`: checks of the
    rows hold further answers of which any would do; `has_further`: the cases have them.
    """
    if has_several:
        return FirstCheck(
            kind="any of the row's answers",
            why="rows have several answers of which any would do: each stands in its row's checks, "
            "which the built-in eval `checks` runs",
            body=_FIRST,
            primary="checks",
        )
    if has_case_checks:
        return FirstCheck(
            kind="the rows' own checks",
            why="the rows bring checks along, which the built-in eval `checks` runs; an answer is "
            "one of them",
            body=_NOT_EMPTY,
            primary="checks",
        )
    if not answers:
        return FirstCheck(
            kind="not empty",
            why="no row has an answer",
            body=_NOT_EMPTY,
            primary="not_empty",
            caution="It says only that something was replied: without answers, write what must "
            "hold of a reply.",
        )
    if has_further:
        return _several()
    for guess in (call_check, object_check, list_check, _numbers, _queries, _labels, _short):
        if (found := guess(answers)) is not None:
            return found
    return _prose(answers)


_FIRST = '''
def test_first(case, reply):
    """The reply is the first of the row's answers; case, white space and punctuation aside."""
    checks.equals(reply, case.reference, normalise=("case", "space", "punctuation"))
'''
_NOT_EMPTY = '''
def test_not_empty(reply):
    """Something was replied."""
    assert reply.text.strip(), "the reply is empty"
'''


def _several() -> FirstCheck:
    return FirstCheck(
        kind="words in common with the nearest of several answers",
        why="rows have several longer texts as answers: the first is the reference",
        body='''
def test_answer(case, reply, score):
    """Words in common with the nearest of the row's answers (F1)."""
    right = [case.reference, *case.also_right]
    score(max(float(checks.token_f1(reply, text, at_least=0)) for text in right))
''',
        caution=SIMILAR,
    )


def _numbers(answers: Sequence[Json]) -> FirstCheck | None:
    numbers = [number_in(a) for a in answers]
    if any(n is None for n in numbers):
        return None
    are_whole = all(n == int(n) for n in numbers if n is not None)
    slack = "" if are_whole else f", relative={TOLERANCE}"
    return FirstCheck(
        kind="the same number" if are_whole else "a number within 1 %",
        why="every answer is a whole number" if are_whole else "every answer is a number",
        body=f'''
def test_answer(case, reply):
    """The one number in the reply is the row's{"" if are_whole else ", or within 1 % of it"}."""
    checks.close_to(reply, float(case.reference){slack})
''',
        caution="" if are_whole else "1 % is a guess: set the tolerance that you need.",
    )


def _labels(answers: Sequence[Json]) -> FirstCheck | None:
    if not all(isinstance(a, str | bool) for a in answers):
        return None
    said_as = [str(a).strip() if isinstance(a, str) else _said(a) for a in answers]
    if not are_labels(said_as):
        return None
    counts = spelled_once(said_as)
    is_bare = differ_without_punctuation(counts)  # "A" and "A-" do not
    steps = ("case", "space", "punctuation") if is_bare else ("case", "space")
    how = "normalise=(" + ", ".join(json.dumps(step) for step in steps) + ")"
    aside = "case, white space and punctuation" if is_bare else "case and white space"
    said = (
        "json.dumps(case.reference)"
        if any(isinstance(a, bool) for a in answers)
        else ("case.reference")
    )
    answer = f'''def test_answer(case, reply):
    """The reply is the row's label; {aside} aside."""
    checks.equals(reply, {said}, {how})
'''
    labels = ""
    if len(counts) <= MOST_LABELS:
        names = "".join(f"    {json.dumps(n, ensure_ascii=False)},\n" for n in sorted(counts))
        known = _KNOWN if is_bare else _KNOWN.replace("LABELS)", f"LABELS, {how})")
        labels = f"LABELS = [\n{names}]\n\n{known}"
    return FirstCheck(
        kind="exact label",
        why=f"{len(answers)} answers are {len(counts)} short labels"
        if len(counts) > 1
        else f"{len(answers)} answers are one short label",
        caution=_LAZY if len(counts) == 1 else _SPELT if len(counts) < len(set(answers)) else "",
        body=f"\n{labels}{answer}",
    )


_LAZY = "Every answer is the same: a reply that never reads its row is right."
_SPELT = (
    "Some labels are written in several ways, which count as one: `harness data lint` names them."
)


def _said(value: Json) -> str:
    return json.dumps(value)


def _queries(answers: Sequence[Json]) -> FirstCheck | None:
    if not all(isinstance(a, str) and _SQL.match(a) for a in answers):
        return None
    return FirstCheck(
        kind="equal SQL",
        why="every answer is an SQL query",
        body='''
def test_answer(case, reply):
    """The query in the reply is the row's, written differently or not."""
    checks.sql_equal(reply, case.reference)
''',
        caution="Two queries that give the same rows may be written too differently to be seen as "
        "equal: running both on data tells more.",
    )


def _short(answers: Sequence[Json]) -> FirstCheck | None:
    if not all(isinstance(a, str) for a in answers):
        return None
    if not are_short([a for a in answers if isinstance(a, str)]):
        return None
    return FirstCheck(
        kind="contains the answer",
        why="answers are short texts, most of them different",
        body='''
def test_exact(case, reply):
    """The reply is the row's answer; case, white space and punctuation aside."""
    checks.equals(reply, case.reference, normalise=("case", "space", "punctuation"))


def test_answer(case, reply):
    """The reply contains the row's answer, in any case."""
    checks.contains(reply, case.reference, normalise=("case", "space"))
''',
        caution="A reply that names everything contains every answer: where that happens, take "
        '`primary = "exact"`.',
    )


def _prose(answers: Sequence[Json]) -> FirstCheck:
    if all(isinstance(a, str) for a in answers):
        return FirstCheck(
            kind="words in common",
            why="answers are longer texts",
            body='''
def test_answer(case, reply, score):
    """Words in common with the row's answer (F1)."""
    score(float(checks.token_f1(reply, case.reference, at_least=0)))
''',
            caution=SIMILAR,
        )
    return FirstCheck(
        kind="the same text or JSON",
        why="answers are of several kinds",
        body='''
def test_answer(case, reply):
    """The reply says what the row's answer says, as text or as JSON."""
    if isinstance(case.reference, str):
        checks.equals(reply, case.reference)
    else:
        within = isinstance(case.reference, dict | list)
        checks.json_equal(reply, case.reference, within=within)
''',
        caution="The answers are of several kinds: perhaps the columns are not what they seem.",
    )
