"""A first check for a new task, guessed from its answers. Knows no file and runs nothing.

What is guessed is written as a short eval that a person can read and sharpen, with the reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Json

MOST_LABELS = 100
"""Labels that are written into the eval file."""
LABEL = 60
"""Characters of the longest label."""
SHORT = 40
"""Characters, in the middle, of answers that a reply is asked to contain."""
TOLERANCE = 0.01

_SQL = re.compile(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_KNOWN = '''
def test_known(reply):
    """The reply is one of the labels, and nothing else."""
    checks.one_of(reply, LABELS)


'''


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstCheck:
    """Evals to begin with. `kind` and `why` say what was guessed, `caution` what it cannot tell."""

    kind: str
    why: str
    body: str
    primary: str = "answer"
    caution: str = ""
    can_run_answers: bool = True
    """Whether an answer, given as a reply, would be a right one."""


def plain_answers(answers: Sequence[Json]) -> list[Json]:
    """Return the answers; texts that are all JSON objects or arrays, or all numbers, as values."""
    if answers and all(_is_several(a) and len(a["references"]) == 1 for a in answers):
        return [a["references"][0] for a in answers]
    texts = [a for a in answers if isinstance(a, str)]
    if not texts or len(texts) != len(answers):
        return list(answers)
    if all(text.strip()[:1] in {"{", "["} for text in texts):
        try:
            return [json.loads(text) for text in texts]
        except (ValueError, RecursionError):
            return list(answers)
    return list(answers)


def first_check(
    answers: Sequence[Json], *, has_case_checks: bool = False, has_several: bool = False
) -> FirstCheck:
    """Return evals that suit all `answers`, none of which is None. `has_several`: checks of the
    rows hold further answers of which any would do.
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
    for guess in (_objects, _lists, _numbers, _queries, _labels, _short):
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


def _objects(answers: Sequence[Json]) -> FirstCheck | None:
    if not all(isinstance(a, dict) for a in answers):
        return None
    if all(map(_is_several, answers)):
        return _several(answers)
    has_decimals = any(isinstance(v, float) for a in answers for v in a.values())
    slack = f", relative={TOLERANCE}" if has_decimals else ""
    about = "; numbers may be 1 % off" if has_decimals else ""
    return FirstCheck(
        kind="JSON equality",
        why="every answer is a JSON object",
        body=f'''
def test_only_json(reply):
    """The reply is JSON, with no prose around it."""
    checks.json(reply)


def test_answer(case, reply):
    """The JSON in the reply says what the row's answer says{about}."""
    checks.json_equal(reply, case.reference, within=True{slack})
''',
        caution="Numbers may be 1 % off: set what you need." if has_decimals else "",
    )


def _is_several(value: Json) -> bool:
    """Whether a value is several texts of which any would do."""
    if not isinstance(value, dict) or set(value) != {"references"}:
        return False
    texts = value["references"]
    return isinstance(texts, list) and bool(texts) and all(isinstance(t, str) for t in texts)


def _several(answers: Sequence[Json]) -> FirstCheck:
    return FirstCheck(
        kind="words in common with the nearest of several answers",
        why="every answer is a list of texts that would do",
        body='''
def test_answer(case, reply, score):
    """Words in common with the nearest of the row's answers (F1)."""
    score(max(float(checks.token_f1(reply, r, at_least=0)) for r in case.reference["references"]))
''',
        caution=_SIMILAR,
        can_run_answers=False,
    )


_SIMILAR = (
    "Words in common say whether a reply is near the row's answer, not whether it is right: read "
    "the misses, then write down what must hold."
)


def _lists(answers: Sequence[Json]) -> FirstCheck | None:
    if not all(isinstance(a, list) for a in answers):
        return None
    if any(isinstance(item, dict | list) for a in answers for item in a):
        return FirstCheck(
            kind="JSON equality",
            why="every answer is a JSON array",
            body='''
def test_answer(case, reply):
    """The JSON array in the reply holds what the row's answer holds, in any order."""
    checks.json_equal(reply, case.reference, unordered=True, within=True)
''',
        )
    return FirstCheck(
        kind="items in common",
        why="every answer is a list of items",
        body='''
def test_exact(case, reply):
    """The reply is a JSON array of exactly the row's items, in any order."""
    checks.set_f1(reply, case.reference)


def test_answer(case, reply, score):
    """Items in common with the row's answer (F1), of a reply that is a JSON array."""
    score(float(checks.set_f1(checks.json(reply, within=True), case.reference, at_least=0)))
''',
    )


def number_in(value: Json) -> float | None:
    """Return a number, or a text that is nothing but one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,15}(\.\d+)?\s*", value):
        return float(value)
    return None


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
    counts = Counter(said_as)
    how = 'normalise=("case", "space", "punctuation")'
    said = (
        "json.dumps(case.reference)"
        if any(isinstance(a, bool) for a in answers)
        else ("case.reference")
    )
    answer = f'''def test_answer(case, reply):
    """The reply is the row's label; case, white space and punctuation aside."""
    checks.equals(reply, {said}, {how})
'''
    labels = ""
    if len(counts) <= MOST_LABELS:
        names = "".join(f"    {json.dumps(n, ensure_ascii=False)},\n" for n in sorted(counts))
        labels = f"LABELS = [\n{names}]\n\n{_KNOWN}"
    return FirstCheck(
        kind="exact label",
        why=f"{len(answers)} answers are {len(counts)} short labels"
        if len(counts) > 1
        else f"{len(answers)} answers are one short label",
        caution=""
        if len(counts) > 1
        else "Every answer is the same: a reply that never reads its row is right.",
        body=f"\n{labels}{answer}",
    )


def are_labels(texts: Sequence[str]) -> bool:
    """Whether texts are a few short ones that come back."""
    known = {text.strip() for text in texts}
    most = min(max(2, len(texts) // 3), 1000)
    return len(known) < len(texts) and len(known) <= most and max(map(len, known)) <= LABEL


def are_short(texts: Sequence[str]) -> bool:
    """Whether a reply can be asked to contain these texts."""
    lengths = sorted(map(len, texts))
    return lengths[len(lengths) // 2] <= SHORT and lengths[-1] <= 4 * SHORT


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
            caution=_SIMILAR,
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
        checks.json_equal(reply, case.reference, within=True)
''',
        caution="The answers are of several kinds: perhaps the columns are not what they seem.",
    )


def file_of(check: FirstCheck, *, task: str, origin: str) -> str:
    """Return the text of the eval file."""
    names = ["import json\n\n"] if "json.dumps" in check.body else []
    names += ["from harness import checks\n\n"] if "checks." in check.body else []
    head = (
        f'"""Evals of {task}: each function is a score, 1 when it returns and 0 when it misses.\n\n'
        f"The first ones were guessed: {check.why} ({origin}). Sharpen them as you read misses.\n"
        f'"""\n\n'
    )
    return head + "".join(names) + check.body.lstrip("\n" if names else "")
