"""Prompts that the rows may not hold, the tokenizers on a text, and what the models think.

Knows nothing of tasks or artifacts. A difference here is a difference that some case will meet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.core.parity_logits import LogitProbe
from harness.engine.backends import LiveBackend
from harness.engine.parity_views import Sides, prompt_ids, said
from harness.errors import BackendError, HarnessError
from harness.records import Decoding, Message, ParityFinding, PreparedRow, Request, TrainingRow

PROMPTS = 5
"""So many prompts are answered on both sides, greedily, to compare what the models think."""
STEPS = 12
LONGEST = 64
"""Tokens of the one reply an end that may be waited for, where the shortest row is longer."""
TOP = 5
TEXT = 'Grüße, naïve ☃ 数え 42,000\n\t{"a": [1.5, null]}  end '


# ---------------------------------------------------------------- probes


def _turns(*turns: tuple[str, str]) -> Request:
    messages = tuple(Message(role=role, content=text) for role, text in turns)  # type: ignore[arg-type]
    return Request(messages=messages)


PROBES: Mapping[str, Request] = {
    "a user alone": _turns(("user", "How many?")),
    "a system section": _turns(("system", "Answer as JSON."), ("user", "How many?")),
    "two turns": _turns(("user", "first"), ("assistant", "one"), ("user", "then")),
    "letters of the world": _turns(("user", TEXT)),
    "white space at the ends": _turns(("user", "  spaces before, a line break after\n")),
}


def probe_findings(
    trained: LiveBackend,
    served: LiveBackend,
    *,
    by_ids: Callable[..., tuple[ParityFinding, ...]],
) -> tuple[list[ParityFinding], int]:
    """Compare prompts that the rows may not hold, by `by_ids`, and say how many were.

    A probe that the trained side refuses is left out.
    """
    found: list[ParityFinding] = []
    asked = 0
    for name, request in PROBES.items():
        try:
            ids = tuple(trained.backend.token_ids(request))  # type: ignore[attr-defined]
        except HarnessError:
            continue
        asked += 1
        row = TrainingRow(case_id=f"probe: {name}", messages=request.messages, completion="")
        one = PreparedRow(case_id=row.case_id, input_ids=ids, labels=(-100,) * len(ids))
        try:
            found += [
                f
                for f in by_ids(
                    [row],
                    [one],
                    requests={row.case_id: request},
                    trained=trained,
                    served=served,
                    template=None,
                )
                if f.case_id
            ]
        except BackendError as exc:
            found.append(
                ParityFinding(
                    severity="warn",
                    name="template-refuses",
                    case_id=row.case_id,
                    detail=f"the runtime refuses what is rendered here: {exc}",
                )
            )
    return found, asked


def view_findings(sides: Sides) -> list[ParityFinding]:
    """The ids that a server shows must be as many as its chat API counts."""
    count = getattr(sides.served.backend, "count_tokens", None)
    if not callable(count) or not sides.rows:
        return []
    case_id = sides.rows[0].case_id
    request = sides.requests[case_id]
    if isinstance(request, str):
        return []
    shown, counted = len(prompt_ids(sides.served, request)), count(request)
    if counted is None or counted == shown:
        return []
    return [
        ParityFinding(
            severity="fail",
            name="view-differs",
            case_id=case_id,
            detail=f"the server shows {shown} ids for the prompt, and its chat API counts "
            f"{counted}: it renders chats otherwise than it says",
        )
    ]


def tokenizer_findings(sides: Sides, found: list[ParityFinding], compared: list[str]) -> None:
    """Text alone, without a template: the two tokenizers cut it alike, or are not the same."""
    ours, theirs = (getattr(s.backend, "encode", None) for s in (sides.trained, sides.served))
    if not callable(ours) or not callable(theirs):
        return
    here, there = tuple(ours(TEXT)), tuple(theirs(TEXT))
    compared.append("the tokenizers on a text")
    if here != there:
        at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), 0)
        found.append(
            ParityFinding(
                severity="warn",
                name="tokenizer-differs",
                case_id="probe: text alone",
                detail=f"{len(here)} tokens here and {len(there)} there, the first difference at "
                f"{at}: {here[at : at + 3]} and {there[at : at + 3]}. Words, merges, normaliser or "
                "added tokens differ; prompts of other cases may differ too",
            )
        )


def fingerprint_findings(sides: Sides) -> list[ParityFinding]:
    """What the artifact recorded of its tokens must be what its own files say now."""
    probe = sides.fingerprint.get("probe")
    encode = getattr(sides.trained.backend, "encode", None)
    if not isinstance(probe, Mapping) or not callable(encode):
        return []
    recorded, now = list(probe.get("ids", ())), list(encode(str(probe.get("text", ""))))
    if recorded == now:
        return []
    return [
        ParityFinding(
            severity="fail",
            name="tokenizer-changed",
            case_id="probe: fingerprint",
            detail=f"the artifact's fingerprint has {len(recorded)} ids for its probe, and its "
            f"tokenizer makes {len(now)} others now: files or the tokenizers library changed",
        )
    ]


def sampling_findings(served: LiveBackend) -> list[ParityFinding]:
    """What the server was started with that bends even a greedy reply."""
    bent = said(served, "sampling_defaults")
    if not bent:
        return []
    return [
        ParityFinding(
            severity="warn",
            name="sampling-defaults",
            case_id="",
            detail=f"the server was started with {json.dumps(dict(bent), sort_keys=True)}, which "
            "changes even greedy replies: start it without",
        )
    ]


# ---------------------------------------------------------------- what the models think


def greedy_replies(sides: Sides) -> list[LogitProbe] | str:
    """Return greedy replies of both sides, or why there are none."""
    think = getattr(sides.trained.backend, "greedy_logprobs", None)
    if not callable(think):
        return f"{sides.trained.name} does not tell what it thinks of its tokens: no logit probe"
    shows = "logprobs" in sides.served.honours
    known = [(r, q) for r in sides.rows if isinstance(q := sides.requests[r.case_id], Request)]
    if not known:
        return "the prepared rows hold no messages: the server cannot be asked, and no logit probe"
    tokens = _budgets(sides, [row.case_id for row, _ in known])
    some = [(row, request) for row, request in known if row.case_id in tokens]
    greedy = Decoding(temperature=0.0, max_tokens=STEPS, logprobs=TOP if shows else None)
    asked = [
        replace(q, schema=None, decoding=replace(greedy, max_tokens=tokens[row.case_id]))
        for row, q in some
    ]

    async def answers() -> list[Any]:
        return await asyncio.gather(*(sides.served.answer(request) for request in asked))

    found = []
    replies = asyncio.run(answers())
    for (row, _), request, reply in zip(some, asked, replies, strict=True):
        steps, end = think(request, tokens=request.decoding.max_tokens, top=TOP)
        found.append(
            LogitProbe(
                case_id=row.case_id,
                ours=tuple(steps),
                theirs=tuple(s for s in reply.logprobs if isinstance(s, dict)),
                their_text=reply.text,
                end=end,
                their_finish=reply.finish_reason,
            )
        )
    return found


def taught_ends(sides: Sides) -> list[tuple[int, str]]:
    """Return the ids, with their texts, that the prepared rows teach as the end of a reply."""
    ends = {end for end, _ in _replies_of(sides).values() if end is not None}
    decode = getattr(sides.trained.backend, "decode", str)
    return [(end, decode([end])) for end in sorted(ends)]


def _replies_of(sides: Sides) -> dict[str, tuple[int | None, int]]:
    """The stop id that each row teaches, and how many tokens of a reply."""
    stops = said(sides.trained, "stop_ids") or frozenset()
    found: dict[str, tuple[int | None, int]] = {}
    for row in sides.prepared:
        taught = [label for label in row.labels if label >= 0]
        end = next((i for i in reversed(taught) if i in stops), None)
        found[row.case_id] = (end, len(taught))
    return found


def _budgets(sides: Sides, case_ids: Sequence[str]) -> dict[str, int]:
    """Return the cases to ask and how many tokens each may have: from end to end of the rows, the
    shortest replies there, and one of each end that is taught, long enough to reach it.
    """
    replies = _replies_of(sides)
    length = {c: replies.get(c, (None, 0))[1] for c in case_ids}
    size = max(1, len(case_ids) // PROMPTS)
    blocks = [case_ids[i * size : (i + 1) * size] for i in range(PROMPTS)]
    found = {min(block, key=length.__getitem__): STEPS for block in blocks if block}
    for end in {replies[c][0] for c in case_ids if c in replies} - {None}:
        # of those that are asked already where one will do
        those = [c for c in case_ids if replies[c][0] == end]
        shortest = min(those, key=lambda c: (c not in found, length[c]))
        found[shortest] = max(STEPS, min(length[shortest] + 1, LONGEST))
    return found
