"""What is written in `models.toml` and `prices.toml`. Knows nothing of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from harness_http.tables import MILLION, read_prices, read_rows, to_record

from harness import UsageError

MODELS = Path(__file__).with_name("models.toml")
PRICES = Path(__file__).with_name("prices.toml")
ABILITIES = frozenset({"schema", "tools", "stop", "images"})
CHOICES = {"schema": ("native", "tool"), "sampling": ("free", "one", "own")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a kind of model obeys; see `models.toml`."""

    patterns: tuple[str, ...]
    honours: frozenset[str]
    schema: str
    sampling: str
    checked: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """List prices in US dollars per million tokens, as read on `as_of` at `source`."""

    host: str
    model: str
    input: float
    output: float
    as_of: date
    source: str
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    batch: float | None = None
    up_to_input_tokens: int | None = None


@cache
def load_models(path: Path = MODELS) -> Sequence[Model]:
    """Return the entries of `models.toml` in order. Raises UsageError naming file and entry."""
    models = []
    for place, row in read_rows(path, "model"):
        lists = {"patterns": tuple(row.get("patterns", ())), "honours": row.get("honours", ())}
        check_choices(lists | row, place)
        lists["honours"] = frozenset(lists["honours"])
        models.append(to_record(Model, {**row, **lists}, place=place))
    return models


@cache
def load_prices(path: Path = PRICES) -> Mapping[tuple[str, str], Price]:
    """Return the prices by (host, model). Raises UsageError naming file and entry."""
    return read_prices(Price, path)


def check_choices(table: Mapping[str, Any], place: str) -> None:
    """Raise UsageError where `honours`, `schema` or `sampling` says what nobody knows."""
    unknown = set(table.get("honours", ())) - ABILITIES
    if unknown:
        raise UsageError(f"{place}: honours {sorted(unknown)}; known are {sorted(ABILITIES)}")
    for name, known in CHOICES.items():
        if name in table and table[name] not in known:
            raise UsageError(f"{place}: {name} is {table[name]!r}; known are {', '.join(known)}")


def choose_model(name: str) -> Model:
    """Return the first entry that fits `name`. Raises UsageError where none does."""
    at = name.find("claude-")
    bare = name[at:] if at >= 0 else name
    for model in load_models():
        if any(fnmatchcase(bare, pattern) for pattern in model.patterns):
            return model
    raise UsageError(f"{MODELS}: no entry fits the model {name!r}; end it with one of pattern *")


def cost_usd(
    price: Price | None, usage: Mapping[str, Any], *, is_batch: bool = False
) -> float | None:
    """Return what `usage` costs, or None where a price, a count or the tariff is unknown."""
    sent, written = usage.get("input_tokens"), usage.get("output_tokens")
    if price is None or not isinstance(sent, int) or not isinstance(written, int):
        return None
    share = price.batch if is_batch else 1.0
    tier = usage.get("service_tier")
    is_usual = tier in (None, "standard", "batch") and usage.get("inference_geo") != "us"
    if share is None or not is_usual:  # priority, and inference in one country, cost otherwise
        return None
    read, *written_kept = _cached(usage)
    if price.up_to_input_tokens is not None:
        total = sent + read + sum(written_kept)
        if total > price.up_to_input_tokens:
            return None
    dollars = sent * price.input + written * price.output
    for count, each in (
        (read, price.cache_read),
        (written_kept[0], price.cache_write),
        (written_kept[1], price.cache_write_1h),
    ):
        if count and each is None:
            return None
        dollars += count * (each or 0.0)
    return share * dollars / MILLION


def _cached(usage: Mapping[str, Any]) -> tuple[int, int, int]:
    """Tokens read from the prompt cache, written for five minutes, and for an hour."""

    def count(value: object) -> int:
        return value if isinstance(value, int) else 0

    read = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    kinds = usage.get("cache_creation")
    hour = count(kinds.get("ephemeral_1h_input_tokens")) if isinstance(kinds, Mapping) else 0
    return read, written - hour, hour
