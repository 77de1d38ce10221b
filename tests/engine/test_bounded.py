"""What runs for a bounded time on a thread beside. How time-outs end is in test_plain_evals.py."""

from __future__ import annotations

from contextvars import ContextVar

from harness.engine.bounded import Bounded


def test_calls_see_the_context_of_their_caller() -> None:
    """mlflow#24702: a ContextVar was lost in the inner pool, and with it the trace."""
    trace: ContextVar[str] = ContextVar("trace", default="lost")
    bounded: Bounded[str] = Bounded(timeout_s=30.0, overdue=str)
    for name in ("first", "second"):
        trace.set(name)
        assert bounded.run([trace.get, trace.get]) == [name, name]
    bounded.close()
