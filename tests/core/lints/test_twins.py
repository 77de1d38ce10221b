"""Rows that stand twice, planted among rows that do not: what is found, and what is not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from harness.core import twins
from harness.core.examples import Example
from harness.records import Message
from tests.core.lints.planted import clean_rows, edited, named, rules_of, run


def planted(n: int, copies: int, *, seed: int = 1) -> tuple[list[Example], set[str]]:
    """`n` rows of train and, of the first ones, `copies` near copies in test."""
    rng = random.Random(seed)
    rows = clean_rows(n, split="train")
    near = [
        replace(
            row,
            id=f"near-{row.id}",
            split="test",
            inputs={"text": edited(rng, str(row.inputs["text"]))},
        )
        for row in rows[:copies]
    ]
    return [*rows, *near], {row.id for row in near}


@pytest.mark.parametrize("is_large", [False, True])
def test_near_leaks_are_found_in_small_sets_for_sure_and_by_sketches_in_large_ones(
    is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(twins, "FEW", 50)
    rows, near = planted(1200, 200)
    findings = run(rows)
    found = named(findings, "near-leak")
    assert len(found & near) / len(near) >= (0.99 if is_large else 1.0)
    assert {f"near-{i}" for i in found if not i.startswith("near-")} == found & near
    assert rules_of(findings) <= {"near-leak"}, "no false alarm among 1,200 clean rows"


@pytest.mark.parametrize("is_large", [False, True])
def test_near_duplicates_are_groups_of_one_split_and_no_leak(
    is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty rows of 600 have three near copies each, in their own split."""
    if is_large:
        monkeypatch.setattr(twins, "FEW", 50)
    rng = random.Random(5)
    rows = clean_rows(600, split="train")
    copies = [
        replace(row, id=f"{row.id}~{k}", inputs={"text": edited(rng, str(row.inputs["text"]))})
        for row in rows[:60]
        for k in range(3)
    ]
    [finding] = run([*rows, *copies])
    assert finding.rule == "near-duplicate"
    assert finding.count >= (0.98 if is_large else 1.0) * 240
    for group in finding.groups:
        assert len({p.id.partition("~")[0] for p in group}) == 1, "a group is of one row's copies"
    found = named([finding], "near-duplicate")
    assert {i.partition("~")[0] for i in found} <= {row.id for row in rows[:60]}


def test_both_ways_of_finding_near_pairs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = planted(300, 150, seed=3)
    sure = named(run(rows), "near-leak")
    monkeypatch.setattr(twins, "FEW", 10)
    assert named(run(rows), "near-leak") == sure


def test_equal_rows_are_leaks_between_splits_duplicates_within_and_conflicts_by_answer() -> None:
    rows = clean_rows(100, split="train")
    copy = replace(rows[0], id="leak", split="test")
    shouted = replace(
        rows[1], id="shout", split="dev", inputs={"text": f"{rows[1].inputs['text']!s} .".upper()}
    )
    again = replace(rows[2], id="twice")
    other = replace(
        rows[3],
        id="other",
        reference="We cannot help you with this case, as it is not one of ours at all.",
    )
    findings = run([*rows, copy, shouted, again, other])
    assert named(findings, "leak") == {"leak", "shout", rows[0].id, rows[1].id}
    assert named(findings, "duplicate") == {"twice", rows[2].id}
    assert named(findings, "label-conflict") == {"other", rows[3].id}
    assert rules_of(findings) == {"leak", "duplicate", "label-conflict"}


def test_a_source_in_two_splits_and_an_id_at_two_rows_are_errors() -> None:
    rows = clean_rows(50, split="train")
    rows[0] = replace(rows[0], cluster="customer 7")
    rows[1] = replace(rows[1], cluster="customer 7", split="test")
    rows[2] = replace(rows[2], id=rows[3].id)
    findings = {f.rule: f for f in run(rows)}
    assert set(findings) == {"source-leak", "duplicate-id"}
    assert {p.id for p in findings["source-leak"].rows} == {rows[0].id, rows[1].id}
    assert {f.severity for f in findings.values()} == {"error"}


def test_questions_about_one_long_context_are_not_near_each_other() -> None:
    """Fifty questions about three tables: by all their words they are nearly the same."""
    tables = [" ".join(f"column_{t}_{i}" for i in range(60)) for t in range(3)]
    rows = [
        Example(
            place=f"q:{i}",
            id=f"q{i}",
            split="train" if i % 2 else "test",
            inputs={"question": f"how many {i} are older than {i + 7} in town {i}", "table": t},
            reference=f"select {i}",
        )
        for i in range(50)
        for t in [tables[i % 3]]
    ]
    assert "near-leak" not in rules_of(run(rows))
    same = replace(rows[0], id="same", split="train")
    assert named(run([*rows, same]), "leak") == {"q0", "same"}


def test_a_system_message_that_all_rows_share_makes_none_of_them_near() -> None:
    system = Message(role="system", content="You answer for the parcel company. " * 30)
    rows = [
        replace(
            row,
            inputs={},
            messages=(system, Message(role="user", content=str(row.inputs["text"]))),
        )
        for row in clean_rows(40)
    ]
    assert rules_of(run(rows)) == set()


def test_pairs_conflict_where_one_is_preferred_both_ways_and_not_for_being_several() -> None:
    [row] = clean_rows(1)
    pair = replace(row, reference="good answer", rejected="bad answer")
    rows = [
        pair,
        replace(pair, id="b", rejected="worse answer"),
        replace(pair, id="c", reference="bad answer", rejected="good answer"),
    ]
    assert named(run(rows), "label-conflict") == {row.id, "c"}


def test_thumbs_conflict_where_one_answer_has_both() -> None:
    [row] = clean_rows(1)
    up, down = replace(row, id="up", is_good=True), replace(row, id="down", is_good=False)
    other = replace(row, id="third", reference="another", is_good=False)
    assert named(run([up, down, other]), "label-conflict") == {"up", "down"}


def test_one_question_with_other_tools_is_another_question_and_still_a_leak() -> None:
    tools = [({"type": "function", "function": {"name": name}},) for name in ("add", "multiply")]
    rows = [
        replace(
            row,
            inputs={"text": f"Is {n} enough?"},
            reference=f"{n} {k}",
            tools=tools[k],
            split=("train", "test")[k],
            id=f"{row.id}-{k}",
        )
        for n, row in enumerate(clean_rows(30))
        for k in (0, 1)
    ]
    assert "leak" in rules_of(run(rows))
    assert not {"label-conflict", "duplicate"} & rules_of(run(rows))
    assert "label-conflict" in rules_of(run([replace(row, tools=tools[0]) for row in rows]))
