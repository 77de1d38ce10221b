"""Whether a check may ask anybody: with `--offline`, what is recorded alone decides.

Knows no check and no server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import BackendError

OFFLINE = "(run without --offline)"
"""How it ends where something was not recorded, and was not asked for."""

# no context variable: a thread that an eval began would not see it, and would ask
_sessions: list[None] = []


@contextmanager
def offline() -> Iterator[None]:
    """Let no check of this process ask anybody in this block."""
    _sessions.append(None)
    try:
        yield
    finally:
        _sessions.pop()


def refuse_offline(who: str) -> None:
    """Raise BackendError in a run with `--offline`. A check that asks a server calls it first;
    `who` is the check and the server, as `webhook: http://localhost:8080/score`.
    """
    if _sessions:
        raise BackendError(f"{who} is not asked {OFFLINE}")
