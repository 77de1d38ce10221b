"""Training rows to token ids, shared by the tuners. Knows nothing of training.

The ids come from `harness_transformers.encoding`, which inference uses as well. No row is ever
cut or dropped: a reply that lost its end teaches a model never to stop.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness_transformers.encoding import IGNORED, encode_row

from harness import BackendError, PreparedRow, TuneJob, UsageError
from harness_trl.base import device_of, tokenizer_of
from harness_trl.recipe import read_recipe


def prepare_rows(job: TuneJob) -> tuple[PreparedRow, ...]:
    """Return one prepared row for each training row of `job`.

    Raises what `check_rows` raises.
    """
    recipe = read_recipe(job)
    device_of(recipe)  # a GPU that is not there is told before anything else
    tokenizer = tokenizer_of(job)
    rows = tuple(encode_row(tokenizer, row) for row in job.rows)
    check_rows(rows, max_length=recipe.max_length)
    return rows


def check_rows(rows: Sequence[PreparedRow], *, max_length: int) -> None:
    """Refuse what cannot be trained, with counts and what to do.

    Raises UsageError where there are no rows or some are longer than `max_length`, BackendError
    where rows teach nothing.
    """
    if not rows:
        raise UsageError(
            "there are no rows to train on: no case of the split `train` has a reference. "
            "Add cases with split train and a reference."
        )
    masked = [r.case_id for r in rows if not supervised_tokens(r)]
    if masked:
        empty = BackendError(
            f"{len(masked)} of {len(rows)} rows have no supervised token, so there is nothing to "
            f"learn from: {', '.join(masked[:5])}. Is the completion empty, or the template wrong?"
        )
        empty.case_ids = tuple(masked)
        raise empty
    longer = [r for r in rows if len(r.input_ids) > max_length]
    if not longer:
        return
    longest = max(longer, key=lambda r: len(r.input_ids))
    named = ", ".join(r.case_id for r in longer[:5])
    too_long = UsageError(
        f"{len(longer)} of {len(rows)} training rows are longer than max_length = {max_length} "
        f"tokens; the longest is {longest.case_id} with {len(longest.input_ids)}. Rows are not "
        "cut, for a cut reply never ends. Set "
        f"max_length = {len(longest.input_ids)} in the recipe, train with a shorter prompt, or "
        f"take out: {named}{' ...' if len(longer) > 5 else ''}."
    )
    too_long.case_ids = tuple(r.case_id for r in longer)
    raise too_long


def supervised_tokens(row: PreparedRow) -> int:
    """Return how many tokens of a row are learnt."""
    return sum(label != IGNORED for label in row.labels)
