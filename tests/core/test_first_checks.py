"""The first check that is guessed runs, passes the right answers, and misses a wrong one."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness import Miss, Reply
from harness.core.answer_kinds import plain_answers
from harness.core.first_checks import first_check
from harness.core.first_evals import FirstCheck, file_of

KINDS: dict[str, tuple[list[Any], str]] = {
    "exact label": (["billing", "delivery", "billing", "other ä\"'\\", "delivery"] * 3, "it"),
    "the same number": ([1, 2, 3, 40, 5], "41"),
    "a number within 1 %": (["1.25", "3.5", "100"], "1.4"),
    "JSON equality": ([{"a": 1.5, "b": "x"}, {"a": 2}], '{"a": 3}'),
    "words in common, in JSON": (
        [
            {"reply": f"Sorry for the long wait, your order number {n} is on its way.", "to": n}
            for n in range(9)
        ],
        '{"reply": "no"}',
    ),
    "items in common": ([["a", "b"], ["c"], []], '["z"]'),
    "contains the answer": ([f"Street {n}" for n in range(9)], "nothing"),
    "words in common": ([f"A long answer about number {n}, with reasons." for n in range(9)], "no"),
    "equal SQL": (["SELECT a FROM t", "SELECT b FROM t WHERE c = 1"], "SELECT z FROM y"),
}


def run(check: FirstCheck, answer: Any, said: str, *, further: tuple[str, ...] = ()) -> float:
    """Return what the primary eval of the written file gives."""
    space: dict[str, Any] = {}
    source = file_of(check, task="mine", origin="rows.csv")
    exec(compile(source, "eval_mine.py", "exec"), space)  # the file that is written
    given = {
        "case": SimpleNamespace(reference=answer, also_right=further),
        "reply": Reply(text=said),
    }
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


def test_what_stands_beside_longer_texts_is_compared_as_other_objects_are() -> None:
    text = "Sorry for the long wait, your order is on its way."
    answers = [{"reply": f"{text} {n}", "usd": 9.5, "to": str(n)} for n in range(9)]
    check = replace(first_check(answers), primary="rest")
    assert "1 % off" in check.caution
    near, far = ({"reply": "no", "usd": usd, "to": "0"} for usd in (9.51, 9.9))
    assert run(check, answers[0], json.dumps(near)) == 1.0
    assert run(check, answers[0], json.dumps(far)) == 0.0


def test_texts_that_are_all_json_become_values() -> None:
    assert plain_answers(['{"a": 1}', "[2]"]) == [{"a": 1}, [2]]
    assert plain_answers(['{"a": 1}', "{broken"]) == ['{"a": 1}', "{broken"]
    assert plain_answers([{"references": ["one"]}, {"references": ["two"]}]) == ["one", "two"]
    again = [{"headline": name, "references": [name]} for name in ("one", "two")]
    assert plain_answers(again) == ["one", "two"]
    other = [{"headline": "more", "references": [name]} for name in ("one", "two")]
    assert plain_answers(other) == other


def test_labels_that_are_spelt_in_several_ways_are_one_label() -> None:
    labels = ["Billing", "billing", "billing ", "other"] * 3
    check = first_check(labels)
    assert check.why == "12 answers are 2 short labels"
    assert "written in several ways" in check.caution
    assert check.body.count('"billing') == 1
    assert run(check, "Billing", "billing.") == 1.0


@pytest.mark.parametrize("labels", [["A", "A-", "B"], ["C", "C#", "F"], ["-", "no", "yes"]])
def test_labels_that_differ_in_punctuation_alone_are_told_apart(labels: list[str]) -> None:
    check = first_check(labels * 4)
    assert run(check, labels[0], labels[1]) == 0.0
    assert run(check, labels[0], f" {labels[0].lower()}") == 1.0
    assert "punctuation" not in check.body


def test_any_of_several_texts_will_do() -> None:
    check = first_check(["a cat", "a dog"], has_further=True)
    assert run(check, "a cat", "one cat", further=("one cat",)) == 1.0
    assert run(check, "a cat", "a cat", further=("one cat",)) == 1.0
    assert run(check, "a cat", "no", further=("one cat",)) == 0.0


def test_without_answers_it_says_that_it_says_little() -> None:
    check = first_check([])
    assert check.primary == "not_empty"
    assert "only that something was replied" in check.caution
    assert (run(check, None, "x"), run(check, None, " ")) == (1.0, 0.0)


def test_a_whole_number_that_no_float_holds_is_no_amount() -> None:
    answers = [10**400, 10**400 + 1]
    check = first_check(answers)
    assert check.kind == "the same text or JSON"
    assert run(check, answers[0], str(answers[0])) == 1.0


def test_a_number_among_texts_is_right_as_itself() -> None:
    """A column of a spreadsheet where one cell says `n/a`."""
    answers = [12, 15.5, True, "n/a", {"a": 1}]
    check = first_check(answers)
    assert check.kind == "the same text or JSON"
    for answer in answers:
        said = answer if isinstance(answer, str) else json.dumps(answer)
        assert run(check, answer, said) == 1.0, answer
    assert run(check, 12, "13") == 0.0


def test_the_rows_own_checks_are_taken_where_they_bring_some() -> None:
    assert first_check(["a", "b"], has_case_checks=True).primary == "checks"
