"""Shows that replies are on their way: a live line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from harness.engine.fetch import FORECAST, Silence
from harness.surface.words import one_line, seconds

EVERY_S = 15.0
QUIET_S = 3.0
"""Seconds after which a command that reads files shows how far it is."""
SMALL = 20
"""Off a terminal, a batch below so many requests begins no line of its own: an optimiser asks
hundreds of them."""


class TextProgress:
    """A Progress that writes to a stream; on a terminal it rewrites one line. `is_hidden` leaves
    the line to others, as to the dots of evals, until `show`.
    """

    def __init__(
        self, stream: TextIO | None = None, *, label: str = "replies", is_hidden: bool = False
    ) -> None:
        self._stream = stream or sys.stderr
        self._label = label
        self._is_hidden = is_hidden
        self._is_live = self._stream.isatty()
        self._total = self._done = self._got = 0
        self._cost_usd = 0.0
        self._since = self._shown = time.monotonic()

    def __enter__(self) -> TextProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._total:
            self._show(is_last=True)

    def begin(self, backend: str, total: int) -> None:
        """Show how much is to come."""
        is_first = not self._total
        self._total += total
        if is_first or self._is_live or total >= SMALL or self._is_due():
            self._show()

    def show(self, *, is_within_line: bool) -> None:
        """Show from here on what was hidden so far: only notes were told."""
        self._is_hidden = False
        if self._total:
            self._stream.write("\n" if is_within_line else "")
            self._show()

    def advance(self, backend: str, *, is_reply: bool = True) -> None:
        """Count one request, and the reply where there is one."""
        self._done += 1
        self._got += is_reply
        if self._is_due():
            self._show()

    def spend(self, cost_usd: float) -> None:
        """Add to what the replies cost so far."""
        self._cost_usd += cost_usd

    def note(self, text: str) -> None:
        """Write a line of its own."""
        start = "\n" if self._is_hidden else "\r\x1b[K" if self._is_live else ""
        self._stream.write(f"{start}{one_line(text, width=160)}\n")
        self._stream.flush()

    def _is_due(self) -> bool:
        return time.monotonic() - self._shown >= (0.1 if self._is_live else EVERY_S)

    def _show(self, *, is_last: bool = False) -> None:
        if self._is_hidden:
            return
        self._shown = time.monotonic()
        spent = self._shown - self._since
        line = f"{self._label}: {self._got} of {self._total}, {seconds(spent)}"
        line += f", {_usd(self._cost_usd)}" if self._cost_usd else ""
        if self._total > self._done >= max(5, self._total // 20):  # before that it is a guess
            left = spent / self._done * (self._total - self._done)
            line += f", about {left:.0f} s to go" if left >= 10 else f", about {left:.1f} s to go"
        if self._is_live:
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if is_last else ""))
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


class ForecastAlone(Silence):
    """The Progress of one worker of several: it tells what the run will cost, on standard error
    (`fd`, None where there is none), and leaves the rest to the controller.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def note(self, text: str) -> None:
        """Write a forecast."""
        if self._fd is not None and text.startswith(FORECAST):
            with suppress(OSError):  # nobody reads it any more
                os.write(self._fd, f"{text}\n".encode("utf-8", "backslashreplace"))


def _usd(value: float) -> str:
    from harness.core.money import usd  # what costs nothing needs none of it

    return usd(value)
