"""Tables that people write: what fits, and in which words the first thing that does not is told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, strategies as st

from harness.engine.case_rows import CaseRow
from harness.engine.providers import Table
from harness.engine.tables import Misfit, Strict, as_dict, as_table, keys_of
from harness.engine.taskfile import JudgeTable, StageTable, TaskFile, TuneTable


class Wheel(Strict, frozen=True, kw_only=True):
    inches: Annotated[int, msgspec.Meta(ge=1, le=30)]
    name: Annotated[str, msgspec.Meta(min_length=2, max_length=4)] | None = None


class Cart(Strict, frozen=True, kw_only=True):
    load: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    kind: Literal["hand", "dog"] = "hand"
    wheels: tuple[Wheel, ...] = ()
    spare: dict[str, Wheel] = msgspec.field(default_factory=dict)
    size: tuple[int, int] = (1, 2)
    stops: str | tuple[str, ...] = ()
    is_red: bool = False
    notes: Any = None
    best: Wheel = Wheel(inches=9)

    def __post_init__(self) -> None:
        if self.load > 0.9 and self.kind == "dog":
            raise ValueError("too much for a dog")
        if self.stops == "":
            raise Misfit("a stop has a name", "stops")


def test_keys_that_are_missing_are_told_at_once() -> None:
    with pytest.raises(Misfit) as caught:
        as_table(TaskFile, {"target": 0.5})
    assert caught.value.told("it") == "about: it is missing (model, cases, target_reason too)."
    with pytest.raises(Misfit) as caught:
        as_table(TaskFile, {"about": "x", "model": "a:b", "target_reason": "why"})
    assert caught.value.told("it") == "cases: it is missing (target too)."


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"inchs": 3}, "inchs: no such key, and inches is missing. Did you mean 'inches'?"),
        ({"rim": 3}, "inches: it is missing; no such key: 'rim'. Known keys: inches, name."),
        (
            {"inches": 3, "nmae": "ab"},
            "nmae: no such key. Known keys: inches, name. Did you mean 'name'?",
        ),
        ({"\ud800": 3}, "inches: it is missing; no such key: '\\ud800'. Known keys: inches, name."),
    ],
)  # fmt: skip
def test_a_key_that_nobody_knows_is_told_with_what_may_be_meant(
    plain: dict[str, object], says: str
) -> None:
    with pytest.raises(Misfit) as caught:
        as_table(Wheel, plain)
    assert caught.value.told("wheel").startswith(says)


def test_a_slip_of_the_pen_is_told_beside_what_else_is_missing() -> None:
    with pytest.raises(Misfit) as caught:
        as_table(TaskFile, {"modle": "a:b", "about": "x", "cases": "c", "target_reason": "why"})
    slip = "modle: no such key, and model is missing (target too). Did you mean 'model'?"
    assert caught.value.told("it") == slip


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (90, "target: Input should be less than or equal to 1: 90 % is 0.9."),
        (87.5, "target: Input should be less than or equal to 1: 87.5 % is 0.875."),
        (200, "target: Input should be less than or equal to 1."),
    ],
)
def test_a_share_that_was_given_in_percent_is_told_as_it_is_written(
    value: float, says: str
) -> None:
    with pytest.raises(Misfit) as caught:
        as_table(TaskFile, minimal() | {"target": value})
    assert caught.value.told("it") == says


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ({"load": "0.4"}, "load: Input should be a valid number, not '0.4'."),
        ({"load": True}, "load: Input should be a valid number, not True."),
        ({"load": 0}, "load: Input should be greater than 0."),
        ({"load": 1}, "load: Input should be less than 1."),
        ({"load": float("nan")}, "load: Input should be greater than 0."),
        ({"kind": "ox"}, "kind: Input should be 'hand' or 'dog', not 'ox'."),
        ({"kind": ["ox"]}, "kind: Input should be 'hand' or 'dog', not ['ox']."),
        ({"is_red": "yes"}, "is_red: Input should be a valid boolean, not 'yes'."),
        ({"is_red": 1}, "is_red: Input should be a valid boolean, not 1."),
        ({"size": [1, 2, 3]}, "size: Input should have 2 items, not 3."),
        ({"size": [1, 2.0]}, "size.1: Input should be a valid integer, not 2.0."),
        ({"stops": 3}, "stops: Input should be a valid string or a valid list, not 3."),
        ({"stops": ["a", 3]}, "stops.1: Input should be a valid string, not 3."),
        ({"stops": ""}, "stops: a stop has a name."),
        ({"wheels": "two"}, "wheels: Input should be a valid list, not 'two'."),
        ({"wheels": [{"inches": 3}, {}]}, "wheels.1.inches: it is missing."),
        ({"wheels": [{"inches": 0}]}, "wheels.0.inches: Input should be greater than or equal to"),
        ({"spare": {"a b": {"inches": 31}}}, "spare.a b.inches: Input should be less than"),
        ({"spare": {"x": 3}}, "spare.x: Input should be a valid dictionary, not 3."),
        ({"spare": {"x": {"inch": 3, "inches": 3}}}, "spare.x.inch: no such key. Known keys: inch"),
        ({"best": {"inches": 3, "name": "a"}}, "best.name: String should have at least 2 char"),
        ({"best": {"inches": 3, "name": "abcde"}}, "best.name: String should have at most 4 char"),
        ({"best": {"inches": 3, "name": 4}}, "best.name: Input should be a valid string, not 4."),
        ({"colour": 1, "load": 0}, "load: Input should be greater than 0."),
        ({"\ud800": 1}, "\\ud800: no such key. Known keys: best, is_red, kind, load, notes, size,"),
        ({"load": 0.95, "kind": "dog"}, "cart: too much for a dog."),
        ([], "cart: Input should be a valid dictionary, not []."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_keys(plain: object, says: str) -> None:
    with pytest.raises(Misfit) as caught:
        as_table(Cart, plain)
    assert caught.value.told("cart").startswith(says)


def test_whole_numbers_are_taken_for_numbers_and_lists_for_tuples() -> None:
    plain = {"best": {"inches": 4, "name": None}, "size": [3, 4], "notes": {"a": [1]}, "stops": "x"}
    cart = as_table(Cart, plain)
    assert (cart.best.inches, cart.size, cart.notes, cart.stops) == (4, (3, 4), {"a": [1]}, "x")
    price = as_table(TaskFile, minimal() | {"target": 1, "budgets": {"mean_cost_usd": 2}})
    assert [repr(n) for n in (price.target, price.budgets.mean_cost_usd)] == ["1.0", "2.0"]


def test_a_table_inside_others_is_told_with_their_keys() -> None:
    with pytest.raises(Misfit, match="it is missing") as caught:
        as_table(Wheel, {}, "cart", "wheel")
    assert caught.value.keys == ("cart", "wheel", "inches")


def test_a_table_by_its_keys_leaves_out_what_is_none_or_as_if_left_out() -> None:
    cart = Cart(load=0.5, best=Wheel(inches=9, name="old"), kind="dog", notes=None)
    assert as_dict(cart, without="defaults") == {
        "kind": "dog",
        "best": {"inches": 9, "name": "old"},  # needed, so it stands though nothing changed
    }
    assert as_dict(Cart(), without="defaults") == {}
    assert as_dict(Wheel(inches=3), without="none") == {"inches": 3}
    assert as_dict(Wheel(inches=3)) == {"inches": 3, "name": None}
    assert tuple(as_dict(cart)) == keys_of(Cart)


def minimal() -> dict[str, Any]:
    return {"about": "a", "model": "x:y", "cases": "c", "target": 0.9, "target_reason": "r"}


WHOLE: list[tuple[type[Strict], dict[str, Any]]] = [
    (TaskFile, minimal()),
    (CaseRow, {"id": "a", "split": "dev", "inputs": {}}),
    (Table, {}),
    (JudgeTable, {"backend": "a:b", "rubric": "r"}),
    (TuneTable, {"tuner": "t", "prompt": "p"}),
]
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text("a: \ud800", max_size=3)
NAMES = st.sampled_from(["", "a", "tuner", "backend", "rubric", "name", "prompt", "x", "schemes"])
ANYTHING = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


def refusal(kind: type[Strict], plain: dict[str, Any]) -> Misfit | None:
    try:
        as_table(kind, plain)
    except Misfit as exc:
        return exc
    return None


@given(data=st.data())
def test_every_refusal_is_told_in_our_words_at_the_key_that_is_wrong(data: st.DataObject) -> None:
    kind, plain = data.draw(st.sampled_from(WHOLE))
    key = data.draw(st.sampled_from([*keys_of(kind), "other"]))
    refused = refusal(kind, plain | {key: data.draw(ANYTHING)})
    if refused is None:
        assert key != "other"
    else:
        assert "$" not in str(refused)  # there msgspec speaks, of a path without its keys
        rules_of_the_whole = {JudgeTable, TuneTable, TaskFile}
        assert refused.keys[:1] == (key,) or (not refused.keys and kind in rules_of_the_whole)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (TuneTable, {"prompt": "p"}, "either `tuner`"),
        (TuneTable, {"prompt": "p", "tuner": "t", "stages": (StageTable(tuner="t"),)}, "either"),
        (JudgeTable, {"backend": "b", "rubric": "r"}, "not SCHEME:MODEL"),
        (TaskFile, minimal() | {"goal": "match"}, "needs `margin`"),
        (CaseRow, {"id": "\ud800", "split": "dev", "inputs": {}}, "half of a character"),
    ],
)
def test_a_table_built_in_code_keeps_its_rules(kind: type, values: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**values)


def test_a_table_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Cart().load = 0.2  # type: ignore[misc]
