"""Thin places of a task: tags and classes with few cases."""

from __future__ import annotations

from dataclasses import replace

from harness.core.synth_holes import belongs, find_holes, labels_of
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


def test_many_labels_are_told_by_all_splits_and_named_by_those_that_may_be_shown() -> None:
    names = [f"intent_{n}" for n in range(30)]
    some = [
        make_case(f"{name}-{n}", reference={"intent": name, "why": f"{name} {n}"}, split=split)
        for name in names
        for n, split in enumerate(("train", "dev", "test", "test"))
    ]
    some.append(make_case("sealed", reference={"intent": "only_in_test"}, split="test"))
    some += [make_case(f"m{n}", reference={"intent": names[0]}, split="train") for n in range(5)]
    labels = labels_of(some, shown={"train", "dev"})
    assert labels == {"intent": tuple(sorted(names))}
    train = [c for c in some if c.split == "train" and c.id != "intent_7-0"]
    found = find_holes(train, labels=labels, least=3)
    assert [h.text for h in found[:2]] == [
        "class intent=intent_7: 0 of 3",
        "class intent=intent_1: 1 of 3",
    ]
    assert len(found) == 29
    as_text = make_case("t", reference='{"intent": "intent_7"}')
    assert belongs(as_text, found[0])
    assert not belongs(as_text, found[1])
    plain = [replace(c, reference=dict(c.reference)["intent"]) for c in some]
    of_text = labels_of(plain, shown={"train", "dev"})
    assert of_text == {"": tuple(sorted(names))}
    assert find_holes(plain[:4], labels=of_text, least=2)[-1].have == 0
