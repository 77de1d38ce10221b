"""Prompts that the rows may not hold, the tokenizers on a text, and what the models think.

Knows nothing of tasks or artifacts. A difference here is a difference that some case will meet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
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
    some = known[:: max(1, len(known) // PROMPTS)][:PROMPTS]
    asked = [replace(request, schema=None) for _, request in some]
    greedy = Decoding(temperature=0.0, max_tokens=STEPS, logprobs=TOP if shows else None)

    async def answers() -> list[Any]:
        return await asyncio.gather(
            *(sides.served.answer(replace(r, decoding=greedy)) for r in asked)
        )

    found = []
    replies = asyncio.run(answers())
    for (row, _), request, reply in zip(some, asked, replies, strict=True):
        steps, has_ended = think(request, tokens=STEPS, top=TOP)
        found.append(
            LogitProbe(
                case_id=row.case_id,
                ours=tuple(steps),
                theirs=tuple(s for s in reply.logprobs if isinstance(s, dict)),
                their_text=reply.text,
                has_ended=has_ended,
                their_finish=reply.finish_reason,
            )
        )
    return found
