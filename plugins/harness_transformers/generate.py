"""A batch of prompts to their replies: the loop. Knows nothing of requests' origin or threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import Decoding
from harness_transformers.sampling import choose
from harness_transformers.sessions import Session


@dataclass(slots=True)
class Row:
    """One reply in the making. `source` is its random generator, where it is drawn."""

    new_tokens: int
    source: Any = None
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""


def generate(
    session: Session,
    rows: Sequence[Row],
    *,
    decoding: Decoding,
    stops: frozenset[int],
    decode: Callable[[Sequence[int]], str],
    constraint: Any = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fill `rows` with their replies; a row ends at a stop id, a stop text or its limit.

    Rows that are done leave the batch once they are a quarter of it.
    """
    live = list(rows)
    logits = session.start().float()
    while True:
        if constraint is not None:
            constraint.mask(logits)
        tokens = choose(logits, decoding, [row.source for row in live])
        ends = [False] * len(live) if constraint is None else constraint.accept(tokens)
        for row, token, is_end in zip(live, tokens, ends, strict=True):
            if not row.finish_reason:
                _extend(row, token, stops=stops, is_end=is_end, decoding=decoding, decode=decode)
        going = [i for i, row in enumerate(live) if not row.finish_reason]
        if not going or is_cancelled():
            return
        if len(going) <= 0.75 * len(live):
            session.keep(going)
            live = [live[i] for i in going]
            tokens = [tokens[i] for i in going]
            if constraint is not None:
                constraint.keep(going)
        logits = session.step(tokens).float()


def _extend(
    row: Row,
    token: int,
    *,
    stops: frozenset[int],
    is_end: bool,
    decoding: Decoding,
    decode: Callable[[Sequence[int]], str],
) -> None:
    row.ids.append(token)
    text = None
    if decoding.stop:
        text = decode(row.ids)
        cuts = [at for at in (text.find(stop) for stop in decoding.stop) if at >= 0]
        if cuts:
            row.text, row.finish_reason = text[: min(cuts)], "stop"
            return
    if token in stops or is_end:
        row.finish_reason = "stop"
    elif len(row.ids) >= row.new_tokens:
        row.finish_reason = "length"
    if row.finish_reason:
        row.text = decode(row.ids) if text is None else text
