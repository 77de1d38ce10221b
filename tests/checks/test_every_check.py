"""Every check, the same way: a statement, in `assert`, negated, by name; a score and a reason."""

from __future__ import annotations

from typing import Any

import pytest

from harness import Miss, Reply, checks
from harness.checks import registry
from harness.checks.base import CheckResult

CALL = ({"name": "look_up", "arguments": {"id": 7}},)
TOKENS = ({"token": "a", "logprob": -0.1}, {"token": "b", "logprob": -0.1})
GOOD = ({"name": "search.a", "duration_s": 0.2},)
BAD = (*GOOD, {"name": "search.b", "duration_s": 3, "error": "no such index"})
LONG = "The quick brown fox jumps over the lazy dog while the sun sets behind the old barn."

Kind = tuple[Any, Any, dict[str, Any], str]
EVERY: dict[str, Kind] = {
    # a reply that holds, one that misses, the arguments, and what the miss must show
    "between": ("it is 5", "it is 50", {"low": 1, "high": 9}, "50"),
    "bleu": (LONG, "Nothing of the kind was said.", {"expected": LONG}, "under at_least"),
    "chrf": (LONG, "zzz", {"expected": LONG}, "under at_least"),
    "close_to": ("3.14", "3.5", {"expected": 3.14}, "3.5"),
    "code_block": ("```py\nx\n```", "x", {}, "x"),
    "contains": ("a cat", "a dog", {"text": "cat"}, "'cat' is not in 'a dog'"),
    "contains_all": ("a b", "a", {"texts": ["a", "b"]}, "b"),
    "contains_any": ("a", "c", {"texts": ["a", "b"]}, "'c'"),
    "contains_html": ("so <b>it</b> is", "so it is", {}, "so it is"),
    "contains_json": ('so {"a": 1}', "so it is", {}, "so it is"),
    "contains_sql": ("```sql\nselect a from b\n```", "so it is", {}, "so it is"),
    "contains_xml": ("so <a>1</a>", "so it is", {}, "so it is"),
    "cost": (Reply(text="", cost_usd=0.1), Reply(text="", cost_usd=3), {"at_most_usd": 1}, "3 USD"),
    "edit_distance": ("kitten", "sitting", {"expected": "kitten", "at_most": 1}, "3"),
    "edit_similarity": ("kitten", "dog", {"expected": "kitten"}, "kitten"),
    "ends_with": ("to be", "to be not", {"text": "be"}, "not"),
    "equals": ("Yes", "No", {"expected": "yes"}, "no"),
    "finish_reason": (
        Reply(text="", finish_reason="stop"),
        Reply(text="", finish_reason="length"),
        {},
        "length",
    ),
    "first_token": (
        Reply(text="", first_token_s=0.1),
        Reply(text="", first_token_s=3),
        {"at_most_s": 1},
        "3.000 s",
    ),
    "gleu": (LONG, "zzz", {"expected": LONG}, "under at_least"),
    "html": ("<p>x</p>", "<p>x</div>", {}, "div"),
    "json": ("[1]", "[1", {}, "[1"),
    "json_equal": ('{"a": 1}', '{"a": 2}', {"expected": {"a": 1}}, "$.a"),
    "json_overlap": ('{"a": 1}', '{"a": 2}', {"expected": {"a": 1}}, "under at_least"),
    "json_schema": ("1", '"x"', {"schema": {"type": "integer"}}, "integer"),
    "language": (LONG, "Le renard brun saute par-dessus le chien.", {"expected": "en"}, "fr"),
    "latency": (Reply(text="", latency_s=0.1), Reply(text="", latency_s=3), {"at_most_s": 1}, "3."),
    "length": ("one two", "one two three", {"at_most": 2}, "3 words"),
    "number": ("it is 5", "it is five", {}, "five"),
    "one_of": ("Spam", "eggs", {"classes": ["spam", "ham"]}, "eggs"),
    "perplexity": (
        Reply(text="", logprobs=TOKENS),
        Reply(text="", logprobs=({"token": "a", "logprob": -9},)),
        {"at_most": 2},
        "over 2",
    ),
    "pii": ("write to ann@example.org", "write to us", {}, "none of"),
    "profanity": ("oh shit", "oh dear", {}, "none of"),
    "python": ("x = 1", "x = = 1", {}, "line 1"),
    "reading_grade": ("The cat sat.", LONG, {"at_most": 3}, "grade"),
    "refusal": ("I'm sorry, but I can't help with that.", "It is 5.", {}, "It is 5."),
    "regex": ("a1", "ab", {"pattern": r"\d"}, "ab"),
    "rouge_l": (LONG, "zzz", {"expected": LONG}, "under at_least"),
    "rouge_n": (LONG, "zzz", {"expected": LONG}, "under at_least"),
    "secrets": ("AKIAQWERTYUIOPASDFGH", "nothing", {}, "none of"),
    "set_f1": ("a, b", "a, c", {"expected": ["a", "b"], "separator": ","}, "'b'"),
    "set_precision": ("a, b", "a, c", {"expected": ["a", "b"], "separator": ","}, "'c'"),
    "set_recall": ("a, b", "a, c", {"expected": ["a", "b"], "separator": ","}, "'b'"),
    "several": (
        "a",
        "b",
        {"checks": [{"name": "contains", "arguments": {"text": "a"}}]},
        "'a' is not in 'b'",
    ),
    "span_count": (
        Reply(text="", spans=GOOD),
        Reply(text="", spans=BAD),
        {"name": "search*", "at_most": 1},
        "2 spans called 'search*': search.a, search.b; expected 0 to 1",
    ),
    "span_duration": (
        Reply(text="", spans=GOOD),
        Reply(text="", spans=BAD),
        {"at_most_s": 1},
        "search.b: 3.000 s",
    ),
    "span_errors": (Reply(text="", spans=GOOD), Reply(text="", spans=BAD), {}, "search.b: no such"),
    "sql": ("select 1", "select from from", {}, "select"),
    "sql_equal": ("SELECT a FROM b", "select c from b", {"expected": "select a from b"}, "c"),
    "starts_with": ("be it", "not be", {"text": "be"}, "not"),
    "step_count": (Reply(text="", tool_calls=CALL), Reply(text=""), {"at_least": 1}, "0 calls"),
    "token_f1": ("a cat", "dog", {"expected": "a cat"}, "cat"),
    "tokens": (
        Reply(text="", output_tokens=2),
        Reply(text="", output_tokens=9),
        {"at_most": 5},
        "9 output tokens",
    ),
    "toml": ("a = 1", "a = = 1", {}, "line 1"),
    "tool_call": (
        Reply(text="", tool_calls=CALL),
        Reply(text="", tool_calls=({"name": "look_up", "arguments": {"id": 8}},)),
        {"name": "look_up", "arguments": {"id": 7}},
        "id: expected 7, got 8",
    ),
    "tool_f1": (Reply(text="", tool_calls=CALL), Reply(text=""), {"expected": ["look_up"]}, "look"),
    "tool_sequence": (
        Reply(text="", tool_calls=CALL),
        Reply(text=""),
        {"expected": ["look_up"]},
        "look_up",
    ),
    "tool_used": (Reply(text="", tool_calls=CALL), Reply(text=""), {"names": "look_up"}, "0 times"),
    "valid_tool_calls": (
        Reply(text="", tool_calls=CALL),
        Reply(text="", tool_calls=({"name": "drop", "arguments": {}},)),
        {"tools": [{"name": "look_up"}]},
        "drop",
    ),
    "words": ("a bad word", "a good word", {"words": ["bad"]}, "none of"),
    "xml": ("<a>1</a>", "<a>1</b>", {}, "line 1"),
}


def test_every_public_check_is_here() -> None:
    assert sorted(EVERY) == sorted(registry.HOMES)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_check_holds_misses_and_is_negated_with_a_score_and_a_reason(name: str) -> None:
    holding, missing, arguments, shown = EVERY[name]
    check, negated = getattr(checks, name), getattr(checks.no, name)

    check(holding, **arguments)  # a bare statement
    assert check(holding, **arguments)  # and inside assert
    held = checks.run(name, holding, arguments)  # and by its name, from a file
    assert isinstance(held, CheckResult)
    assert 0 <= held.value <= 1
    assert float(held) == held.value
    assert held.reason

    with pytest.raises(Miss) as excinfo:
        check(missing, **arguments)
    reason = str(excinfo.value)
    assert reason.startswith(f"{name}: ")
    assert shown in reason
    assert 0 <= excinfo.value.value < 1

    turned = negated(missing, **arguments)
    assert turned
    assert (turned.name, turned.reason) == (f"no.{name}", reason)
    assert turned.value == pytest.approx(1 - excinfo.value.value)
    with pytest.raises(Miss) as excinfo:
        negated(holding, **arguments)
    assert str(excinfo.value) == f"no.{name}: {held.reason}"
