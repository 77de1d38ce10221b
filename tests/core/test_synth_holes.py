"""Thin places of a task: tags and classes with few cases."""

from __future__ import annotations

from harness.core.synth_holes import belongs, find_holes
from harness.records import Case
from harness.testing import make_case


def cases(**counts: int) -> list[Case]:
    return [
        make_case(f"{label}-{n}", reference=label, split="train", tags=("short",))
        for label, times in counts.items()
        for n in range(times)
    ]


def test_rare_classes_and_tags_are_found_the_emptiest_first() -> None:
    some = [
        *cases(refund=20, delivery=20, abuse=2),
        make_case("x", reference="refund", tags=("long",)),
    ]
    found = find_holes(some, known=["refund", "legal"], least=10)
    assert [(h.kind, h.name, h.have) for h in found] == [
        ("class", "legal", 0),
        ("tag", "long", 1),
        ("class", "abuse", 2),
    ]
    assert [c.id for c in some if belongs(c, found[1])] == ["x"]


def test_free_text_has_no_classes_and_origin_is_no_slice() -> None:
    some = [
        make_case(f"c{n}", reference=f"An answer of its own, number {n}", tags=("synthetic",))
        for n in range(30)
    ]
    assert find_holes(some, least=10) == []
