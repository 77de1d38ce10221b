"""From rows to cases: joined, split by source, and nothing left out in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Miss, Reply, checks
from harness.core.examples import Example
from harness.engine.data.bringing import Brought, bring
from harness.engine.data.first_splits import shares
from harness.engine.data.row_checks import with_answer_check
from harness.errors import TaskError, UsageError
from harness.records import Message

FRUIT = ["apple", "pear", "plum", "fig", "lime", "kiwi", "mango", "melon", "grape", "peach"]


def example(number: int, **more: Any) -> Example:
    inputs = {"text": f"{FRUIT[number % 10]} {number} {FRUIT[number // 10 % 10]}"}
    return Example(place=f"f.csv:{number}", **{"inputs": inputs, "reference": "a", **more})


def brought(*examples: Example, **more: Any) -> Brought:
    here = Path()
    return bring(examples, origin="f.csv", folder=here, home=here / "evals/t", **more)


def test_rows_that_repeat_are_joined_and_other_answers_are_kept() -> None:
    found = brought(example(1), example(1), example(1, reference="b"), example(2))
    assert len(found.rows) == 3
    assert found.joined == 1
    assert {r["split"] for r in found.rows if "1 apple" in str(r["inputs"])} == {"dev"}


def test_a_source_stands_in_one_split_whatever_else_is_added() -> None:
    some = [example(n, cluster=f"c{n % 50}") for n in range(200)]
    more = [*some, *(example(n, cluster=f"d{n}") for n in range(200, 260))]
    before, after = brought(*some), brought(*more)
    splits: dict[str, set[str]] = {}
    for row in after.rows:
        splits.setdefault(str(row["cluster"]), set()).add(str(row["split"]))
    assert all(len(s) == 1 for s in splits.values())
    assert all(count > 20 for count in before.counts.values())
    ours = {r["cluster"]: r["split"] for r in before.rows}
    assert {c: s for c, (s,) in splits.items() if c in ours} == ours


def test_rows_that_ask_nearly_the_same_stand_in_one_split() -> None:
    text = "please tell me when the parcel with the blue lamp that i ordered will arrive at my"
    rows = [example(n) for n in range(40)]
    near = [example(n, inputs={"text": f"{text} {w}"}) for n, w in ((50, "home"), (51, "house"))]
    found = brought(*rows, *near)
    assert len({r["split"] for r in found.rows if "parcel" in str(r["inputs"])}) == 1


def test_own_splits_are_kept_and_a_missing_dev_is_taken_from_train() -> None:
    rows = [example(n, split="Validation" if n % 2 else "train") for n in range(10)]
    assert brought(*rows).counts == {"train": 5, "dev": 5, "test": 0}
    rows = [example(n, split="test" if n % 4 == 0 else "train") for n in range(80)]
    found = brought(*rows)
    assert found.counts["test"] == 20
    assert found.counts["dev"] > 10
    with pytest.raises(UsageError, match=r"f.csv:1: the split is 'holdout'.*split=ignore"):
        brought(example(0), example(1, split="holdout"))


def test_what_a_case_has_no_place_for_is_counted_by_name() -> None:
    found = brought(
        example(1, other={"notes": "x", "empty": ""}, is_good=True),
        example(2, reference=None),
        example(3, inputs={"text": ""}),
        example(4, rejected="a"),
        example(5, rejected="b"),
    )
    assert found.dropped == {
        "rows that ask nothing": 1,
        "rows without an answer": 1,
        "rows' `notes`": 1,
        "rows' thumbs, up or down": 1,
        "rejected answers without a better one": 1,
    }
    assert [r.get("rejected") for r in found.rows] == [None, None, "b"]


def test_white_space_is_no_question_and_no_answer() -> None:
    blank = [example(3, inputs={"text": " \u200b"}), example(4, reference="  ")]
    found = brought(example(1), example(2, reference="b"), *blank)
    assert [r["reference"] for r in found.rows] == ["a", "b"]
    assert found.dropped == {"rows that ask nothing": 1, "rows without an answer": 1}


def test_dialogues_and_calls_become_text_and_json() -> None:
    turns = (Message(role="user", content="Hi"), Message(role="assistant", content="Yes?"))
    last = (*turns, Message(role="user", content="Cancel 7"))
    call = {"type": "function", "function": {"name": "cancel", "arguments": '{"id": 7}'}}
    found = brought(
        example(1, inputs={}, messages=last, reference=None, calls=(call,)),
        example(2, inputs={}, messages=turns[:1], reference="Hello"),
    )
    assert found.rows[0]["inputs"] == {"dialogue": "user: Hi\nassistant: Yes?\nuser: Cancel 7"}
    assert found.rows[0]["reference"] == {"name": "cancel", "arguments": {"id": 7}}
    assert any("tool calls" in what for what in found.dropped)


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def test_tools_that_all_rows_offer_are_carried_and_answers_stay_calls() -> None:
    call = {"id": "c9", "type": "function",
            "function": {"name": "cancel", "arguments": '{"id": 7}'}}  # fmt: skip
    asks = [{"inputs": {"text": f"Cancel {n}"}, "reference": None} for n in (1, 2)]
    both = (tool("cancel"), tool("track"))
    rows = [example(n, tools=both, calls=(call,), **asks[n - 1]) for n in (1, 2)]
    found = brought(*rows, example(3, tools=both, reference="No."))
    assert found.tools == both
    plain = {"type": "function", "function": {"name": "cancel", "arguments": {"id": 7}}}
    assert [r["reference"] for r in found.rows] == [{"tool_calls": [plain]}] * 2 + ["No."]
    assert found.dropped == {}
    assert found.notes[0].endswith("in tools.json: `cancel`, `track`")


@pytest.mark.parametrize("other", [(tool("track"),), (), (tool("cancel"), tool("cancel"))])
def test_tools_that_differ_are_listed_and_answers_become_json(other: tuple[Any, ...]) -> None:
    call = {"type": "function", "function": {"name": "cancel", "arguments": "{}"}}
    first = (tool("cancel"),) if len(other) < 2 else other  # one name twice is no tool to offer
    found = brought(example(1, tools=first, reference=None, calls=(call,)),
                    example(2, tools=other, reference=None, calls=(call,)))  # fmt: skip
    assert found.tools == ()
    assert [r["reference"] for r in found.rows] == [{"name": "cancel", "arguments": {}}] * 2
    assert sum("tools: not the same" in what for what in found.dropped) == 1


def test_calls_in_the_middle_of_a_dialogue_are_part_of_its_text() -> None:
    call = {"id": "c", "function": {"name": "hours", "arguments": '{"day": "Mo"}'}}
    turns = (
        Message(role="user", content="Open?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="9", tool_call_id="c"),
    )
    found = brought(*(example(n, inputs={"n": n}, messages=turns) for n in (1, 2)))
    said = 'user: Open?\nassistant: {"name": "hours", "arguments": {"day": "Mo"}}\ntool: 9'
    assert {r["inputs"]["dialogue"] for r in found.rows} == {said}


def test_names_that_no_template_can_use_are_changed_and_told() -> None:
    names = {"Ticket text": "a", "ticket_text": "b", "2nd": "c", "class": "d", "examples": "e"}
    found = brought(example(1, inputs=names), example(2, inputs=names | {"2nd": "z"}))
    assert found.inputs == ("ticket_text_2", "ticket_text", "_2nd", "_class", "examples_2")
    assert found.renamed["Ticket text"] == "ticket_text_2"


def test_image_files_are_named_from_the_tasks_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for n in (1, 2):
        (tmp_path / f"pictures/{n}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    rows = [example(n, inputs={"image": f"pictures/{n}.png"}) for n in (1, 2)]
    home = tmp_path / "evals/t"
    found = bring(rows, origin="f", folder=tmp_path, home=home)
    assert found.images == ("image",)
    assert found.rows[0]["inputs"] == {"image": "../../pictures/1.png"}


def test_ids_are_kept_made_unique_or_made() -> None:
    found = brought(example(1, id="x"), example(2, id="x"), example(3))
    assert [r["id"] for r in found.rows] == ["x", "x-2", "r0003"]


def test_one_row_is_no_task() -> None:
    with pytest.raises(TaskError, match=r"1 usable row of 2.*rows that ask nothing: 1"):
        brought(example(1), example(2, inputs={"text": None}))


@pytest.mark.parametrize(
    ("rows", "each"), [(100, 40), (300, 120), (1000, 200), (5000, 500), (9000, 500)]
)
def test_dev_and_test_are_large_enough_and_no_larger(rows: int, each: int) -> None:
    assert round(shares(rows)[0] * rows) == each


def test_several_short_answers_are_a_check_of_the_row_and_the_first_is_its_answer() -> None:
    rows = [example(1, reference=["a dog", "dog"]), example(2, reference="a cat")]
    found = brought(*rows)
    assert found.has_several
    assert [r["reference"] for r in found.rows] == ["a dog", "a cat"]
    (check,) = found.rows[0]["checks"]  # type: ignore[misc]
    assert check["arguments"]["texts"] == ["a dog", "dog"]
    assert {c["name"] for r in found.rows for c in r["checks"]} == {"contains_any"}  # type: ignore[union-attr, call-overload, index]
    numbers = brought(example(1, reference=["2", "two"]), example(2, reference="12"))
    assert numbers.rows[0]["checks"] == [{"name": "one_of", "arguments": {"classes": ["2", "two"]}}]


def test_a_list_is_several_answers_only_where_the_form_says_so() -> None:
    rows = [example(n, reference=["x", "y"]) for n in (1, 2)]
    assert not brought(*rows).has_several
    assert brought(*rows, any_would_do=True).has_several
    long = "words " * 60
    rows = [example(n, reference=[long, f"{long}{n}"]) for n in (1, 2)]
    found = brought(*rows, any_would_do=True)
    assert not found.has_several
    assert (found.rows[0]["reference"], found.rows[0]["also_right"]) == (long, [f"{long}1"])
    assert found.has_further


def test_an_answer_beside_checks_is_one_of_them() -> None:
    check = {"name": "json", "arguments": {}}
    found = brought(
        example(1, reference='{"a": 1}', other={"checks": [check]}),
        example(2, reference="Paris"),
        example(3, reference=None, other={"checks": [check]}),
    )
    names = [[c["name"] for c in r["checks"]] for r in found.rows]  # type: ignore[union-attr, call-overload, index]
    assert names == [["json", "json_equal"], ["equals"], ["json"]]


def test_an_answer_that_is_a_number_beside_checks_is_right_as_itself() -> None:
    check = {"name": "json", "arguments": {}}
    rows = [example(n, reference=n, other={"checks": [check]}) for n in (1, 2)]
    for row in map(with_answer_check, rows):
        [_, told] = row.other["checks"]  # type: ignore[misc]
        arguments = dict(told["arguments"])  # type: ignore[call-overload, index]
        expected = arguments.pop("expected")
        assert checks.json_equal(Reply(text=str(expected)), expected, **arguments)
        with pytest.raises(Miss):
            checks.json_equal(Reply(text="7"), expected, **arguments)


def test_a_text_and_a_message_ask_by_the_same_name_and_empty_inputs_are_left_out() -> None:
    message = (Message(role="user", content="Say 7"),)
    found = brought(example(1, inputs={"input": "Say 6"}), example(2, inputs={}, messages=message))
    assert [r["inputs"] for r in found.rows] == [{"input": "Say 6"}, {"input": "Say 7"}]
    rows = [example(n, inputs={"text": f"t {n}", "note": ""}) for n in (1, 2)]
    assert brought(*rows).dropped == {"the input `note`, which is empty in every row": 2}
    assert brought(*rows).inputs == ("text",)


def test_what_is_lost_of_an_object_is_named_by_its_keys() -> None:
    other = {
        "metadata": {"source": "x", "empty": ""},
        "assert": [{"type": "llm-rubric"}, {"type": "cost"}, {"type": "equals", "weight": 0}],
    }
    assert brought(example(1, other=other), example(2)).dropped == {
        "rows' `metadata.source`": 1,
        "asserts that no check of ours means, `llm-rubric`": 1,
        "asserts that no check of ours means, `cost`": 1,
        "asserts of weight 0, which cannot fail, `equals`": 1,
    }
