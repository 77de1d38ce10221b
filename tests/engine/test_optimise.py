from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import BackendError, UsageError
from harness.ports.optimisers import OptimisedPrompt, OptimiseJob
from harness.records import Case, Reply, Request
from tests.engine.small import rows
from tests.plugins.school import LESSONS, School, pupil, schools

Open = Callable[..., School]
Search = Callable[[OptimiseJob], Sequence[OptimisedPrompt]]


@pytest.fixture
def school(tmp_path: Path) -> Iterator[Open]:
    with schools(tmp_path) as opened:
        yield opened


def told(job: OptimiseJob, text: str) -> dict[str, str]:
    return {**job.sections, "system": text}


def hand_in(text: str) -> Search:
    return lambda job: [OptimisedPrompt(sections=told(job, text), note="by hand")]


def test_an_optimiser_is_given_train_and_dev_and_nothing_like_a_test_case(school: Open) -> None:
    some = rows(dev=4, train=4, test=3)
    some[0]["inputs"] = some[-1]["inputs"]  # a dev case that asks what a test case asks
    one = school(some=some)
    notes = one.optimise("mine").notes
    (job,) = one.mine.jobs
    assert [c.id for c in job.train] == ["c4", "c5", "c6", "c7"]
    assert [c.id for c in job.dev] == ["c1", "c2", "c3"]
    assert {c.split for c in [*job.train, *job.dev]} == {"train", "dev"}
    assert notes[0] == "1 cases have the inputs of a test case: not shown"


def test_a_case_that_was_not_given_cannot_be_asked_about(school: Open) -> None:
    sealed: list[Case] = []
    one = school(mine=lambda job: job.ask([(job.sections, sealed[0])]) and [])
    sealed[:] = one.shop.task.split("test")[:1]
    with pytest.raises(UsageError, match=f"asks about case '{sealed[0].id}', which it was not"):
        one.optimise("mine")
    disguised = replace(sealed[0], id=one.shop.task.split("dev")[0].id, split="dev")
    sealed[:] = [disguised]
    with pytest.raises(UsageError, match="which it was not given"):
        one.optimise("mine")
    assert one.sent == []


def test_replies_are_scored_by_the_tasks_own_evals_and_asked_once(school: Open) -> None:
    seen: list[Any] = []

    def search(job: OptimiseJob) -> list[OptimisedPrompt]:
        case = job.train[0]
        pairs = [(job.sections, case), (told(job, LESSONS[2]), case), (job.sections, case)]
        seen.append((job.ask(pairs), job.ask(pairs), job.calls_left()))
        return []

    one = school(mine=search)
    found = one.optimise("mine", max_calls=10)
    (first, again, left) = seen[0]
    assert first == again
    assert [s.score for s in first] == [0.0, 1.0, 0.0]
    assert first[0].reasons[0].startswith("right: assert reply.text == case.reference")
    assert "reply.text = 'many'" in first[0].reasons[0]
    assert (found.calls, left, len(one.sent)) == (2, 8, 2)


def test_what_is_beyond_the_budget_or_no_prompt_is_not_asked(school: Open) -> None:
    seen: list[Any] = []

    def search(job: OptimiseJob) -> list[OptimisedPrompt]:
        seen.extend(job.ask([(job.sections, c) for c in job.dev]))
        seen.extend(job.ask([(told(job, "{{ n"), job.dev[0])]))
        seen.append(job.calls_left())
        return []

    one = school(mine=search)
    one.optimise("mine", max_calls=3)
    *scored, broken, left = seen
    assert [s.is_asked for s in scored] == [True] * 3 + [False] * 17
    assert scored[3].reasons == ("not asked: the budget of 3 calls is spent (--max-calls)",)
    assert (broken.score, broken.is_asked, left, len(one.sent)) == (0.0, False, 0, 3)


def test_the_money_stops_it_and_what_was_answered_is_kept(school: Open) -> None:
    left: list[int] = []

    def dear(request: Request) -> Reply:
        return replace(pupil(request), cost_usd=0.01)

    def search(job: OptimiseJob) -> list[OptimisedPrompt]:
        job.ask([(job.sections, c) for c in job.dev[:10]])
        found = job.ask([(told(job, "Double"), c) for c in job.dev[:10]])
        left.extend([sum(s.is_asked for s in found), job.calls_left()])
        return []

    one = school(mine=search, pupil=dear, external=["pupil"])
    one.optimise("mine", max_cost_usd=0.155, reflect=None)
    assert left == [5, 0]
    assert len(one.sent) == 15


def test_an_internal_case_reaches_no_external_model_unless_a_reason_is_recorded(
    school: Open,
) -> None:
    some = rows(dev=4, train=4, test=0)
    some[5]["tags"] = ["internal"]

    def search(job: OptimiseJob) -> list[OptimisedPrompt]:
        job.reflect(str(job.train[1].inputs))
        return []

    one = school(some=some, mine=search, external=["teacher"])
    with pytest.raises(UsageError, match="'c5' is tagged internal, and the reflection model"):
        one.optimise("mine")
    assert one.sent == []
    assert one.shop.store.ledger(task="double", kind="override") == []
    one.optimise("mine", override="the customer agreed in writing")
    (entry,) = one.shop.store.ledger(task="double", kind="override")
    assert entry.text.endswith("teacher:large: the customer agreed in writing")
    assert entry.payload["cases"] == ["c5"]
    assert len(one.sent) == 1
    two = school(some=some, mine=search, external=["pupil"])
    with pytest.raises(UsageError, match="pupil:small is an external backend: nothing was sent"):
        two.optimise("mine", override="the customer agreed in writing")
    assert two.sent == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_stop_leaves_no_file_and_keeps_what_was_answered(
    school: Open, stop: type[BaseException]
) -> None:
    def search(job: OptimiseJob) -> list[OptimisedPrompt]:
        job.ask([(job.sections, c) for c in job.dev])
        if len(one.mine.jobs) == 1:
            raise stop("now")
        return [OptimisedPrompt(sections=told(job, LESSONS[2]))]

    one = school(mine=search)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else BackendError):
        one.optimise("mine")
    assert one.made == []
    asked = len(one.sent)
    assert one.optimise("mine").names == ("optimised-mine",)
    assert len(one.sent) == asked


def test_a_stop_while_a_file_is_written_leaves_none(
    school: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = school(mine=hand_in(LESSONS[2]))

    def stopped(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            one.optimise("mine")
    assert one.made == []


def test_a_file_that_a_person_edited_is_never_overwritten(school: Open) -> None:
    one = school(mine=hand_in(LESSONS[2]))
    assert one.optimise("mine").names == ("optimised-mine",)
    assert one.optimise("mine").names == ("optimised-mine",), "the same again"
    (path,) = one.made
    path.write_text(path.read_text().replace("digits", "numerals"))
    assert one.optimise("mine").names == ("optimised-mine-2",)
    assert "numerals" in path.read_text()


def test_what_the_seed_prompt_is_made_with_is_kept(school: Open) -> None:
    one = school(mine=hand_in("Double it."))
    (one.shop.folder / "form.json").write_text(json.dumps({"type": "string"}))
    seed = one.shop.folder / "prompts/shots.md"
    seed.write_text(
        "+++\nfamily = 'few-shot'\nshots = 3\nseed = 5\nschema = 'form.json'\nnote = 'mine'\n+++\n"
        "@examples\n@user\nDouble {{ n }}.\n"
    )
    one.optimise("mine", seed_prompt="shots")
    made = one.shop.task.prompts["optimised-mine"]
    assert (made.shots, made.seed, made.schema) == (3, 5, {"type": "string"})
    assert [role for role, _ in made.sections] == ["system", "examples", "user"]


def test_it_begins_with_the_best_recorded_try_that_no_machine_made(school: Open) -> None:
    one = school(mine=hand_in(LESSONS[2]))
    assert one.optimise("mine", seed_prompt=None).seed_prompt == "near", "the first file"
    for name, share in [("plain", 4), ("terse", 18), ("optimised-mine", 20)]:
        one.shop.run(name, score=lambda case, reply, n=500 + share: float(int(case.id[1:]) < n))
    assert one.optimise("mine", seed_prompt=None).seed_prompt == "terse"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (["better"], "returned a str, not an OptimisedPrompt"),
        ([OptimisedPrompt(sections={"user": "no field"})], "a broken prompt: .* has lost"),
    ],
)
def test_what_a_stranger_returns_is_checked(school: Open, found: Any, says: str) -> None:
    with pytest.raises(BackendError, match=f"optimiser mine {says}".replace("mine a", "mine .*a")):
        school(mine=lambda job: found).optimise("mine")


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"optimiser": "nope"}, "no optimiser 'nope'. Known: gepa, mine"),
        ({"reflect": "teacher"}, "'teacher' is not SCHEME:MODEL"),
        ({"reflect": "zz:x"}, "no backend 'zz'"),
        ({"seed_prompt": "nope"}, "no prompt 'nope'. Known: near, plain, shots, terse"),
        ({"max_calls": 0}, "--max-calls 0"),
    ],
)
def test_a_wish_that_cannot_be_is_told_before_anything_is_asked(
    school: Open, wish: dict[str, Any], says: str
) -> None:
    one = school()
    with pytest.raises(UsageError, match=says):
        one.optimise(**{"optimiser": "mine", **wish})
    assert one.sent == []


def test_a_primary_score_that_only_pytest_gives_is_refused(school: Open) -> None:
    one = school()
    (one.shop.folder / "eval_double.py").write_text(
        "def test_right(case, reply, tmp_path):\n    assert reply.text == case.reference\n"
        "def test_short(reply):\n    assert len(reply.text) < 9\n"
    )
    with pytest.raises(UsageError, match="outside pytest, and 'right' cannot be had there"):
        one.optimise("mine")
