"""The images of training rows, made anew for each batch: pixels are never held for all rows.

Knows nothing of losses. What a batch is given is held to what was prepared: the same ids, and the
same pixels by their digest.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from harness_transformers.encoding import IGNORED, row_seen
from harness_transformers.vision import Seen, joined, pixel_digest, sees

from harness import BackendError, PreparedRow, TrainingRow, TuneJob, UsageError
from harness_trl.base import parts_of_job, tokenizer_of


class Pictures:
    """What a model that sees is given beside ids and labels."""

    def __init__(self, job: TuneJob) -> None:
        self._tokenizer = tokenizer_of(job)
        self._rows = {row.case_id: row for row in job.rows}

    def of(self, rows: Sequence[PreparedRow], *, model: Any) -> dict[str, Any]:
        """Return the tensors of a batch whose rows begin at the left.

        Raises BackendError where they are not what was prepared.
        """
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        width = max(len(row.input_ids) for row in rows)
        seen = [self._seen(row) if row.pixels else None for row in rows]
        made = joined(seen, starts=[0] * len(rows), width=width, model=inner)
        # Gemma's way to tell its images from its text: it asks for it in training, image or not.
        if "token_type_ids" in inspect.signature(inner.forward).parameters:
            made.setdefault("token_type_ids", _zeros(len(rows), width, inner))
        return made

    def _seen(self, row: PreparedRow) -> Seen:
        seen = row_seen(self._tokenizer, self._rows[row.case_id])
        if seen.ids != row.input_ids or pixel_digest(seen.tensors) != row.pixels:
            raise BackendError(
                f"row {row.case_id}: its images do not become what they became when it was "
                "prepared (another version of transformers or Pillow?). Prepare it again."
            )
        return seen


def pictures_of(job: TuneJob) -> Pictures | None:
    """Return where the images of a job's rows come from; None where its model does not see."""
    return Pictures(job) if sees(parts_of_job(job).model) else None


def refuse_images(rows: Sequence[TrainingRow], *, what: str) -> None:
    """Raise UsageError where rows have images that `what` would not train on."""
    pictured = tuple(row.case_id for row in rows if any(m.images for m in row.messages))
    if pictured:
        refused = UsageError(
            f"{what} takes no images, and {len(pictured)} of {len(rows)} rows have some: "
            f"{', '.join(pictured[:5])}. The tuners torch-lora and trl-sft take them."
        )
        refused.case_ids = pictured
        raise refused


def collator(rows: Sequence[PreparedRow], pictures: Pictures, *, model: Any) -> Any:
    """Return what makes a trainer's batch of items that hold only a `row`, its number.

    TRL's own collator for images would render and tokenise the conversations by itself.
    """
    import torch

    def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        some = [rows[int(item["row"])] for item in items]
        width = max(len(row.input_ids) for row in some)
        ids = torch.zeros((len(some), width), dtype=torch.long)
        labels = torch.full((len(some), width), IGNORED)
        mask = torch.zeros((len(some), width), dtype=torch.long)
        for at, row in enumerate(some):
            length = len(row.input_ids)
            ids[at, :length] = torch.tensor(row.input_ids)
            labels[at, :length] = torch.tensor(row.labels)
            mask[at, :length] = 1
        plain = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {**plain, **pictures.of(some, model=model)}

    return collate


def _zeros(rows: int, width: int, model: Any) -> Any:
    import torch

    return torch.zeros((rows, width), dtype=torch.long, device=model.device)
