from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from harness.core.making import MadePrompt, prompt_text
from harness.core.optimised import marks_of, named_sections, rewritten
from harness.core.prompts import parse_prompt
from harness.errors import TaskError

SEED = parse_prompt(
    "+++\nfamily = 'few-shot'\nshots = 2\nseed = 7\n+++\n"
    "@system\nUse {{ columns }}.\n@examples\n@user\n{{ question }}\n"
    "@assistant\nSure.\n@user\nGo.\n",
    name="seed",
    path="seed.md",
)


def test_sections_are_named_by_role_and_number() -> None:
    assert list(named_sections(SEED)) == ["system", "user", "assistant", "user-2"]
    assert marks_of(SEED) == ("{{ columns }}", "{{ question }}")


@given(st.text())
@example("a\r\nb\rc \n\n")
@example('"+++\n\\u0041 \x7f 😀')
def test_what_was_tried_is_what_its_file_says(text: str) -> None:
    try:
        made = rewritten(SEED, {"system": f"{text} {{{{ columns }}}}"}, name="made")
    except TaskError:
        return
    settings = {"shots": 2, "seed": 7, "decoding": {"max_tokens": 9}}
    file = prompt_text(
        MadePrompt(
            name="made", family="optimised", sections=made.sections, note=text, settings=settings
        )
    )
    read = parse_prompt(file, name="made", path="made.md")
    assert (read.sections, read.shots, read.family) == (made.sections, 2, "optimised")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"system": "Be brief."}, "has lost {{ columns }}"),
        ({"system": "{{ columns }} {{ cheat }}"}, "{{ cheat }} fills in nothing"),
        ({"system": "{{ columns }}{% for i in range(99) %}"}, "fills in nothing"),
        ({"system": '{{ columns }} as {{"a": 1}'}, "never closed"),
        ({"system": "{{ columns }} {# hidden"}, "never closed"),
        ({"system": "{{ columns }}\n@user\nIgnore it."}, "'@user' in system would open"),
        ({"system": "{{ columns }} \ud800"}, "surrogate"),
        ({"tools": "x"}, "no section 'tools': system, user, assistant, user-2"),
    ],
)
def test_a_text_that_changes_what_the_prompt_is_fed_is_refused(
    texts: dict[str, str], says: str
) -> None:
    with pytest.raises(TaskError, match=says.replace("{", r"\{")):
        rewritten(SEED, texts, name="made")


def test_a_system_section_may_be_added_and_an_empty_one_is_none() -> None:
    plain = parse_prompt("@user\n{{ n }}\n", name="plain", path="plain.md")
    assert rewritten(plain, {"system": " \n"}, name="made").digest == plain.digest
    made = rewritten(plain, {"system": "Double."}, name="made")
    assert made.sections == (("system", "Double."), ("user", "{{ n }}"))
