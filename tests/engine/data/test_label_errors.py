"""Wrong labels, planted: how many are found, how many right ones are doubted, and when not."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import pytest

from harness.engine.data.label_errors import HELD, LabelErrorLint
from harness.engine.data.linting import Rows, Settings, lint
from tests.core.lints.planted import named, run
from tests.engine.data.plants.judged import COMMON, TOPICS, labelled


def test_right_labels_raise_hardly_an_alarm_and_what_is_said_names_both_labels() -> None:
    pytest.importorskip("cleanlab")
    clean = labelled(400, seed=8)
    assert len(named(run(clean, [LabelErrorLint()]), "label-error")) <= 4
    rows = [*clean[1:], replace(clean[0], reference="billing", inputs={"text": "driver door van"})]
    [finding] = run(rows, [LabelErrorLint()])
    assert finding.severity == "note"
    [told] = [p.detail for p in finding.rows if p.id == clean[0].id]
    assert told == "'billing', by its words 'delivery'"


def test_a_copy_or_a_row_of_the_same_source_does_not_vouch_for_a_wrong_label() -> None:
    pytest.importorskip("cleanlab")
    rows = labelled(300, seed=4)
    text = {"text": "driver door van parcel zebra"}
    alone = replace(rows[0], id="bad", inputs=text, reference="billing")
    # were they on both sides, the word of their own would carry the wrong label
    copies = [replace(alone, id=f"copy{i}") for i in range(12)]
    kin = [
        replace(alone, id=f"kin{i}", inputs={"text": f"{text['text']} {COMMON[i]}"}, cluster="one")
        for i in range(12)
    ]  # fmt: skip
    for more in (copies, kin):
        doubted = named(run([*rows, *more], [LabelErrorLint()]), "label-error")
        assert len(doubted & {r.id for r in more}) >= 9


def test_where_words_tell_nothing_or_labels_are_rare_no_label_is_doubted() -> None:
    pytest.importorskip("cleanlab")
    rng = random.Random(2)
    blind = [replace(r, reference=rng.choice(sorted(TOPICS))) for r in labelled(300, seed=2)]
    rule = LabelErrorLint()
    assert run(blind, [rule]) == []
    assert "knows too little" in rule.left_out[0]
    texts = [replace(r, reference=f"label {i % 60}") for i, r in enumerate(blind)]
    few, lists = labelled(90, seed=1), [replace(r, reference=[r.reference]) for r in blind]
    for rows in (texts, few, lists):
        rule = LabelErrorLint()
        assert (run(rows, [rule]), rule.left_out) == ([], [])


def test_a_large_set_is_thinned_evenly() -> None:
    pytest.importorskip("cleanlab")
    rule, some = LabelErrorLint(), labelled(500, seed=1)
    run([replace(r, id=f"{r.id}-{i}") for i in range(2 * HELD // 500 + 1) for r in some], [rule])
    [column] = rule._columns.values()
    assert column.step == 4
    assert HELD / 2 <= len(column.rows) <= HELD


def test_without_cleanlab_the_report_says_what_was_left_out_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    rows = labelled(200, seed=0)
    report = lint([Rows(name="r", open=lambda: iter(rows))])
    assert [n for n in report.notes if "label-error was not looked for" in n and "[cleanlab]" in n]
    silent = lint(
        [Rows(name="r", open=lambda: iter(rows))], settings=Settings(skip=("label-error",))
    )
    assert not [n for n in silent.notes if "label-error" in n]
