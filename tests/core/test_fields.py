"""What is said of a field holds for all of its values, however many there are."""

from __future__ import annotations

import pytest

from harness.core.examples import Example
from harness.core.fields import SAMPLE, Field, Fields, Sample, histogram


def field_of(*values: object) -> Field:
    found = Field("reference")
    for value in values:
        found.see(value)
    return found


def test_a_sample_of_many_numbers_is_fair_and_keeps_the_extremes() -> None:
    sample = Sample()
    for value in range(10 * SAMPLE):
        sample.see(value)
    assert len(sample.kept) == SAMPLE
    assert (sample.low, sample.high) == (0, 10 * SAMPLE - 1)
    for share in (0.05, 0.5, 0.95):
        assert sample.quantile(share) == pytest.approx(share * 10 * SAMPLE, abs=0.03 * 10 * SAMPLE)


def test_values_that_come_back_are_classes_and_others_are_not() -> None:
    labels = field_of(*["yes"] * 6, *["no"] * 3, "maybe")
    assert labels.classes == [("yes", 6), ("no", 3), ("maybe", 1)]
    assert field_of(*(f"text {n}" for n in range(30))).classes == []
    assert field_of(["a", "b"], ["a"], ["a", "c"]).classes[0] == ("a", 3)


def test_numbers_written_as_text_are_numbers_and_codes_are_not() -> None:
    assert field_of("1.5", "2", "-3").kind == "number"
    assert field_of("007", "nan", "1_000", "12a", "inf").kind == "text"
    assert field_of(10**400).kind == "text"


def test_heaps_are_found_where_values_sit_on_single_numbers() -> None:
    spread = [n + 0.37 for n in range(80)]
    assert field_of(*spread).heaps == []
    assert field_of(*spread, *[1.25] * 20, *[0.85] * 2).heaps == [("1.25", 20)]


def test_no_memory_grows_with_different_values_or_fields() -> None:
    found = field_of(*(f"value {n}" for n in range(5000)))
    assert len(found.counts) == 0
    assert len(found.lengths.kept) <= SAMPLE
    fields = Fields()
    for n in range(100):
        fields.see(Example(place="f:1", inputs={f"k{n}": 1}))
    assert len(fields.by_name) == 40
    assert len(fields.left_out) == 60


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 1e308, -1e308], list(range(100))])
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    assert sum(n for _, _, n in histogram(values, 20)) == len(values)


def test_one_value_far_out_leaves_the_others_apart() -> None:
    bins = histogram([*map(float, range(200)), 1e9], 20)
    assert sum(1 for _, _, n in bins if n) == 20
    assert bins[-1][1] == 1e9


def test_an_item_that_comes_back_in_a_list_counts_once_for_it() -> None:
    """Its share is that of lists which have it: it was once 385 %."""
    found = Field("inputs.kinds")
    for _ in range(4):
        found.see(["text", "text", "number", "text"])
    assert found.classes == [("text", 4), ("number", 4)]
