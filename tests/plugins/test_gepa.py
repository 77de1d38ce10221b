from __future__ import annotations

import importlib.util
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness_gepa
import pytest

from harness.errors import BackendError, MissingExtra, UsageError
from harness.records import Reply
from tests.plugins.school import LESSONS, School, numbers_in, schools, teacher

Open = Callable[..., School]


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Open]:
    with schools(tmp_path) as opened:
        yield opened


def test_gepa_finds_the_better_prompt_and_it_is_an_ordinary_try(
    school: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: connected.append(a))
    one = school()
    found = one.optimise()
    assert found.names[0] == "optimised-gepa"
    prompt = one.shop.task.prompts["optimised-gepa"]
    assert prompt.family == "optimised"
    assert prompt.sections == (("system", LESSONS[2]), ("user", "Double {{ n }}."))
    run = one.shop.run("optimised-gepa")[0]
    assert all(t.scores[0].value == 1 for t in run.trials)
    text = found.paths[0].read_text()
    assert f"from plain: {found.calls} calls of pupil:small, {found.reflections} ref" in text
    assert "1.00 against 0.00 of the seed on 20 dev cases" in text
    # nobody is asked, nothing is loaded and nothing is printed but through the job
    assert (connected, capsys.readouterr().out) == ([], "")
    assert not {"litellm", "wandb", "mlflow"} & set(sys.modules)


def test_no_test_case_reaches_a_model_and_no_dev_case_the_reflection_model(school: Open) -> None:
    one = school()
    one.optimise()
    shown = numbers_in([r.messages[-1].content for r in one.teacher.requests])
    asked = numbers_in([r.messages[-1].content for r in one.pupil.requests])
    assert asked & set(range(500, 520)), "dev judges"
    assert shown & set(range(10, 20)), "train is learned from"
    assert not {n for n in asked | shown if n >= 1100}, "a test case, or its answer"
    assert not {n for n in shown if n >= 500}, "a dev case, or its answer"


def test_the_same_seed_asks_the_same_and_a_second_run_asks_nothing(school: Open) -> None:
    one, two = school(), school()
    first, second = one.optimise(seed=3), two.optimise(seed=3)
    assert one.sent == two.sent
    assert first.paths[0].read_text() == second.paths[0].read_text()
    asked = len(one.sent)
    again = one.optimise(seed=3)
    assert len(one.sent) == asked
    assert (again.names, again.calls) == (first.names, first.calls)
    assert {p.name for p in one.made} == {f"{name}.md" for name in first.names}


@pytest.mark.parametrize("most", [18, 40, 77])
def test_the_budget_is_never_exceeded(school: Open, most: int) -> None:
    one = school()
    found = one.optimise(max_calls=most)
    assert found.calls <= most
    assert len(one.pupil.requests) <= most


def test_a_budget_for_no_rewrite_is_refused_before_the_first_request(school: Open) -> None:
    one = school()
    with pytest.raises(UsageError, match=r"--max-calls 13 .* it needs 14"):
        one.optimise(max_calls=13)
    assert one.sent == []


def test_without_train_rows_half_of_dev_is_learned_from_and_the_file_says_so(
    school: Open,
) -> None:
    one = school(train=0)
    found = one.optimise()
    judges = numbers_in(
        [r.messages[-1].content for r in one.pupil.requests if len(r.messages) == 1][:10]
    )
    shown = numbers_in([r.messages[-1].content for r in one.teacher.requests])
    assert len(judges) == 10
    assert not judges & shown
    first = one.teacher.requests[0].messages[-1].content  # every reply of it was wrong
    assert "'many'" in first
    assert not {n for n in numbers_in([first]) if n >= 1000}, "no reference of a dev case"
    assert "saw 10 dev cases: this prompt's score on dev flatters it" in found.paths[0].read_text()


def test_too_few_cases_are_told(school: Open) -> None:
    with pytest.raises(UsageError, match=r"gives 2 and 3\. Add cases"):
        school(train=0, dev=5).optimise()


def test_a_rewrite_that_no_file_can_hold_scores_nothing_and_costs_nothing(school: Open) -> None:
    one = school(teacher=lambda request: "```\nDouble {{ cheat }}; digits.\n```")
    found = one.optimise(max_calls=60)
    assert found.names == ()
    assert one.made == []
    assert not [text for text in one.sent if text.startswith("Double {{ cheat")]


def test_a_reflection_model_that_fails_is_named_and_nothing_is_written(school: Open) -> None:
    def down(request: Any) -> Reply:
        raise BackendError("401 wrong key")

    one = school(teacher=down)
    with pytest.raises(BackendError, match="reflection: 401 wrong key"):
        one.optimise()
    assert one.made == []


def test_what_was_found_before_the_reflection_model_failed_is_kept(school: Open) -> None:
    asked = []

    def tiring(request: Any) -> str:
        asked.append(request)
        if len(asked) > 4:
            raise BackendError("429 quota")
        return teacher(request)

    assert school(teacher=tiring).optimise().names


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'tuning-harness[gepa]'")):
        harness_gepa.make_gepa()
