"""One base model in memory for all its adapters, worn one at a time. Knows nothing of requests.

A merged adapter is the base with other numbers in some of its weights. Those are put in and taken
out by pointer; the base's own stay as they were read, so that taking out is exact. Of an adapter
only its low-rank factors are kept where they give, bit for bit, the weights that merging it into a
float32 base gives; where they do not (a base in half precision whose file is finer, or an adapter
that is more than factors), its merged weights are kept instead.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from harness_transformers import attention, models


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A low-rank change of one weight: `scaling * b @ a`, transposed where that is so stored."""

    a: Any
    b: Any
    scaling: float
    is_transposed: bool

    def added_to(self, weight: Any) -> Any:
        """Return the weight that merging gives, in the precision of `weight`."""
        delta = self.b @ self.a
        delta = (delta.T if self.is_transposed else delta) * self.scaling
        return (weight.float() + delta).to(weight.dtype)


class Base:
    """A model that backends share. Whoever uses it says which adapter it must wear meanwhile."""

    def __init__(self, model: Any, *, path: Path | None = None) -> None:
        self.model = model
        self._path = path
        self._lock = threading.RLock()
        self._parameters: Mapping[str, Any] = dict(model.named_parameters())
        self._worn: Path | None = None
        self._covered: dict[str, Any] = {}  # the base's own numbers, where an adapter's are now
        self._adapters: dict[Path, Mapping[str, Any] | None] = {}

    @contextmanager
    def wearing(self, adapter: Path | None) -> Iterator[Any]:
        """Lend the model with the weights of `adapter`, to one user at a time."""
        with self._lock:
            if adapter != self._worn:
                self._take_off()
                if adapter is not None:
                    self._put_on(adapter)
            yield self.model

    def fits(self, adapter: Path) -> bool:
        """Return whether the model can wear `adapter`: merged, it has the same parameters."""
        with self._lock:
            if adapter not in self._adapters:
                self._take_off()  # changes are told from the base's own numbers
                self._adapters[adapter] = self._read(adapter)
            return self._adapters[adapter] is not None

    @cached_property
    def is_shared(self) -> bool:
        """Whether batches may share a prefix: attention of our own is right for this model."""
        with self._lock:
            return attention.install(self.model)

    def _take_off(self) -> None:
        for name, own in self._covered.items():
            self._parameters[name].data = own
        self._covered, self._worn = {}, None

    def _put_on(self, adapter: Path) -> None:
        import torch

        if not self.fits(adapter):
            raise ValueError(f"{adapter} has other parameters than its base")
        changes = self._adapters[adapter] or {}
        with torch.no_grad():
            merged = {
                name: change.added_to(self._parameters[name].data)
                if isinstance(change, Factors)
                else change
                for name, change in changes.items()
            }
        self._covered = {name: self._parameters[name].data for name in merged}
        for name, weight in merged.items():
            self._parameters[name].data = weight
        self._worn = adapter

    def _read(self, adapter: Path) -> Mapping[str, Any] | None:
        """Return what `adapter` changes, by parameter; None where it changes which there are."""
        import torch

        assert self._path is not None
        factors, merged = models.factors_and_merged(self._path, adapter)
        theirs = dict(merged.named_parameters())
        shapes = {name: p.shape for name, p in self._parameters.items()}
        if {name: p.shape for name, p in theirs.items()} != shapes:
            return None
        changes: dict[str, Any] = {}
        with torch.no_grad():
            for name, own in self._parameters.items():
                # cast before it travels, as for a model that is loaded with its adapter
                weight = theirs[name].data.to(own.dtype).to(own.device)
                if torch.equal(weight, own.data):
                    continue
                changes[name] = weight
                if name in factors:
                    a, b, scaling, is_transposed = factors[name]
                    low_rank = Factors(
                        a=a.to(own.device),
                        b=b.to(own.device),
                        scaling=scaling,
                        is_transposed=is_transposed,
                    )
                    if torch.equal(low_rank.added_to(own.data), weight):
                        changes[name] = low_rank
        return changes


_bases: WeakValueDictionary[tuple[str, str, str], Base] = WeakValueDictionary()
_reading = threading.Lock()


def shared_base(path: Path, *, dtype: str, adapter: Path | None) -> tuple[Base, Path | None]:
    """Return the base that every user of this model in `dtype` shares, and what it must wear.

    It is let go with its last user. An adapter that the base cannot wear (one that adds words, say)
    gets a model of its own, which wears nothing.
    """
    key = (str(path.resolve()), models.weights_digest(path), dtype)
    with _reading:
        base = _bases.get(key)
        if base is None:
            base = _bases[key] = Base(models.load_model(path, dtype=dtype), path=path)
    if adapter is not None and not base.fits(adapter):
        return Base(models.load_model(path, dtype=dtype, adapter=adapter)), None
    return base, adapter
