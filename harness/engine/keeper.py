"""Runs one server as a child, and ends it when whoever started this is gone, however that went.

`python keeper.py COMMAND...`: the command's process id is written to standard output; its own
output goes to standard error. When standard input ends (closed, or its owner killed) the command is
told to end, and killed five seconds later. Knows nothing but the standard library: it is run as a
file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

PATIENCE_S = 5.0
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def main(command: list[str]) -> int:
    """Run `command` until it ends or nobody wants it; return its exit code."""
    # a group of its own, so that what it started ends with it
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True
    )
    sys.stdout.write(f"{process.pid}\n")
    sys.stdout.flush()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: end(process))
    threading.Thread(target=_wait_for_owner, args=(process,), daemon=True).start()
    try:
        return process.wait()
    finally:
        # a server's workers may outlive it; what of its group is still there has nobody to end it
        _signal(process, _KILL)


def _wait_for_owner(process: subprocess.Popen[bytes]) -> None:
    # not sys.stdin: a thread that holds its lock when the process ends is a crash
    while os.read(0, 4096):
        pass
    end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Tell the group of `process` to end; kill what is still there."""
    _signal(process, signal.SIGTERM)
    until = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    _signal(process, _KILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(OSError):  # it ended by itself
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
