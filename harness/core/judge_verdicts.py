"""What a judge answered, read back. Knows nothing of prompts, backends or candidates.

An answer that is no verdict leaves the reply unscored, with a reason: it is no miss, and no fault
of the candidate. Nothing is guessed from free text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.core.judging import Judge, is_weighable, schema_of
from harness.records import Json, Reply, Request, canonical_json

DEEPEST_START = 200
"""How many `{` of an answer are tried as the start of a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeVerdict:
    """What a judge said of one reply. `value` lies in [0, 1]; None where it could not be read.

    `grade` is the grade of a `g-eval` judge. A pairwise judge has `better`, the side that each
    order preferred (`candidate`, `other` or `tie`), and `is_flipped` where both orders preferred
    the same position. `is_passed` follows `pass_at`, where the judge has one.
    """

    value: float | None
    reason: str
    grade: int | None = None
    better: tuple[str, ...] = ()
    is_flipped: bool = False
    is_passed: bool | None = None
    requests: tuple[Request, ...] = field(default=(), repr=False)
    replies: tuple[Reply, ...] = field(default=(), repr=False)

    @property
    def score(self) -> float | None:
        """The value, or 1 or 0 where the judge has a `pass_at`."""
        return self.value if self.is_passed is None else float(self.is_passed)


class _Unreadable(Exception):
    """No verdict, and why."""


def read_verdict(
    judge: Judge, replies: Sequence[Reply], *, requests: Sequence[Request]
) -> JudgeVerdict:
    """Return the verdict in the `replies` to `judge_requests`."""
    asked, came = tuple(requests), tuple(replies)
    try:
        said = [
            _read(judge, reply, is_constrained=request.schema is not None)
            for reply, request in zip(came, asked, strict=True)
        ]
    except _Unreadable as exc:
        reason = f"unreadable verdict: {exc}"
        return JudgeVerdict(value=None, reason=reason, requests=asked, replies=came)
    grade: int | None = None
    better: tuple[str, ...] = ()
    is_flipped = False
    if judge.kind == "rubric":
        value, reason = float(said[0]["verdict"] == "pass"), said[0]["reason"]
    elif judge.kind == "g-eval":
        grade = int(said[0]["grade"])
        value, reason = _graded(judge, said[0], came[0])
    else:
        value, reason, better = _compared(said)
        is_flipped = set(better) == {"candidate", "other"}
    return JudgeVerdict(
        value=value,
        reason=reason,
        grade=grade,
        better=better,
        is_flipped=is_flipped,
        is_passed=None if judge.pass_at is None else value >= judge.pass_at,
        requests=asked,
        replies=came,
    )


# ---------------------------------------------------------------- one answer


def _read(judge: Judge, reply: Reply, *, is_constrained: bool) -> dict[str, Json]:
    if reply.finish_reason == "length":
        raise _Unreadable(
            f"cut off after {judge.decoding.max_tokens} tokens; raise max_tokens under "
            f"[judges.{judge.name}.decoding]"
        )
    if reply.finish_reason in ("content_filter", "refusal"):
        raise _Unreadable(f"its answer was stopped ({reply.finish_reason})")
    text = reply.text.strip()
    if is_constrained:
        try:
            found = [json.loads(text, strict=False, object_pairs_hook=_once)]
        except (ValueError, RecursionError):
            found = []
    else:
        found = _objects(text)
    verdicts = {canonical_json(v): v for v in found if _fits(judge, v)}
    kinds = {canonical_json(_decision(v)) for v in verdicts.values()}
    if not verdicts:
        raise _Unreadable(f"no JSON object of the shape that was asked for: {_start(text)}")
    if len(kinds) > 1:  # the judge quoted a verdict of the data: which one is its own?
        raise _Unreadable(f"{len(kinds)} verdicts that differ: {_start(text)}")
    return next(iter(verdicts.values()))


def _objects(text: str) -> list[Json]:
    """Return the outermost JSON objects in `text`, in order."""
    # strict=False: grammars and models let a raw new line or control stand in a text
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_once)
    found, place = [], text.find("{")
    for _ in range(DEEPEST_START):
        if place < 0:
            break
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            found.append(value)
        place = text.find("{", end)
    return found


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _fits(judge: Judge, value: Json) -> bool:
    properties = schema_of(judge)["properties"]
    if not isinstance(value, dict) or set(value) != set(properties):
        return False
    decision = _decision(value)
    allowed = next(p["enum"] for name, p in properties.items() if name != "reason")
    return (
        isinstance(value["reason"], str)
        and isinstance(decision, type(allowed[0]))
        and not isinstance(decision, bool)
        and decision in allowed
    )


def _decision(value: dict[str, Json]) -> Json:
    return next(v for k, v in value.items() if k != "reason")


def _start(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


# ---------------------------------------------------------------- from answers to a value


def _graded(judge: Judge, said: dict[str, Json], reply: Reply) -> tuple[float, str]:
    """Return the grade as a share of the scale, weighted where the probabilities are known."""
    worst, best = judge.scale
    grade = int(said["grade"])
    mean = None
    if is_weighable(judge) and list(said) == ["reason", "grade"]:
        mean = weighted_grade(reply, grade, scale=judge.scale)
    how = "the grade itself: no probabilities of its token" if mean is None else f"{mean:.2f}"
    if mean is not None:
        how += " weighted by token probabilities"
    value = ((grade if mean is None else mean) - worst) / (best - worst)
    return min(
        1.0, max(0.0, value)
    ), f"grade {grade} of {worst} to {best} ({how}): {said['reason']}"


def weighted_grade(reply: Reply, grade: int, *, scale: tuple[int, int]) -> float | None:
    """Return the mean of the grades, each weighted by the probability of its token; None where
    the reply does not tell them. The grade is the last number of the answer.
    """
    digit = str(grade)
    if not re.search(rf"{digit}\s*\}}[\s`]*$", reply.text):
        return None
    token = next((t for t in reversed(reply.logprobs) if re.search(r"\d", t["token"])), None)
    if token is None or not (match := re.fullmatch(r"(\D*)(\d)(\D*)", token["token"])):
        return None
    if match[2] != digit:
        return None
    weights: dict[int, float] = {grade: _exp(token["logprob"])}
    for text, logprob in token.get("top") or ():
        other = re.fullmatch(rf"{re.escape(match[1])}(\d)\D*", text)
        if other and scale[0] <= int(other[1]) <= scale[1]:
            one = int(other[1])
            # the token itself stands among its alternatives too; `4` and `4}` are both a 4
            is_same = text == token["token"]
            weights[one] = weights.get(one, 0.0) + (0.0 if is_same else _exp(logprob))
    total = math.fsum(weights.values())
    return math.fsum(g * w for g, w in weights.items()) / total if total > 0 else None


def _exp(logprob: Json) -> float:
    is_known = isinstance(logprob, int | float) and not math.isnan(logprob)
    return math.exp(min(0.0, float(logprob))) if is_known else 0.0


def _compared(said: Sequence[dict[str, Json]]) -> tuple[float, str, tuple[str, ...]]:
    """Return the value of a pair that was asked in both orders: the candidate stood first as A,
    then as B. A winner in both orders wins; all else is a tie.
    """
    sides = ({"A": "candidate", "B": "other"}, {"A": "other", "B": "candidate"})
    better = tuple(side.get(one["better"], "tie") for side, one in zip(sides, said, strict=True))
    reasons = " / ".join(one["reason"] for one in said)
    if set(better) == {"candidate"}:
        return 1.0, f"better in both orders: {reasons}", better
    if set(better) == {"other"}:
        return 0.0, f"worse in both orders: {reasons}", better
    if set(better) == {"candidate", "other"}:
        place = "first" if said[0]["better"] == "A" else "second"
        return 0.5, f"inconsistent, the {place} shown won both times: {reasons}", better
    is_tie = set(better) == {"tie"}
    return 0.5, f"{'tie' if is_tie else 'tie in one order'}: {reasons}", better
