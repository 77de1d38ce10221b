"""Tell whether one reply is good: `checks.contains(reply, "x")`, in `assert` or on its own.

A check takes the reply (or a text) first. Where it holds it returns something true, or its natural
value (`checks.json` the parsed value); where it does not, it raises `harness.Miss` with a reason.
`checks.no.NAME` is any check negated. What is not of this house comes from the hook
`harness_checks`. Families and parsing libraries are imported when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.checks.registry import HOMES, TOOLS

if TYPE_CHECKING:
    from harness.checks.budget import cost as cost
    from harness.checks.budget import finish_reason as finish_reason
    from harness.checks.budget import latency as latency
    from harness.checks.budget import tokens as tokens
    from harness.checks.code import code_block as code_block
    from harness.checks.code import python as python
    from harness.checks.code import sql as sql
    from harness.checks.code import sql_equal as sql_equal
    from harness.checks.code import toml as toml
    from harness.checks.code import xml as xml
    from harness.checks.json_ import contains_json as contains_json
    from harness.checks.json_ import json as json
    from harness.checks.json_ import json_equal as json_equal
    from harness.checks.json_ import json_overlap as json_overlap
    from harness.checks.json_ import json_schema as json_schema
    from harness.checks.numbers import between as between
    from harness.checks.numbers import close_to as close_to
    from harness.checks.numbers import number as number
    from harness.checks.prose import language as language
    from harness.checks.prose import length as length
    from harness.checks.prose import reading_grade as reading_grade
    from harness.checks.registry import named as named
    from harness.checks.registry import names as names
    from harness.checks.registry import negate as negate
    from harness.checks.registry import no as no
    from harness.checks.registry import run as run
    from harness.checks.registry import use_plugins as use_plugins
    from harness.checks.safety import pii as pii
    from harness.checks.safety import refusal as refusal
    from harness.checks.safety import secrets as secrets
    from harness.checks.safety import words as words
    from harness.checks.sets import one_of as one_of
    from harness.checks.sets import set_f1 as set_f1
    from harness.checks.sets import set_precision as set_precision
    from harness.checks.sets import set_recall as set_recall
    from harness.checks.sets import token_f1 as token_f1
    from harness.checks.similarity import bleu as bleu
    from harness.checks.similarity import chrf as chrf
    from harness.checks.similarity import edit_distance as edit_distance
    from harness.checks.similarity import edit_similarity as edit_similarity
    from harness.checks.similarity import rouge_l as rouge_l
    from harness.checks.similarity import rouge_n as rouge_n
    from harness.checks.text import contains as contains
    from harness.checks.text import contains_all as contains_all
    from harness.checks.text import contains_any as contains_any
    from harness.checks.text import ends_with as ends_with
    from harness.checks.text import equals as equals
    from harness.checks.text import regex as regex
    from harness.checks.text import starts_with as starts_with
    from harness.checks.tools import tool_call as tool_call
    from harness.checks.tools import tool_f1 as tool_f1
    from harness.checks.tools import tool_sequence as tool_sequence
    from harness.checks.tools import valid_tool_calls as valid_tool_calls

__all__ = [
    "between",
    "bleu",
    "chrf",
    "close_to",
    "code_block",
    "contains",
    "contains_all",
    "contains_any",
    "contains_json",
    "cost",
    "edit_distance",
    "edit_similarity",
    "ends_with",
    "equals",
    "finish_reason",
    "json",
    "json_equal",
    "json_overlap",
    "json_schema",
    "language",
    "latency",
    "length",
    "named",
    "names",
    "negate",
    "no",
    "number",
    "one_of",
    "pii",
    "python",
    "reading_grade",
    "refusal",
    "regex",
    "rouge_l",
    "rouge_n",
    "run",
    "secrets",
    "set_f1",
    "set_precision",
    "set_recall",
    "sql",
    "sql_equal",
    "starts_with",
    "token_f1",
    "tokens",
    "toml",
    "tool_call",
    "tool_f1",
    "tool_sequence",
    "use_plugins",
    "valid_tool_calls",
    "words",
    "xml",
]


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(importlib.import_module(f"harness.checks.{HOMES[name]}"), name)
    if name == "no" or name in TOOLS:
        return getattr(importlib.import_module("harness.checks.registry"), name)
    if name.startswith("_"):  # what introspection asks for shall load no plugin
        raise AttributeError(f"module 'harness.checks' has no attribute {name!r}")
    registry = importlib.import_module("harness.checks.registry")
    if registry.is_module(name):
        return importlib.import_module(f"harness.checks.{name}")
    return registry.named(name)


def __dir__() -> list[str]:
    return __all__
