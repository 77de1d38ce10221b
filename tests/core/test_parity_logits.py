"""Logit probes and prompt lengths: what is told where a server shows no ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.parity_counts import check_counts
from harness.core.parity_logits import LogitProbe, check_logits
from harness.records import Message, ParityFinding, TrainingRow


def step(token: str, logprob: float, **rivals: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "top": [[token, logprob], *rivals.items()]}


SURE = (step("The", -0.1, A=-3.0, No=-4.0), step(" sky", -0.2, X=-2.5))


def probes(*theirs: Any, ours: Any = SURE, **more: Any) -> list[LogitProbe]:
    return [LogitProbe(case_id=f"c{i}", ours=ours, theirs=t, **more) for i, t in enumerate(theirs)]


def told(found: tuple[ParityFinding, ...]) -> list[tuple[str, str]]:
    return [(f.severity, f.name) for f in found]


def test_equal_replies_raise_no_alarm_within_the_tolerance() -> None:
    near = (step("The", -0.25, A=-2.8), step(" sky", -0.3, X=-2.5))
    assert check_logits(probes(SURE, near)) == ()


def test_log_probabilities_beyond_the_tolerance_are_a_warning_with_the_token() -> None:
    far = (step("The", -0.1, A=-3.0), step(" sky", -0.9, X=-1.0))
    [found] = check_logits(probes(SURE, far))
    assert (found.severity, found.name, found.case_id) == ("warn", "logits-differ", "c1")
    assert "up to 0.70 nat (token ' sky'" in found.detail
    assert "Run the evals on the serving engine" in found.detail


def test_a_near_tie_that_flips_is_told_as_one() -> None:
    ours = (step("The", -0.69, L=-0.78),)
    theirs = (step("L", -0.69, The=-0.78),)
    [found] = check_logits(probes(ours, theirs, ours=ours))
    assert (found.severity, found.name) == ("warn", "near-tie")
    assert "here 'The' by 0.09 nat, there 'L' by 0.09 nat" in found.detail


def test_most_prompts_parting_widely_are_another_model_and_one_is_not() -> None:
    other = (step("Bananas", -0.05, The=-6.0),)
    [found] = check_logits(probes(other, other, SURE))
    assert (found.severity, found.name) == ("fail", "another-model")
    assert "2 of 3 prompts" in found.detail
    assert told(check_logits(probes(other, SURE, SURE))) == [("warn", "logits-differ")]


def test_without_log_probabilities_the_words_are_compared() -> None:
    same = LogitProbe(case_id="c0", ours=SURE, their_text="The sky is blue")
    short = LogitProbe(case_id="c1", ours=SURE, their_text="The")
    trimmed = LogitProbe(case_id="c2", ours=(step(" The", -0.1, A=-3.0),), their_text="The sky")
    assert check_logits([same, short, trimmed]) == ()
    other = LogitProbe(case_id="c3", ours=SURE, their_text="Bananas")
    assert told(check_logits([other])) == [("fail", "another-model")]
    unsure = LogitProbe(case_id="c4", ours=(step("The", -1.0, A=-1.1),), their_text="A sky")
    assert told(check_logits([unsure])) == [("warn", "near-tie")]


def test_a_reply_that_does_not_stop_where_ours_does_is_a_failure() -> None:
    going = (*SURE, step("The", -0.1))
    [found] = check_logits(probes(going, has_ended=True, their_finish="length"))
    assert (found.severity, found.name) == ("fail", "does-not-stop")
    ends = probes(SURE, has_ended=True, their_finish="stop")
    assert check_logits(ends) == ()
    near_tie_at_the_end = probes(going, has_ended=True, their_finish="length")[:1]
    assert told(check_logits([*ends, *near_tie_at_the_end])) == [("warn", "does-not-stop")]
    # a piece of a letter is no text, so that nothing says that theirs was the same until then
    piece = LogitProbe(case_id="c1", ours=(step("\ufffd", -0.1),), their_text="RW", has_ended=True)
    assert check_logits([replace(piece, their_finish="length")]) == ()


# ---------------------------------------------------------------- lengths


def row(name: str, *roles: str) -> TrainingRow:
    messages = tuple(Message(role=r, content=r) for r in roles)  # type: ignore[arg-type]
    return TrainingRow(case_id=name, messages=messages, completion="x")


ROWS = [row("a", "user"), row("b", "system", "user"), row("c", "user")]
IDS = {"a": (1, 5, 6, 2, 7, 8), "b": (1, 5, 5, 5, 2, 7, 8), "c": (1, 9, 2, 7, 8)}


def counted(**changes: int) -> list[str]:
    counts = {c: len(IDS[c]) + changes.get(c, changes.get("each", 0)) for c in IDS}
    found = check_counts(
        ROWS, IDS, counts=counts, decode=lambda ids: str(list(ids)), special_ids={1, 2}
    )
    return [f"{f.name}: {f.detail}" for f in found]


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"each": 1}, "count-bos", "one token more"),
        ({"each": -3}, "count-generation-prompt", "the opening of the reply has, '[2, 7, 8]'"),
        ({"a": 9, "b": 0, "c": 9}, "count-system-prompt", "into the served prompts"),
        ({"each": 7}, "count-differs", "another template"),
        ({"a": 2, "b": -1, "c": 3}, "count-differs", "by no constant"),
    ],
)
def test_how_lengths_differ_tells_the_usual_cause(
    changes: dict[str, int], name: str, said: str
) -> None:
    [text] = counted(**changes)
    assert text.startswith(f"{name}: ")
    assert said in text


def test_equal_lengths_raise_no_alarm() -> None:
    assert counted() == []
