"""Dollars as everybody reads them. Knows no price."""

from __future__ import annotations

import math


def usd(value: float, *, is_enough: bool = False) -> str:
    """Return dollars and cents, and more digits where the first two that count need them: $0.00,
    $12.30, $0.06, $0.044, $0.0012. `is_enough`: not less than `value`, as who gives a sum needs.
    """
    digits = max(2, 1 - math.floor(math.log10(abs(value)))) if value else 2
    if is_enough:
        value = math.ceil(value * 10**digits * (1 - 1e-9)) / 10**digits
    whole, _, part = f"{value:,.{digits}f}".partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"
