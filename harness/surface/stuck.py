"""The end of a process in which an eval never comes back from C. Knows no time limit."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from harness.surface.eval_session import EvalSession
from harness.surface.pytest_evals import RECORDING
from harness.surface.words import from_here

STUCK = (
    "It does not come back from C, so this process ends here. What was scored is kept, as a "
    "partial run, and so are the replies. With `-n 1` (pytest-xdist) a worker alone ends, and the "
    "other cases go on."
)
FAULT_CODE = 1
"""What `harness eval` ends with where an eval is at fault; pytest's own code says interrupted."""


def keep_and_end(session: EvalSession, item: pytest.Item | None, *, why: str) -> None:
    """Record what was scored before `item`, show it, say `why`, and end the process.

    The main thread stands in C: what belongs to it, as fixtures that are still to go, is left as it
    is. It does not go on meanwhile (`alarm.Watch.hear`).
    """
    config = session.config
    code = FAULT_CODE if session.is_watched else int(pytest.ExitCode.INTERRUPTED)
    try:
        place = _place(item.path.parent) if item is not None else None
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        config.stash[RECORDING].finish(was_interrupted=True)
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        shown = config.stash[RECORDING].summary_lines()
        for line in ("", *shown, f"{why}, at {place}. {STUCK}" if place else f"{why}. {STUCK}"):
            terminal.write_line(line)
        terminal.flush()
    except BaseException:  # noqa: BLE001 - border: nobody is there to catch it, and the end stands
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        os._exit(code)


def _place(folder: Path) -> str | None:
    """Return where in the files of `folder` the main thread stands: FILE:LINE, as typed here."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if folder in Path(frame.f_code.co_filename).parents:
            return from_here(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return None
