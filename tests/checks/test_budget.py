from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Reply, UsageError, checks
from harness.checks.base import Unmeasured

Reason = Callable[..., str]
REPLY = Reply(
    text="x",
    latency_s=1.5,
    cost_usd=0.01,
    input_tokens=50,
    output_tokens=7,
    finish_reason="length",
)


def test_a_reply_within_its_budget_holds() -> None:
    assert checks.latency(REPLY, 1.5)
    assert checks.cost(REPLY, 0.01)
    assert checks.tokens(REPLY, 7)
    assert checks.tokens(REPLY, 50, of="input")
    assert checks.tokens(REPLY, 57, of="total")
    assert checks.finish_reason(REPLY, ["stop", "length"])


def test_a_miss_says_what_was_used_and_what_was_allowed(reason: Reason) -> None:
    assert reason(checks.latency, REPLY, 1) == "latency: 1.500 s is over 1 s"
    assert reason(checks.cost, REPLY, 0.001) == "cost: 0.01 USD is over 0.001 USD"
    assert reason(checks.tokens, REPLY, 56, of="total") == "tokens: 57 total tokens are over 56"
    assert "ended with 'length', not" in reason(checks.finish_reason, REPLY)
    assert "within 2 s" in reason(checks.no.latency, REPLY, 2)


@pytest.mark.parametrize("name", ["latency", "cost", "tokens"])
def test_what_the_backend_did_not_report_is_unknown_in_both_senses(name: str) -> None:
    for check in (checks.named(name), checks.named(f"no.{name}")):
        with pytest.raises(Unmeasured, match="the backend reported no"):
            check(Reply(text="x"), 1)
    with pytest.raises(Unmeasured):
        checks.finish_reason(Reply(text="x"))


def test_a_text_alone_has_no_budget() -> None:
    with pytest.raises(UsageError, match="takes a Reply, not str"):
        checks.latency("x", 1)
    with pytest.raises(UsageError, match="of is"):
        checks.tokens(REPLY, 1, of="all")
