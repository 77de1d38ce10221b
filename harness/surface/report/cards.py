"""Turns one reply into a card: its words, what fits, what goes to the island. Knows no HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records import Decoding, Json, Message, Reply, Request
from harness.surface.report import words
from harness.surface.report.diff import Piece, likeness, word_diff
from harness.surface.report.island import Island, Placed
from harness.surface.report.model import ReplyView
from harness.surface.report.summaries import as_text

SENT_BUDGET = 160_000
"""Characters of prompts that stand in the page itself; the others are in the island."""
BODY_BUDGET = 1_000_000
"""Characters of case bodies in the page itself; further cases are built by the script."""


@dataclass(slots=True)
class Budget:
    """What is left of the page for prompts and for case bodies, in characters."""

    sent: int = SENT_BUDGET
    body: int = BODY_BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLine:
    """One score of a reply."""

    name: str
    status: str
    value: str
    reason: Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A prompt as sent: its messages, or their place in the island."""

    label: str
    settings: str
    messages: tuple[tuple[str, str], ...] = ()
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One reply, ready to be shown."""

    candidate: str
    role: str
    status: str
    primary: str
    repeat: int
    text: Placed | None
    pieces: tuple[Piece, ...] | None
    likeness: str
    tool_calls: Placed | None
    scores: tuple[ScoreLine, ...]
    fault: tuple[str, Placed] | None
    facts: tuple[str, ...]
    key: str
    sent: Sent | None


def worth(reply: ReplyView) -> float | None:
    """Return the primary score that counts: a failure of the system under test is a miss."""
    if reply.primary is not None:
        return reply.primary
    fault = reply.trial.fault
    return 0.0 if fault is not None and not fault.is_missing else None


def mean_worth(replies: Sequence[ReplyView]) -> float | None:
    """Return the mean worth of repeats, or None where none of them can be judged."""
    known = [w for w in map(worth, replies) if w is not None]
    return sum(known) / len(known) if known else None


def status_of(value: float | None) -> str:
    """Return a score as a word of the style sheet."""
    if value is None:
        return "open"
    return "pass" if value >= 1 else "miss" if value <= 0 else "part"


def weight(text: str) -> int:
    """Return how many characters `text` takes in the page, where quotes and signs are escaped."""
    return len(text) + 4 * sum(text.count(sign) for sign in "\"'&<>")


def card_of(
    view: ReplyView, role: str, *, reference: str | None, island: Island, budget: Budget
) -> Card:
    """Return the card of one reply, which stands in its case as `role`."""
    reply, fault = view.reply, view.trial.fault
    text = None if reply is None else island.place(reply.text)
    is_whole = text is not None and text.index is None
    return Card(
        candidate=view.candidate,
        role=role,
        status="fault" if fault is not None else status_of(worth(view)),
        primary="fault" if fault is not None else _primary(view),
        repeat=view.trial.repeat,
        text=text,
        pieces=word_diff(reference, reply.text)
        if reply is not None and reference is not None and is_whole
        else None,
        likeness="" if reply is None else likeness(reference, reply.text),
        tool_calls=island.place(as_text(list(reply.tool_calls)))
        if reply is not None and reply.tool_calls
        else None,
        scores=tuple(
            ScoreLine(
                name=s.name,
                status=status_of(s.value),
                value="not scored" if s.value is None else words.percent(s.value),
                reason=island.place(s.reason),
            )
            for s in view.trial.scores
        ),
        fault=None
        if fault is None
        else (
            f"{fault.origin} fault, " + ("counted as missing" if fault.is_missing else "a failure"),
            island.place(fault.message),
        ),
        facts=() if reply is None else _facts(reply),
        key=view.trial.reply_key or "",
        sent=None if view.request is None else _sent(view.request, island=island, budget=budget),
    )


def _primary(view: ReplyView) -> str:
    value = worth(view)
    return {"open": "not scored", "pass": "pass", "miss": "miss"}.get(
        status_of(value), words.percent(value)
    )


def _facts(reply: Reply) -> tuple[str, ...]:
    tokens = ""
    if reply.input_tokens is not None or reply.output_tokens is not None:
        tokens = f"{words.number(reply.input_tokens)} → {words.number(reply.output_tokens)} tokens"
    said = (
        tokens,
        words.seconds(reply.latency_s) if reply.latency_s is not None else "",
        words.usd(reply.cost_usd) if reply.cost_usd is not None else "",
        f"ended by {reply.finish_reason}" if reply.finish_reason else "",
        reply.model or "",
    )
    return tuple(s for s in said if s)


def _sent(request: Request, *, island: Island, budget: Budget) -> Sent:
    messages = [turn for message in request.messages for turn in _turns(message)]
    if request.schema is not None:
        messages.append(("schema", as_text(request.schema)))
    if request.tools:
        messages.append(("tools", as_text(list(request.tools))))
    size = sum(len(text) for _, text in messages)
    label = f"{words.plural(len(request.messages), 'message')}, {words.plural(size, 'character')}"
    settings = _settings(request.decoding)
    cost = sum(weight(text) for _, text in messages) + 80 * len(messages)
    if cost <= budget.sent:
        budget.sent -= cost
        return Sent(label=label, settings=settings, messages=tuple(messages))
    island.sent.append([[role, island.keep(text)] for role, text in messages])
    return Sent(label=label, settings=settings, index=len(island.sent) - 1)


def _turns(message: Message) -> list[tuple[str, str]]:
    role = f"{message.role} ({message.tool_call_id})" if message.tool_call_id else message.role
    turns = [(role, message.content)]
    if message.tool_calls:
        turns.append((f"{message.role}, calls", as_text(list(message.tool_calls))))
    return turns


def _settings(decoding: Decoding) -> str:
    said = [
        "greedy" if decoding.temperature == 0 else f"temperature {decoding.temperature:g}",
        f"top-p {decoding.top_p:g}" if decoding.top_p is not None else "",
        f"at most {words.plural(decoding.max_tokens, 'token')}",
        f"seed {decoding.seed}" if decoding.seed is not None else "",
        f"stops at {', '.join(map(as_text, decoding.stop))}" if decoding.stop else "",
    ]
    return ", ".join(s for s in said if s)


def plain_card(card: Card, view: ReplyView, island: Island) -> Json:
    """Return a card as JSON, whole texts by place, for a case whose body the script builds."""
    reply, fault = view.reply, view.trial.fault
    return {
        "candidate": card.candidate,
        "role": card.role,
        "status": card.status,
        "primary": card.primary,
        "repeat": card.repeat,
        "text": None if reply is None else island.keep(reply.text),
        "calls": island.keep(as_text(list(reply.tool_calls)))
        if reply is not None and reply.tool_calls
        else None,
        "likeness": card.likeness,
        "facts": card.facts,
        "scores": [
            [line.name, line.status, line.value, island.keep(score.reason)]
            for line, score in zip(card.scores, view.trial.scores, strict=True)
        ],
        "fault": None
        if fault is None or card.fault is None
        else [card.fault[0], island.keep(fault.message)],
        "sent": None
        if card.sent is None
        else [card.sent.label, card.sent.settings, card.sent.index],
    }
