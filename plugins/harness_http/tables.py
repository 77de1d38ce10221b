"""Reads the tables that people keep up to date: prices, and what a model obeys. Knows neither."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness import UsageError

MILLION = 1_000_000  # prices are for so many tokens


class Priced(Protocol):
    """A price of one model at one host."""

    @property
    def host(self) -> str:
        """Where it is paid."""
        ...

    @property
    def model(self) -> str:
        """What is paid for."""
        ...


R = TypeVar("R")
P = TypeVar("P", bound=Priced)


def read_rows(path: Path, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return each `[[name]]` of `path` with the place where it stands. Raises UsageError."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get(name, [])
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    return [
        (f"{path}: {name} {number} ({row.get('model', 'no model')})", row)
        for number, row in enumerate(rows, start=1)
    ]


def to_record(kind: type[R], row: Mapping[str, Any], *, place: str) -> R:
    """Return `row` as a record. Raises UsageError naming the place."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if set(row) - known:
        raise UsageError(f"{place} has {sorted(set(row) - known)}; known are {sorted(known)}")
    try:
        return kind(**row)
    except TypeError as exc:
        raise UsageError(f"{place}: {exc}") from exc


def read_prices(kind: type[P], path: Path) -> dict[tuple[str, str], P]:
    """Return the prices of `path` by (host, model). Raises UsageError naming file and entry."""
    table: dict[tuple[str, str], P] = {}
    for place, row in read_rows(path, "price"):
        price = to_record(kind, row, place=place)
        if (price.host, price.model) in table:
            raise UsageError(f"{place} stands there twice")
        table[price.host, price.model] = price
    return table
