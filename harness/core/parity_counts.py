"""Parity where a server shows no ids: only how many tokens a prompt has there.

Knows nothing of servers. Equal counts do not show equal ids; a count that differs shows a mismatch,
and the way in which it differs over the rows tells its usual cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set as AbstractSet

from harness.core.parity_causes import Decode
from harness.records import ParityFinding, TrainingRow

_OPENING = 12
"""The opening of a reply has at most so many tokens."""


def check_counts(
    rows: Sequence[TrainingRow],
    trained: Mapping[str, Sequence[int]],
    *,
    counts: Mapping[str, int],
    decode: Decode,
    special_ids: AbstractSet[int],
) -> tuple[ParityFinding, ...]:
    """Return at most one finding: in how many rows the served prompt has another length, and why.

    `trained` are prompt ids and `counts` their served lengths, by case id.
    """
    by_id = {row.case_id: row for row in rows}
    apart = {c: counts[c] - len(trained[c]) for c in counts if counts[c] != len(trained[c])}
    if not apart:
        return ()
    first = next(iter(apart))
    name, why = _cause(apart, by_id, trained, len(counts), decode=decode, special_ids=special_ids)
    detail = (
        f"{why}. {len(trained[first])} tokens trained, {counts[first]} served "
        f"[{len(apart)} of {len(counts)} rows]"
    )
    return (ParityFinding(severity="fail", name=name, case_id=first, detail=detail),)


def _cause(
    apart: Mapping[str, int],
    rows: Mapping[str, TrainingRow],
    trained: Mapping[str, Sequence[int]],
    total: int,
    *,
    decode: Decode,
    special_ids: AbstractSet[int],
) -> tuple[str, str]:
    steps = set(apart.values())
    step = next(iter(steps))
    if len(steps) > 1:
        return "count-differs", (
            "the served prompts have other lengths, by no constant: another template or tokenizer"
        )
    if len(apart) < total:
        bare = {c for c, r in rows.items() if not any(m.role == "system" for m in r.messages)}
        if set(apart) <= bare and bare & set(trained) <= set(apart):
            side = "served" if step > 0 else "trained"
            return "count-system-prompt", (
                f"just the prompts without a system section differ, each by {abs(step)}: the "
                f"template puts one of its own into the {side} prompts"
            )
        return "count-differs", f"some served prompts have {abs(step)} tokens {_more(step)}"
    if step == 1:
        return "count-bos", "each served prompt has one token more: a beginning of text, twice?"
    if step < 0 and (opening := _opening(trained, -step, special_ids)):
        return "count-generation-prompt", (
            f"each served prompt lacks {-step} tokens, as many as the opening of the reply has, "
            f"{decode(opening)!r}: add_generation_prompt is forgotten by the server"
        )
    if step == -1:
        return "count-bos", "each served prompt has one token fewer: no beginning of text?"
    return "count-differs", (
        f"each served prompt has {abs(step)} tokens {_more(step)}: another template (a system "
        "section of its own, a block for thinking, tools)"
    )


def _more(step: int) -> str:
    return "more" if step > 0 else "fewer"


def _opening(
    trained: Mapping[str, Sequence[int]], length: int, special_ids: AbstractSet[int]
) -> tuple[int, ...] | None:
    """The last `length` ids of every prompt, where they are the same and begin with a control
    token.
    """
    tails = {tuple(ids[-length:]) for ids in trained.values()}
    if length > _OPENING or len(tails) != 1:
        return None
    [tail] = tails
    return tail if tail[0] in special_ids else None
