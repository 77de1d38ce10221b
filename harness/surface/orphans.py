"""What a process had begun that ended: found, and ended too. Linux alone; knows no eval."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

SOON_S = 0.2
"""Seconds in which helpers of a process, as those of `multiprocessing`, notice that it ended."""
GRACE_S = 3.0
"""Seconds that a process which is asked to end has to do so."""
LOOK_S = 0.02
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


def adopt() -> None:
    """Become the parent of what children of this process leave behind, in place of `init`."""
    with suppress(ImportError, OSError, AttributeError):  # a Python or a system without
        import ctypes

        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def began_at(pid: int) -> int:
    """Return when a process began, in ticks of the kernel; 0 where nobody knows."""
    return _parent_and_begin(pid)[1]


def end_orphans(*, since: int) -> int:
    """End the children of this process that began at `since` or later, and what they leave behind;
    return how many had to be asked. What was there before is not touched, as what a shell began
    that became this program.
    """
    asked: set[int] = set()
    begin = time.monotonic()
    while found := _living(since=since):
        waited_s = time.monotonic() - begin
        if waited_s > 2 * GRACE_S:  # they are somebody else's, or held by a disk
            break
        for pid in found if waited_s > SOON_S else []:
            if pid not in asked or waited_s > GRACE_S:
                asked.add(pid)
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL if waited_s > GRACE_S else signal.SIGTERM)
        time.sleep(LOOK_S)
    return len(asked)


def _living(*, since: int) -> list[int]:
    us, found = os.getpid(), []
    with suppress(ChildProcessError):  # none is left
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            parent, begin = _parent_and_begin(int(folder.name))
            if parent == us and begin >= since:
                found.append(int(folder.name))
    return found


def _parent_and_begin(pid: int) -> tuple[int, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:  # it is gone
        return 0, 0
    return int(fields[1]), int(fields[19])
