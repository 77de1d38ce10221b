"""Changes without a model: the same for a seed, and numbers and codes left alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from harness.core.synth_perturb import PERTURBATIONS, perturbed

TEXT = "Please refund order 4711 of 2024-05-03, I paid 1200 euros and 3.50 for shipping."


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_seed_fixes_a_change_and_other_seeds_give_others(kind: str) -> None:
    made = [perturbed(TEXT, kind, seed=seed) for seed in range(12)]
    assert made == [perturbed(TEXT, kind, seed=seed) for seed in range(12)]
    assert None not in made
    assert TEXT not in made
    assert len(set(made)) > 1


@pytest.mark.parametrize("kind", ["typos", "case", "whitespace", "distractor"])
@given(text=st.text(alphabet="abc DEF 123,.-\n", max_size=60), seed=st.integers(0, 9))
def test_only_the_change_of_numbers_touches_digits(kind: str, text: str, seed: int) -> None:
    made = perturbed(text, kind, seed=seed)
    if made is not None:
        assert re.findall(r"\d", made) == re.findall(r"\d", text)


def test_numbers_keep_their_value_and_codes_years_and_dates_stay() -> None:
    """4711 stands alone and is a number to a reader of the text alone; dates and years are not."""
    fixed = (
        "on 2024-05-03 at 12:30, in 1999, version 1.2.3, id A1200, 007, at 6 am or 11 p.m., "
        "day 13, 2 rooms"
    )
    assert all(perturbed(fixed, "numbers", seed=seed) is None for seed in range(8))
    for seed in range(8):
        made = perturbed("I paid 1200000 euros and 3.50", "numbers", seed=seed)
        assert made is not None
        values = [float(n.replace(",", "")) for n in re.findall(r"[\d,.]*\d", made)]
        assert values == [1200000.0, 3.5]
    assert perturbed("it cost €9, or 12 kg", "numbers", seed=0) == "it cost €9.0, or 12.0 kg"


def test_a_text_with_nothing_to_change_is_told_as_none() -> None:
    assert perturbed("a b c", "typos", seed=0) is None
    assert perturbed("no digits", "numbers", seed=0) is None
    assert perturbed("two words", "truncate", seed=0) is None
    assert all(perturbed("", kind, seed=0) is None for kind in PERTURBATIONS)


def test_a_truncation_is_the_only_one_that_may_change_the_answer() -> None:
    assert [p.name for p in PERTURBATIONS.values() if not p.keeps_label] == ["truncate"]
    made = perturbed(TEXT, "truncate", seed=1)
    assert made is not None
    assert TEXT.startswith(made)
