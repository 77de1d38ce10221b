"""Tells whether a reply is code that parses. Knows nothing of running it.

Texts past a size that parses in a second are not decided: a miss, negated or not.
"""

from __future__ import annotations

import ast
import logging
import re
import warnings
from collections.abc import Iterable
from typing import Any

from harness.checks.asserted import finds
from harness.checks.base import CheckResult, held, listed, miss, near, show, text_of, undecided
from harness.errors import Miss, MissingExtra, UsageError
from harness.records import Json, Reply

_MAX_PYTHON = 60_000
_MAX_SQL = 25_000
_MAX_MARKUP = 2_000_000
# sqlglot reads "hello world" as a column with an alias, and "describe the cat" as a statement
_STATEMENTS = frozenset(
    {"alter", "create", "delete", "drop", "insert", "merge", "select", "truncatetable", "update"}
    | {"values"}
)
_BLOCK = re.compile(r"^[ \t]*```[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)


@finds
def code_block(reply: Reply | str, language: str | None = None) -> str:
    """Return the first ``` block (of that language): `checks.python(checks.code_block(reply))`."""
    text = text_of(reply, name="code_block")
    seen = []
    for match in _BLOCK.finditer(text):
        if language is None or match[1].lower() == language.lower():
            return match[2]
        seen.append(match[1] or "no language")
    others = f"; fences of: {', '.join(seen[:5])}" if seen else ""
    raise miss(
        "code_block", f"no ``` fence of {language or 'any language'} in {show(text)}{others}"
    )


def _bounded(name: str, reply: Reply | str, limit: int) -> str:
    text = text_of(reply, name=name)
    if not text.strip():
        raise miss(name, "the reply is empty")
    if len(text) > limit:
        raise undecided(name, f"{len(text)} characters are too many to parse (limit {limit})")
    return text


def python(reply: Reply | str) -> ast.Module:
    """Return the syntax tree of a reply that is Python; a miss shows the line."""
    text = _bounded("python", reply, _MAX_PYTHON)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in the reply is no warning of ours
            return ast.parse(text)
    except SyntaxError as exc:
        place = f" at line {exc.lineno} column {exc.offset}" if exc.lineno else ""
        line = exc.text.strip() if exc.text else text
        raise miss("python", f"not Python: {exc.msg}{place}: {show(line)}") from None
    except (ValueError, RecursionError, MemoryError) as exc:
        if not isinstance(exc, ValueError):
            raise undecided("python", f"nested too deep to parse: {show(text)}") from None
        raise miss("python", f"not Python: {exc}: {show(text)}") from None


@finds
def toml(reply: Reply | str) -> dict[str, Json]:
    """Return the value of a reply that is TOML; a miss names line and column."""
    import tomllib

    text = _bounded("toml", reply, _MAX_SQL)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise undecided("toml", f"nested too deep to parse: {show(text)}") from None
    except ValueError as exc:
        raise miss("toml", f"not TOML: {exc}: {show(text)}") from None


def xml(reply: Reply | str, *, root: str | None = None) -> CheckResult:
    """Hold where the reply is well-formed XML (with that `root` element).

    A document type is a miss: entities can grow without bound, and nothing here is fetched.
    """
    from xml.parsers import expat

    text = _bounded("xml", reply, _MAX_MARKUP)
    names: list[str] = []
    parser = expat.ParserCreate()

    def doctype(*_: Any) -> None:
        told = f"it declares a document type, which is refused: {show(text, 80)}"
        raise undecided("xml", told)

    def element(name: str, _: Any) -> None:
        if not names:
            names.append(name)

    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = element
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    except expat.ExpatError as exc:
        line = text.splitlines()[exc.lineno - 1] if exc.lineno <= text.count("\n") + 1 else ""
        raise miss(
            "xml",
            f"not XML: {expat.ErrorString(exc.code)} at line {exc.lineno} "
            f"column {exc.offset + 1}: {near(line, exc.offset)}",
        ) from None
    if root is not None and names[0] != root:
        raise miss("xml", f"its root is <{show(names[0], 60)[1:-1]}>, expected <{root}>")
    return held("xml", f"well-formed, root <{names[0][:60]}>")


def sql(
    reply: Reply | str,
    *,
    dialect: str | None = None,
    kinds: str | Iterable[str] = (),
    tables: Iterable[str] | None = None,
) -> list[Any]:
    """Return the statements of a reply that is SQL, as sqlglot trees.

    `dialect` is sqlglot's name (`postgres`, `sqlite`, ...); `kinds` the statements allowed, as
    `"select"` (unions are selects); `tables` the tables allowed. A miss names line and column.
    Some prose is SQL by its grammar ("select your seat"): name the tables.
    """
    return _sql("sql", reply, dialect=dialect, kinds=kinds, tables=tables)


def sql_equal(reply: Reply | str, expected: str, *, dialect: str | None = None) -> CheckResult:
    """Hold where two queries are the same but for layout, letter case of names and keywords, and
    needless brackets. What runs the same but is written differently is a miss.
    """
    trees, texts = [], []
    for text in (text_of(reply, name="sql_equal"), expected):
        try:
            found = _sql("sql_equal", text, dialect=dialect)
        except Miss as exc:
            if text is expected:
                raise UsageError(f"the expected query: {exc}") from exc
            raise
        trees.append([_canonical(tree, dialect) for tree in found])
        texts.append("; ".join(tree.sql(dialect=dialect, comments=False) for tree in found))
    if trees[0] != trees[1]:
        raise miss("sql_equal", f"expected {show(texts[1])}\n  got      {show(texts[0])}")
    return held("sql_equal", f"both say {show(texts[1])}")


def _canonical(tree: Any, dialect: str | None) -> Any:
    """Return `tree` without comments, case or brackets; its form holds what brackets mean."""
    from sqlglot import exp
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    plain = normalize_identifiers(tree.copy(), dialect=dialect)
    return plain.transform(lambda node: node.unnest() if isinstance(node, exp.Paren) else node)


def _sql(
    name: str,
    reply: Reply | str,
    *,
    dialect: str | None = None,
    kinds: str | Iterable[str] = (),
    tables: Iterable[str] | None = None,
) -> list[Any]:
    text = _bounded(name, reply, _MAX_SQL)
    trees = _parse_sql(name, text, dialect)
    from sqlglot import exp

    allowed = set(listed(kinds, name=name, what="kinds")) if kinds else None
    known = None if tables is None else {t.casefold() for t in tables}
    for tree in trees:
        kind = "select" if isinstance(tree, exp.Query) else tree.key
        if kind not in (allowed or _STATEMENTS) and kind not in _STATEMENTS:
            raise miss(name, f"not a SQL statement that can be read: {show(text)}")
        if allowed is not None and kind not in allowed:
            raise miss(
                name, f"a {kind!r} statement, allowed: {show(sorted(allowed))}: {show(text)}"
            )
        if known is not None:
            own = {cte.alias.casefold() for cte in tree.find_all(exp.CTE)}
            used = {t.name.casefold() for t in tree.find_all(exp.Table)} - own - {""}
            if used - known:
                raise miss(name, f"tables {sorted(used - known)} are not of {sorted(known)}")
    return trees


def _told(error: dict[str, Any]) -> str:
    """Return what sqlglot says of an error, without the innards of its token."""
    return str(error.get("description", "it cannot be read")).split(" but got <")[0]


def _parse_sql(name: str, text: str, dialect: str | None) -> list[Any]:
    try:
        import sqlglot
        from sqlglot.errors import ParseError, SqlglotError
    except ImportError as exc:
        raise MissingExtra(f"checks.{name}", extra="checks") from exc
    logger = logging.getLogger("sqlglot")
    was_disabled, logger.disabled = logger.disabled, True  # it warns of what we tell as a miss
    try:
        trees = [tree for tree in sqlglot.parse(text, dialect=dialect) if tree is not None]
    except ParseError as exc:
        first = exc.errors[0] if exc.errors else {}
        raise miss(
            name,
            f"not SQL: {_told(first)} at line {first.get('line')} "
            f"column {first.get('col')}: {show(text)}",
        ) from None
    except RecursionError:
        raise undecided(name, f"nested too deep to parse: {show(text)}") from None
    except SqlglotError as exc:
        raise miss(name, f"not SQL: {show(str(exc))}: {show(text)}") from None
    except ValueError as exc:  # an unknown dialect
        raise UsageError(f"{name}: {exc}") from exc
    finally:
        logger.disabled = was_disabled
    if not trees:
        raise miss(name, f"no statement in {show(text)}")
    return trees
