"""First checks for answers that are no texts: tool calls, objects and lists. Knows no file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.core.answer_kinds import are_labels, are_short
from harness.core.answers import called
from harness.core.first_evals import SIMILAR, TOLERANCE, FirstCheck
from harness.records import Json


def call_check(answers: Sequence[Json]) -> FirstCheck | None:
    """Return evals that suit calls of tools; None where the answers are others."""
    calling = sum(called(answer) is not None for answer in answers)
    if not calling:
        return None
    are_all = calling == len(answers)
    return FirstCheck(
        kind="the same tool calls",
        why="answers call tools" if are_all else f"{calling} of {len(answers)} answers call tools",
        body='''
TOOLS = json.loads(Path(__file__).with_name("tools.json").read_text(encoding="utf-8"))


def test_valid(reply):
    """Every call is of a tool that was offered, with arguments that it takes."""
    checks.valid_tool_calls(reply, TOOLS)


def test_answer(case, reply):
    """The tools that the row's answer calls are called with its arguments, in any order, and no
    others; none where it is text.
    """
    is_called = isinstance(case.reference, dict)
    calls = [c["function"] for c in case.reference["tool_calls"]] if is_called else []
    checks.tool_sequence(reply, [call["name"] for call in calls], order="any")
    for call in calls:
        checks.tool_call(reply, call["name"], arguments=call["arguments"])
''',
        caution="Arguments are compared word by word: free text in them wants a check of its own."
        + ("" if are_all else " Of answers that are text, only that nothing is called is checked."),
    )


def object_check(answers: Sequence[Json]) -> FirstCheck | None:
    """Return evals that suit JSON objects; None where the answers are others."""
    if not all(isinstance(a, dict) for a in answers):
        return None
    has_decimals = any(isinstance(v, float) for a in answers for v in a.values())
    slack = f", relative={TOLERANCE}" if has_decimals else ""
    about = "; numbers may be 1 % off" if has_decimals else ""
    caution = "Numbers may be 1 % off: set what you need." if has_decimals else ""
    if prose := _long_texts([a for a in answers if isinstance(a, dict)]):
        rest = _rest(about, slack) if any(set(a) - set(prose) for a in answers) else ""
        return _objects_of_prose(prose, rest=rest, caution=f"{SIMILAR} {caution}".strip())
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
        caution=caution,
    )


def _long_texts(answers: Sequence[dict[str, Json]]) -> list[str]:
    """Return the keys at which every object has a text that nobody would write letter by letter."""
    found = []
    for key in answers[0]:
        texts = [a[key] for a in answers if isinstance(a.get(key), str) and str(a[key]).strip()]
        if len(texts) == len(answers) and not are_labels(texts) and not are_short(texts):
            found.append(key)
    return found


def _rest(about: str, slack: str) -> str:
    return f'''
def test_rest(case, reply):
    """Beside the longer texts, the JSON says what the row's answer says{about}."""
    same = {{key: value for key, value in case.reference.items() if key not in TEXTS}}
    said = checks.json(reply, within=True)
    assert isinstance(said, dict), "the reply is no JSON object"
    checks.json_equal({{k: v for k, v in said.items() if k not in TEXTS}}, same{slack})

'''


def _objects_of_prose(keys: Sequence[str], *, rest: str, caution: str) -> FirstCheck:
    return FirstCheck(
        kind="words in common, in JSON",
        why="every answer is a JSON object with longer texts",
        body=f'''
TEXTS = {json.dumps(list(keys), ensure_ascii=False)}


def test_only_json(reply):
    """The reply is JSON, with no prose around it."""
    checks.json(reply)

{rest}
def test_answer(case, reply, score):
    """Words in common with the longer texts of the row's answer (F1), in a reply with JSON."""
    said = checks.json(reply, within=True)
    assert isinstance(said, dict), "the reply is no JSON object"
    found = [
        float(checks.token_f1(str(said.get(key, "")), case.reference[key], at_least=0))
        for key in TEXTS
    ]
    score(sum(found) / len(found))
''',
        caution=caution,
    )


def list_check(answers: Sequence[Json]) -> FirstCheck | None:
    """Return evals that suit JSON lists; None where the answers are others."""
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
