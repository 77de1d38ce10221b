"""Ends child processes, and leaves none of theirs behind. Knows nothing of trainings."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

GRACE_S = 5.0
"""How long a process may take to end when it is asked to; then it is killed."""


def end_session(process: subprocess.Popen[Any]) -> None:
    """End a process that was started in a session of its own, and all that it started."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, name)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
