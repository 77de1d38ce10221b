"""A reply of a million characters, of any kind, ends in every check within a second."""

from __future__ import annotations

import inspect
import time
from typing import Any

import pytest

from harness import Miss, Reply, checks
from harness.checks import registry

N = 1_000_000
HOSTILE = {  # the families' own worst are in their tests
    "one letter": "a" * N,
    "words": "word " * (N // 5),
    "nul": "\x00" * N,
    "surrogates": "\ud800" * N,
    "brackets": "[" * N,
    "backslashes": '"\\' * (N // 2),
    "emails": "a@b.co " * (N // 7),
    "tokens": "token=" * (N // 6),
    "array": "[" + "1," * (N // 2) + "1]",
    "array of objects": "[" + ",".join(f'{{"k":{i}}}' for i in range(N // 13)) + "]",
    "directions": "\u202e" * N,
    "tags": "<a><b " * (N // 14) + "</a>" * (N // 14),
    "short tags": "<a>" * 100_000 + "</b>" * 20_000,
    "comments": "<!--" * (N // 4),
    "scripts": "<script>" * 40_000,
    "selects": "select a\n" * (N // 9),
    "fences": "```sql\nselect\n" * (N // 14),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "between": {"low": 1, "high": 2},
    "bleu": {"expected": "x y"},
    "chrf": {"expected": "x y"},
    "close_to": {"expected": 1, "which": "last"},
    "contains": {"text": "zzz", "normalise": ("case", "space")},
    "contains_all": {"texts": ["zz", "yy"]},
    "contains_xml": {"root": "a"},
    "contains_any": {"texts": ["zz", "yy"]},
    "cost": {"at_most_usd": 1},
    "edit_distance": {"expected": "x" * 1000, "at_most": 5},
    "edit_similarity": {"expected": "x" * 1000},
    "ends_with": {"text": "zz"},
    "equals": {"expected": "x", "normalise": ("nfkc", "case", "space", "punctuation")},
    "first_token": {"at_most_s": 1},
    "gleu": {"expected": "x y"},
    "json_equal": {"expected": [1] * 1000, "unordered": True},
    "json_overlap": {"expected": {"a": 1}},
    "json_schema": {"schema": {"items": {"type": "object"}, "uniqueItems": True}},
    "language": {"expected": "en"},
    "latency": {"at_most_s": 1},
    "length": {"at_most": 3, "unit": "sentences"},
    "one_of": {"classes": ["a", "b"]},
    "perplexity": {"at_most": 5},
    "reading_grade": {"at_most": 3},
    "regex": {"pattern": r"(\w+\s?)+$z"},
    "rouge_l": {"expected": "x y z " * 1000},
    "rouge_n": {"expected": "x y z " * 1000, "n": 2},
    "set_f1": {"expected": ["a"], "separator": " "},
    "several": {"checks": [{"name": "contains", "arguments": {"text": "zz"}}]},
    "set_precision": {"expected": ["a"]},
    "set_recall": {"expected": ["a"]},
    "span_count": {"name": "*a?z*", "at_least": 1},
    "span_duration": {"at_most_s": 1},
    "span_errors": {"at_most": 0},
    "sql_equal": {"expected": "select 1"},
    "step_count": {"at_most": 3},
    "starts_with": {"text": "zz"},
    "token_f1": {"expected": "a b c"},
    "tokens": {"at_most": 1},
    "tool_sequence": {"expected": ["a"]},
    "tool_f1": {"expected": ["a"]},
    "tool_used": {"names": ["a"]},
    "valid_tool_calls": {"tools": [{"name": "a"}]},
    "words": {"words": ["bad", "very bad"], "disguised": True},
}


@pytest.mark.parametrize("name", sorted(registry.HOMES))
def test_a_million_characters_end_within_a_second(name: str) -> None:
    check = checks.named(name)
    arguments = ARGUMENTS.get(name, {})
    inspect.signature(check).bind(None, **arguments)
    facts: dict[str, Any] = {"latency_s": 1, "cost_usd": 1, "output_tokens": 1, "first_token_s": 1}
    facts |= {"finish_reason": "stop", "logprobs": ({"token": "a", "logprob": -0.5},) * 1000}
    _judge(check, Reply(text="warm up 1", spans=({"name": "a"},), **facts), arguments)
    for kind, text in HOSTILE.items():
        span = {"name": text, "duration_s": 9, "status": {"message": text}, "error": text}
        calls = ({"name": text, "arguments": text},)
        reply = Reply(text=text, tool_calls=calls, spans=(span,), **facts)
        before = time.thread_time()  # of this thread: others, and the machine, may be busy
        said = _judge(check, reply, arguments)
        took_s = time.thread_time() - before
        assert took_s < 1.0, f"{name} took {took_s:.2f} s on {kind}"
        assert len(said) < 4000, f"{name} said {len(said)} characters on {kind}"
        said.encode("utf-8")


def _judge(check: Any, reply: Reply, arguments: dict[str, Any]) -> str:
    """Return the reason, whichever way it came out: anything but a Miss is an error here."""
    try:
        result = check(reply, **arguments)
    except Miss as exc:
        return str(exc)
    return result.reason if isinstance(result, checks.base.CheckResult) else ""
