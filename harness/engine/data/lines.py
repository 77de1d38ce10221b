"""Text files as numbered rows: JSON Lines, one JSON array, one JSON object. Knows no form.

A row that cannot be read is a `Refusal` in its place, and reading goes on; a file that cannot be
read at all is a TaskError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from harness.engine.data.opening import BOMS, UTF8_BOM, Opened
from harness.engine.text_files import LONGEST_ROW, strict_json
from harness.errors import TaskError
from harness.records import Json

MEGABYTE = 1024 * 1024
LARGEST_OBJECT = 2 * LONGEST_ROW
"""Bytes of a file that is one JSON object, which has to be read whole."""


class Refusal(NamedTuple):
    """Why a row could not be read."""

    reason: str


Row = tuple[int, Json | Refusal]
"""Where a row stands (a line, counted from 1), and what it holds."""


def lines(source: Opened) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines, the byte order mark and line ends left out. Raises TaskError."""
    number, read = 0, source.file.readline
    while raw := read(LONGEST_ROW + 1):
        number += 1
        if len(raw) > LONGEST_ROW:
            raise TaskError(
                f"{source.shown}:{number}: the line is longer than {LONGEST_ROW // MEGABYTE} MB. "
                "Write one row a line (JSON Lines), or a JSON array"
            )
        if number == 1:
            text_only(raw, source)
            raw = raw.removeprefix(UTF8_BOM)
        yield number, raw.rstrip(b"\r\n")


def text_only(start: bytes, source: Opened) -> None:
    """Raise TaskError where a file begins as UTF-16, UTF-32 or no text at all."""
    for mark, name in BOMS.items():
        if start.startswith(mark):
            raise TaskError(f"{source.shown}:1: the file is {name}: save it as UTF-8")
    if b"\x00" in start[:4096]:
        raise TaskError(f"{source.shown}:1: the file is not text (it holds zero bytes)")


def decoded(raw: bytes) -> str | Refusal:
    """Return the text of a line, or what is wrong with it."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        return Refusal(
            f"byte {exc.start + 1} of the line, {raw[exc.start]:#04x}, is not UTF-8: the file is "
            "in another encoding, or mixes two"
        )


def value_of(text: str | Refusal) -> Json | Refusal:
    """Return the JSON value of a text, or what is wrong with it."""
    if isinstance(text, Refusal):
        return text
    try:
        return strict_json(text)
    except ValueError as exc:
        return Refusal(str(exc))


def json_lines(source: Opened) -> Iterator[Row]:
    """Yield the value of each line that is not blank."""
    for number, raw in lines(source):
        if raw and not raw.isspace():
            yield number, value_of(decoded(raw))


def json_array(source: Opened) -> Iterator[Row]:
    """Yield the elements of one JSON array, an element at a time, however long its lines are.

    What follows an element that is no JSON cannot be told: reading ends there, with a TaskError.
    """
    text = Window(source)
    if text.next() != "[":
        raise TaskError(f"{source.shown}:{text.line}: no JSON array: it must begin with [")
    for line, element in text.array():
        yield line, value_of(element)
    if text.next():
        raise TaskError(f"{source.shown}:{text.line}: not JSON: text after the array's end")


def json_object(source: Opened) -> Json:
    """Return the one JSON value of a file. Raises TaskError."""
    raw = source.file.read(LARGEST_OBJECT + 1)
    if len(raw) > LARGEST_OBJECT:
        raise TaskError(
            f"{source.shown}:1: one JSON object of more than {LARGEST_OBJECT // MEGABYTE} MB, "
            "which would have to be read whole. Export JSON Lines, or in parts"
        )
    text_only(raw, source)
    try:
        text = raw.removeprefix(UTF8_BOM).decode("utf-8")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise TaskError(
            f"{source.shown}:{line}: byte {raw[exc.start]:#04x} is not UTF-8: save it as UTF-8"
        ) from None
    try:
        return strict_json(text)
    except ValueError as exc:
        from harness.engine.data.faults import line_of, log_of

        cause, reason = exc.__cause__, str(exc)
        if not text.strip():
            raise TaskError(f"{source.shown}:1: the file is empty but for white space") from None
        if isinstance(cause, json.JSONDecodeError) and cause.msg == "Extra data":
            raise TaskError(
                f"{source.shown}:{cause.lineno}: not JSON: a second value begins here. Write one "
                "row a line (jq -c . FILE), or all in one array"
            ) from None
        if isinstance(cause, json.JSONDecodeError):
            raise TaskError(f"{source.shown}:{cause.lineno}: {reason}") from None
        line = line_of(reason, text)
        try:
            log = log_of(text)
        except ValueError as other:
            reason, log = str(other), None
        if log is not None:
            return log
        raise TaskError(f"{source.shown}:{line}: {reason}") from None


_SPACE = " \t\r\n"


class Window:
    """The part of a text that is being read: it grows where an element needs more of it."""

    def __init__(self, source: Opened) -> None:
        self._source, self._text, self._at = source, "", 0
        self._is_first, self._is_end = True, False
        self._rest, self.line = b"", 1

    def next(self) -> str:
        """Return the next mark that is no space, "" at the end."""
        while True:
            start, text = self._at, self._text
            while start < len(text) and text[start] in _SPACE:
                start += 1
            self._pass(start)
            if start < len(text):
                return text[start]
            if not self._grow():
                return ""

    def skip(self, count: int) -> None:
        """Go past marks that are no line ends."""
        self._at += count

    def array(self) -> Iterator[tuple[int, str | Refusal]]:
        """Yield the line and the text of each element of the array that begins here; then stand
        behind it. Raises TaskError.
        """
        shown = self._source.shown
        self.skip(1)
        while (mark := self.next()) != "]":
            if not mark:
                raise TaskError(
                    f"{shown}:{self.line}: the JSON array ends too early: was it cut off?"
                )
            line = self.line
            yield line, self.element()
            if self.next() == ",":
                self.skip(1)
                if self.next() == "]":
                    raise TaskError(f"{shown}:{self.line}: not JSON: a comma before ]")
            elif self.next() not in {"]", ""}:
                raise TaskError(f"{shown}:{self.line}: not JSON: a comma or ] is missing")
        self.skip(1)

    def element(self) -> str | Refusal:
        """Return the text of the JSON value that begins here, and go past it."""
        scan = json.JSONDecoder(parse_constant=str, parse_int=str, parse_float=str).raw_decode
        while True:
            try:
                _, end = scan(self._text, self._at)
            except RecursionError:
                raise TaskError(
                    f"{self._source.shown}:{self.line}: nested too deeply to be read"
                ) from None
            except json.JSONDecodeError as exc:
                error: json.JSONDecodeError | None = exc
                end = len(self._text)
            else:
                error = None
            # a number at the very end of what was read may go on
            if end < len(self._text) or self._is_end:
                if error is not None:
                    raise TaskError(
                        f"{self._source.shown}:{self.line + self._lines_to(error.pos)}: not JSON: "
                        f"{error.msg}{self._hint(error)}"
                    )
                element = self._text[self._at : end]
                self._pass(end)
                return element
            if len(self._text) - self._at > LONGEST_ROW:
                place = f"{self._source.shown}:{self.line}"
                is_open = error is not None and error.msg.startswith("Unterminated string")
                if error is not None and not is_open and error.pos < len(self._text) - MEGABYTE:
                    line = self.line + self._lines_to(error.pos)
                    raise TaskError(f"{self._source.shown}:{line}: not JSON: {error.msg}")
                raise TaskError(
                    f"{place}: the element is longer than {LONGEST_ROW // MEGABYTE} MB (is a quote "
                    "not closed?)"
                )
            self._grow()

    def _hint(self, error: json.JSONDecodeError) -> str:
        """Return what is likely wrong with a text that is no JSON, read to where it ends."""
        is_open = error.msg.startswith("Unterminated string")
        if self._is_end and (is_open or not self._text[error.pos :].strip()):
            return " (was the file cut off?)"
        is_python = self._text[error.pos : error.pos + 1] == "'"
        return " (texts stand in \", and not in ': Python's repr is no JSON)" if is_python else ""

    def _lines_to(self, end: int) -> int:
        return self._text.count("\n", self._at, end)

    def _pass(self, end: int) -> None:
        self.line += self._lines_to(end)
        self._at = end

    def _grow(self) -> bool:
        """Read as much again as is waiting, so that a long element is scanned a few times only."""
        if self._is_end:
            return False
        waiting = self._text[self._at :]
        raw = self._source.file.read(max(1 << 18, len(waiting)))
        if self._is_first:
            text_only(raw, self._source)
            raw, self._is_first = raw.removeprefix(UTF8_BOM), False
        self._is_end = not raw
        raw = self._rest + raw
        try:
            text, self._rest = raw.decode("utf-8"), b""
        except UnicodeDecodeError as exc:
            if len(raw) - exc.start > 3 or self._is_end:
                line = self.line + waiting.count("\n") + raw.count(b"\n", 0, exc.start)
                raise TaskError(
                    f"{self._source.shown}:{line}: byte {raw[exc.start]:#04x} is not UTF-8: save "
                    "the file as UTF-8"
                ) from None
            text, self._rest = raw[: exc.start].decode("utf-8"), raw[exc.start :]
        self._text, self._at = waiting + text, 0
        return True
