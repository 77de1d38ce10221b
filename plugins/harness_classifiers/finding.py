"""Where a text classifier is on this machine, and what it is. Opens no weights, asks no network."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Collection
from pathlib import Path

from harness_transformers.models import check_model_folder, weights_digest

from harness import UsageError

KIND = "ForSequenceClassification"
"""How transformers' classes of text classifiers end."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", "spm.model")
"""Files that a tokenizer may be in; the last ones are of older models."""
_BESIDE = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


def find_classifier(name: str) -> Path:
    """Return the folder of the classifier `name`: a folder, or a name in Hugging Face's cache.

    Raises UsageError where there is none, or what is there is something else.
    """
    folder = _folder_of(name)
    if folder is None:
        how = f" Run: hf download {name}" if _HUB_NAME.fullmatch(name) else ""
        raise UsageError(
            f"classifier: no model {name!r} on this machine: neither a folder (seen from "
            f"{Path.cwd()}) nor a name in the cache of Hugging Face. Nothing is downloaded "
            f"unasked.{how}"
        )
    check_model_folder(folder, tokenizers=TOKENIZERS)
    if not _is_classifier(folder):
        raise UsageError(
            f"classifier: {folder} is no text classifier: its config.json names no class that "
            f"ends in {KIND} under `architectures`"
        )
    return folder


def identity_among(texts: Collection[str]) -> str:
    """Return the digests of the classifiers that are named by any of `texts`."""
    folders = {folder for text in texts if (folder := _folder_of(text)) and _is_classifier(folder)}
    return " ".join(sorted({_digest(folder) for folder in folders}))


def _digest(folder: Path) -> str:
    """Return what can change a probability: weights, labels, and how a text becomes tokens."""
    whole = hashlib.sha256(weights_digest(folder).encode())
    for name in (*TOKENIZERS, *_BESIDE):
        if (folder / name).is_file():
            whole.update(name.encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()[:16]


def _folder_of(name: str) -> Path | None:
    if not name or len(name) > 1_000 or not name.isprintable():
        return None
    try:
        folder = Path(name).expanduser()
        if (folder / "config.json").is_file() or folder.is_dir():
            return folder
    except (OSError, RuntimeError, ValueError):  # a name too long, a home of nobody
        return None
    if not _HUB_NAME.fullmatch(name) or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # what is no name there
        return None
    return Path(found).parent if isinstance(found, str) else None


def _is_classifier(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    named = config.get("architectures") if isinstance(config, dict) else None
    return isinstance(named, list) and any(str(one).endswith(KIND) for one in named)
