"""Refuses a spreadsheet with a cell that no program writes, before anything reads it whole.

Only the unpacked XML is looked at, block by block, up to the cell. Knows no row.
"""

from __future__ import annotations

import html
import posixpath
import re
import zipfile
from collections.abc import Iterator

from harness.errors import TaskError

BLOCK = 1 << 19
"""Bytes of XML of one cell from which on it may be refused, and from twice as many it is: those of
32,767 characters, Excel's most, are fewer however they are written. Source: Excel's specifications
and limits.
"""
STRINGS = "xl/sharedStrings.xml"
_TOKEN = re.compile(rb"<(/?)(?:\w+:)?(c|si)(?=[\s/>])")
_ENDS = re.compile(rb"</(?:\w+:)?(?:c|si|row)>|<(?:\w+:)?(?:c|si)[\s/>]")
_STRING = re.compile(rb"<(?:\w+:)?si(?=[\s/>])")
_ROW = re.compile(rb"<(?:\w+:)?row(?=[\s/>])")
_PLACE = re.compile(rb"<(?:\w+:)?c\s[^>]*?\br=\"([A-Z]+\d+)\"")
_ATTRIBUTE = re.compile(r'([\w:]+)="([^"]*)"')


def refuse_huge_cells(archive: zipfile.ZipFile, *, name: str) -> None:
    """Raise TaskError, with sheet and row, where a cell of the workbook is too long."""
    sheets = _sheets(archive)
    entries = set(archive.namelist())
    if STRINGS in entries and (number := _huge_string(archive)) is not None:
        for path, title in sheets.items():
            if path in entries and (place := _user_of(archive, path, number)):
                raise _too_long(name, title, place)
        raise _too_long(name, "", "")
    for path, title in sheets.items():
        if path in entries and (place := _huge_cell(archive, path)):
            raise _too_long(name, title, place)


def _too_long(name: str, title: str, place: str) -> TaskError:
    row = re.sub(r"^[A-Z]+", "", place)
    at = f"#{title}:{row}: the cell {place} of the sheet {title!r}" if row else ": a cell"
    return TaskError(
        f"{name}{at} holds more than {BLOCK >> 10} KB: a spreadsheet program keeps 32,767 "
        "characters of a cell. Shorten it, or save the sheet as CSV"
    )


def _sheets(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the titles of sheets by the file in which each stands; none of a damaged workbook,
    of which its reader says what is wrong.
    """
    try:
        relations = list(_attributes(archive.read("xl/_rels/workbook.xml.rels"), "Relationship"))
        sheets = list(_attributes(archive.read("xl/workbook.xml"), "sheet"))
    except (KeyError, UnicodeDecodeError):
        return {}
    targets = {one.get("Id", ""): one.get("Target", "") for one in relations}
    found = {}
    for one in sheets:
        key = next((value for name, value in one.items() if name.endswith(":id")), "")
        if target := targets.get(key):
            path = posixpath.normpath(posixpath.join("/xl", target)).lstrip("/")
            found[path] = one.get("name", "")
    return found


def _attributes(raw: bytes, tag: str) -> Iterator[dict[str, str]]:
    """Yield the attributes of each element of this name."""
    for found in re.finditer(rf"<(?:\w+:)?{tag}\s([^>]*)>", raw.decode()):
        yield {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(found[1])}


def _blocks(archive: zipfile.ZipFile, path: str) -> Iterator[bytes]:
    """Yield the file in parts that begin at a mark, where one is near."""
    with archive.open(path) as file:
        rest = b""
        while raw := file.read(BLOCK):
            block = rest + raw
            cut = block.rfind(b"<")
            rest = block[cut:] if len(block) - cut < 4096 else b""
            yield block[: len(block) - len(rest)]
        yield rest


def _is_open(block: bytes) -> bool | None:
    """Whether a part ends within a cell or a text; None where it says nothing of it."""
    slashes = [end for end, _ in _TOKEN.findall(block)]
    return not slashes[-1] if slashes else None


def _huge_string(archive: zipfile.ZipFile) -> int | None:
    """Return the number of the first text that is too long, from 0."""
    seen, before = 0, b""
    for block in _blocks(archive, STRINGS):
        if len(block) >= BLOCK - 4096 and not _ENDS.search(block) and _is_open(before):
            return seen - 1
        seen += len(_STRING.findall(block))
        before = block
    return None


def _huge_cell(archive: zipfile.ZipFile, path: str) -> str:
    """Return the place of the first cell that is too long, as `B7`; "" where there is none."""
    rows, before = 0, b""
    for block in _blocks(archive, path):
        if len(block) >= BLOCK - 4096 and not _ENDS.search(block) and _is_open(before):
            places = _PLACE.findall(before)
            return places[-1].decode() if places else f"?{rows}"
        rows += len(_ROW.findall(block))
        before = block
    return ""


def _user_of(archive: zipfile.ZipFile, path: str, number: int) -> str:
    """Return the first cell that shows a text, by the text's number; "" where there is none."""
    wanted = re.compile(
        rb"<(?:\w+:)?c\s[^>]*?\br=\"([A-Z]+\d+)\"[^>]*?\bt=\"s\"[^>]*>\s*<(?:\w+:)?v>%d<" % number
    )
    before = b""
    for block in _blocks(archive, path):
        if found := wanted.search(before[-4096:] + block):
            return found[1].decode()
        before = block
    return ""
