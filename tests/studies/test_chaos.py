"""500 requests, 32 in flight, a server that does all that servers do wrong, and three kill -9."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.chaos import IN_FLIGHT, WAYS, survive


@pytest.mark.study
@pytest.mark.parametrize("seed", [1])
def test_500_requests_survive_a_bad_server_and_three_kills(tmp_path: Path, seed: int) -> None:
    state = survive(
        tmp_path / "h.db", n=500, kills_at=[120, 300, 480], seed=seed, latency_s=0.3, timeout_s=3.0
    )
    assert set(state.did) == {"well", *WAYS}
    assert state.peak >= IN_FLIGHT
    print(f"\nseed {seed}: {state.seen} requests for 500 replies; {dict(state.did)}")
