from __future__ import annotations

import pytest

from harness.core.answers import answer_of, reference_reply, reply_for
from harness.core.prompts import parse_prompt, render, training_row
from harness.records import Case, Decoding, Prompt, Reply

SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}}


def prompt(**settings: object) -> Prompt:
    return Prompt(name="p", family="chain-of-thought", sections=(("user", "x"),), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("I think.\nAnswer: billing", "billing"),
        ("Answer: no, wait.\nAnswer: billing\n", "billing"),
        ("Thoughts.\n**Answer:** billing", "billing"),
        ("Thoughts.\n**Answer: billing**", "billing"),
        ('ANSWER:\n{"a": 1}', '{"a": 1}'),
        ("billing", "billing"),
        ("Thoughts without an end", "Thoughts without an end"),
    ],
)
def test_the_answer_is_what_follows_the_last_marker(said: str, answer: str) -> None:
    assert answer_of(prompt(answer_after="Answer:"), Reply(text=said)).text == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('{"answer": "billing"}', "billing"),
        ('{"answer": 12}', "12"),
        ('{"answer": {"a": [1]}}', '{"a":[1]}'),
        ('{"other": 1}', '{"other": 1}'),
        ("no JSON", "no JSON"),
        ('["answer"]', '["answer"]'),
    ],
)
def test_the_answer_is_the_value_of_its_key(said: str, answer: str) -> None:
    assert answer_of(prompt(answer_key="answer"), Reply(text=said)).text == answer


def test_a_reply_nested_without_end_is_its_own_answer() -> None:
    deep = [f'{{"answer":{"[" * n + "]" * n}}}' for n in range(800, 1200, 9)]
    for text in ["[" * 5000, *deep]:
        said = answer_of(prompt(answer_key="answer"), Reply(text=text)).text
        assert text in (said, f'{{"answer":{said}}}')


def test_a_prompt_without_a_place_for_the_answer_leaves_the_very_reply() -> None:
    reply = Reply(text="Answer: x", input_tokens=3)
    assert answer_of(prompt(), reply) is reply


def test_the_rest_of_a_reply_stays() -> None:
    reply = Reply(text="so\nAnswer: x", output_tokens=9, cost_usd=0.1)
    found = answer_of(prompt(answer_after="Answer:"), reply)
    assert (found.text, found.output_tokens, found.cost_usd) == ("x", 9, 0.1)


@pytest.mark.parametrize("reference", ["12", "0", "-3"])
def test_what_an_example_says_is_read_back_as_its_reference(reference: str) -> None:
    for one in (
        prompt(answer_after="Answer:"),
        prompt(answer_key="answer"),
        prompt(answer_key="answer", schema=SCHEMA),
        prompt(answer_key="answer", answer_after="Answer:"),
    ):
        said = reply_for(one, reference, text=reference)
        assert answer_of(one, Reply(text=said)).text == reference


def test_a_number_is_written_as_the_schema_wants_it() -> None:
    assert (
        reply_for(prompt(answer_key="answer", schema=SCHEMA), "12", text="12") == '{"answer": 12}'
    )


TEXT = """+++
family = "chain-of-thought"
shots = 1
answer_after = "Answer:"
decoding = { max_tokens = 300, stop = [] }
+++
@system
{% for example in examples %}
{{ example.user }} -> {{ example.reply }}
{% endfor %}
@user
Is {{ n }} even?
"""


def test_examples_can_stand_as_text_and_end_as_a_reply_would() -> None:
    parsed = parse_prompt(TEXT, name="cot", path="cot.md")
    shown = Case(id="a", inputs={"n": 2}, split="train", reference="yes")
    asked = Case(id="b", inputs={"n": 3}, split="dev", reference="no")
    request = render(parsed, asked, examples=[shown], decoding=Decoding())
    assert [m.content for m in request.messages] == [
        "Is 2 even? -> Answer: yes\n",
        "Is 3 even?",
    ]
    assert parsed.decoding == {"max_tokens": 300, "stop": []}
    assert training_row(parsed, shown, examples=[shown]).completion == "Answer: yes"


def test_where_the_answer_stands_is_part_of_what_a_prompt_is() -> None:
    digests = {prompt().digest, prompt(answer_after="A:").digest, prompt(answer_key="A:").digest}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("reference", "text", "calls"),
    [
        (None, None, 0),
        ("billing", "billing", 0),
        ({"a": 1}, '{"a":1}', 0),
        ({"tool_calls": [{"function": {"name": "f"}}]}, "", 1),
        ({"content": "Done.", "tool_calls": [{"function": {"name": "f"}}]}, "Done.", 1),
        ({"tool_calls": [], "content": "x"}, '{"tool_calls":[],"content":"x"}', 0),
        ({"tool_calls": ["f"]}, '{"tool_calls":["f"]}', 0),
    ],
)
def test_a_reference_is_the_reply_that_evals_would_see(
    reference: object, text: str | None, calls: int
) -> None:
    reply = reference_reply(Case(id="c", inputs={}, split="dev", reference=reference))
    if text is None:
        assert reply is None
    else:
        assert reply is not None
        assert (reply.text, len(reply.tool_calls)) == (text, calls)
