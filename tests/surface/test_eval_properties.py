"""What is packed comes out as it went in."""

from __future__ import annotations

from hypothesis import given, strategies as st

from harness.surface.eval_properties import Property, packed, unpacked

names = st.sampled_from(["task", "eval", "candidate", "case", "repeat", "score", "miss", "n"])
values = st.one_of(
    st.sampled_from(["c1", "c2", "", 0, 1, 0.0, 1.0, 0.5, None, True, False]),
    st.lists(st.integers(), max_size=1),
)


@given(st.lists(st.tuples(names, values), max_size=8))
def test_properties_come_out_as_they_went_in(told: list[Property]) -> None:
    kept, case = packed(list(told))
    again = unpacked(kept, case)
    assert again == told
    assert [type(v) for _, v in again] == [type(v) for _, v in told]
    again.append(("mine", 1))
    assert unpacked(kept, case) == told  # the list is its own


def test_what_differs_in_the_case_alone_is_one_object() -> None:
    def told(case: str, score: float) -> list[Property]:
        return [("task", "t"), ("eval", "e"), ("case", case), ("repeat", 0), ("score", score)]

    (one, a), (two, b), (other, _) = (
        packed(told("a", 1)),
        packed(told("b", 1)),
        packed(told("a", 0)),
    )
    assert one is two
    assert (a, b) == ("a", "b")
    assert one is not other
    assert isinstance(packed([*told("a", 1), ("miss", "why")])[0], list)
