"""Why two prompts differ in their ids: the difference, shown, and named after its usual cause.

Knows nothing of tokenizers or models; `decode` turns ids into text for messages and for telling
"the same text in other tokens" from "another text". Each side has a decoder of its own, for their
tokenizers may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set as AbstractSet
from dataclasses import dataclass

from harness.core.parity_texts import has_thinking, holds_date, text_cause
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """One row of both sides: `trained` ends where supervision begins, `supervised` follows."""

    row: TrainingRow
    trained: tuple[int, ...]
    supervised: tuple[int, ...]
    served: tuple[int, ...]
    decode: Decode
    served_decode: Decode
    specials: AbstractSet[int]

    @property
    def at(self) -> int:
        """The first difference."""
        return common_length(self.trained, self.served)


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
    row: TrainingRow,
    ids: Sequence[int],
    *,
    start: int,
    served: Sequence[int],
    decode: Decode,
    served_decode: Decode | None = None,
    specials: AbstractSet[int] = frozenset(),
) -> Difference | None:
    """Return how the ids before the first supervised token differ from those served, if they do.

    `ids` is the whole trained row, supervised from `start`.
    """
    sides = _Sides(
        row=row,
        trained=tuple(ids[:start]),
        supervised=tuple(ids[start:]),
        served=tuple(served),
        decode=decode,
        served_decode=served_decode or decode,
        specials=specials,
    )
    if sides.trained == sides.served:
        return None
    name, why = _cause(sides)
    return Difference(
        name=name,
        detail=(
            f"{why}. First difference at token {sides.at} (prompt: {len(sides.trained)} trained, "
            f"{len(sides.served)} served): trained "
            f"{around(ids, sides.at, decode=decode, start=start)}; "
            f"served {around(sides.served, sides.at, decode=sides.served_decode)}"
        ),
    )


def _cause(sides: _Sides) -> tuple[str, str]:
    trained, served, at, decode = sides.trained, sides.served, sides.at, sides.decode
    if (trained[:1] + trained == served) or (served[:1] + served == trained):
        side = "served" if len(served) > len(trained) else "trained"
        return "double-bos", f"the {side} prompt begins twice with {decode(trained[:1])!r}"
    if at == len(trained) and sides.supervised[: len(served) - at] == served[at:]:
        if has_thinking((extra := sides.served_decode(served[at:]))[:12]):
            return _thinking(extra, lacks="trained")
        return "prompt-supervised", "labels begin within the prompt: the model learns to ask"
    if at == len(served) and sides.row.completion.startswith(decode(trained[at:])):
        return "completion-masked", "labels begin too late: the head of the reply is masked"
    whole = decode(trained + sides.supervised)
    if at < len(served) and whole.startswith(sides.served_decode(served)):
        return _other_tokens(sides)
    return (
        _ended_early(sides)
        or _inserted(sides)
        or text_cause(
            sides.row,
            decode(trained),
            served=sides.served_decode(served),
            specials=tuple(t for i in sorted(sides.specials) if (t := decode([i])).strip()),
        )
        or ("prefix-differs", "trained and served prompts differ")
    )


def _other_tokens(sides: _Sides) -> tuple[str, str]:
    """The texts are one, and the ids are not."""
    at = sides.at
    pairs = (("trained", sides.trained, sides.served), ("served", sides.served, sides.trained))
    for side, ids, others in pairs:
        if at >= len(ids) or at >= len(others) or ids[at] not in sides.specials:
            continue
        whole, piece = (sides.decode([i]) for i in (ids[at], others[at]))
        if whole.startswith(piece) and whole != piece:
            other = "served" if side == "trained" else "trained"
            return "special-split", (
                f"{whole!r} is control token {ids[at]} in the {side} prompt, and spelt out in "
                f"ordinary ones in the {other} prompt: that tokenizer does not know it"
            )
    if at >= len(sides.served) - SEAM:
        return "seam-merge", (
            "the end of the prompt and the head of the reply merge into one token when "
            "trained, which cannot happen when served; end the prompt without a space, or "
            "put a line break there"
        )
    return "other-tokens", (
        "the same text is cut into other tokens: the tokenizers differ in their words, merges or "
        "rules of cutting. Serve the tokenizer that was saved with the artifact"
    )


def _ended_early(sides: _Sides) -> tuple[str, str] | None:
    """One prompt is the head of the other."""
    at = sides.at
    for side, whole, decode, shorter in (
        ("served", sides.trained, sides.decode, sides.served),
        ("trained", sides.served, sides.served_decode, sides.trained),
    ):
        if at != len(shorter):
            continue
        extra = decode(whole[at:])
        if has_thinking(extra[:12]):
            return _thinking(extra, lacks=side)
        where = "at inference" if side == "served" else "in training"
        return "generation-prompt", (
            f"{side} prompts lack the opening of the reply, {extra!r}: "
            f"add_generation_prompt is forgotten {where}"
        )
    return None


def _thinking(extra: str, *, lacks: str) -> tuple[str, str]:
    return "thinking", (
        f"{lacks} prompts lack {extra[:80]!r}: the template's switch for thinking "
        "(enable_thinking) stands otherwise on the two sides"
    )


def _inserted(sides: _Sides) -> tuple[str, str] | None:
    """One side is the other with a block put in."""
    row, at, trained, served = sides.row, sides.at, sides.trained, sides.served
    side, longer, shorter, decode = (
        ("trained", trained, served, sides.decode)
        if len(trained) > len(served)
        else ("served", served, trained, sides.served_decode)
    )
    more = len(longer) - len(shorter)
    if not more or longer[:at] + longer[at + more :] != shorter:
        return None
    text = decode(longer[at : at + more])
    opening = decode(longer[:at])
    other = "trained" if side == "served" else "served"
    if at == 0 and more == 1:
        return "bos-on-one-side", f"only the {side} prompt begins with {text!r}"
    if has_thinking(text):
        return _thinking(text, lacks=other)
    if all(i in sides.specials for i in longer[at : at + more]):
        return "specials-differ", (
            f"the {other} prompt lacks the control token {text!r}: its template or tokenizer "
            "leaves it out"
        )
    if holds_date(text):
        return "date-in-template", (
            f"only the {side} prompt tells the day, {text[:80]!r}: the templates differ"
        )
    names = _tool_names(row)
    if names and all(name in text for name in names):
        return "tools-lost", (
            f"only the {side} prompt shows the tools ({', '.join(names)}): the {other} template "
            "or server leaves them out"
        )
    has_system = any(m.role == "system" for m in row.messages)
    is_before_all = bool(row.messages) and row.messages[0].content not in opening
    if not has_system and is_before_all and not any(text in m.content for m in row.messages):
        return "default-system-prompt", (
            f"the template puts a system turn of its own into the {side} prompt only, "
            f"{text[:80]!r}: write a system section into the prompt, so that both sides have it"
        )
    if not text.strip():
        return "white-space", f"the {side} prompt has white space more, {text!r}"
    return "prefix-differs", f"the {side} prompt has {more} tokens more, {text[:80]!r}"


def _tool_names(row: TrainingRow) -> list[str]:
    found = []
    for tool in row.tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else {}
        name = function.get("name") if isinstance(function, dict) else None
        found += [name] if isinstance(name, str) else []
    return found


def text_of(ids: Sequence[int], *, span: tuple[int, int], decode: Decode) -> tuple[str, ...]:
    """Return the text of a span, read alone and in its context: some eat a leading space."""
    start, end = span
    alone, before, whole = decode(ids[start:end]), decode(ids[:start]), decode(ids[:end])
    return (alone, whole[len(before) :]) if whole.startswith(before) else (alone,)
