"""A judge without a certificate may advise, not decide: the rule, and the wall that keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.wall import judge_wall
from harness.engine.certificates import certified, deciding_scores, judges_condition
from harness.engine.eval_sources import judges_asked
from harness.engine.judge_facts import judge_facts
from harness.engine.ladder import read_ladder, wall_input as read_wall_input
from harness.records import Condition, LedgerEntry, Run, Score
from harness.testing import make_run
from tests.core.test_wall import FLAT, holds, ladder, wall_input
from tests.engine.small import Workshop, write_settings

Make = Callable[..., Workshop]
JUDGES = {"judges.polite": {"backend": "letters:judge", "rubric": "It is polite."}}


def entry(judge: str, **more: Any) -> LedgerEntry:
    payload = {"judge": judge, **more}
    return LedgerEntry(kind="certificate", task="double", at="2026-01-01", payload=payload)


def judged_run(judge: str | None = "j1", *, name: str = "polite") -> Run:
    run = make_run([1.0, 0.0], score_name=name)
    trials = tuple(
        dataclasses.replace(t, scores=tuple(dataclasses.replace(s, judge=judge) for s in t.scores))
        for t in run.trials
    )
    return dataclasses.replace(run, trials=trials)


@pytest.mark.parametrize(
    ("settings", "deciding"),
    [
        ({"primary": "right"}, {"right"}),
        ({"primary": "polite"}, {"polite"}),
        ({"primary": "all"}, {"polite", "right"}),
        ({"primary": "right", "guardrails": {"polite": 0.1}}, {"polite", "right"}),
    ],
)
def test_what_decides_is_the_primary_score_and_the_guardrails(
    make: Make, settings: dict[str, Any], deciding: set[str]
) -> None:
    workshop = make(**settings, **JUDGES)
    assert deciding_scores(workshop.task) == deciding


def test_a_judge_that_decides_needs_a_certificate_of_its_own(make: Make) -> None:
    task = make(primary="polite", **JUDGES).task
    open_ = judges_condition(task, [judged_run()], [entry("another")])
    assert open_ is not None
    assert open_.holds is None
    assert "polite (judge j1)" in open_.text
    assert "certify the judge" in open_.text
    sealed = judges_condition(task, [judged_run()], [entry("j1")])
    assert sealed is not None
    assert sealed.holds is True


def test_two_judges_of_one_score_need_one_each(make: Make) -> None:
    task = make(primary="polite", **JUDGES).task
    both = [judged_run("j1+j2")]
    assert judges_condition(task, both, [entry("j1")]).holds is None  # type: ignore[union-attr]
    assert judges_condition(task, both, [entry("j1"), entry("j2")]).holds  # type: ignore[union-attr]


def test_a_judge_that_only_advises_needs_none(make: Make) -> None:
    task = make(primary="right", **JUDGES).task
    assert judges_condition(task, [judged_run()], []) is None
    assert judges_condition(task, [judged_run(None, name="right")], []) is None


def test_the_newest_certificate_of_a_judge_counts() -> None:
    assert certified([entry("j1"), entry("j2"), entry("j2", holds=False)]) == {"j1"}
    assert certified([entry("j1", holds=False), entry("j1", holds=True)]) == {"j1"}
    other = dataclasses.replace(entry("j3"), kind="pilot")
    assert certified([other]) == set()


# ---------------------------------------------------------------- the wall

OPEN = Condition(name="judges", holds=None, text="polite (judge j1) rests on a model's judgement")
SEALED = Condition(name="judges", holds=True, text="polite: agreement is on record")


def test_there_is_no_wall_on_a_judge_without_a_certificate() -> None:
    """The same scores are a wall with one."""
    assert judge_wall(wall_input(ladder(FLAT), judges=SEALED)).answer == "WALL"
    found = judge_wall(wall_input(ladder(FLAT), judges=OPEN))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert holds(found)["judges"] is None
    assert "polite (judge j1)" in found.reason
    assert "ertify the judge" in found.next_step


def test_no_prompt_ships_on_a_judge_without_a_certificate() -> None:
    good = ladder([0.99] * 7)
    assert judge_wall(wall_input(good, judges=SEALED)).answer == "SHIP_PROMPT"
    found = judge_wall(wall_input(good, judges=OPEN))
    assert found.answer == "INSUFFICIENT_EVIDENCE"
    assert "looks good enough, but polite (judge j1)" in found.reason


def test_a_judge_may_advise_to_go_on() -> None:
    rising = ladder([0.50, 0.54, 0.58, 0.62, 0.66, 0.70, 0.74])
    assert judge_wall(wall_input(rising, judges=OPEN)).answer == "KEEP_PROMPTING"


def test_the_wall_reads_certificates_from_the_ledger(make: Make) -> None:
    workshop = make(primary="right")
    evaluation = workshop.evaluate("plain")
    trials = evaluation.trial_ids()
    workshop.run("plain")
    runs = evaluation.runs(
        {t: [Score(name="right", value=0.0, judge="j1")] for t in trials},
        faults={}, aggregates={}, is_complete=lambda _: True,
    )  # fmt: skip
    workshop.store.add_run(runs[0], at="2027-01-01T00:00:00+00:00")
    task = workshop.task
    ladder_ = read_ladder(task, workshop.store)
    assert read_wall_input(task, ladder_).judges.holds is None  # type: ignore[union-attr]
    workshop.store.record(entry("j1"))
    known = workshop.store.ledger(task="double", kind="certificate")
    assert read_wall_input(task, ladder_, certificates=known).judges.holds  # type: ignore[union-attr]


def test_a_text_that_is_the_other_side_rests_on_no_setting_of_the_model(make: Make) -> None:
    table = {"backend": "letters:judge", "rubric": "x", "kind": "pairwise"}
    facts = [
        judge_facts(make(**{"judges.nicer": table | {"against": side}}, **more).task)
        for side in ("constant:no", "plain", "constant:yes")
        for more in ({}, {"decoding": {"max_tokens": 7}})
    ]
    assert facts[0] == facts[1] != facts[4]
    assert facts[2] != facts[3]


@pytest.mark.parametrize("what", ["rubric", "file", "backend", "pass_at"])
def test_a_changed_judge_makes_recorded_scores_stale(make: Make, what: str) -> None:
    table = {"backend": "letters:judge", "rubric": "rubric.md"}
    workshop = make(**{"judges.polite": table})
    (workshop.folder / "rubric.md").write_text("It is polite.")
    before = workshop.task.evals_digest
    if what == "file":
        (workshop.folder / "rubric.md").write_text("It is very polite.")
    else:
        new = {"rubric": "Polite.", "backend": "letters:other", "pass_at": 0.5}[what]
        write_settings(workshop.folder, **{"judges.polite": {**table, what: new}})
    assert workshop.task.evals_digest != before


def test_which_judges_an_eval_asks_is_read_in_it_and_in_its_fixtures(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n"
        "@pytest.fixture\ndef polite(judge):\n    return judge('courteous').value\n"
    )
    (tmp_path / "eval_a.py").write_text(
        "def test_kind(reply, polite):\n    assert polite > 0.5\n\n"
        "def test_clear(reply, judge):\n    assert judge('clear').value > 0.5\n\n"
        "def test_word(reply):\n    assert 'clear' in reply.text\n"
    )
    asked = judges_asked(tmp_path, ["courteous", "clear"])
    assert asked == {"kind": {"courteous"}, "clear": {"clear"}}


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("assert judge('courteous').value and reply.text != 'clear'", {"courteous"}),
        (
            "assert all(judge(name).value for name in ('courteous', 'clear'))",
            {"courteous", "clear"},
        ),
        ("ask = judge\n    assert ask('clear').value", {"clear"}),
        ("assert kind(judge, 'clear')", {"clear"}),
        ("assert judge('clear') and kind(judge, 'courteous')", {"clear", "courteous"}),
    ],
)
def test_a_text_that_is_a_judges_name_too_asks_nobody(
    tmp_path: Path, body: str, asked: set[str]
) -> None:
    """Unless the eval does something with `judge` that its source does not tell."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "eval_a.py").write_text(f"def test_kind(reply, judge):\n    {body}\n")
    assert judges_asked(tmp_path, ["courteous", "clear"]) == {"kind": asked}


def test_a_judge_that_a_fixture_hands_on_is_found_by_the_texts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture(name='ask')\ndef asker(judge):\n    return judge\n"
    )
    (tmp_path / "eval_a.py").write_text(
        "def test_kind(judge, ask):\n    assert ask('clear').value > 0.5\n"
    )
    assert judges_asked(tmp_path, ["courteous", "clear"]) == {"kind": {"clear"}}
