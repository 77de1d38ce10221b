"""Preferences as token ids, and as the columns that TRL's trainers read. Knows nothing of losses.

TRL's trainers tokenise conversations by themselves; here they are given what their own preparation
would make of them, made by the one encoder, so that what is trained is what was prepared.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from harness_transformers.encoding import IGNORED, encode_pair

from harness import BackendError, PreparedRow, TrainingRow, TuneJob, UsageError
from harness_trl.base import tokenizer_of
from harness_trl.pictures import refuse_images
from harness_trl.recipe import Recipe
from harness_trl.rows import check_rows

Columns = list[dict[str, Any]]


def prepare_pairs(job: TuneJob, *, recipe: Recipe) -> tuple[PreparedRow, ...]:
    """Return one prepared pair for each row of `job`.

    Raises UsageError where a row is no preference, and what `check_pairs` raises.
    """
    check_preferences(job.rows)
    refuse_images(job.rows, what="a training on preferences")
    tokenizer = tokenizer_of(job)
    rows = tuple(encode_pair(tokenizer, row) for row in job.rows)
    check_pairs(rows, max_length=recipe.max_length)
    return rows


def check_preferences(rows: Sequence[TrainingRow]) -> None:
    """Raise UsageError, with counts, where a row does not say which of two replies is better."""
    for problem, wrong in (
        ("no `rejected` reply", [r for r in rows if r.rejected is None]),
        ("a tool call for a reply, where texts are compared", [r for r in rows if r.calls]),
        ("an empty reply", [r for r in rows if not all(map(str.strip, _sides(r)))]),
        ("two equal replies", [r for r in rows if r.completion == r.rejected]),
    ):
        if wrong:
            named = ", ".join(r.case_id for r in wrong[:5])
            refused = UsageError(
                f"{len(wrong)} of {len(rows)} rows have {problem}: {named}"
                f"{' ...' if len(wrong) > 5 else ''}. A preference is a case with a `reference` "
                "and a `rejected` reply that is worse."
            )
            refused.case_ids = tuple(r.case_id for r in wrong)
            raise refused


def _sides(row: TrainingRow) -> tuple[str, str]:
    return row.completion, row.rejected or ""


def check_pairs(rows: Sequence[PreparedRow], *, max_length: int) -> None:
    """Refuse pairs that cannot be trained: either side as `check_rows`, and one prompt for both.

    The error names the rows that it is about in its `case_ids`.
    """
    check_rows(rows, max_length=max_length)
    apart = [
        row.case_id
        for row in rows
        if row.rejected_ids[: prompt_length(row)] != row.input_ids[: prompt_length(row)]
    ]
    if apart:
        refused = BackendError(
            f"in {len(apart)} of {len(rows)} rows the two replies follow different prompts: "
            f"{', '.join(apart[:5])}. Does the template look ahead at the reply?"
        )
        refused.case_ids = tuple(apart)
        raise refused
    check_rows([other_side(row) for row in rows], max_length=max_length)


def other_side(row: PreparedRow) -> PreparedRow:
    """Return the rejected reply as a row of its own."""
    return PreparedRow(case_id=row.case_id, input_ids=row.rejected_ids, labels=row.rejected_labels)


def prompt_length(row: PreparedRow) -> int:
    """Return how many tokens stand before the first supervised one."""
    return next((i for i, label in enumerate(row.labels) if label != IGNORED), len(row.labels))


def pair_columns(rows: Sequence[PreparedRow]) -> Columns:
    """What DPO's trainer reads."""
    return [
        {
            "prompt_ids": list(row.input_ids[: prompt_length(row)]),
            "chosen_ids": list(row.input_ids[prompt_length(row) :]),
            "rejected_ids": list(row.rejected_ids[prompt_length(row) :]),
        }
        for row in rows
    ]


def whole_columns(rows: Sequence[PreparedRow]) -> Columns:
    """What the reward model's trainer reads: each side whole."""
    return [
        {"chosen_ids": list(row.input_ids), "rejected_ids": list(row.rejected_ids)} for row in rows
    ]


def labelled_columns(rows: Sequence[PreparedRow]) -> Columns:
    """What ORPO's trainer reads."""
    return [
        {
            f"{side}_{name}": value
            for side, ids, labels in (
                ("chosen", row.input_ids, row.labels),
                ("rejected", row.rejected_ids, row.rejected_labels),
            )
            for name, value in (
                ("input_ids", list(ids)),
                ("attention_mask", [1] * len(ids)),
                ("labels", list(labels)),
            )
        }
        for row in rows
    ]


def unpaired_columns(rows: Sequence[PreparedRow], *, batch_size: int, seed: int) -> Columns:
    """What KTO's trainer reads: each reply alone, with whether it is wanted.

    KTO measures how far the model has moved by replies that stand after a prompt that is not
    theirs, taken from the same batch in a fixed order. TRL would fill whole batches with wanted
    replies and then with unwanted ones; here they take turns, and the two replies to one prompt
    stand half the data apart, so that a stranger's reply is one.
    """
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    pairs = pair_columns(rows)
    turned = order[len(order) // 2 :] + order[: len(order) // 2]
    single: Columns = []
    for one, other in zip(order, turned, strict=True):
        for number, side, is_wanted in ((one, "chosen", True), (other, "rejected", False)):
            single.append(
                {
                    "prompt_ids": pairs[number]["prompt_ids"],
                    "completion_ids": pairs[number][f"{side}_ids"],
                    "label": is_wanted,
                }
            )
    for start in range(0, len(single), batch_size):
        batch = single[start : start + batch_size]
        for row, before in zip(batch, [batch[-1], *batch[:-1]], strict=True):
            row["KL_completion_ids"] = before["completion_ids"]
    return single
