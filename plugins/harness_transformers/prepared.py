"""Reads rows that a trainer prepared: a folder of the datasets library. Knows nothing of parity."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import MissingExtra, UsageError


def read_rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a folder that `save_to_disk` wrote, as axolotl and TRL leave it; of several
    splits the one called train, else the first.

    Raises UsageError where it is no such folder.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtra(f"the datasets folder {folder}", extra="tune")
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{folder} is no folder of the datasets library: {exc}. A JSONL file with input_ids "
            "and labels works too."
        ) from exc
    if isinstance(found, datasets.DatasetDict):
        found = found["train"] if "train" in found else found[next(iter(found))]
    yield from found
