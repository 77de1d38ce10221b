"""A text classifier in memory: a text to the probabilities of its labels. Knows no check.

Probabilities are those of transformers' pipeline: softmax over labels that exclude each other,
a sigmoid for each where the model says `multi_label_classification`, or has one label.
Source: transformers 5.23, pipelines/text_classification.py.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness_transformers.models import (
    choose_device,
    load_tokenizer,
    quiet_transformers,
    require_local,
)

from harness import HarnessError, UsageError
from harness_classifiers.finding import find_classifier

LONGEST_TOKENS = 8_192
"""Read at most, where the model would read more, or says nothing."""
CHARACTERS = 32
"""Characters read for each token: text rarely has a quarter, and a tokenizer is slow on millions.
"""
KEPT = 1_024
"""Texts whose probabilities are kept: one reply is often asked for several labels."""
MODELS = 4
"""Models that are kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What a classifier says of a text: each label's probability, and what it did not read."""

    shares: Mapping[str, float]
    cut: str = ""


class Classifier:
    """A model in memory. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        self._folder = folder
        try:
            self._tokenizer = load_tokenizer(folder)
            with quiet_transformers():
                self._model, told = AutoModelForSequenceClassification.from_pretrained(
                    str(folder),
                    dtype=torch.float32,
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                )
        except HarnessError:
            raise
        except Exception as exc:  # border: libraries raise what they like on a file that is odd
            raise UsageError(
                f"classifier: {folder} cannot be loaded: {type(exc).__name__}: {exc}"
            ) from exc
        # transformers would fill what is not there with random numbers, and only log it
        if lacking := sorted(told["missing_keys"]):
            raise UsageError(
                f"classifier: {folder}: its weights lack {', '.join(lacking[:3])}: it is not a "
                "trained classifier"
            )
        config = self._model.config
        if config.problem_type == "regression":
            raise UsageError(
                f"classifier: {folder} gives a number without bounds (problem_type regression), "
                "and no probabilities"
            )
        is_each = config.problem_type == "multi_label_classification" or config.num_labels == 1
        self._shares = torch.sigmoid if is_each else lambda logits: torch.softmax(logits, dim=-1)
        self._model.to(choose_device()).eval()
        self._longest = _longest(self._tokenizer, self._model)
        self._kept: OrderedDict[bytes, Classified] = OrderedDict()
        self._lock = threading.Lock()
        self.labels = tuple(str(config.id2label[n]) for n in range(config.num_labels))
        self.classified = 0

    def classify(self, text: str) -> Classified:
        """Return what the model says of a text. Raises UsageError where it says no number."""
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._classified(text)
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _classified(self, text: str) -> Classified:
        import torch

        self.classified += 1
        most = CHARACTERS * self._longest
        plain = text[:most].encode("utf-8", "replace").decode()  # a lone surrogate has no UTF-8
        encode = self._tokenizer
        found = encode(plain, return_tensors="pt", verbose=False)
        tokens, cut = found["input_ids"].shape[1], ""
        if tokens > self._longest:
            found = encode(plain, return_tensors="pt", truncation=True, max_length=self._longest)
            several = f"more than {tokens:,}" if len(text) > most else f"{tokens:,}"
            cut = f"only the first {self._longest:,} of {several} tokens were read"
        elif len(text) > most:
            cut = f"only the first {most:,} of {len(text):,} characters were read"
        with torch.inference_mode():
            logits = self._model(**found.to(self._model.device)).logits[0].float()
            shares = [float(share) for share in self._shares(logits)]
        if not all(map(math.isfinite, shares)):
            raise UsageError(f"classifier: {self._folder} gives no number for this reply")
        return Classified(
            shares={k: min(1.0, v) for k, v in zip(self.labels, shares, strict=True)}, cut=cut
        )


def _longest(tokenizer: Any, model: Any) -> int:
    """Return how many tokens a model reads of one text."""
    import torch

    tokenizer.truncation_side = "right"  # what is left out is said to stand at the end
    bounds = [LONGEST_TOKENS, tokenizer.model_max_length]
    places = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if isinstance(places, int) and places > 0:
        tables = [m for n, m in model.named_modules() if n.endswith("position_embeddings")]
        # RoBERTa and its kin count places from behind that of the padding
        first = [
            m.padding_idx + 1
            for m in tables
            if isinstance(m, torch.nn.Embedding) and m.padding_idx is not None
        ]
        bounds.append(places - max(first, default=0))
    return int(min(bounds))


_MAKING = threading.Lock()
_Stamp = tuple[tuple[str, int, int], ...]


@lru_cache(maxsize=MODELS)
def _made(name: str, _here: str) -> Classifier:
    folder = find_classifier(name)
    require_local("checks.classifier")
    found = _loaded(folder, _here, _stamp(folder))
    if isinstance(found, str):
        raise UsageError(found)
    return found


@lru_cache(maxsize=MODELS)
def _loaded(folder: Path, _here: str, _stamp: _Stamp) -> Classifier | str:
    """Return the classifier in `folder`, or why it is none: each trial asks, and what is broken is
    loaded once, until a file of it changes.
    """
    try:
        return Classifier(folder)
    except UsageError as exc:
        return str(exc)  # its traceback would keep the weights in memory


def _stamp(folder: Path) -> _Stamp:
    facts = [(path.name, path.stat()) for path in folder.iterdir() if path.is_file()]
    return tuple(sorted((name, one.st_mtime_ns, one.st_size) for name, one in facts))


def classifier_of(name: str) -> Classifier:
    """Return the classifier called `name`, loaded when first asked for. Raises UsageError and
    MissingExtra.
    """
    with _MAKING:
        return _made(name, os.getcwd())  # noqa: PTH109 (a key, and a name may be relative to it)
