from __future__ import annotations

from dataclasses import replace

import pytest

from harness.records import Artifact, CurvePoint
from harness.surface.report import words
from harness.surface.report.curves import curve_of
from harness.surface.report.page import render_report
from tests.surface.sample_report import artifact, sample_report

LOOKS = (
    CurvePoint(step=10, loss=2.0, score=0.0),
    CurvePoint(step=20, loss=1.0, score=0.5),
    CurvePoint(step=40, loss=0.5, score=0.25),
)


def trained(*curve: CurvePoint, **metrics: float) -> Artifact:
    return replace(artifact("w"), curve=curve, metrics=metrics)


def test_looks_stand_where_their_step_and_score_put_them() -> None:
    curve = curve_of(trained(*LOOKS, best_step=20.0))
    assert curve is not None
    assert [(m.x, m.y, m.is_kept) for m in curve.looks] == [
        (140.0, curve.base, False),
        (240.0, (curve.base + curve.top) / 2, True),
        (440.0, curve.base - (curve.base - curve.top) / 4, False),
    ]
    assert curve.loss == "140.0,14.0 240.0,69.0 440.0,96.5"
    assert curve.told == (
        "Loss 2 at first and 0.5 at last. 3 looks at dev: "
        f"{', '.join(words.percent(s) for s in (0, 0.5, 0.25))}. "
        "The checkpoint of step 20 was kept: a choice on dev."
    )


def test_one_point_is_no_curve_and_losses_alone_are_one() -> None:
    assert curve_of(trained(LOOKS[0])) is None
    curve = curve_of(trained(*(replace(p, score=None) for p in LOOKS)))
    assert curve is not None
    assert (curve.looks, curve.score) == ((), "")


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_page_shows_the_curve_of_a_training_that_has_one(is_shown: bool) -> None:
    data = sample_report()
    made = replace(
        data.artifacts[0],
        curve=LOOKS if is_shown else (),
        start="f" * 64 if is_shown else None,
        metrics={"dev_looks": 3.0, "best_step": 20.0},
    )
    page = render_report(replace(data, artifacts=(made,)))
    assert ('class="curve"' in page) is is_shown
    assert ("The checkpoint was chosen on dev" in page) is is_shown
    assert ("gone on from" in page) is is_shown
