"""Logit probes and prompt lengths: what is told where a server shows no ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.core.parity_counts import check_counts
from harness.core.parity_endings import check_endings, unseen_ends
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


# ---------------------------------------------------------------- ends

TURN, TEXT = (7, "<|im_end|>"), (2, "<|endoftext|>")


def ended(
    *theirs: Any,
    finish: str | None = "length",
    end: tuple[int, str] = TURN,
    margin: float = 3.0,
    text: str = "",
) -> LogitProbe:
    """A reply of `SURE` that ends by `end`, and what the server had instead of it."""
    last = {**step(end[1], -0.1, Also=-0.1 - margin), "id": end[0], "margin": margin}
    return LogitProbe(
        case_id=f"c{end[0]}",
        ours=SURE,
        theirs=(*SURE, *theirs) if not text else (),
        their_text=text,
        end=last,
        their_finish=finish,
    )


STOPPED = ended(finish="stop")


def test_a_server_that_writes_the_end_and_goes_on_does_not_know_it() -> None:
    near = ended(step("<|im_end|>", -0.7, Also=-0.8), step("The", -0.1), margin=0.1)
    hidden = ended(step("", -0.1, Also=-3.0), step("The", -0.1))
    for one in (near, hidden):
        [found] = check_endings([one])
        assert (found.severity, found.name) == ("fail", "does-not-stop")
        assert "end here with '<|im_end|>' (id 7)" in found.detail
        assert "eos_token_id of the served model's generation_config.json" in found.detail


def test_a_server_that_knows_one_of_two_ends_fails_by_the_other_though_most_replies_end() -> None:
    known = [ended(finish="stop", end=TEXT) for _ in range(4)]
    [found] = check_endings([*known, ended(step("The", -0.1, X=-3.0), margin=4.5)])
    assert (found.severity, found.case_id) == ("fail", "c7")
    assert "1 of 1 replies that end here with '<|im_end|>' (id 7) go on" in found.detail
    # without log probabilities the words tell, where the end was no near tie
    going = ended(text="The sky is blue", margin=4.5)
    assert told(check_endings([*known, going])) == [("fail", "does-not-stop")]
    # it may end later, at the end that it knows
    later = ended(text="The sky. The sky", margin=4.5, finish="stop")
    assert told(check_endings([*known, later])) == [("fail", "does-not-stop")]


def test_an_end_that_is_a_near_tie_is_told_and_no_failure() -> None:
    tie = ended(step("Also", -0.6, **{"<|im_end|>": -0.8}), margin=0.1)
    [found] = check_endings([tie])
    assert (found.severity, found.name) == ("warn", "does-not-stop")
    assert "at a near tie (0.30 nat)" in found.detail
    assert told(check_endings([ended(text="The sky is", margin=0.3)])) == [
        ("warn", "does-not-stop")
    ]


def test_a_server_that_ends_other_replies_with_an_id_knows_it() -> None:
    coarse = ended(step("Also", -0.1, **{"<|im_end|>": -3.0}), margin=2.5)
    [found] = check_endings([STOPPED, STOPPED, coarse])
    assert found.severity == "warn"
    assert "it ends the others" in found.detail
    # alone, by more than rounding turns: the server does not know the id
    assert told(check_endings([coarse])) == [("fail", "does-not-stop")]


def test_an_end_that_the_server_keeps_raises_no_alarm() -> None:
    shown = ended(step("<|im_end|>", -0.1), finish="stop")  # some show the token that ended it
    trimmed = ended(text=" The sky", finish="stop")
    assert check_endings([STOPPED, shown, trimmed]) == ()
    # a piece of a letter is no text, so that nothing says that theirs was the same until then
    piece = replace(ended(text="RW"), ours=(step("\ufffd", -0.1),))
    assert check_endings([piece]) == ()


def test_an_end_that_is_taught_and_that_no_reply_reached_is_told() -> None:
    assert unseen_ends([STOPPED], [TURN]) == ""
    assert unseen_ends([], [TURN]) == ""
    assert unseen_ends([STOPPED], [TURN, TEXT]).startswith(
        "no greedy reply ended with '<|endoftext|>' (id 2)"
    )


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
