"""A tokenizer as the fields of a GGUF file. Knows nothing of weights.

llama.cpp splits text by rules that it knows by name, not by those in tokenizer.json: only a
tokenizer whose rules are exactly those of a name is written, since any other would be served with
other ids than it was trained with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness import UsageError

CONVERTER = "python convert_hf_to_gguf.py MERGED_FOLDER --outfile model.gguf"
"""llama.cpp's own converter, which knows the architectures that this one does not."""

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def cannot(why: str) -> UsageError:
    """Return the error that says why this model cannot be written, and what can write it."""
    return UsageError(
        f"GGUF export: {why}. llama.cpp's own converter may know it: harness model merge ARTIFACT, "
        f"then, in a clone of llama.cpp, {CONVERTER}"
    )


def splitting_of(tokenizer: Any) -> str:
    """Return llama.cpp's name for how this byte-level BPE splits text.

    Raises UsageError for every other tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise cannot("the tokenizer has no tokenizer.json")
    plain = json.loads(backend.to_str())
    if plain["model"].get("type") != "BPE" or plain["model"].get("byte_fallback"):
        raise cannot(f"its tokenizer is a {plain['model'].get('type')}, not a byte-level BPE")
    if plain.get("normalizer") is not None:
        raise cannot(f"its tokenizer changes text first ({plain['normalizer'].get('type')})")
    first = plain.get("pre_tokenizer") or {}
    steps = first.get("pretokenizers", []) if first.get("type") == "Sequence" else [first]
    known = [_step(step) for step in steps]
    names = {
        ("bytes+words",): "gpt-2",
        ("digits", "bytes+words"): "smollm",
        ("llama-3", "bytes"): "llama-bpe",
        ("qwen-2", "bytes"): "qwen2",
    }
    name = names.get(tuple(known))
    if name is None:
        raise cannot("its tokenizer splits text by rules that are not one of llama.cpp's")
    return name


def _step(step: dict[str, Any]) -> str:
    kind = step.get("type")
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return "bytes+words" if step.get("use_regex", True) else "bytes"
    if kind == "Digits" and step.get("individual_digits"):
        return "digits"
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        rule = step.get("pattern", {}).get("Regex")
        return {_LLAMA_3: "llama-3", _QWEN_2: "qwen-2"}.get(rule, "other")
    return "other"


def token_list(tokenizer: Any, *, size: int) -> tuple[list[str], list[int]]:
    """Return the text and type of every id up to `size`, the model's vocabulary."""
    from gguf import TokenType

    texts = {i: text for text, i in tokenizer.get_vocab().items()}
    if max(texts) >= size:
        raise cannot(f"its tokenizer has {max(texts) + 1} ids, its model {size}")
    added = tokenizer.added_tokens_decoder
    tokens, types = [], []
    for i in range(size):
        if i not in texts:  # the table of weights is longer than the vocabulary
            tokens.append(f"[PAD{i}]")
            types.append(int(TokenType.UNUSED))
            continue
        tokens.append(texts[i])
        kind = TokenType.NORMAL
        if i in added:
            kind = TokenType.CONTROL if added[i].special else TokenType.USER_DEFINED
        types.append(int(kind))
    return tokens, types


def merge_list(tokenizer: Any) -> list[str]:
    """Return the merges, each as its two parts with a space between."""
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [m if isinstance(m, str) else " ".join(m) for m in merges]


def add_vocabulary(writer: Any, tokenizer: Any, *, size: int, stops: Sequence[int]) -> None:
    """Write tokens, merges, special ids and how text begins and ends."""
    splitting = splitting_of(tokenizer)
    tokens, types = token_list(tokenizer, size=size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merge_list(tokenizer))
    named = {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
        # what ends a turn, where that is not what ends a text
        "eot": next((i for i in sorted(stops) if i != tokenizer.eos_token_id), None),
    }
    for name, number in named.items():
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(int(number))
    ids = tokenizer("a").input_ids
    writer.add_add_bos_token(ids[:1] == [tokenizer.bos_token_id])
    writer.add_add_eos_token(ids[-1:] == [tokenizer.eos_token_id])
    writer.add_key_value("tokenizer.ggml.add_space_prefix", False, _boolean())


def _boolean() -> Any:
    from gguf import GGUFValueType

    return GGUFValueType.BOOL
