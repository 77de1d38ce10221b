"""Tell whether one reply is good: `checks.contains(reply, "x")`, in `assert` or on its own.

A check takes the reply (or a text) first. Where it holds it returns something true, or its natural
value (`checks.json` the parsed value); where it does not, it raises `harness.Miss` with a reason.
`assert checks.json(reply)` holds for `[]`, `0` and `null` too: what a check found decides only
where it is used (`checks.number(reply) == 0`). `checks.no.NAME` is any check negated.
What is not of this house comes from the hook `harness_checks`. Families and parsing libraries are
imported when first asked for: edit distances, ROUGE, BLEU, chrF, languages and SQL need the extra
`checks` (`pip install 'tuning-harness[checks]'`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.checks.registry import HOMES, TOOLS

if TYPE_CHECKING:
    from harness.checks.budget import (
        cost as cost,
        finish_reason as finish_reason,
        first_token as first_token,
        latency as latency,
        perplexity as perplexity,
        tokens as tokens,
    )
    from harness.checks.code import (
        code_block as code_block,
        python as python,
        sql as sql,
        sql_equal as sql_equal,
        toml as toml,
        xml as xml,
    )
    from harness.checks.json_ import (
        contains_json as contains_json,
        json as json,
        json_equal as json_equal,
        json_overlap as json_overlap,
        json_schema as json_schema,
    )
    from harness.checks.markup import (
        contains_html as contains_html,
        contains_sql as contains_sql,
        contains_xml as contains_xml,
        html as html,
    )
    from harness.checks.numbers import between as between, close_to as close_to, number as number
    from harness.checks.prose import (
        language as language,
        length as length,
        reading_grade as reading_grade,
    )
    from harness.checks.registry import (
        named as named,
        names as names,
        negate as negate,
        no as no,
        run as run,
        use_plugins as use_plugins,
    )
    from harness.checks.safety import (
        pii as pii,
        profanity as profanity,
        refusal as refusal,
        secrets as secrets,
        words as words,
    )
    from harness.checks.sets import (
        one_of as one_of,
        set_f1 as set_f1,
        set_precision as set_precision,
        set_recall as set_recall,
        token_f1 as token_f1,
    )
    from harness.checks.similarity import (
        bleu as bleu,
        chrf as chrf,
        edit_distance as edit_distance,
        edit_similarity as edit_similarity,
        gleu as gleu,
        rouge_l as rouge_l,
        rouge_n as rouge_n,
    )
    from harness.checks.text import (
        contains as contains,
        contains_all as contains_all,
        contains_any as contains_any,
        ends_with as ends_with,
        equals as equals,
        regex as regex,
        starts_with as starts_with,
    )
    from harness.checks.together import several as several
    from harness.checks.tools import (
        step_count as step_count,
        tool_call as tool_call,
        tool_f1 as tool_f1,
        tool_sequence as tool_sequence,
        tool_used as tool_used,
        valid_tool_calls as valid_tool_calls,
    )
    from harness.checks.traces import (
        span_count as span_count,
        span_duration as span_duration,
        span_errors as span_errors,
    )

__all__ = [
    "between",
    "bleu",
    "chrf",
    "close_to",
    "code_block",
    "contains",
    "contains_all",
    "contains_any",
    "contains_html",
    "contains_json",
    "contains_sql",
    "contains_xml",
    "cost",
    "edit_distance",
    "edit_similarity",
    "ends_with",
    "equals",
    "finish_reason",
    "first_token",
    "gleu",
    "html",
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
    "perplexity",
    "pii",
    "profanity",
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
    "several",
    "span_count",
    "span_duration",
    "span_errors",
    "sql",
    "sql_equal",
    "starts_with",
    "step_count",
    "token_f1",
    "tokens",
    "toml",
    "tool_call",
    "tool_f1",
    "tool_sequence",
    "tool_used",
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
