from __future__ import annotations

import importlib.util
import inspect
import re
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import harness_dspy
import pytest

from harness.errors import BackendError, UsageError
from harness.records import Reply, Request
from tests.plugins.school import LESSONS, School, numbers_in, schools

Open = Callable[..., School]


def proposer(request: Request) -> str:
    """Give a lesson, another one each time, and what it is otherwise asked for; with dspy's marks
    or without.
    """
    text = request.messages[-1].content
    if "`[[ ## proposed_instruction ## ]]`" not in text:
        return "Numbers, each of them."
    nth = (request.decoding.seed or 0) + sum(map(ord, text))
    lesson = LESSONS[nth % 3]
    marked = f"[[ ## proposed_instruction ## ]]\n{lesson}\n\n[[ ## completed ## ]]"
    return marked if nth % 2 else f"Here it is:\n```\n{lesson}\n```"


def counting(request: Request) -> Reply:
    """Double even numbers untold; odd ones where instructions or examples show how."""
    told = "\n".join(m.content for m in request.messages if m.role == "system")
    n = int(request.messages[-1].content.split()[-1].rstrip("."))
    right = n % 2 == 0 or "digits" in told or "Reply:" in told
    return Reply(text=str(2 * n) if right else "many", latency_s=0.01)


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Open]:
    with schools(tmp_path, harness_dspy, teacher=proposer) as opened:
        yield opened


def test_dspy_finds_the_better_instructions_and_they_are_an_ordinary_try(
    school: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *a: connected.append(a))
    getfile = inspect.getfile
    one = school()
    found = one.optimise("dspy")
    assert found.names[0] == "optimised-dspy"
    prompt = one.shop.task.prompts["optimised-dspy"]
    assert prompt.family == "optimised"
    assert prompt.sections == (("system", LESSONS[2]), ("user", "Double {{ n }}."))
    run = one.shop.run("optimised-dspy")[0]
    assert all(t.scores[0].value == 1 for t in run.trials)
    text = found.paths[0].read_text()
    assert f"from plain: {found.calls} calls of pupil:small, {found.reflections} ref" in text
    assert "MIPROv2: 1.00 against 0.00 of the seed on 15 dev cases" in text
    # nobody is asked, nothing refused is loaded and nothing is printed but through the job
    assert (connected, capsys.readouterr()) == ([], ("", ""))
    assert not {"litellm", "diskcache", "wandb", "mlflow"} & set(sys.modules)
    assert inspect.getfile is getfile, "dspy's own was left in the whole process"


def test_replies_that_were_right_become_examples(school: Open) -> None:
    one = school(pupil=counting, train=20)
    found = one.optimise("dspy", seed=1)
    text = found.paths[0].read_text()
    examples = re.findall(r"^n: (\d+)\nReply: (\d+)$", text, re.MULTILINE)
    assert examples
    assert all(int(n) in range(10, 30) and int(n) * 2 == int(said) for n, said in examples)
    assert f"{len(examples)} examples from train" in text
    assert "1.00 against 0." in text


def test_an_internal_case_is_no_example(school: Open) -> None:
    some = [
        {"id": f"c{n}", "split": split, "inputs": {"n": n}, "reference": str(2 * n), "tags": tags}
        for n, split, tags in [
            *((n, "train", ["internal"]) for n in range(10, 30)),
            *((n, "dev", []) for n in range(500, 520)),
        ]
    ]
    one = school(pupil=counting, some=some)
    for path in one.optimise("dspy").paths:
        assert "Reply:" not in path.read_text()


def test_no_test_case_reaches_a_model_and_no_dev_case_the_reflection_model(school: Open) -> None:
    one = school(pupil=counting, train=20)
    one.optimise("dspy")
    shown = numbers_in([r.messages[-1].content for r in one.teacher.requests])
    asked = numbers_in([m.content for r in one.pupil.requests for m in r.messages])
    assert asked & set(range(500, 520)), "dev judges"
    assert shown & set(range(10, 30)), "train is learned from"
    assert not {n for n in asked | shown if n >= 7000}, "a test case, or its answer"
    assert not {n for n in shown if n >= 500}, "a dev case, or its answer"


def test_the_same_seed_asks_the_same_and_a_second_run_asks_nothing(school: Open) -> None:
    one, two = school(pupil=counting), school(pupil=counting)
    first, second = one.optimise("dspy", seed=3), two.optimise("dspy", seed=3)
    assert one.sent == two.sent
    assert [p.read_text() for p in first.paths] == [p.read_text() for p in second.paths]
    asked = len(one.sent)
    again = one.optimise("dspy", seed=3)
    assert len(one.sent) == asked
    assert (again.names, again.calls) == (first.names, first.calls)


@pytest.mark.parametrize("most", [9, 40, 77])
def test_the_budget_is_never_exceeded(school: Open, most: int) -> None:
    one = school(pupil=counting)
    found = one.optimise("dspy", max_calls=most)
    assert 0 < len(one.pupil.requests) <= found.calls <= most


def test_a_budget_for_no_rewrite_is_refused_before_the_first_request(school: Open) -> None:
    one = school()
    with pytest.raises(UsageError, match=r"--max-calls 8 .* it needs 9"):
        one.optimise("dspy", max_calls=8)
    assert one.sent == []


def test_without_train_rows_half_of_dev_is_learned_from_and_gives_no_example(
    school: Open,
) -> None:
    one = school(pupil=counting, train=0)
    found = one.optimise("dspy")
    shown = numbers_in([r.messages[-1].content for r in one.teacher.requests])
    judges = numbers_in([r.messages[-1].content for r in one.pupil.requests])
    assert not judges & shown
    assert not {n for n in shown if n >= 1000}, "no reference of a dev case"
    text = found.paths[0].read_text()
    assert "saw 10 dev cases: this prompt's score on dev flatters it" in text
    assert "Reply:" not in text


def test_an_instruction_that_no_file_can_hold_is_never_written(school: Open) -> None:
    one = school(teacher=lambda request: "Double {{ cheat }}; digits.")
    found = one.optimise("dspy", max_calls=60)
    assert (found.names, one.made) == ((), [])
    assert not [text for text in one.sent if text.startswith("Double {{ cheat")]


def test_an_instruction_loses_its_title_and_no_word_of_its_own(school: Open) -> None:
    one = school(teacher=lambda request: "**Proposed Instruction:** For any n: Double; digits.")
    (name,) = one.optimise("dspy", max_calls=60).names
    assert one.shop.task.prompts[name].sections[0] == ("system", "For any n: Double; digits.")


def test_what_the_seed_fills_in_is_told_and_kept(school: Open) -> None:
    one = school()
    prompt = one.shop.folder / "prompts/plain.md"
    prompt.write_text("@system\n  Of {{ n }}:\n    be brief.\n@user\nDouble {{ n }}.\n")
    one.optimise("dspy", max_calls=60)
    told = [r.messages[0].content for r in one.pupil.requests]
    brief = {re.sub(r"\d+", "n", text) for text in told if "be brief" in text}
    assert brief == {"  Of n:\n    be brief."}, "the seed itself, as it is written"
    assert "It keeps {{ n }} as it is written" in one.teacher.requests[0].messages[-1].content


def test_a_reflection_model_that_fails_is_named_and_nothing_is_written(school: Open) -> None:
    def down(request: Any) -> Reply:
        raise BackendError("401 wrong key")

    one = school(teacher=down)
    with pytest.raises(BackendError, match="reflection: 401 wrong key"):
        one.optimise("dspy")
    assert one.made == []
    assert len(one.teacher.requests) == 1


def test_a_missing_or_another_dspy_gives_the_lines_that_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(metadata, "version", lambda name: "4.0.0")
        with pytest.raises(UsageError, match=r"knows 3\.4, and this is 4\.0\.0: pip install"):
            harness_dspy.make_dspy()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = "pip install 'tuning-harness[dspy]' && pip install --no-deps 'dspy>=3.4.1,<3.5'"
    with pytest.raises(UsageError, match=re.escape(line)):
        harness_dspy.make_dspy()
