"""Tokenizers of six families with their chat templates, trained here on a few lines.

Each copies how a family of today's models cuts text, where it puts its beginning of text, and how
its template opens and closes a turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness_transformers.encoding import use_kwargs

from tests.plugins.tiny import CHATML, TEXT

LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}[SYS]{{ m.content }}[/SYS]\n"
    "{% elif m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
THINKING = (
    "{% if tools %}<|im_start|>system\n# Tools\n"
    "{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
PLAINER = (
    "{% for m in messages %}{{ '<user>' if m.role == 'user' else '<bot>' }}{{ m.content }}"
    "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family makes ids. `ends` are the ids that its generation config names."""

    make: Callable[[], Any]
    template: str
    bos: str
    eos: str
    pad: str
    specials: Sequence[str]
    kwargs: Mapping[str, Any] | None = None


def _byte_level(specials: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT * 4, trainer)
    return made


def _metaspace(specials: Sequence[str]) -> Any:
    """As sentencepiece cuts: spaces are letters, what is unknown is spelt in bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learnt = Tokenizer(models.BPE(unk_token="<unk>"))
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(specials), show_progress=False
    )
    learnt.train_from_iterator(TEXT * 4, trainer)
    plain = json.loads(learnt.to_str())["model"]
    words = plain["vocab"]
    for i in range(256):
        words.setdefault(f"<0x{i:02X}>", len(words))
    merges = [tuple(pair) for pair in plain["merges"]]
    made = Tokenizer(models.BPE(words, merges, byte_fallback=True, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made


def _unigram(specials: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Metaspace(prepend_scheme="never")
    letters = sorted({c for line in [*TEXT, *LETTERS] for c in line} - {" "})
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=list(specials),
        unk_token="<unk>",
        initial_alphabet=letters,
        show_progress=False,
    )
    made.train_from_iterator(TEXT * 4, trainer)
    return made


LETTERS = [
    "\n\t#<>&'{}[]_-:;.,!?/\\\"()=+*%$",
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789äöüßéï☃数え🎉",
]
TURNS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HEADERS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
FAMILIES = {
    "chatml": Family(
        make=lambda: _byte_level(TURNS), template=CHATML,
        bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>", specials=TURNS,
    ),
    "llama2": Family(
        make=lambda: _metaspace(["<unk>", "<s>", "</s>"]), template=LLAMA2,
        bos="<s>", eos="</s>", pad="<unk>", specials=["<unk>", "<s>", "</s>"],
    ),
    "unigram": Family(
        make=lambda: _unigram(["<unk>", "<pad>", "</s>", "<user>", "<bot>"]), template=PLAINER,
        bos="", eos="</s>", pad="<pad>", specials=["<unk>", "<pad>", "</s>", "<user>", "<bot>"],
    ),
    "gemma": Family(
        make=lambda: _metaspace(
            ["<unk>", "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
        ),
        template=GEMMA, bos="<bos>", eos="<eos>", pad="<pad>",
        specials=["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
    ),
    "llama3": Family(
        make=lambda: _byte_level([*HEADERS, "<|eot_id|>"]), template=LLAMA3,
        bos="<|begin_of_text|>", eos="<|eot_id|>", pad="<|end_of_text|>",
        specials=[*HEADERS, "<|eot_id|>"],
    ),
    "thinking": Family(
        make=lambda: _byte_level(TURNS), template=THINKING,
        bos="", eos="<|im_end|>", pad="<|endoftext|>", specials=TURNS,
        kwargs={"enable_thinking": False},
    ),
}  # fmt: skip


def make_tokenizer(name: str, *, template: str | None = None) -> Any:
    """Return the tokenizer of a family, perhaps with another template."""
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    made = PreTrainedTokenizerFast(
        tokenizer_object=family.make(),
        bos_token=family.bos or None,
        eos_token=family.eos,
        pad_token=family.pad,
        unk_token="<unk>" if "<unk>" in family.specials else None,
        additional_special_tokens=[
            s for s in family.specials if s not in {family.bos, family.eos, family.pad, "<unk>"}
        ],
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = template or family.template
    use_kwargs(made, family.kwargs)
    return made
