"""What was found out of files, kept in our own cache until they change. Knows nothing of models.

Nothing is written beside the files: those of an artifact are its identity.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Stamps = Mapping[str, Any]
"""What must be as it was for that which was kept to hold. Plain JSON."""


def cache_dir() -> Path:
    """Return the folder that this plugin's caches are in."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tuning-harness"


def stamps_of(files: Iterable[Path]) -> dict[str, list[int]]:
    """Return the size and the times of files, by path.

    With the time of the last change of any kind, which no copy and no unpacking sets back.
    """
    found = ((str(path), path.stat()) for path in sorted(files))
    return {name: [s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in found}


def recall(name: str, stamps: Stamps) -> dict[str, Any] | None:
    """Return what was kept under `name`, None where it was not, or `stamps` are others by now."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(_place(name).read_text(encoding="utf-8"))
        if kept["stamps"] == stamps and isinstance(kept["facts"], dict):
            return dict(kept["facts"])
    return None


def keep(name: str, stamps: Stamps, facts: Mapping[str, Any]) -> None:
    """Keep `facts` under `name`, in place of what was there; in silence where nothing can be
    written: the next process finds out anew.
    """
    place = _place(name)
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{place.name}.{os.getpid()}")
        text = json.dumps({"facts": dict(facts), "stamps": stamps})
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(place)


def _place(name: str) -> Path:
    return cache_dir() / "digests" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
