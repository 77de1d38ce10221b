"""What the page is made of: words, charts, comparisons, and the order of the cases."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from harness.records import Case, Comparison, Estimate, Fault, Reply, Score, Trial, Try
from harness.surface.report import charts, words
from harness.surface.report.cases import pair_of, rows
from harness.surface.report.diff import likeness, word_diff
from harness.surface.report.island import SHOWN, Island, unpack
from harness.surface.report.model import CaseView, ReplyView, ReportData, Rung
from harness.surface.report.summaries import cost_rows, data_page
from tests.surface.sample_report import sample_report

THIN = words.NARROW


def estimate(mean: float, lower: float, upper: float) -> Estimate:
    return Estimate(mean=mean, lower=lower, upper=upper, n=40, clusters=32)


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (words.percent(0.9), f"90{THIN}%"),
        (words.percent(0.025), f"2.5{THIN}%"),
        (words.percent(0.99999), f"100{THIN}%"),
        (words.percent(None), "–"),
        (words.cut_middle("few-shot@openai:large-v1", 24), "few-shot@openai:large-v1"),
        (words.cut_middle("few-shot@openai:a-model-mini", 24), "few-shot@op…a-model-mini"),
        (words.measured(600.0), "600"),
        (words.measured(4884480.0), f"4{THIN}884{THIN}480"),
        (words.measured(3.2452220916748047), "3.245"),
        (words.measured(-0.0149), "−0.0149"),
        (words.measured(float("nan")), "nan"),
        (words.points(0.8), "+80"),
        (words.points(-0.031), "−3.1"),
        (words.points(-0.0001), "0"),
        (words.bare_points(0.05), "5"),
        (words.span(estimate(0.1, 0.035, 0.214)), f"3.5–21.4{THIN}%"),
        (words.surety(0.05), f"95{THIN}%"),
        (words.seconds(0.0421), f"42{THIN}ms"),
        (words.seconds(1.26), f"1.3{THIN}s"),
        (words.seconds(1234.0), f"1{THIN}234{THIN}s"),
        (words.usd(0.00042), "$0.00042"),
        (words.usd(12.5), "$12.50"),
        (words.usd(0.0), "$0.00"),
        (words.plural(1, "case"), "1 case"),
        (words.plural(1200, "case"), f"1{THIN}200 cases"),
        (words.short_digest("e" * 64), "e" * 12),
        (words.short_digest("v1-final"), "v1-final"),
        (words.cut("a  b\nc", 9), "a b c"),
        (words.cut("abcdef", 4), "abc…"),
    ],
)
def test_numbers_are_said_in_plain_words(said: str, meant: str) -> None:
    assert said == meant


# ---------------------------------------------------------------- comparing words


@given(st.text(alphabet='ab {}":,1é\n', max_size=60), st.text(alphabet='ab {}":,1é\n', max_size=60))
def test_the_pieces_of_a_comparison_make_both_texts(reference: str, reply: str) -> None:
    pieces = word_diff(reference, reply)
    if pieces is not None:
        assert "".join(p.text for p in pieces if p.kind != "missing") == reply
        assert "".join(p.text for p in pieces if p.kind != "extra") == reference


def test_a_comparison_shows_the_word_that_differs() -> None:
    pieces = word_diff('{"op":"COUNT"}', '{"op":"AVG"}')
    assert pieces is not None
    assert [(p.kind, p.text) for p in pieces if p.kind != "same"] == [
        ("missing", "COUNT"),
        ("extra", "AVG"),
    ]


def test_texts_that_share_nothing_or_are_endless_are_not_compared() -> None:
    assert word_diff('{"op":"COUNT"}', "You could look at the duration of each of them.") is None
    assert word_diff("a b " * 400, "a b c " * 400) is None


@pytest.mark.parametrize(
    ("reference", "reply", "said"),
    [
        (None, "x", ""),
        ("x", "x", "identical to the reference"),
        ("x", " x\n", "the reference, but for space around it"),
        ('{"a":1,"b":2}', '{"b": 2, "a": 1}', "the same JSON, written differently"),
        ('{"a":1}', '{"a":2}', ""),
        ('{"a":1}', "[" * 5000, ""),
    ],
)
def test_likeness_says_only_what_is_plain(reference: str | None, reply: str, said: str) -> None:
    assert likeness(reference, reply) == said


# ---------------------------------------------------------------- charts


def rung(name: str, mean: float, *, kind: str = "prompt", counted: bool = True) -> Rung:
    tried = Try(
        candidate=name,
        family="few-shot",
        run_id="r",
        estimate=estimate(mean, max(0.0, mean - 0.1), min(1.0, mean + 0.1)),
        is_counted=counted,
    )
    return Rung(result=tried, kind=kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("wide", [True, False])
def test_each_dot_lies_inside_its_interval_and_the_axis(wide: bool) -> None:
    rungs = [rung("a", 0.0), rung("b", 0.1), rung("t", 0.9, kind="tuned"), rung("r", 1.0)]
    chart = charts.ladder(rungs, target=0.6, best="b", wide=wide)
    for row in chart.rows:
        assert chart.left <= row.lower <= row.x <= row.upper <= chart.right
    assert [r.is_best for r in chart.rows] == [False, True, False, False]
    assert [r.kind for r in chart.rows] == ["prompt", "prompt", "tuned", "prompt"]
    assert chart.target is not None
    assert chart.rows[1].x < chart.target.x < chart.rows[2].x
    assert len(chart.rules) == 2
    heights = [r.y for r in chart.rows]
    assert heights == sorted(heights)


def test_a_partial_run_is_drawn_apart_and_never_best() -> None:
    chart = charts.ladder([rung("half", 0.9, counted=False)], target=None, best=None, wide=True)
    assert not chart.rows[0].is_best
    assert "not counted" in chart.rows[0].note
    assert chart.target is None


COMPARISON = Comparison(
    task="t",
    split="test",
    baseline="old",
    candidate="new",
    baseline_run="r1",
    candidate_run="r2",
    baseline_estimate=estimate(0.5, 0.4, 0.6),
    candidate_estimate=estimate(0.5, 0.4, 0.6),
    delta=estimate(0.0, -0.1, 0.1),
    wins=3,
    losses=3,
    ties=34,
)


@given(
    st.floats(-1, 1),
    st.floats(0, 0.6),
    st.floats(0, 0.2),
    st.booleans(),
)
def test_a_difference_is_drawn_inside_its_axis(
    mean: float, half: float, least: float, wide: bool
) -> None:
    lower, upper = max(-1.0, mean - half), min(1.0, mean + half)
    c = replace(COMPARISON, delta=estimate(mean, lower, upper))
    chart = charts.delta(c, min_gain=least, wide=wide)
    first, last = chart.ticks[0].x, chart.ticks[-1].x
    assert first <= chart.lower <= chart.x <= chart.upper <= last
    assert first <= chart.zero <= chart.least.x <= last
    assert 2 <= len(chart.ticks) <= (10 if wide else 7)
    assert chart.tone == ("better" if lower > 0 else "worse" if upper < 0 else "")


def test_the_bar_of_wins_ties_and_losses_fills_the_chart() -> None:
    chart = charts.delta(COMPARISON, min_gain=0.02, wide=True)
    assert [(s.kind, s.count) for s in chart.segments] == [("win", 3), ("tie", 34), ("loss", 3)]
    last = chart.segments[-1]
    assert chart.width - 3 <= last.x + last.width <= chart.width


# ---------------------------------------------------------------- the order of cases


def reply(
    name: str, value: float | None, *, fault: Fault | None = None, text: str = ""
) -> ReplyView:
    scores = (Score(name="all", value=value),)
    return ReplyView(
        candidate=name,
        trial=Trial(case_id="", scores=scores, fault=fault),
        reply=Reply(text=text or f"{name} {value}"),
        primary=value,
    )


def case(id: str, *replies: ReplyView) -> CaseView:  # noqa: A002 - the field's name
    return CaseView(case=Case(id=id, inputs={"q": id}, split="test"), replies=replies)


SYSTEM = Fault(origin="backend", message="overflow")
LOST = Fault(origin="backend", message="503", is_missing=True)
DATA = ReportData(
    task="t",
    about="",
    generated_at="",
    harness_version="",
    primary="all",
    comparisons=(COMPARISON,),
    cases=(
        case("both", reply("old", 1, text="x"), reply("new", 1, text="x")),
        case("rose", reply("old", 0), reply("new", 1)),
        case("neither", reply("old", 0), reply("new", 0.5)),
        case("fell", reply("old", 1), reply("new", 0)),
        case("broke", reply("old", 1), reply("new", None, fault=SYSTEM)),
        case("lost", reply("old", 1), reply("new", None, fault=LOST)),
        case("unjudged", reply("old", None), reply("new", None)),
    ),
)


def test_regressions_come_first_and_passes_last() -> None:
    found = [(r.id, r.status) for r in rows(DATA, Island())]
    assert found == [
        ("fell", "regressed"),
        ("broke", "regressed"),  # a failure of the system under test is a miss
        ("lost", "fault"),  # trouble of the infrastructure is not
        ("neither", "missed"),
        ("rose", "improved"),
        ("both", "passed"),
        ("unjudged", "open"),
    ]


def test_a_case_passes_every_filter_that_fits_it() -> None:
    marks = {r.id: set(r.marks) for r in rows(DATA, Island())}
    assert marks["both"] == set()
    assert marks["rose"] == {"improved", "different"}
    assert marks["neither"] == {"improved", "different", "missed"}
    assert marks["fell"] == {"regressed", "different", "missed"}
    assert marks["broke"] == {"regressed", "different", "missed", "fault"}
    assert marks["lost"] == {"different", "fault"}


def test_the_pair_is_that_of_the_split_then_any_then_the_best_prompt() -> None:
    data = sample_report(dev=4, test=4)
    other = replace(data.comparisons[0], baseline="few-shot", candidate="constrained")
    data = replace(data, comparisons=(other,))
    assert pair_of(data, "test") == ("dynamic", "tuned")
    assert pair_of(data, "dev") == ("few-shot", "constrained")
    assert pair_of(data, "train") == ("dynamic", "tuned")
    alone = replace(data, release=None, comparisons=())
    assert data.wall is not None
    assert pair_of(alone, "dev") == (None, data.wall.best)
    assert pair_of(replace(alone, wall=None), "dev") == (None, "tuned")


def test_squares_stand_in_the_order_of_the_ladder_and_tell_what_was_not_asked() -> None:
    data = sample_report()
    row = next(r for r in rows(data, Island()) if r.split == "test")
    assert [c.status == "none" for c in row.cells] == [
        name not in {"dynamic", "tuned"} for name in (r.result.candidate for r in data.rungs)
    ]
    assert [c.starts for c in row.cells] == [False] * 7 + [True, True]


# ---------------------------------------------------------------- island and summaries


def test_the_island_keeps_each_text_once_and_whole() -> None:
    island = Island()
    long = "\ud800\u2028</script>" * SHOWN
    placed = island.place(long)
    assert island.place(long).index == placed.index
    assert placed.more == len(long) - SHOWN
    assert island.place("short").index is None
    assert unpack(island.packed())["texts"] == [long]
    assert set(island.packed()) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
    )


def test_the_data_page_counts_cases_clusters_tags_and_lengths() -> None:
    cases = [
        Case(id="1", inputs={"q": "x" * 10}, split="dev", cluster="a", tags=("t",), reference=0),
        Case(id="2", inputs={"q": "x" * 30}, split="dev", cluster="a", tags=("t", "u")),
        Case(id="3", inputs={"q": ["x"]}, split="test"),
    ]
    page = data_page(cases)
    dev, test = page.splits
    assert (dev.cases, dev.clusters, dev.labelled, dev.longest_chars) == (2, 1, 1, 30)
    assert (test.cases, test.clusters, test.labelled, test.longest_chars) == (1, 1, 0, 5)
    assert page.tags == {"t": 2, "u": 1}
    assert sum(b.cases for b in page.lengths) == 3
    assert data_page([]).lengths == ()


def test_costs_are_means_quantiles_and_sums_of_what_is_known() -> None:
    data = sample_report(dev=20, test=4)
    row = next(r for r in cost_rows(data.cases) if (r.candidate, r.split) == ("dynamic", "dev"))
    replies = [
        r.reply
        for c in data.cases
        for r in c.replies
        if (r.candidate, c.case.split) == ("dynamic", "dev") and r.reply is not None
    ]
    waits = sorted(r.latency_s or 0.0 for r in replies)
    assert row.cases == 20
    assert row.input_tokens == pytest.approx(sum(r.input_tokens or 0 for r in replies) / 20)
    assert (row.p50_latency_s, row.p95_latency_s) == (waits[9], waits[18])
    assert row.cost_usd is None
    assert "reference" not in {r.candidate for r in cost_rows(data.cases)}
