"""What a reply cost, from the list prices of `prices.toml`. Unknown is None, never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from harness_http.tables import MILLION, read_prices

FILE = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """List prices in US dollars per million tokens, as read on `as_of` at `source`."""

    host: str
    model: str
    input: float
    output: float
    as_of: date
    source: str
    cached_input: float | None = None
    up_to_input_tokens: int | None = None


@cache
def load_prices(path: Path = FILE) -> Mapping[tuple[str, str], Price]:
    """Return the prices by (host, model). Raises UsageError naming file and entry."""
    return read_prices(Price, path)


def cost_usd(price: Price | None, usage: Mapping[str, Any]) -> float | None:
    """Return what `usage` costs, or None where price or counts are unknown."""
    sent, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if price is None or not isinstance(sent, int) or not isinstance(written, int):
        return None
    if price.up_to_input_tokens is not None and sent > price.up_to_input_tokens:
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    cached = cached if isinstance(cached, int) else 0
    if cached and price.cached_input is None:
        return None
    dollars = (sent - cached) * price.input + written * price.output
    return (dollars + cached * (price.cached_input or 0.0)) / MILLION
