from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engine import leaks, tune_plan as planning
from harness.engine.data.linting import Settings, lint, task_rows
from harness.engine.ladder import read_ladder, wall_input
from harness.engine.leaks import every_leak, find_leaks, refuse_leaks
from harness.engine.tasks import Task
from harness.errors import TaskError
from harness.records import Split
from tests.engine.small import Workshop, rows, write_settings

Make = Callable[..., Workshop]
LONG = "which of the customers of the shop in the main street bought the most last year"


def changed(train: dict[str, Any], dev: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows c7 (train) and c2 (dev), changed."""
    some = rows()
    some[7] |= train
    some[2] |= dev
    return some


def asks(text: str, **more: Any) -> dict[str, Any]:
    return {"inputs": {"n": text}, "reference": "x", **more}


@pytest.mark.parametrize(
    ("train", "dev", "kind"),
    [
        (asks("a b"), asks("a b"), "the same input"),
        (asks("How many?"), asks("how  many"), "the same input in other letters"),
        ({"cluster": "acme"}, {"cluster": "acme"}, "the same source"),
        (asks(LONG), asks(LONG + " please"), "near"),
    ],
)
def test_each_kind_of_leak_is_found_named_and_stops_a_tune(
    make: Make, train: Any, dev: Any, kind: str
) -> None:
    tune = {"tuner": "by-heart", "prompt": "plain"}
    workshop = make(some=changed(train, dev), tune=tune)
    [leak] = find_leaks(workshop.task)
    assert (leak.case.id, leak.other.id, leak.kind) == ("c7", "c2", kind)
    with pytest.raises(TaskError, match=r"jsonl:8: .* dev.*at .*cases\.jsonl:3\b.*remove one"):
        planning.plan(
            workshop.task,
            licence=planning.Licence(override="x"),
            against=lambda _: {},
        )


def test_a_training_that_dev_would_watch_stops_where_dev_leaks_into_test(make: Make) -> None:
    some = rows()
    sealed = next(n for n, row in enumerate(some) if row["split"] == "test")
    some[sealed] |= {"inputs": some[2]["inputs"]}
    workshop = make(some=some, tune={"tuner": "by-heart", "prompt": "plain"})
    with pytest.raises(TaskError, match=r"the inputs of 'c2' \(dev\) stand in test too"):
        planning.plan(
            workshop.task,
            licence=planning.Licence(override="x"),
            against=lambda _: {},
        )


def test_what_is_remembered_is_not_of_an_id_that_became_a_source(
    make: Make, tmp_path: Path
) -> None:
    memory = tmp_path / "memory"
    alone: dict[str, Any] = {"cluster": None}
    refuse_leaks(make(some=changed(alone, {"cluster": "acme"})).task, "dev", memory=memory)
    renamed = make(some=changed(alone | {"id": "acme"}, {"cluster": "acme"})).task
    with pytest.raises(TaskError, match="the source 'acme' of 'c2'"):
        refuse_leaks(renamed, "dev", memory=memory)


def test_each_two_splits_are_compared_once_and_not_again_where_they_have_no_leak(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def counted(task: Task, split: Split, *, near: float | None) -> list[leaks.Leak]:
        searched.append(split)
        return find_leaks(task, split, near=near)

    monkeypatch.setattr(leaks, "find_leaks", counted)
    monkeypatch.setattr(leaks, "_CLEAN", set())
    clean, memory = make().task, tmp_path / "memory"
    assert every_leak(clean, memory=memory) == []
    assert not memory.exists()
    leaks._CLEAN.clear()
    refuse_leaks(clean, "dev", memory=memory)
    assert searched == ["dev", "test"] * 2
    leaks._CLEAN.clear()
    assert every_leak(clean, memory=memory) == []
    refuse_leaks(clean, "train")
    assert searched == ["dev", "test"] * 2 + ["train"]


def test_a_leak_between_train_and_test_stops_a_verdict_on_dev(make: Make) -> None:
    some = rows()
    sealed = next(n for n, row in enumerate(some) if row["split"] == "test")
    some[sealed] |= {"inputs": some[7]["inputs"]}
    task = make(some=some).task
    with pytest.raises(TaskError, match=r"\(test\) stand in train too"):
        refuse_leaks(task, "dev")
    assert [(x.case.split, x.other.id) for x in every_leak(task)] == [("test", "c7")]


def test_one_case_is_told_once_by_its_plainest_leak(make: Make) -> None:
    same = asks(LONG, cluster="acme")
    [leak] = find_leaks(make(some=changed(same, same)).task)
    assert leak.kind == "the same input"


def test_how_near_is_a_copy_is_the_tasks_to_say(make: Make) -> None:
    workshop = make(some=changed(asks(LONG), asks(LONG.replace("last", "this"))))
    [leak] = find_leaks(workshop.task, near=0.5)
    assert leak.similarity == pytest.approx(12 / 16)
    assert "75 % of their word sequences" in leak.text
    assert find_leaks(workshop.task) == []
    refuse_leaks(workshop.task, "dev")
    tune = {"tuner": "by-heart", "prompt": "plain"}
    write_settings(workshop.folder, tune=tune, near=0.5)
    said = r"`near` in task\.toml .* \(now 0\.5\)"
    with pytest.raises(TaskError, match=said):
        planning.plan(
            workshop.task,
            licence=planning.Licence(override="x"),
            against=lambda _: {},
        )
    with pytest.raises(TaskError, match=said):
        refuse_leaks(workshop.task, "dev")


@pytest.mark.parametrize("copy", ["a b", "A  B."])
def test_no_verdict_rests_on_a_case_that_another_split_asks_in_the_same_words(
    make: Make, copy: str
) -> None:
    workshop = make(some=changed(asks("a b"), asks(copy)))
    with pytest.raises(TaskError, match=r"cases\.jsonl:3: .* stand in train too, at .*jsonl:8"):
        refuse_leaks(workshop.task, "dev")
    with pytest.raises(TaskError, match="no number can rest on them"):
        wall_input(workshop.task, read_ladder(workshop.task, workshop.store))
    with pytest.raises(TaskError, match="no number can rest on them"):
        refuse_leaks(workshop.task, "test")  # nor the number of another split


TABLE = "the table of orders has an id, a customer, a date, a sum, a country and a state of sending"


def beside_tables(train: str, dev: str, *, same_table: bool = True) -> list[dict[str, Any]]:
    """Many questions about two tables; c7 (train) and c2 (dev) ask what is given."""
    other = TABLE.replace("orders", "people")
    some = rows(dev=20, train=20)
    for number, row in enumerate(some):
        ask = f"question {number * 7} on item {number} of shelf {number * 3} in hall {number * 5}"
        row["inputs"] = {"n": ask, "schema": (TABLE, other)[number % 2]}
    some[27]["inputs"] = {"n": train, "schema": TABLE}
    some[2]["inputs"] = {"n": dev, "schema": TABLE if same_table else other}
    return some


def test_what_many_cases_stand_beside_makes_no_two_of_them_near(make: Make) -> None:
    assert find_leaks(make(some=beside_tables("how many in May?", "which customers?")).task) == []


@pytest.mark.parametrize("same_table", [True, False])
def test_a_near_question_is_a_leak_beside_the_same_table_as_lint_says_too(
    make: Make, same_table: bool
) -> None:
    task = make(some=beside_tables(LONG, f"{LONG} please", same_table=same_table)).task
    leaks = [(leak.case.id, leak.other.id, leak.kind) for leak in find_leaks(task)]
    assert leaks == ([("c27", "c2", "near")] if same_table else [])
    report = lint([task_rows(task)], settings=Settings(only=("near-leak",)))
    named = [{p.id for p in group} for f in report.findings for group in f.groups]
    assert named == [{case, other} for case, other, _ in leaks]


PICTURE = bytes.fromhex("89504e470d0a1a0a")


def asks_of(name: str) -> dict[str, Any]:
    return {"inputs": {"n": "what is shown?", "photo": name}, "reference": "x"}


def test_a_picture_under_another_name_is_the_same_picture(make: Make, tmp_path: Path) -> None:
    """And the words that every picture is asked in are none."""
    pictures = {"a.png": b"1", "copy.png": b"1", "b.png": b"2"}
    for name, more in pictures.items():
        (tmp_path / name).write_bytes(PICTURE + more)
    some = [row | {"inputs": row["inputs"] | {"photo": None}} for row in rows()]
    for place, name in {2: "a.png", 7: "copy.png", 15: "b.png"}.items():
        some[place] |= asks_of(str(tmp_path / name))
    task = make(some=some, images=["photo"]).task
    leaks = [(leak.case.id, leak.other.id, leak.kind) for leak in find_leaks(task)]
    assert leaks == [("c7", "c2", "the same input in other letters")]
    with pytest.raises(TaskError, match=r"cases\.jsonl:3: .* stand in train too, at .*jsonl:8"):
        refuse_leaks(task, "dev")
