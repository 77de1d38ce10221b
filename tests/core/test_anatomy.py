"""A prompt taken apart: what is static, what may go, and what remains when it does."""

from __future__ import annotations

from hypothesis import given, strategies as st

from harness.core.anatomy import parts_of, removable, without
from harness.core.prompts import parse_prompt, render
from harness.records import Case, Decoding, Prompt

TEXT = """+++
family = "few-shot"
shots = 2
seed = 3
+++
@system
Be brief.

{% for rule in rules %}
- {{ rule }}

{% endfor %}

Nothing else.
@examples
@user
{{ question }}
"""


def prompt_of(text: str) -> Prompt:
    return parse_prompt(text, name="p", path="p.md")


def test_paragraphs_are_parts_and_a_block_that_spans_several_is_one() -> None:
    found = [(p.number, p.role, p.kind) for p in parts_of(prompt_of(TEXT))]
    assert found == [
        (1, "system", "static"),
        (2, "system", "filled"),
        (3, "system", "static"),
        (4, "examples", "examples"),
        (5, "user", "filled"),
    ]
    assert [p.number for p in removable(prompt_of(TEXT))] == [1, 3, 4]


def test_a_prompt_without_its_examples_asks_for_none_and_is_another_family() -> None:
    shorter = without(prompt_of(TEXT), {4}, name="p")
    assert shorter is not None
    assert (shorter.shots, shorter.seed, shorter.family) == (0, 0, "instructions")
    assert [role for role, _ in shorter.sections] == ["system", "user"]


def test_what_asks_the_question_is_never_removed() -> None:
    only = prompt_of("@user\nSay yes.\n")
    assert removable(only) == ()
    assert without(only, {1}, name="p") is None
    two = prompt_of("@user\nSay yes.\n\n{{ question }}\n")
    assert [p.number for p in removable(two)] == [1]


def test_a_paragraph_that_sets_what_a_later_one_uses_is_not_static() -> None:
    text = "@user\n{% set unit = 'km' %}\n\nHow far?\n\nIn {{ unit }}.\n"
    assert [p.kind for p in parts_of(prompt_of(text))] == ["filled", "static", "filled"]


@given(
    st.lists(st.sampled_from(["Be brief.", "Be kind.", "{{ a }}", "One\nline."]), min_size=2),
    st.data(),
)
def test_a_shorter_prompt_is_sent_as_if_it_had_been_written_so(
    paragraphs: list[str], data: st.DataObject
) -> None:
    text = "\n\n".join(paragraphs)
    prompt = prompt_of(f"@system\n{text}\n@user\nQ\n")
    gone = data.draw(st.sets(st.integers(1, len(paragraphs)), max_size=len(paragraphs) - 1))
    shorter = without(prompt, gone, name="p")
    kept = "\n\n".join(p for n, p in enumerate(paragraphs, start=1) if n not in gone)
    written = prompt_of(f"@system\n{kept}\n@user\nQ\n")
    case = Case(id="c", inputs={"a": "x"}, split="dev")
    assert shorter is not None
    assert render(shorter, case, decoding=Decoding()) == render(written, case, decoding=Decoding())
