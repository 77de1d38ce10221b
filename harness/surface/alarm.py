"""The alarm clock of a process, stopped while an eval waits for somebody else. Knows no evals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unlimited() -> Iterator[None]:
    """Stop the clock of an eval's time limit, as while a backend is asked: it has its own."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    left_s, again_s = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, left_s, again_s)
