"""What a task promised, and how a change of it reads beside a verdict."""

from __future__ import annotations

from typing import Any

from harness.engine.policy import KIND, policy_notes
from harness.records import LedgerEntry


def line(terms: dict[str, Any], *, tries_seen: int) -> LedgerEntry:
    payload = {"digest": str(terms), "terms": terms, "tries_seen": tries_seen}
    return LedgerEntry(kind=KIND, task="t", at="2026-01-02T00:00:00Z", payload=payload, text="")


def test_a_waiver_that_is_a_sentence_reads_as_one_clause() -> None:
    before = line({"waivers": {}}, tries_seen=0)
    after = line({"waivers": {"optimised": "No large model may see it."}}, tries_seen=1)
    [note] = policy_notes([before, after])
    assert note == (
        "waivers changed from none to optimised: No large model may see it after 1 try was seen "
        "(2026-01-02)"
    )
