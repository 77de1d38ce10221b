"""Which answers become training rows: good ones, healed ones, pairs; and what is said of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.examples import Example
from harness.engine.candidates import resolve_candidate
from harness.engine.data.answers import (
    Asked,
    file_rows,
    recorded_answers,
    reference_of,
    task_rows,
)
from harness.engine.data.curate import Curator, Cure
from harness.engine.data.filters import Filters
from harness.engine.fetch import Silence
from harness.errors import UsageError
from harness.records import Case, LedgerEntry, Message, Request
from tests.engine.small import (
    Plugin,
    Row,
    Workshop,
    rows,
    write_rows,
    write_settings,
    write_task,
)

EVALS = """
def test_right(case, reply):
    assert reply.text == case.reference, f"{reply.text!r} is not {case.reference!r}"

def test_digits(reply):
    assert reply.text.isdigit(), "no number"
"""


def doubled(request: Request) -> str:
    """Right for even numbers; told that it was wrong, right for all but those above 12."""
    n = int("".join(ch for m in request.messages[:1] for ch in m.content if ch.isdigit()))
    is_again = len(request.messages) > 1
    return str(2 * n) if n % 2 == 0 or (is_again and n <= 12) else "many"


def test_turns_of_a_file_are_the_one_text_that_the_task_asks_by() -> None:
    said = [Message(role="system", content="Be brief."), Message(role="user", content="a")]
    one = Example(place="x:1", messages=tuple(said), reference="b")
    two = replace(
        one, messages=(*said, *(Message(role=r, content=r) for r in ("assistant", "user")))
    )
    plain, text = ("message", {"message": "a"}), "user: a\nassistant: assistant\nuser: user"
    for example, name, inputs in (
        (one, *plain),
        (one, "dialogue", {"dialogue": "user: a"}),
        (two, "dialogue", {"dialogue": text}),
        (two, "message", {"message": text}),
    ):
        [asked] = file_rows([example], inputs={name})
        assert asked.case.inputs == inputs
    [asked] = file_rows([one], inputs={"messages"})
    assert asked.case.inputs.keys() == {"messages"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    folder = write_task(tmp_path, some=some_rows(), primary="right")
    (folder / "eval_double.py").write_text(EVALS)
    opened = Workshop(folder, Plugin(knows=doubled))
    yield opened
    opened.close()


def some_rows() -> list[Row]:
    """Train is c6 to c13; c6 is taught wrong, and c7 has no reference."""
    found = rows()
    found[6]["reference"] = "x"
    del found[7]["reference"]
    return found


def curator(
    shop: Workshop,
    *,
    heal: str | None = None,
    judges: Sequence[str] = (),
    pairs: bool = False,
    **more: Any,
) -> Curator:
    task = shop.task
    finder = lambda text: shop.store.artifact(text, task=task.name).digest  # noqa: E731
    filters = Filters(
        task, with_evals=more.get("evals", True), judges=judges, least=1.0, pool=shop.pool,
        store=shop.store, progress=Silence(), spending=None, artifact_digest=finder,
    )  # fmt: skip
    cure = None
    if heal is not None:
        cure = Cure(
            candidate=resolve_candidate(task, heal, artifact_digest=finder), pool=shop.pool,
            store=shop.store, progress=Silence(),
        )  # fmt: skip
    return Curator(task=task, filters=filters, cure=cure, is_pairing=pairs)


def curated(made: Curator, shop: Workshop, *names: str) -> dict[str, Case]:
    """The rows that stay, by the case that they were made of."""
    recorded = recorded_answers(shop.task, names, store=shop.store) if names else None
    with made.filters:
        found = list(made.rows(task_rows(shop.task, recorded)))
    return {c.id.partition("~")[0]: c for c in found}


# ---------------------------------------------------------------- references


def test_references_that_miss_are_dropped_with_a_count_for_each_reason(shop: Workshop) -> None:
    made = curator(shop)
    kept = curated(made, shop)
    assert sorted(kept) == ["c10", "c11", "c12", "c13", "c8", "c9"]
    assert all(c.provenance == {} for c in kept.values())
    state = made.state
    assert (state.rows, state.kept, state.dropped) == (8, 6, 2)
    assert dict(state.why) == {"digits": 1, "no reference": 1}
    (dropped, _) = state.changes
    assert (dropped.case_id, dropped.reasons) == ("c6", ("digits: no number",))


def test_a_row_that_stands_in_test_too_is_dropped_as_a_leak(shop: Workshop) -> None:
    some = some_rows()
    some[-1]["inputs"] = {"n": 8}
    some[-1]["reference"] = "16"
    write_rows(shop.folder, some)
    made = curator(shop)
    assert "c8" not in curated(made, shop)
    assert made.state.why["a leak: the same input as a test case"] == 1


def test_a_file_keeps_only_train_rows_with_ids_of_their_own(shop: Workshop) -> None:
    def example(n: int, **more: Any) -> Example:
        given = {"inputs": {"n": n}, "reference": str(n), "place": f"f:{n}"} | more
        return Example(**given)

    given = [
        example(101, id="a"),
        example(102, id="a"),
        example(103, split="test"),
        example(104, reference="four"),
        example(105),
    ]
    made = curator(shop)
    with made.filters:
        found = list(made.rows(file_rows(given)))
    assert [c.id for c in found] == ["a", "row-5"]
    assert dict(made.state.why) == {
        "a second row with its id": 1,
        "a row of test: only train rows are used": 1,
        "digits": 1,
    }


# ---------------------------------------------------------------- recorded replies


def test_good_replies_become_rows_with_the_run_and_reply_they_came_from(shop: Workshop) -> None:
    (run,) = shop.run("plain", split="train")
    made = curator(shop)
    kept = curated(made, shop, "plain")
    assert sorted(kept) == ["c10", "c12", "c8"]
    row = kept["c8"]
    trial = next(t for t in run.trials if t.case_id == "c8")
    assert row.provenance["run"] == run.id
    assert trial.reply_key is not None
    assert row.provenance["reply"] == trial.reply_key[:16]
    assert (row.provenance["candidate"], row.provenance["model"]) == ("plain", "letters:small")
    assert "distilled" in row.tags
    assert made.state.why["right"] == 4  # c6, c9, c11, c13
    assert made.state.why["digits"] == 4  # c9, c11, c13, and c7, whose answer nobody knows
    assert curated(curator(shop), shop, run.id[:8]).keys() == kept.keys()


def test_replies_to_dev_cases_are_refused_as_training_data(shop: Workshop) -> None:
    (run,) = shop.run("plain", split="dev")
    with pytest.raises(UsageError, match="no training data"):
        recorded_answers(shop.task, [run.id], store=shop.store)
    with pytest.raises(UsageError, match="no recorded run of it over the train cases"):
        recorded_answers(shop.task, ["plain"], store=shop.store)


def test_a_case_that_was_changed_since_it_was_asked_is_not_answered_by_that(
    shop: Workshop,
) -> None:
    shop.run("plain", split="train")
    some = some_rows()
    some[8]["inputs"] = {"n": 80}
    write_rows(shop.folder, some)
    made = curator(shop)
    assert "c8" not in curated(made, shop, "plain")
    assert made.state.why["the case was changed since it was asked"] == 1


def test_a_missed_reply_is_healed_by_asking_again_with_the_reasons(shop: Workshop) -> None:
    shop.run("plain", split="train")
    made = curator(shop, heal="plain")
    kept = curated(made, shop, "plain")
    assert made.state.healed == 3  # c7, c9, c11; 13 stays "many", and c6 is taught wrong
    known = {one["id"] for one in some_rows()}
    assert not known & {row.id for row in kept.values()}  # both files can be named in task.toml
    row = kept["c9"]
    assert (row.reference, row.cluster) == ("18", "k9")
    assert row.provenance["made_by"] == "heal"
    assert {"healed"} <= set(row.tags)
    assert kept["c7"].id.startswith("c7~")
    change = next(c for c in made.state.changes if c.case_id == "c9")
    assert (change.before, change.after) == ("many", "18")
    asked_again = [r for r in shop.plugin.made[0].asked if len(r.messages) > 1]
    again = next(r for r in asked_again if "9" in r.messages[0].content)
    assert again.messages[1].content == "many"
    assert "no number" in again.messages[2].content
    asked = len(shop.plugin.made[0].asked)
    curated(curator(shop, heal="plain"), shop, "plain")
    assert len(shop.plugin.made[0].asked) == asked  # recorded: nothing is asked twice


def outside(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shop.pool.get
    monkeypatch.setattr(
        shop.pool, "get", lambda *args, **more: replace(real(*args, **more), is_external=True)
    )


def test_an_internal_case_is_not_healed_outside_and_nothing_is_begun(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.run("plain", split="train")
    asked = len(shop.plugin.made[0].asked)
    outside(shop, monkeypatch)
    some = some_rows()
    some[12]["tags"] = ["internal"]
    write_rows(shop.folder, some)
    made = curator(shop, heal="plain")
    with pytest.raises(UsageError, match=r"'c12' is tagged internal \(1 such case\).*nothing was"):
        curated(made, shop, "plain")
    assert (made.state.rows, len(shop.plugin.made[0].asked)) == (0, asked)
    assert set(curated(curator(shop), shop, "plain"))  # without --heal nothing leaves
    del some[12]["tags"]
    write_rows(shop.folder, some)
    loose = curator(shop, heal="plain")
    bad = replace(next(c for c in shop.task.cases if c.id == "c6"), id="new", tags=("internal",))
    with pytest.raises(UsageError, match="'new' is tagged internal"):
        list(loose.rows([Asked(case=bad, answers=reference_of(bad))]))
    assert len(shop.plugin.made[0].asked) == asked


def test_pairs_hold_a_good_reply_and_a_missed_one_of_the_same_case(shop: Workshop) -> None:
    shop.run("plain", "terse", split="train")
    made = curator(shop, pairs=True)
    kept = curated(made, shop, "plain")
    assert sorted(kept) == ["c11", "c13", "c9"]  # the reference is good, the reply "many" is not
    assert (kept["c9"].reference, kept["c9"].rejected) == ("18", "many")
    assert kept["c9"].provenance["rejected_candidate"] == "plain"
    assert made.state.why["no missed reply to the case"] == 3
    assert made.state.why["no good answer to the case"] == 2


# ---------------------------------------------------------------- judges


def test_a_judge_filters_what_the_evals_let_through_and_says_that_it_only_advises(
    tmp_path: Path,
) -> None:
    folder = write_task(tmp_path, some=some_rows(), primary="right")
    settings = (folder / "task.toml").read_text()
    (folder / "task.toml").write_text(
        settings + '[judges.big]\nbackend = "letters:judge"\nrubric = "Above 20."\n'
    )
    (folder / "eval_double.py").write_text(EVALS)

    def judge(request: Request) -> str:
        said = request.messages[-1].content.partition(" reply\n")[2].partition("\n")[0]
        passed = "pass" if int(said) > 20 else "fail"
        return f'{{"reason": "it is {said}", "verdict": "{passed}"}}'

    shop = Workshop(folder, Plugin(knows=judge))
    try:
        made = curator(shop, judges=["big"])
        kept = curated(made, shop)
        assert sorted(kept) == ["c11", "c12", "c13"]
        assert made.state.why["judge big"] == 3  # c8 to c10; it was not asked about c6
        assert len(shop.plugin.made[0].asked) == 6
        (note,) = [n for n in made.filters.notes() if "certificate" in n]
        assert "it advises" in note
        identity = note  # a certificate for this judge silences the note
        task = shop.task
        from harness.engine.evaluate import Evaluation
        from harness.engine.judges import Judging

        evaluation = Evaluation(task, [], split="train", pool=shop.pool)
        identity = Judging(evaluation, pool=shop.pool, artifact_digest=str).digest("big")
        shop.store.record(
            LedgerEntry(
                kind="certificate", task=task.name, at=shop.at(), payload={"judge": identity},
                text="certified",
            )
        )  # fmt: skip
        assert not any("certificate" in n for n in made.filters.notes())
    finally:
        shop.close()


def test_a_task_that_is_judged_by_its_rows_own_checks_alone_is_filtered_by_them(
    tmp_path: Path,
) -> None:
    check = {"name": "regex", "arguments": {"pattern": "[0-9]+"}}
    folder = write_task(tmp_path, some=[r | {"checks": [check]} for r in some_rows()])
    write_settings(folder, primary="checks")
    (folder / "eval_double.py").unlink()
    shop = Workshop(folder)
    try:
        made = curator(shop)
        assert made.filters.names == ("checks",)
        assert sorted(curated(made, shop)) == ["c10", "c11", "c12", "c13", "c8", "c9"]
        assert made.state.why["checks"] == 1  # c6, which says `x`
    finally:
        shop.close()
