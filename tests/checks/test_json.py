from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness import Miss, Reply, UsageError, checks

Reason = Callable[..., str]
QUICK = settings(deadline=None, max_examples=50)  # a busy machine is no miss

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def test_a_reply_that_is_json_gives_its_value() -> None:
    assert checks.json(Reply(text=' {"a": [1, 2.5, null]}\n')) == {"a": [1, 2.5, None]}
    assert checks.json("3") == 3


@QUICK
@given(values)
def test_what_json_writes_is_read_back(value: Any) -> None:
    text = json.dumps(value)
    if "Infinity" not in text:
        assert checks.json(text) == value


def test_a_miss_says_what_where_and_shows_the_surroundings(reason: Reason) -> None:
    text = reason(checks.json, '{"a": 1\n "b": 2}')
    assert "Expecting ',' delimiter" in text
    assert "line 2 column 2" in text
    assert '>>"b"' in text


def test_a_reply_cut_at_max_tokens_says_so(reason: Reason) -> None:
    cut = Reply(text='{"a": [1, 2', finish_reason="length")
    assert "cut at max_tokens" in reason(checks.json, cut)


def test_a_fence_is_named_and_can_be_looked_into(reason: Reason) -> None:
    text = 'Sure!\n```json\n{"a": 1}\n```\nAnything else?'
    assert "within=True" in reason(checks.json, text)
    assert checks.json(text, within=True) == {"a": 1}


def test_json_is_found_in_prose() -> None:
    assert checks.json('I think {this} is it: {"a": [1]} (see [1])', within=True) == {"a": [1]}
    assert checks.contains_json("so: [1, 2].", {"type": "array"}) == [1, 2]


def test_prose_without_json_is_a_miss(reason: Reason) -> None:
    assert "no JSON object or array" in reason(checks.json, "see {above} and [below]", within=True)
    assert checks.no.contains_json("nothing here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('{"x": {"a": 1, "a": 1}}', "'a' stands twice"),
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("1e999", "too large"),
        ("9" * 5000, "5000 digits"),
        ("[" * 65 + "]" * 65, "deeper than 64"),
        ("[" * 1_000_000, "deeper than 64"),
        ('{"a":' * 100_000, "deeper than 64"),
        ('{"a": 1} {"b": 2}', "Extra data"),
        ("'a'", "Expecting value"),
        ('"\x00"', "control character"),
        ("\ud800", "Expecting value"),
        ("\ufeff{}", "character 0"),
    ],
)
def test_what_is_not_json_is_a_miss_and_never_an_error(
    text: str, said: str, reason: Reason
) -> None:
    assert said in reason(checks.json, text)


def test_depth_64_is_read_and_brackets_in_texts_are_no_depth() -> None:
    assert checks.json("[" * 64 + "]" * 64)
    assert checks.json(json.dumps(["[" * 500])) == ["[" * 500]
    assert checks.json('["a\\"[[", ' + "[], " * 100 + "[]]")


def test_json_refuses_what_is_no_reply() -> None:
    with pytest.raises(UsageError, match="takes a Reply or a str first, not dict"):
        checks.json({"a": 1})


# ---------------------------------------------------------------- schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_value_that_fits_the_schema_is_returned() -> None:
    assert checks.json_schema('{"name": "Ann", "age": 3}', PERSON)["age"] == 3
    assert checks.json_schema({"name": "Ann"}, PERSON) == {"name": "Ann"}


def test_each_wrong_path_has_its_line(reason: Reason) -> None:
    text = reason(checks.json_schema, '{"age": -1, "shoe": 42}', PERSON)
    assert "$.age: -1 is less than the minimum of 0" in text
    assert "$: not allowed here: shoe (allowed: name, age)" in text
    assert "$: 'name' is a required property" in text


def test_a_choice_says_what_its_nearest_branch_lacks(reason: Reason) -> None:
    schema = {"anyOf": [{"type": "string"}, {"properties": {"a": {"enum": [1]}}, "type": "object"}]}
    assert "$.a: 2 is not one of [1]" in reason(checks.json_schema, '{"a": 2}', schema)


def test_a_schema_miss_of_a_huge_value_is_short(reason: Reason) -> None:
    items = {"items": {"type": "string"}}
    text = reason(checks.json_schema, json.dumps(list(range(50_000))), items)
    assert "… and more" in text
    assert text.count("\n") == 10
    assert len(reason(checks.json_schema, json.dumps("x" * 10**6), {"type": "object"})) < 400


def test_a_pattern_in_a_schema_cannot_hang(reason: Reason) -> None:
    schema = {"pattern": "^(a|aa)+$"}
    assert "took more than" in reason(checks.json_schema, json.dumps("a" * 60_000 + "!"), schema)
    assert checks.json_schema('"aaa"', schema) == "aaa"


def test_unique_items_are_told_apart_in_one_pass(reason: Reason) -> None:
    many = [{"k": i} for i in range(40_000)]
    assert checks.json_schema(many, {"uniqueItems": True}) is many
    twice = reason(checks.json_schema, [{"k": 1}, {"k": 1.0}], {"uniqueItems": True})
    assert "stands there twice" in twice
    assert checks.json_schema([1, True, "1"], {"uniqueItems": True})


def test_pattern_properties_and_extra_ones_follow_the_standard() -> None:
    schema = {
        "patternProperties": {"^x-": {"type": "string"}},
        "additionalProperties": {"type": "integer"},
    }
    assert checks.json_schema({"x-a": "b", "c": 1}, schema)
    assert checks.no.json_schema({"x-a": 1}, schema)
    assert checks.no.json_schema({"c": "d"}, schema)


def test_a_broken_schema_is_a_fault_of_the_eval() -> None:
    with pytest.raises(UsageError, match=r"the schema is broken at \$\.type"):
        checks.json_schema("1", {"type": "strin"})
    with pytest.raises(UsageError, match="a schema is an object, not 5"):
        checks.json_schema("1", 5)  # type: ignore[arg-type]


def test_a_reference_elsewhere_is_not_fetched() -> None:
    with pytest.raises(UsageError, match="Nothing is fetched"):
        checks.json_schema("1", {"$ref": "https://example.com/schema.json"})


def test_a_schema_that_refers_to_itself_bears_the_deepest_value() -> None:
    tree = {"$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}
    assert checks.json_schema("[" * 64 + "]" * 64, tree)


def test_formats_are_asked_on_demand(reason: Reason) -> None:
    schema = {"format": "ipv4"}
    assert checks.json_schema('"nope"', schema)
    assert "is not a 'ipv4'" in reason(checks.json_schema, '"nope"', schema, formats=True)


# ---------------------------------------------------------------- equality


@QUICK
@given(values)
def test_a_value_equals_itself(value: Any) -> None:
    assert checks.json_equal([value], [value])


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return `value` with every array and every object in another order."""
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {k: shuffled(value[k], chance) for k in keys}
    if isinstance(value, list):
        items = [shuffled(v, chance) for v in value]
        chance.shuffle(items)
        return items
    return value


@QUICK
@given(st.lists(values, min_size=1), st.randoms(use_true_random=False))
def test_order_makes_no_difference_where_it_is_not_asked_for(
    value: list[Any], chance: random.Random
) -> None:
    other = shuffled(value, chance)
    assert checks.json_equal(value, other, unordered=True)
    assert checks.json_equal(other, value, unordered=True)


@QUICK
@given(st.lists(values), st.lists(values))
def test_equality_is_symmetric_in_every_mode(one: list[Any], other: list[Any]) -> None:
    for mode in (True, False, "$"):
        assert holds(one, other, mode) == holds(other, one, mode)


def holds(one: Any, other: Any, mode: Any) -> bool:
    try:
        return bool(checks.json_equal(one, other, unordered=mode))
    except Miss:
        return False


@QUICK
@given(values, st.data())
def test_a_changed_leaf_is_a_miss(value: Any, data: st.DataObject) -> None:
    changed = {"kept": value, "leaf": data.draw(st.integers(1))}
    assert checks.no.json_equal(changed, {"kept": value, "leaf": 0}, unordered=True)


def test_differences_are_told_by_path(reason: Reason) -> None:
    text = reason(
        checks.json_equal,
        '{"filters": [{"op": "gt", "value": 3}], "limit": 5, "we ird": true}',
        {"filters": [{"op": "lt", "value": 3}], "sort": "name", "we ird": 1},
    )
    assert text.splitlines() == [
        "json_equal: $.filters[0].op: expected 'lt', got 'gt'",
        "  $.sort: missing, expected 'name'",
        "  $['we ird']: expected number 1, got boolean true",
        "  $.limit: not expected, got 5",
    ]


def test_at_most_ten_differences_are_shown(reason: Reason) -> None:
    text = reason(checks.json_equal, list(range(1000)), list(range(1, 1001)))
    assert text.count("\n") == 10
    assert text.endswith("… and more")


def test_one_inserted_item_is_one_difference(reason: Reason) -> None:
    text = reason(checks.json_equal, [1, 2, 99, 3, 4], [1, 2, 3, 4])
    assert text == "json_equal: $: expected 4 items, got 5\n  $[2]: not expected, got 99"


def test_numbers_are_equal_by_value_and_booleans_are_no_numbers() -> None:
    assert checks.json_equal("[1, 2.0]", [1.0, 2])
    assert checks.no.json_equal("[true]", [1])
    assert checks.no.json_equal("[true]", [1], unordered=True)
    assert checks.no.json_equal("[null]", [0])
    assert checks.no.json_equal('["1"]', [1])


def test_unordered_paths_leave_the_others_in_order() -> None:
    said = {"sort": ["a", "b"], "rows": [{"tags": ["x", "y"]}, {"tags": ["z"]}]}
    turned = {"sort": ["a", "b"], "rows": [{"tags": ["y", "x"]}, {"tags": ["z"]}]}
    assert checks.json_equal(said, turned, unordered="rows[*].tags")
    assert checks.json_equal(said, turned, unordered=["$.rows[0].tags"])
    assert checks.no.json_equal(said, turned, unordered="$.rows")
    assert checks.json_equal(
        {"rows": said["rows"][::-1]}, {"rows": turned["rows"]}, unordered=["rows", "rows[*].tags"]
    )


def test_a_multiset_counts_how_often(reason: Reason) -> None:
    assert checks.json_equal([1, 1, 2], [2, 1, 1], unordered=True)
    assert "$[1]: expected 2, got 1" in reason(checks.json_equal, [1, 1], [1, 2], unordered=True)


def test_what_is_left_of_an_unordered_array_is_told_as_differences(reason: Reason) -> None:
    said = [{"col": "b", "op": "gt"}, {"col": "a", "op": "eq"}]
    wanted = [{"col": "a", "op": "eq"}, {"col": "b", "op": "lt"}]
    text = reason(checks.json_equal, said, wanted, unordered=True)
    assert text == "json_equal: $[0].op: expected 'lt', got 'gt'"


def test_a_tolerance_pairs_unordered_items_as_well_as_can_be() -> None:
    """Taking the first that fits would pair 1.4 with 1.5 and leave 1.0 alone."""
    assert checks.json_equal([1.5, 1.0], [1.4, 2.0], unordered=True, absolute=0.5)
    assert checks.no.json_equal([1.5, 1.0], [1.4, 2.2], unordered=True, absolute=0.5)


def test_numbers_may_differ_by_the_tolerance() -> None:
    assert checks.json_equal('{"a": 1.04}', {"a": 1}, absolute=0.05)
    assert checks.json_equal('{"a": 104}', {"a": 100}, relative=0.05)
    assert checks.no.json_equal('{"a": 1.06}', {"a": 1}, absolute=0.05)
    assert checks.no.json_equal(f"[{10**400}]", [1.5], relative=0.1)


def test_ignored_paths_and_extra_keys() -> None:
    said = {"id": 7, "name": "x", "rows": [{"id": 1, "v": 2}]}
    assert checks.json_equal(said, {"name": "x", "rows": [{"v": 2}]}, ignore=["id", "rows[*].id"])
    assert checks.json_equal(said, {"name": "x"}, allow_extra=True)
    assert checks.no.json_equal(said, {"name": "x"})


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="is not a path"):
        checks.json_equal("1", 1, ignore="$.a[")


def test_long_texts_are_elided_in_the_middle(reason: Reason) -> None:
    text = reason(checks.json_equal, {"a": "x" * 10_000}, {"a": "y" * 10_000})
    assert "characters…" in text
    assert len(text) < 400


def test_overlap_gives_partial_credit() -> None:
    with pytest.raises(Miss, match=r"missing: '\$\.b 4'") as excinfo:
        checks.json_overlap('{"a": [1, 2], "b": 3}', {"a": [2, 1], "b": 4})
    assert excinfo.value.value == pytest.approx(2 / 3)
    assert checks.json_overlap('{"a": 1}', {"a": 1}).value == 1


def test_json_checks_can_be_negated(reason: Reason) -> None:
    assert checks.no.json("not json").reason.startswith("json: not JSON")
    assert reason(checks.no.json, "[1]") == "no.json: [1]"
    assert "the values are equal" in reason(checks.no.json_equal, "[1]", [1])
