"""What a hosted training costs, and when its model ends, by `training_prices.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from harness_http.tables import MILLION, read_prices

FILE = Path(__file__).with_name("training_prices.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPrice:
    """US dollars per million trained tokens, and the day on which the model ends."""

    host: str
    model: str
    as_of: date
    source: str
    training: float | None = None
    shutdown_date: date | None = None


@cache
def load_training_prices(path: Path = FILE) -> Mapping[tuple[str, str], TrainingPrice]:
    """Return the prices by (host, model). Raises UsageError naming file and entry."""
    return read_prices(TrainingPrice, path)


def price_of(host: str, model: str) -> TrainingPrice | None:
    """Return what is known of training `model`, or what was tuned from it: `ft:BASE:...`."""
    parts = model.split(":")
    base = parts[1] if parts[0] == "ft" and len(parts) > 1 else model
    return load_training_prices().get((host, base))


def training_cost_usd(price: TrainingPrice | None, trained_tokens: int | None) -> float | None:
    """Return what a job costs, None where price or tokens are unknown."""
    if price is None or price.training is None or trained_tokens is None:
        return None
    return price.training * trained_tokens / MILLION
