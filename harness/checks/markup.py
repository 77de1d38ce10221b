"""Tells whether a reply is, or holds, HTML, XML or SQL. Knows nothing of what a browser would show.

Texts are read once, from left to right, so that no tag soup takes longer than its length.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.checks.base import CheckResult, Undecided, held, miss, show, text_of, undecided
from harness.checks.code import sql, xml
from harness.errors import Miss
from harness.records import Reply

_MAX_MARKUP = 400_000
_MAX_SQL = 25_000
_MOST = 50
"""So many candidates are tried at most."""
_KNOWN = """
a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption
center cite code col colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset
figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input
ins kbd label legend li link main map mark math menu meta meter nav noscript object ol optgroup
option output p param picture pre progress q rp rt ruby s samp script search section select slot
small source span strike strong style sub summary sup svg table tbody td template textarea tfoot th
thead time title tr track tt u ul var video wbr
"""
_ALONE = "area base br col embed hr img input link meta param source track wbr"
_LEFT_OPEN = """
body caption colgroup dd dt head html li optgroup option p rp rt tbody td tfoot th thead tr
"""
_ELEMENTS = frozenset(_KNOWN.split())
_VOID = frozenset(_ALONE.split())
_OPTIONAL = frozenset(_LEFT_OPEN.split())
_RAW = frozenset({"script", "style", "textarea", "title"})
_TAG = re.compile(r"<(/?)([A-Za-z][\w:.-]*+)((?:[\s/][^<>]*+)?)>")
_DOCTYPE = re.compile(r"<!doctype\b[^<>]*+>", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    name: str
    start: int
    end: int
    closes: bool
    is_alone: bool


def _tags(text: str, *, is_html: bool) -> Iterator[_Tag]:
    """Yield the tags, those within comments and scripts left out."""
    place = 0
    while (place := text.find("<", place)) >= 0:
        if text.startswith("<!--", place):
            end = text.find("-->", place + 4)
            if end < 0:
                return
            place = end + 3
            continue
        match = _TAG.match(text, place)
        if match is None:
            place += 1
            continue
        name = match[2].lower() if is_html else match[2]
        tag = _Tag(
            name=name,
            start=place,
            end=match.end(),
            closes=bool(match[1]),
            is_alone=match[3].endswith("/"),
        )
        yield tag
        place = match.end()
        if is_html and name in _RAW and not tag.closes:
            close = re.compile(rf"</{name}\s*+>", re.IGNORECASE).search(text, place)
            if close is None:
                return
            place = close.start()


def _bounded(name: str, reply: Reply | str) -> str:
    text = text_of(reply, name=name)
    if len(text) > _MAX_MARKUP:
        raise undecided(name, f"{len(text)} characters are too many (limit {_MAX_MARKUP})")
    return text


def html(reply: Reply | str) -> CheckResult:
    """Hold where the whole reply is HTML: it begins and ends with a tag, knows its elements (or has
    a dash in their name), and closes in order what must be closed.
    """
    text = _bounded("html", reply)
    bare = text.strip()
    opening = _DOCTYPE.match(bare) or _TAG.match(bare) or bare.startswith("<!--")
    if not opening or not bare.endswith(">"):
        raise miss("html", f"it does not begin and end with a tag: {show(text)}")
    open_: list[_Tag] = []
    names: list[str] = []
    for tag in _tags(text, is_html=True):
        foreign = any(o.name in ("svg", "math") for o in open_[-8:])
        if tag.name not in _ELEMENTS and "-" not in tag.name and not foreign:
            raise miss("html", f"no element of HTML: <{show(tag.name, 40)[1:-1]}>{_at(text, tag)}")
        if not tag.closes:
            names.append(tag.name)
            if tag.name not in _VOID and not (tag.is_alone and foreign):
                open_.append(tag)
            continue
        while open_ and open_[-1].name != tag.name and open_[-1].name in _OPTIONAL:
            open_.pop()
        if not open_ or open_[-1].name != tag.name:
            inner = f"; <{open_[-1].name}> is open" if open_ else ""
            raise miss("html", f"</{tag.name[:40]}>{_at(text, tag)} closes nothing{inner}")
        open_.pop()
    left = [tag for tag in open_ if tag.name not in _OPTIONAL]
    if left:
        raise miss("html", f"<{left[-1].name[:40]}>{_at(text, left[-1])} is never closed")
    if not names:
        raise miss("html", f"no element in {show(text)}")
    return held("html", f"{len(names)} elements, the first <{names[0][:40]}>")


def _at(text: str, tag: _Tag) -> str:
    line = text.count("\n", 0, tag.start) + 1
    return f" at line {line} column {tag.start - text.rfind(chr(10), 0, tag.start)}"


def contains_html(reply: Reply | str, elements: str | Iterable[str] = ()) -> CheckResult:
    """Hold where the reply holds HTML: an element of HTML that is closed or needs no closing; or
    every one of `elements`.
    """
    text = _bounded("contains_html", reply)
    wanted = [elements.lower()] if isinstance(elements, str) else [e.lower() for e in elements]
    opened: Counter[str] = Counter()
    whole: set[str] = set()
    for tag in _tags(text, is_html=True):
        if tag.name not in _ELEMENTS and "-" not in tag.name:
            continue
        if tag.closes:
            if opened[tag.name]:
                whole.add(tag.name)
        elif tag.name in _VOID:
            whole.add(tag.name)
        else:
            opened[tag.name] += 1
    lacking = [e for e in wanted if e not in whole]
    if lacking or not whole:
        what = f"<{lacking[0]}>" if lacking else "an element of HTML"
        raise miss("contains_html", f"{show(what, 60)[1:-1]} is not in {show(text)}")
    return held("contains_html", f"{show(sorted(whole))} in {show(text)}")


def contains_xml(reply: Reply | str, *, root: str | None = None) -> CheckResult:
    """Hold where the reply holds a well-formed XML element (called `root`), as `<answer>…</answer>`
    among other words.
    """
    text = _bounded("contains_xml", reply)
    problem = ""
    elements = _elements(text, root)
    for start, end in elements[:_MOST]:
        try:
            xml(text[start:end])
        except Undecided:
            raise
        except Miss as exc:
            problem = problem or str(exc)
        else:
            return held("contains_xml", f"{show(text[start:end])} in it")
    if len(elements) > _MOST:
        raise undecided("contains_xml", f"none of the first {_MOST} elements is XML; {problem}")
    what = f"no element <{root}>" if root else "no element"
    raise miss("contains_xml", f"{what} in {show(text)}{f'; {problem}' if problem else ''}")


def _elements(text: str, root: str | None) -> list[tuple[int, int]]:
    """Return where elements that lie in no other begin and end."""
    found: list[tuple[int, int]] = []
    open_: list[_Tag] = []
    count: Counter[str] = Counter()
    for tag in _tags(text, is_html=False):
        if root is not None and tag.name != root:
            continue
        start = tag.start
        if not tag.closes and not tag.is_alone:
            open_.append(tag)
            count[tag.name] += 1
            continue
        if tag.closes:
            if not count[tag.name]:
                continue
            name = ""
            while name != tag.name:  # what is open within was never closed
                opened = open_.pop()
                name, start = opened.name, opened.start
                count[name] -= 1
        while found and found[-1][0] > start:
            found.pop()
        found.append((start, tag.end))
    return found


_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*```", re.DOTALL | re.MULTILINE)
_VERB = re.compile(
    r"^[ \t]*(?:select|insert\s++into|update|delete\s++from|with|create|alter|drop|merge\s++into)"
    r"\b",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(r";|\n[ \t]*\n|```")


def contains_sql(
    reply: Reply | str,
    *,
    dialect: str | None = None,
    kinds: str | Iterable[str] = (),
    tables: Iterable[str] | None = None,
) -> list[Any]:
    """Return the statements of the first SQL in the reply, in a ``` fence or at the beginning of a
    line, as sqlglot trees; the arguments are those of `sql`. Some prose is SQL by its grammar: name
    the tables.
    """
    text = text_of(reply, name="contains_sql")
    problem, budget = "", _MAX_SQL
    for tried, candidate in enumerate(_statements(text)):
        budget -= len(candidate)
        if budget < 0:
            raise undecided("contains_sql", f"more than {_MAX_SQL} characters may be SQL")
        if tried == _MOST:
            raise undecided("contains_sql", f"none of the first {_MOST} pieces is SQL; {problem}")
        try:
            return sql(candidate, dialect=dialect, kinds=kinds, tables=tables)
        except Undecided:
            raise
        except Miss as exc:
            problem = problem or str(exc)
    seen = f"; {problem}" if problem else ""
    raise miss("contains_sql", f"no SQL in {show(text)}{seen}")


def _statements(text: str) -> Iterator[str]:
    """Yield what may be SQL: the fences of SQL or no language, then lines that begin as it does."""
    yield from _fences(text)
    place = 0
    while match := _VERB.search(text, place):
        end = _END.search(text, match.end())
        place = end.start() if end else len(text)
        yield text[match.start() : place]


def _fences(text: str) -> Iterator[str]:
    if text.count("```") < 2:  # an open fence would be looked for to the end, again and again
        return
    for match in _FENCE.finditer(text[:_MAX_MARKUP]):
        if match[1].lower() in ("", "sql", "postgresql", "mysql", "sqlite"):
            yield match[2]
