"""What a step takes: told from a few of them, calm and busy apart."""

from __future__ import annotations

import pytest
from harness_trl import pacing
from harness_trl.pacing import End, note_end, pace_of, pace_told


def ends(*steps: tuple[float, float]) -> list[End]:
    """The ends of steps that took so long by the clock and by the processors."""
    at = [(100.0, 7.0)]
    for wall, busy in steps:
        at.append((at[-1][0] + wall, at[-1][1] + busy))
    return at


def test_a_calm_machine_has_one_figure() -> None:
    pace = pace_of(ends((1.0, 1.9), (1.1, 2.0), (1.0, 1.9)), threads=2)
    assert (pace.seconds, pace.least_seconds, pace.steps) == (pytest.approx(1.0), None, 3)
    assert "busy" not in pace_told(pace, what="4 rows")


def test_a_busy_machine_has_two_and_it_is_said_what_they_rest_on() -> None:
    pace = pace_of(ends((8.0, 2.0), (9.0, 2.0), (7.0, 2.0)), threads=2).times(10)
    assert (pace.seconds, pace.least_seconds) == (pytest.approx(80), pytest.approx(10))
    told = pace_told(pace, what="4 rows")
    assert told.startswith("time: from 3 steps of 4 rows, after one to warm up")
    assert "processor time on 2 threads, as if nothing else ran" in told


def test_where_no_processor_computes_only_the_clock_is_told() -> None:
    pace = pace_of(ends((2.0, 0.1)), threads=None)
    assert (pace.seconds, pace.least_seconds, pace.steps) == (pytest.approx(2.0), None, 1)


def test_long_steps_are_timed_once_and_short_ones_six_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seconds, wanted in ((20.0, 2), (0.01, 6)):
        clock = iter(seconds * n for n in range(10))
        monkeypatch.setattr(pacing.time, "monotonic", lambda clock=clock: next(clock))
        seen: list[End] = []
        while note_end(seen):
            pass
        assert len(seen) == wanted
