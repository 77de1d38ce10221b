from __future__ import annotations

import ast
import time
from collections.abc import Callable

import pytest

from harness import Reply, UsageError, checks

Reason = Callable[..., str]


def test_python_gives_its_tree_and_a_miss_its_line(reason: Reason) -> None:
    assert isinstance(checks.python(Reply(text="x = 1")), ast.Module)
    said = reason(checks.python, "x = 1\nif x:\n")
    assert "expected an indented block" in said
    assert "at line 2" in said
    assert checks.python("'\\d'")  # a warning about the escape is none of ours
    assert checks.no.python("def f(:")


@pytest.mark.parametrize(
    "bomb",
    [
        "-" * 50_000 + "1",
        "(" * 50_000,
        "a" + ".a" * 25_000,
        "a" + "()" * 25_000,
        "lambda:" * 8_000 + "1",
        "1 if 1 else " * 4_000 + "1",
        "not " * 10_000 + "1",
        "f'{" * 100,
        "1" * 5000,
        "a\x00b",
        "s = '\ud800'",
    ],
)
def test_python_bombs_are_misses(bomb: str, reason: Reason) -> None:
    assert reason(checks.python, bomb).startswith(("python: not Python", "python: nested too deep"))


def test_a_text_too_long_to_parse_is_not_decided(reason: Reason) -> None:
    for check in (checks.python, checks.no.python, checks.sql, checks.no.sql, checks.toml):
        assert "too many to parse" in reason(check, "a = 1\n" * 50_000)


def test_a_code_block_is_taken_out_of_its_fence(reason: Reason) -> None:
    text = "First:\n```sh\nls\n```\nthen\n```python\nprint(1)\n```\n"
    assert checks.code_block(text) == "ls\n"
    assert checks.python(checks.code_block(text, "Python"))
    assert "no ``` fence of sql" in reason(checks.code_block, text, "sql")
    assert "fences of: sh, python" in reason(checks.code_block, text, "sql")


def test_sql_parses_with_line_and_column(reason: Reason) -> None:
    assert len(checks.sql("SELECT a FROM t; SELECT 2")) == 2
    said = reason(checks.sql, "SELECT a\nFROM t WHERE (b = 1")
    assert "Expecting )" in said
    assert "at line 2" in said
    said = reason(checks.sql, "select a from")
    assert "Expected table name at" in said
    assert "Token" not in said


@pytest.mark.parametrize(
    "text",
    ["hello world", "Sure! Here it is: select 1", "show me", "describe the cat", "set the table",
     "use the force", "drop it", "explain this", "create a poem about cats", "", "--nothing"],
)  # fmt: skip
def test_prose_is_no_sql(text: str) -> None:
    assert checks.no.sql(text)


@pytest.mark.parametrize(
    "bomb",
    ["select " + "(" * 10_000, "select " + "a and " * 4_000 + "1", "select " + "case when " * 500,
     "select 1 in (" + "1," * 6_000 + "1)"],
)  # fmt: skip
def test_sql_bombs_end(bomb: str) -> None:
    try:
        checks.sql(bomb)
    except AssertionError as exc:
        assert "sql" in str(exc)  # noqa: PT017


def test_sql_kinds_and_tables_are_bounded(reason: Reason) -> None:
    query = "WITH x AS (SELECT a FROM T) SELECT * FROM x UNION SELECT b FROM u"
    assert checks.sql(query, kinds="select", tables=["t", "u"])
    assert "tables ['u'] are not of ['t']" in reason(checks.sql, query, tables=["t"])
    assert "a 'delete' statement" in reason(checks.sql, "delete from t", kinds="select")
    assert "a 'drop' statement" in reason(checks.sql, "select 1; drop table t", kinds=["select"])


def test_sql_speaks_dialects() -> None:
    assert checks.sql("SELECT `a` FROM `t`", dialect="mysql")
    assert checks.no.sql("SELECT `a` FROM `t`", dialect="postgres")
    with pytest.raises(UsageError, match="nope"):
        checks.sql("select 1", dialect="nope")


def test_sql_equality_looks_past_layout_case_and_needless_brackets(reason: Reason) -> None:
    assert checks.sql_equal("SELECT  a FROM T where ((x=1)) -- c", "select A from t where x = 1")
    assert checks.no.sql_equal("select (a or b) and c", "select a or (b and c)")
    assert checks.no.sql_equal("select 'A'", "select 'a'")
    said = reason(checks.sql_equal, "select a from t", "select b from t")
    assert "expected 'SELECT b FROM t'\n  got      'SELECT a FROM t'" in said
    with pytest.raises(UsageError, match="the expected query"):
        checks.sql_equal("select 1", "selec 1 1")


def test_xml_is_well_formed_with_a_root(reason: Reason) -> None:
    assert checks.xml("<a><b x='1'/></a>", root="a")
    assert "mismatched tag at line 1" in reason(checks.xml, "<a><b></a>")
    assert "its root is <a>, expected <b>" in reason(checks.xml, "<a/>", root="b")
    assert "invalid token" in reason(checks.xml, "<a>\x00</a>")
    assert "not XML" in reason(checks.xml, "<a>\ud800</a>")


def test_xml_entities_cannot_grow(reason: Reason) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    assert "document type, which is refused" in reason(checks.xml, bomb)


def test_toml_gives_its_value(reason: Reason) -> None:
    assert checks.toml("a = 1\n[b]\nc = 'x'") == {"a": 1, "b": {"c": "x"}}
    assert "at line 1, column 3" in reason(checks.toml, "a==")
    assert "nested too deep" in reason(checks.toml, "a=" + "[" * 5000)


def test_open_tags_and_fences_a_million_times_over_end(reason: Reason) -> None:
    before = time.thread_time()
    assert "no element found" in reason(checks.xml, "<a>" * 300_000)
    assert "no ``` fence of sql" in reason(checks.code_block, "```x\n" * 200_000, "sql")
    assert time.thread_time() - before < 1
