"""A bad server and one kill, in seconds; tests/studies/test_chaos.py is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.plugins.chaos import WAYS, survive


def test_nothing_is_lost_or_doubled_whatever_the_server_does_and_a_kill_in_between(
    tmp_path: Path,
) -> None:
    state = survive(tmp_path / "h.db", n=120, kills_at=[50], seed=3, latency_s=0.02, timeout_s=1.0)
    assert set(state.did) >= {"well", *WAYS} - {"hang"}
