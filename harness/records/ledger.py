"""One line of the append-only record. Knows not where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.plain import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One line of the append-only record. `at` is UTC, ISO 8601; `payload` is the record told."""

    kind: Literal[
        "wall",
        "release",
        "look",
        "override",
        "waiver",
        "label-edit",
        "audit",
        "policy",
        "pilot",
        "tune",
        "adopt",
        "parity",
        "certificate",
        "variants",
    ]
    task: str
    at: str
    payload: Json
    text: str = ""
