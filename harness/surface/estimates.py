"""Means with their bounds, computed once: scipy takes longer to import than a cached run to run.

Knows values and clusters; nothing of runs or tables.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from harness.records import Estimate, digest
from harness.store.estimates import known_estimate, remember_estimates
from harness.store.store import Store

TURN_S = 0.0005


@contextmanager
def imported_meanwhile() -> Iterator[None]:
    """Import what computes bounds while the body waits for a server, most of the time idle.

    Threads change places ten times as often meanwhile (python's own 5 ms a turn would make each
    reply wait for the import).
    """

    def run() -> None:
        with suppress(ImportError):  # raised again, and told, where bounds are computed
            for name in ("scipy.special", "harness.core.bounds"):
                import_module(name)

    usual = sys.getswitchinterval()
    thread = Thread(target=run, name="harness-imports")
    sys.setswitchinterval(TURN_S)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        sys.setswitchinterval(usual)


class Estimates:
    """Bounds by what they were computed from; those of `store` are found there again."""

    def __init__(self) -> None:
        self._store: Store | None = None
        self._known: dict[str, Estimate] = {}
        self._new: dict[str, Estimate] = {}

    def use(self, store: Store | None) -> None:
        """Find estimates in `store` from now on; None forgets it."""
        self._store = store
        self._known.clear()
        self._new.clear()

    def mean(self, values: Sequence[float], clusters: Sequence[str]) -> Estimate:
        """Return `mean_bounds` of `values`. Shapes: N, N."""
        key = digest([_formula(), values, clusters])
        found = self._known.get(key) or self._new.get(key)
        if found is None and self._store is not None:
            found = known_estimate(self._store, key)
        if found is None:
            from harness.core.bounds import mean_bounds

            found = self._new[key] = mean_bounds(values, clusters)
        self._known[key] = found
        return found

    def save(self) -> None:
        """Write what was computed anew into the store."""
        if self._store is not None:
            remember_estimates(self._store, self._new)
        self._new.clear()


@cache
def _formula() -> str:
    """Identity of the file that computes: an estimate of an older formula is not found."""
    spec = find_spec("harness.core.bounds")
    assert spec is not None
    assert spec.origin is not None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


ESTIMATES = Estimates()
"""The one of this process; without a store it computes, and remembers for the process alone."""
