"""Why two prompts differ in their ids: the difference, shown, and named after its usual cause.

Knows nothing of tokenizers or models; `decode` turns ids into text for messages and for telling
"the same text in other tokens" from "another text".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.records import TrainingRow

Decode = Callable[[Sequence[int]], str]
CONTEXT = 3
SEAM = 3
"""Within so many tokens of the prompt's end, other tokens for one text mean a merged seam."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A named cause; `detail` shows the first difference with its neighbours."""

    name: str
    detail: str


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many leading items two sequences share."""
    at = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        at += 1
    return at


def around(ids: Sequence[int], at: int, *, decode: Decode, start: int | None = None) -> str:
    """Return token `at` in brackets with three tokens on each side, as `id='text'`.

    A bar stands before token `start`, the first supervised one.
    """
    shown = ["..."] if at > CONTEXT else []
    for index in range(max(0, at - CONTEXT), min(len(ids), at + CONTEXT + 1)):
        token = f"{ids[index]}={decode(ids[index : index + 1])!r}"
        shown += ["|"] if index == start else []
        shown.append(f"[{token}]" if index == at else token)
    if at >= len(ids):
        shown.append("[end]")
    elif at + CONTEXT + 1 < len(ids):
        shown.append("...")
    return " ".join(shown)


def prefix_difference(
    row: TrainingRow, ids: Sequence[int], *, start: int, served: Sequence[int], decode: Decode
) -> Difference | None:
    """Return how the ids before the first supervised token differ from those served, if they do.

    `ids` is the whole trained row, supervised from `start`.
    """
    trained = tuple(ids[:start])
    served = tuple(served)
    if trained == served:
        return None
    at = common_length(trained, served)
    name, why = _cause(row, tuple(ids), start=start, served=served, decode=decode)
    return Difference(
        name=name,
        detail=(
            f"{why}. First difference at token {at} (prompt: {len(trained)} trained, "
            f"{len(served)} served): trained {around(ids, at, decode=decode, start=start)}; "
            f"served {around(served, at, decode=decode)}"
        ),
    )


def _cause(
    row: TrainingRow, ids: tuple[int, ...], *, start: int, served: tuple[int, ...], decode: Decode
) -> tuple[str, str]:
    trained, supervised = ids[:start], ids[start:]
    at = common_length(trained, served)
    if (trained[:1] + trained == served) or (served[:1] + served == trained):
        side = "served" if len(served) > len(trained) else "trained"
        return "double-bos", f"the {side} prompt begins twice with {decode(trained[:1])!r}"
    if at == len(trained) and supervised[: len(served) - at] == served[at:]:
        return "prompt-supervised", "labels begin within the prompt: the model learns to ask"
    if at == len(served) and row.completion.startswith(decode(trained[at:])):
        return "completion-masked", "labels begin too late: the head of the reply is masked"
    if decode(ids).startswith(decode(served)):
        near = at >= len(served) - SEAM
        if near and at < len(served):
            return "seam-merge", (
                "the end of the prompt and the head of the reply merge into one token when "
                "trained, which cannot happen when served; end the prompt without a space, or "
                "put a line break there"
            )
        if at < len(served):
            return "other-tokens", "the same text is cut into other tokens"
    if at == len(served):
        extra = decode(trained[at:])
        return "generation-prompt", (
            f"served prompts lack the opening of the reply, {extra!r}: "
            "add_generation_prompt is forgotten at inference"
        )
    if at == len(trained):
        extra = decode(served[at:])
        return "generation-prompt", (
            f"trained prompts lack the opening of the reply, {extra!r}: "
            "add_generation_prompt is forgotten in training"
        )
    return _inserted(row, trained, served=served, at=at, decode=decode) or (
        "prefix-differs",
        "trained and served prompts differ",
    )


def _inserted(
    row: TrainingRow, trained: tuple[int, ...], *, served: tuple[int, ...], at: int, decode: Decode
) -> tuple[str, str] | None:
    """One side is the other with a block put in."""
    side, longer, shorter = (
        ("trained", trained, served) if len(trained) > len(served) else ("served", served, trained)
    )
    more = len(longer) - len(shorter)
    if not more or longer[:at] + longer[at + more :] != shorter:
        return None
    text = decode(longer[at : at + more])
    has_system = any(m.role == "system" for m in row.messages)
    opening = decode(longer[:at])
    is_before_all = bool(row.messages) and row.messages[0].content not in opening
    if at == 0 and more == 1:
        return "bos-on-one-side", f"only the {side} prompt begins with {text!r}"
    if not has_system and is_before_all and not any(text in m.content for m in row.messages):
        return "default-system-prompt", (
            f"the template puts a system turn of its own into the {side} prompt only, "
            f"{text[:80]!r}: write a system section into the prompt, so that both sides have it"
        )
    return "prefix-differs", f"the {side} prompt has {more} tokens more, {text[:80]!r}"
