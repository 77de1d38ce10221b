from __future__ import annotations

import json

import jsonschema
import pytest

from harness.core.shapes import Shape, shape_of
from harness.records import Json


def shape(references: list[Json], *, is_train: bool = True, clusters: int = 0) -> Shape:
    names = [f"k{n % (clusters or len(references))}" for n in range(len(references))]
    return shape_of(references, names, is_train=is_train)


def test_labels_are_named_and_wrapped_in_an_object() -> None:
    found = shape(["b", "a", "b", "a"])
    assert "a, b" in found.words
    assert found.schema["properties"]["answer"]["enum"] == ["a", "b"]
    assert found.answer_key == "answer"


def test_a_label_of_one_cluster_of_the_measured_rows_is_never_named() -> None:
    references = ["a", "a", "a", "b", "b", "secret"]
    names = ["k1", "k2", "k3", "k4", "k5", "k6"]
    assert "secret" in shape_of(references, names, is_train=True).words
    found = shape_of(references, names, is_train=False)
    assert "secret" not in found.words
    assert found.schema is None


@pytest.mark.parametrize("is_train", [True, False])
def test_numbers_and_free_text_are_told_apart(is_train: bool) -> None:
    assert shape(["3", "6", "9"], is_train=is_train).schema["properties"]["answer"] == {
        "type": "integer"
    }
    free = shape([f"A sentence of its own, number {n}." for n in range(6)], is_train=is_train)
    assert free.schema is None
    assert "free text" in free.why_no_schema
    assert "more than 7" in free.words


def test_without_references_there_is_nothing_to_tell() -> None:
    assert shape_of([], [], is_train=True) == Shape(
        why_no_schema="no row to learn from has a reference"
    )


ROWS: list[Json] = [
    {"op": "COUNT", "filters": [{"column": "a", "value": 1}], "limit": 5},
    {"op": "MAX", "filters": [], "limit": 2.5},
    {"op": "COUNT", "filters": [{"column": "b", "value": "x"}]},
    {"op": "MAX", "filters": [{"column": "c", "value": True}]},
]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_schema_is_obeyed_by_every_reference_that_it_was_made_from(as_text: bool) -> None:
    found = shape([json.dumps(r) for r in ROWS] if as_text else ROWS)
    for row in ROWS:
        jsonschema.validate(row, found.schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"op": "COUNT"}, found.schema)
    assert found.schema["required"] == ["op", "filters"]
    assert found.answer_key == ""
    assert '"limit" (number; only where it applies)' in found.words


def test_keys_that_are_data_are_left_open() -> None:
    found = shape([{"ann": 1}, {"bob": 2}, {"cid": 3}])
    jsonschema.validate({"dan": 4}, found.schema)
    assert "ann" not in found.words
