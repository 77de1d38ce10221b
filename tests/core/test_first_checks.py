"""The first check that is guessed runs, passes the right answers, and misses a wrong one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness import Miss, Reply
from harness.core.first_checks import FirstCheck, file_of, first_check, plain_answers

KINDS: dict[str, tuple[list[Any], str]] = {
    "exact label": (["billing", "delivery", "billing", "other ä\"'\\", "delivery"] * 3, "it"),
    "the same number": ([1, 2, 3, 40, 5], "41"),
    "a number within 1 %": (["1.25", "3.5", "100"], "1.4"),
    "JSON equality": ([{"a": 1.5, "b": "x"}, {"a": 2}], '{"a": 3}'),
    "items in common": ([["a", "b"], ["c"], []], '["z"]'),
    "contains the answer": ([f"Street {n}" for n in range(9)], "nothing"),
    "words in common": ([f"A long answer about number {n}, with reasons." for n in range(9)], "no"),
    "equal SQL": (["SELECT a FROM t", "SELECT b FROM t WHERE c = 1"], "SELECT z FROM y"),
}


def run(check: FirstCheck, answer: Any, said: str) -> float:
    """Return what the primary eval of the written file gives."""
    space: dict[str, Any] = {}
    source = file_of(check, task="mine", origin="rows.csv")
    exec(compile(source, "eval_mine.py", "exec"), space)  # the file that is written
    given = {"case": SimpleNamespace(reference=answer), "reply": Reply(text=said)}
    scores: list[float] = []
    function = space[f"test_{check.primary}"]
    wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
    try:
        function(**{n: scores.append if n == "score" else given[n] for n in wanted})
    except (Miss, AssertionError):
        return 0.0
    return scores[0] if scores else 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_check_passes_the_right_answers_and_no_wrong_one(kind: str) -> None:
    import json

    answers, wrong = KINDS[kind]
    check = first_check(plain_answers(answers))
    assert check.kind == kind
    for answer in answers:
        said = answer if isinstance(answer, str) else json.dumps(answer)
        assert run(check, answer, said) == 1.0, answer
    assert run(check, answers[0], wrong) == 0.0


def test_texts_that_are_all_json_become_values() -> None:
    assert plain_answers(['{"a": 1}', "[2]"]) == [{"a": 1}, [2]]
    assert plain_answers(['{"a": 1}', "{broken"]) == ['{"a": 1}', "{broken"]
    assert plain_answers([{"references": ["one"]}, {"references": ["two"]}]) == ["one", "two"]


def test_any_of_several_texts_will_do() -> None:
    answers = [{"references": ["a cat", "one cat"]}, {"references": ["a dog"]}]
    check = first_check(plain_answers(answers))
    assert not check.can_run_answers
    assert run(check, answers[0], "one cat") == 1.0
    assert run(check, answers[0], "no") == 0.0


def test_without_answers_it_says_that_it_says_little() -> None:
    check = first_check([])
    assert check.primary == "not_empty"
    assert "only that something was replied" in check.caution
    assert (run(check, None, "x"), run(check, None, " ")) == (1.0, 0.0)


def test_the_rows_own_checks_are_taken_where_they_bring_some() -> None:
    assert first_check(["a", "b"], has_case_checks=True).primary == "checks"
