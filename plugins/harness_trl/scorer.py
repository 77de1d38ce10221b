"""Loads what `trl-reward` made, and asks it what a reply is worth. Knows nothing of training.

scorer = load_scorer("smollm2-135m", artifact=folder)
scorer.score([Message(role="user", content="...")], "the reply")   # higher is better
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness_transformers.artifacts import parts_of
from harness_transformers.encoding import encode_row
from harness_transformers.models import choose_device, find_model, load_tokenizer

from harness import Message, PreparedRow, TrainingRow
from harness_trl.guests import quiet_libraries


class Scorer:
    """A reward model. Its numbers have no scale: only differences between replies to one prompt
    mean something.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._tokenizer = tokenizer

    def score(self, messages: Sequence[Message], text: str) -> float:
        """Return what `text` is worth as the reply to `messages`."""
        row = TrainingRow(case_id="", messages=tuple(messages), completion=text)
        return self.scores([encode_row(self._tokenizer, row)])[0]

    def scores(self, rows: Sequence[PreparedRow], *, batch_size: int = 16) -> list[float]:
        """Return what the reply of each prepared row is worth."""
        import torch

        found: list[float] = []
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            width = max(len(row.input_ids) for row in some)
            pad = self._model.config.get_text_config().pad_token_id
            ids = torch.full((len(some), width), pad)
            mask = torch.zeros(len(some), width, dtype=torch.long)
            for index, row in enumerate(some):
                ids[index, : len(row.input_ids)] = torch.tensor(row.input_ids)
                mask[index, : len(row.input_ids)] = 1
            with torch.inference_mode():
                logits = self._model(
                    input_ids=ids.to(self._model.device), attention_mask=mask.to(self._model.device)
                ).logits
            found += logits[:, 0].float().tolist()
        return found


def load_scorer(base: str, *, artifact: Path, cache_dir: Path | None = None) -> Scorer:
    """Return the reward model in the folder `artifact`, on its base.

    Raises UsageError where the artifact is no scorer, or was made for another base.
    """
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    parts = parts_of(find_model(base, cache_dir=cache_dir), artifact, name=base, wants="scorer")
    assert parts.adapter is not None
    tokenizer = load_tokenizer(parts.tokenizer)
    with quiet_libraries():
        model = AutoModelForSequenceClassification.from_pretrained(
            str(parts.model),
            num_labels=1,
            dtype="float32",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        model.config.get_text_config().pad_token_id = (
            tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )
        model = PeftModel.from_pretrained(model, str(parts.adapter), is_trainable=False)
    return Scorer(model.to(choose_device()).eval(), tokenizer)
