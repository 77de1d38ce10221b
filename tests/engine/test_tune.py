from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.core.wall import judge_wall
from harness.engine import tune as engine, tune_plan as planning
from harness.engine.candidates import resolve_candidate
from harness.engine.gate import candidate_conditions
from harness.engine.ladder import read_ladder, wall_input
from harness.engine.walls import wall_entry
from harness.errors import BackendError, Refused, StoreError, TaskError, UsageError
from harness.ports.tuners import TrainResult, TuneJob
from harness.records import Artifact, Case, Condition, PreparedRow, Reply, Request, WallVerdict
from harness.store.trainings import DOOR
from tests.engine.small import (
    ByHeart,
    Plugin,
    Workshop,
    rows,
    write_rows,
    write_settings,
)

Make = Callable[..., Workshop]
TUNE = {"tuner": "by-heart", "prompt": "plain"}


def nothing(_: Sequence[Case]) -> dict[str, str]:
    return {}


def shop(make: Make, tuner: ByHeart | None = None, **task: Any) -> Workshop:
    """A task that can be tuned, with one try on its ladder."""
    return make(
        plugin=Plugin(tuner=tuner, knows=lambda r: f"re: {r.messages[-1].content}"),
        **{"tune": TUNE, **task},
    )


def give_wall(workshop: Workshop, answer: Any = "WALL") -> WallVerdict:
    workshop.run("plain", "reference")
    task = workshop.task
    verdict = judge_wall(wall_input(task, read_ladder(task, workshop.store)))
    verdict = dataclasses.replace(verdict, answer=answer, reason="so it was measured")
    workshop.store.record(wall_entry(verdict, at=workshop.at()))
    return verdict


def plan(workshop: Workshop, *, against: Any = nothing, **options: Any) -> planning.Plan:
    licence = planning.licence(workshop.task, workshop.store, override="a test")
    return planning.plan(workshop.task, licence=licence, against=against, **options)


def tune(workshop: Workshop, made: planning.Plan | None = None) -> Artifact:
    return engine.tune(
        made or plan(workshop),
        project=workshop.project,
        plugins=workshop.plugins,
        pool=workshop.pool,
        store=workshop.store,
        report=lambda step: None,
        at=workshop.at,
    )


def left_behind(workshop: Workshop) -> list[str]:
    home = workshop.project.home
    ours = ("harness.db", ".gitignore", DOOR)
    return [p.name for p in home.iterdir() if not p.name.startswith(ours)]


# ---------------------------------------------------------------- the licence


def test_a_tune_without_a_wall_is_refused_and_the_way_out_is_named(make: Make) -> None:
    workshop = shop(make)
    with pytest.raises(Refused, match=r"there is no wall verdict.*--override 'REASON'"):
        planning.licence(workshop.task, workshop.store, override=None)
    give_wall(workshop, "KEEP_PROMPTING")
    with pytest.raises(Refused, match=r"the last verdict is KEEP_PROMPTING: so it was measured"):
        planning.licence(workshop.task, workshop.store, override=None)


def test_a_wall_allows_it(make: Make) -> None:
    workshop = shop(make)
    verdict = give_wall(workshop)
    given = planning.licence(workshop.task, workshop.store, override=None)
    assert given == planning.Licence(wall_verdict=verdict.id)


def test_an_override_that_was_not_needed_is_not_recorded(make: Make) -> None:
    workshop = shop(make)
    give_wall(workshop)
    assert planning.licence(workshop.task, workshop.store, override="just so").override is None


@pytest.mark.parametrize("changed", ["label", "target"])
def test_a_wall_that_rests_on_what_changed_since_is_no_licence(make: Make, changed: str) -> None:
    workshop = shop(make)
    give_wall(workshop)
    if changed == "label":
        write_rows(workshop.folder, [rows()[0] | {"reference": "7"}, *rows()[1:]])
    else:
        write_settings(workshop.folder, target=0.95, tune=TUNE)
    with pytest.raises(Refused, match=r"changed since the wall verdict .* Ask again"):
        planning.licence(workshop.task, workshop.store, override=None)


def test_a_later_verdict_that_is_no_wall_takes_the_licence_back(make: Make) -> None:
    workshop = shop(make)
    give_wall(workshop)
    give_wall(workshop, "SHIP_PROMPT")
    with pytest.raises(Refused, match="SHIP_PROMPT"):
        planning.licence(workshop.task, workshop.store, override=None)


def test_an_override_is_kept_with_what_it_overrode_and_stands_in_the_ledger(make: Make) -> None:
    workshop = shop(make)
    licence = planning.licence(workshop.task, workshop.store, override="the demo is tomorrow")
    made = planning.plan(workshop.task, licence=licence, against=nothing)
    artifact = tune(workshop, made)
    assert artifact.wall_verdict is None
    assert artifact.override is not None
    assert artifact.override.startswith("the demo is tomorrow (in spite of this: there is no wall")
    kinds = [e.kind for e in workshop.store.ledger(task="double")]
    assert kinds == ["tune", "override"]
    [override] = workshop.store.ledger(kind="override")
    assert "the demo is tomorrow" in override.text
    assert override.payload["artifact"] == artifact.digest


# ---------------------------------------------------------------- the rows


def test_rows_that_fail_the_tasks_own_evals_are_left_out(make: Make) -> None:
    workshop = shop(make)
    made = plan(workshop, against=lambda _: {"c7": planning.FAILED, "c9": "for it is odd"})
    assert [r.case_id for r in made.rows] == ["c6", "c8", "c10", "c11", "c12", "c13"]
    assert [d.text for d in made.dropped] == [
        "1 row left out, for they fail the task's own evals: c7",
        "1 row left out, for it is odd: c9",
    ]


def test_rows_without_a_reference_are_left_out_and_not_even_asked_about(make: Make) -> None:
    some = rows()
    some[6].pop("reference")
    asked: list[str] = []

    def against(cases: Sequence[Case]) -> dict[str, str]:
        asked.extend(c.id for c in cases)
        return {}

    made = plan(shop(make, some=some), against=against)
    assert "c6" not in asked
    assert "c6" not in {r.case_id for r in made.rows}


def test_a_tune_with_no_row_left_is_told(make: Make) -> None:
    with pytest.raises(TaskError, match="no training row passes the task's own evals"):
        plan(
            shop(make), against=lambda cases: dict.fromkeys((c.id for c in cases), planning.FAILED)
        )


def test_a_train_row_that_stands_in_dev_or_test_too_is_refused_with_both_lines(
    make: Make,
) -> None:
    some = rows()
    some[7]["inputs"] = some[15]["inputs"]
    with pytest.raises(
        TaskError, match=r"cases\.jsonl:8: the inputs of 'c7' .* at .*cases\.jsonl:16; 1 such"
    ):
        plan(shop(make, some=some))


def test_a_task_without_a_tune_table_is_told_what_to_add(make: Make) -> None:
    workshop = make()
    licence = planning.Licence(override="x")
    with pytest.raises(UsageError, match=r"no \[tune\] table. Add one: tuner, prompt and recipe"):
        planning.plan(workshop.task, licence=licence, against=nothing)


def test_what_is_trained_is_what_the_prompt_sends_and_the_reference(make: Make) -> None:
    row = plan(shop(make)).rows[0]
    assert [(m.role, m.content) for m in row.messages] == [("user", "Double 6.")]
    assert row.completion == "12"


# ---------------------------------------------------------------- the recipe and the tuner


def test_a_recipe_is_read_and_recorded(make: Make) -> None:
    workshop = shop(make, tune={**TUNE, "recipe": "r.toml"})
    (workshop.folder / "r.toml").write_text("epochs = 3\n")
    assert tune(workshop).recipe == {"epochs": 3}


def test_a_broken_or_missing_recipe_is_told_with_its_line(make: Make) -> None:
    workshop = shop(make, tune={**TUNE, "recipe": "r.toml"})
    with pytest.raises(TaskError, match=r"r\.toml: no such file"):
        plan(workshop)
    (workshop.folder / "r.toml").write_text("epochs = 3\nrank = = 2\n")
    with pytest.raises(TaskError, match=r"r\.toml:2: not TOML: Invalid value at column 8"):
        plan(workshop)


def test_an_unknown_tuner_is_told_with_the_known_ones(make: Make) -> None:
    workshop = shop(make)
    with pytest.raises(UsageError, match=r"no tuner 'magic'. Known: by-heart."):
        tune(workshop, plan(workshop, tuner="magic"))
    assert left_behind(workshop) == []


# ---------------------------------------------------------------- parity, before the first step


class Forgets(ByHeart):
    """Prepares rows whose prompt lacks a token that is served."""

    def prepare(self, job: TuneJob) -> list[PreparedRow]:
        return [
            dataclasses.replace(r, input_ids=r.input_ids[1:], labels=r.labels[1:])
            for r in super().prepare(job)
        ]


class Endless(ByHeart):
    """Prepares rows whose stop token is not learnt."""

    def prepare(self, job: TuneJob) -> list[PreparedRow]:
        return [dataclasses.replace(r, labels=(*r.labels[:-1], -100)) for r in super().prepare(job)]


class Drops(ByHeart):
    """Loses a row."""

    def prepare(self, job: TuneJob) -> list[PreparedRow]:
        return super().prepare(job)[1:]


@pytest.mark.parametrize(
    ("tuner", "says"),
    [
        (Forgets(), "bos-on-one-side in c6"),
        (Endless(), "stop-not-supervised"),
        (Drops(), "dropped-rows in c6"),
    ],
)
def test_what_would_not_be_served_is_refused_before_the_first_step(
    make: Make, tuner: ByHeart, says: str
) -> None:
    workshop = shop(make, tuner)
    with pytest.raises(Refused, match=rf"(?s)what would be trained is not what is served.*{says}"):
        tune(workshop)
    assert tuner.trained == 0
    assert left_behind(workshop) == []
    assert workshop.store.artifacts() == []


def test_a_prompt_with_examples_is_trained_with_those_that_are_served(make: Make) -> None:
    """A row is never its own example, nor is one of its cluster."""
    workshop = shop(make, tune={**TUNE, "prompt": "shots"})
    task = workshop.task
    every = {c.reference for c in task.split("train")}
    rows = plan(workshop).rows
    for row in rows:
        shown = [m.content for m in row.messages if m.role == "assistant"]
        assert len(shown) == 3
        assert set(shown) <= every - {row.completion}
    assert tune(workshop).rows == len(rows)


class Mute:
    """A backend that answers and shows no tokens."""

    async def answer(self, request: Request) -> Reply:
        return Reply(text="?")


def test_a_backend_that_cannot_show_its_tokens_is_told(make: Make) -> None:
    workshop = shop(make)
    workshop.plugin._make = lambda config: Mute()  # type: ignore[assignment,method-assign]
    with pytest.raises(BackendError, match="letters:small cannot show the token ids"):
        tune(workshop)
    assert workshop.plugin.tuner.trained == 0


# ---------------------------------------------------------------- nothing left behind


class Breaks(ByHeart):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def train(self, job: TuneJob, rows: Sequence[PreparedRow], *, report: Any) -> TrainResult:
        (job.out_dir / "half.json").write_text("{}")
        raise self.error


@pytest.mark.parametrize(
    "error", [BackendError("out of memory"), ValueError("boom"), KeyboardInterrupt()]
)
def test_a_training_that_ends_early_leaves_nothing_behind(make: Make, error: BaseException) -> None:
    workshop = shop(make, Breaks(error))
    with pytest.raises(type(error)):
        tune(workshop)
    assert left_behind(workshop) == []
    assert workshop.store.artifacts() == []
    assert workshop.store.ledger() == []


def test_a_tuner_that_writes_nothing_is_told(make: Make) -> None:
    class Idle(ByHeart):
        def train(self, job: TuneJob, rows: Sequence[PreparedRow], *, report: Any) -> TrainResult:
            return TrainResult(base_digest="", template_digest="", metrics={}, environment={})

    workshop = shop(make, Idle())
    with pytest.raises(StoreError, match="the tuner wrote nothing"):
        tune(workshop)
    assert left_behind(workshop) == []


# ---------------------------------------------------------------- the artifact


def test_the_artifact_knows_where_it_came_from(make: Make) -> None:
    workshop = shop(make)
    verdict = give_wall(workshop)
    artifact = tune(workshop)
    assert (artifact.task, artifact.name, artifact.tuner) == ("double", "tuned", "by-heart")
    assert (artifact.base, artifact.prompt, artifact.rows) == ("letters:small", "plain", 8)
    assert artifact.wall_verdict == verdict.id
    assert artifact.override is None
    assert artifact.metrics == {"loss": 0.5}
    assert artifact.parity == ()
    known = json.loads((workshop.project.home / artifact.folder / "known.json").read_text())
    assert known["Double 6."] == "12"
    assert workshop.store.artifact("tuned", task="double").digest == artifact.digest


def test_the_same_tune_twice_is_the_same_artifact(make: Make) -> None:
    workshop = shop(make)
    assert tune(workshop).digest == tune(workshop).digest


def conditions(workshop: Workshop, name: str) -> tuple[dict[str, Condition], list[str]]:
    task = workshop.task
    candidate = resolve_candidate(
        task, name, artifact_digest=lambda a: workshop.store.artifact(a, task=task.name).digest
    )
    found, overrides = candidate_conditions(
        task,
        candidate,
        store=workshop.store,
        pool=workshop.pool,
        plugins=workshop.plugins,
        project=workshop.project,
    )
    return {c.name: c for c in found}, overrides


def test_what_was_tuned_can_be_asked_and_meets_the_gates_conditions(make: Make) -> None:
    workshop = shop(make, **{"candidates.tuned": {"prompt": "plain", "artifact": "tuned"}})
    tune(workshop)
    [run] = workshop.run("tuned", split="train")
    assert all(t.scores[0].value == 1 for t in run.trials)
    found, overrides = conditions(workshop, "tuned")
    assert {name: c.holds for name, c in found.items()} == {"same prompt": True, "parity": True}
    assert found["parity"].text.startswith("8 rows compared id by id")
    assert len(overrides) == 1
    assert overrides[0].startswith("a test (in spite of this: ")


def test_a_prompt_that_changed_since_the_tune_is_seen_at_the_gate(make: Make) -> None:
    workshop = shop(make, **{"candidates.tuned": {"prompt": "plain", "artifact": "tuned"}})
    tune(workshop)
    (workshop.folder / "prompts/plain.md").write_text("@user\nTwice {{ n }}.\n")
    found, _ = conditions(workshop, "tuned")
    assert found["same prompt"].holds is False
    assert "they differ" in found["same prompt"].text


def test_an_artifact_that_is_served_with_another_prompt_is_seen_at_the_gate(make: Make) -> None:
    workshop = shop(make)
    tune(workshop)
    found, _ = conditions(workshop, "terse@letters:small+tuned")
    assert found["same prompt"].holds is False
    assert found["parity"].holds is False


def test_a_prompt_that_is_gone_is_told(make: Make) -> None:
    workshop = shop(make)
    tune(workshop)
    (workshop.folder / "prompts/plain.md").unlink()
    write_settings(workshop.folder)
    found, _ = conditions(workshop, "terse@letters:small+tuned")
    assert "the prompt 'plain' that 'tuned' was tuned with is not in task" in found["parity"].text
    assert "put the file back, or tune again" in found["parity"].text


def test_files_that_were_changed_after_the_tune_are_refused(make: Make) -> None:
    workshop = shop(make)
    artifact = tune(workshop)
    (workshop.project.home / artifact.folder / "known.json").write_text("{}")
    with pytest.raises(StoreError, match="is not what was tuned"):
        conditions(workshop, "plain@letters:small+tuned")


def test_a_prompt_baseline_needs_no_such_conditions(make: Make) -> None:
    assert conditions(shop(make), "plain") == ({}, [])


def test_a_model_that_the_tuner_cannot_train_is_named_whole_with_the_way_out(make: Make) -> None:
    class Local(ByHeart):
        def prepare(self, job: TuneJob) -> list[PreparedRow]:
            raise UsageError(f"no local model {job.base!r}")

    workshop = shop(make, Local())
    model = workshop.task.settings.model
    with pytest.raises(UsageError, match="cannot train the task's model") as raised:
        tune(workshop)
    assert model in str(raised.value)
    assert 'model = "local:NAME" in task.toml' in str(raised.value)
    assert left_behind(workshop) == []
