"""How much error each look at sealed cases may spend. Knows numbers of looks, no ledger.

Looks are counted apart by task and kind (confirmation, release); fresh cases begin at look 1
again, edited labels do not. All looks together, for ever, spend 5 %: alpha_1 = .04, then
alpha_j = .01/(j(j-1)).
"""

from __future__ import annotations

from harness.core.words import count, percent
from harness.errors import UsageError

ALPHA_TOTAL = 0.05
ALPHA_FIRST = 0.04


def alpha_of_look(look: int) -> float:
    """Return what the j-th look spends (j from 1). Raises UsageError below 1."""
    if look < 1:
        raise UsageError(f"look {look}: looks are counted from 1")
    return ALPHA_FIRST if look == 1 else (ALPHA_TOTAL - ALPHA_FIRST) / (look * (look - 1))


def alpha_left(looks: int) -> float:
    """Return what remains for later looks once `looks` of them were spent."""
    if looks < 0:
        raise UsageError(f"{looks} looks: a number of looks is not negative")
    return ALPHA_TOTAL if looks == 0 else (ALPHA_TOTAL - ALPHA_FIRST) / looks


def looks_line(looks: int) -> str:
    """Return one line for people: what was spent, what the next look gets."""
    spent = ALPHA_TOTAL - alpha_left(looks)
    following = percent(alpha_of_look(looks + 1), digits=2)
    return (
        f"{count(looks, 'look')} spent {percent(spent)} of {percent(ALPHA_TOTAL)}; "
        f"the next is judged at {following}. Fresh cases renew it."
    )
