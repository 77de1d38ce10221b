from __future__ import annotations

from dataclasses import replace

import pytest

from harness.engine.variants import MeasuredForm, MeasuredForms, variants_entry
from harness.records import Estimate, LedgerEntry, from_plain, to_plain
from harness.surface.report.forms import INSET, WIDTH, FormTable, form_table, latest
from harness.surface.report.page import render_report
from tests.surface.sample_report import sample_report


def estimate(mean: float, half: float) -> Estimate:
    return Estimate(mean=mean, lower=mean - half, upper=mean + half, n=40, clusters=34, alpha=0.01)


TUNED = MeasuredForm(
    form="as tuned", artifact="a" * 64, bytes=19 * 2**20, score=estimate(0.98, 0.05),
    tokens_per_s=3.9, peak_bytes=1652 * 2**20,
)  # fmt: skip
GOOD = MeasuredForm(
    form="gguf-q8_0", answer="SHIP", artifact="b" * 64, bytes=138 * 2**20,
    score=estimate(0.98, 0.05), change=estimate(0.0, 0.02), tokens_per_s=98.0,
)  # fmt: skip
BROKEN = MeasuredForm(
    form="nf4", answer="BLOCK", reason="over-quantised: right lost 30 points", artifact="c" * 64,
    bytes=111 * 2**20, score=estimate(0.68, 0.05), change=estimate(-0.3, 0.2),
)  # fmt: skip
ABSENT = MeasuredForm(form="int8", reason="needs <bitsandbytes>: pip install")
ALL = MeasuredForms(
    artifact="a" * 64, name="tuned", margin=0.03, forms=(TUNED, GOOD, BROKEN, ABSENT)
)


def sample_table() -> FormTable:
    entry = variants_entry(ALL, task="nl_query", at="2026-11-22T10:00:00+00:00")
    read = from_plain(LedgerEntry, to_plain(entry))
    assert read.text == "forms of tuned: gguf-q8_0 SHIP, nf4 BLOCK, int8 not made"
    return form_table(from_plain(MeasuredForms, read.payload), at=read.at)


def test_a_form_is_told_with_its_size_speed_memory_and_interval() -> None:
    tuned, good, broken, absent = sample_table().rows
    assert (tuned.weights, tuned.speed, tuned.peak, tuned.verdict) == ("19", "3.9", "1 652", "")
    assert (good.verdict, broken.verdict, absent.verdict) == ("as good", "worse", "not made")
    assert "(" in broken.change
    assert absent.weights == absent.score == absent.change
    assert tuned.whisker is absent.whisker is None


def test_intervals_stand_on_one_axis_for_all_forms() -> None:
    _, good, broken, _ = sample_table().rows
    assert good.whisker is not None
    assert broken.whisker is not None
    assert good.whisker.none == broken.whisker.none == good.whisker.middle == WIDTH / 2
    assert good.whisker.margin == broken.whisker.margin
    assert broken.whisker.low == INSET  # the farthest edge of all is the edge of the axis
    assert broken.whisker.high < broken.whisker.margin < good.whisker.low


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_page_shows_forms_where_they_were_measured(is_shown: bool) -> None:
    page = render_report(replace(sample_report(), forms=(sample_table(),) if is_shown else ()))
    for part in ('id="forms"', 'href="#forms"', "over-quantised: right lost 30 points"):
        assert (part in page) is is_shown
    assert ("needs &lt;bitsandbytes&gt;" in page) is is_shown


def test_what_was_measured_last_of_an_artifact_is_what_stands() -> None:
    old, new = sample_table(), replace(sample_table(), at="2026-11-23T10:00:00+00:00")
    other = replace(old, digest="d" * 64)
    assert latest([old, other, new]) == (new, other)
