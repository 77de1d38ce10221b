from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from harness.engine import tune as engine, tune_plan as planning
from harness.engine.project import artifact_folder
from harness.engine.taskfile import StageTable
from harness.engine.tune_preview import preview
from harness.errors import BackendError, HarnessError, Refused, TaskError, UsageError
from harness.ports.tuners import TrainResult, TuneEstimate, TuneJob
from harness.records import PreparedRow
from tests.engine.small import ByHeart, Letters, Workshop, rows, write_settings
from tests.engine.test_tune_training import Scholar, draft, nothing, shop, tune

Make = Callable[..., Workshop]
TUNE = {"tuner": "by-heart", "prompt": "plain"}


# ---------------------------------------------------------------- going on from an artifact


def test_a_tune_that_goes_on_from_an_artifact_says_from_which(make: Make) -> None:
    tuner = Scholar()
    workshop = shop(make, tuner)
    first = tune(workshop)
    found = engine.find_start(
        workshop.task, "tuned", store=workshop.store, project=workshop.project
    )
    second = tune(workshop, draft(workshop, start=found, seed=1))
    assert second.start == first.digest
    assert tuner.jobs[1].start == artifact_folder(workshop.project, first.digest)


def test_a_pilot_or_another_models_artifact_is_nothing_to_go_on_from(make: Make) -> None:
    workshop = shop(make, Scholar())
    pilot = tune(workshop, draft(workshop, is_pilot=True))
    with pytest.raises(Refused, match="is a pilot"):
        engine.find_start(
            workshop.task, pilot.digest, store=workshop.store, project=workshop.project
        )
    tune(workshop, draft(workshop, seed=2))
    write_settings(workshop.folder, model="letters:large", tune=TUNE)
    with pytest.raises(
        UsageError, match=r"on letters:small, and the task's model is letters:large"
    ):
        engine.find_start(workshop.task, "tuned", store=workshop.store, project=workshop.project)


def stages(workshop: Workshop) -> list[planning.Plan]:
    return engine.drafts(
        workshop.task,
        plugins=workshop.plugins,
        licence=planning.Licence(override="a test"),
        against=nothing,
    )


def test_stages_are_trained_in_a_row_each_on_its_rows_from_the_one_before(make: Make) -> None:
    some = [r | {"tags": ["hard"]} if r["id"] in {"c7", "c9"} else r for r in rows()]
    tuner = Scholar(breaks=9)
    workshop = shop(make, tuner, some=some, tune={"prompt": "plain"})
    text = (workshop.folder / "task.toml").read_text()
    (workshop.folder / "task.toml").write_text(
        text + '[[tune.stages]]\ntuner = "by-heart"\n'
        '[[tune.stages]]\ntuner = "by-heart"\nrows = "hard"\n'
    )
    parts = {
        "project": workshop.project, "plugins": workshop.plugins, "pool": workshop.pool,
        "store": workshop.store, "at": workshop.at,
    }  # fmt: skip
    first, second = engine.tune_stages(stages(workshop), **parts)
    assert (first.name, second.name) == ("tuned-1-by-heart", "tuned")
    assert (first.rows, second.rows) == (8, 2)
    assert second.start == first.digest
    assert tuner.trained == 2
    notes: list[str] = []
    engine.tune_stages(stages(workshop), **parts, listener=engine.Listener(note=notes.append))
    assert tuner.trained == 3
    assert "was trained before" in notes[0]
    # other looks may keep another checkpoint: then it is not what was trained before
    engine.tune_stages([replace(one, check_every=0) for one in stages(workshop)], **parts)
    assert tuner.trained == 5


def test_a_tag_that_no_row_has_is_told_with_those_there_are(make: Make) -> None:
    workshop = shop(make, Scholar())
    with pytest.raises(TaskError, match=r"no train case has the tag 'hard'. Tags .*: none"):
        planning.draft(
            workshop.task, StageTable(tuner="by-heart", rows="hard"),
            licence=planning.Licence(), against=nothing,
        )  # fmt: skip


def test_one_way_to_train_is_named_and_no_second(make: Make) -> None:
    for tables in ({"prompt": "plain"}, {**TUNE, "tuner": "x", "command": "train me"}):
        with pytest.raises(TaskError, match=r"task\.toml:\d+: tune"):
            shop(make, Scholar(), tune=tables).task  # noqa: B018


# ---------------------------------------------------------------- which rows


def test_a_tuner_of_preferences_is_given_the_cases_that_have_both_sides(make: Make) -> None:
    some = [r | {"rejected": "?"} if r["id"] in {"c7", "c9"} else r for r in rows()]
    workshop = shop(make, Scholar(), some=some)
    made, dropped = planning.select_rows(
        workshop.task, "plain", needs="preferences", against=lambda _: {"c9": planning.FAILED}
    )
    assert [(r.case_id, r.completion, r.rejected) for r in made] == [("c7", "14", "?")]
    assert [len(d.case_ids) for d in dropped] == [6, 1]
    assert dropped[1].text == "1 row left out, for they fail the task's own evals: c9"


def test_a_tuner_of_prompts_needs_no_reference(make: Make) -> None:
    some = rows()
    some[6].pop("reference")
    workshop = shop(make, Scholar(), some=some)
    made, _dropped = planning.select_rows(
        workshop.task, "plain", needs="prompts", against=lambda _: {"c9": planning.FAILED}
    )
    assert [r.case_id for r in made] == ["c6", "c7", "c8", "c10", "c11", "c12", "c13"]
    assert made[0].completion == ""
    assert made[0].messages[-1].content == "Double 6."


class Cuts(Scholar):
    """Takes no prompt of more than nine letters."""

    def prepare(self, job: TuneJob) -> list[PreparedRow]:
        longer = tuple(r.case_id for r in job.rows if len(r.messages[-1].content) > 9)
        if longer:
            error = UsageError(f"{len(longer)} rows are too long")
            error.case_ids = longer
            raise error
        return super().prepare(job)


def test_rows_that_are_too_long_stop_it_unless_so_many_may_be_left_out(make: Make) -> None:
    workshop = shop(make, Cuts())
    with pytest.raises(
        UsageError, match=r"4 rows are too long\. Or leave out so many: max_cut = 4"
    ):
        tune(workshop)
    with pytest.raises(UsageError):
        tune(workshop, draft(workshop, max_cut=3))
    notes: list[str] = []
    artifact = tune(workshop, draft(workshop, max_cut=4, check_every=0), note=notes.append)
    assert artifact.rows == 4
    assert notes == ["4 rows left out, 4 rows are too long: c10, c11, c12, c13"]


def known(workshop: Workshop, made: planning.Plan) -> str | None:
    found = engine.known_artifact(
        made, project=workshop.project, plugins=workshop.plugins, pool=workshop.pool,
        store=workshop.store,
    )  # fmt: skip
    return found and found.digest


def test_what_was_trained_without_some_rows_is_known_while_so_many_may_be_left_out(
    make: Make,
) -> None:
    workshop = shop(make, Cuts())
    for is_pilot in (False, True):
        made = draft(workshop, max_cut=4, check_every=0, is_pilot=is_pilot)
        artifact = tune(workshop, made)
        assert artifact.rows == 4
        assert known(workshop, made) == artifact.digest
        assert known(workshop, replace(made, max_cut=9)) == artifact.digest
        assert known(workshop, replace(made, max_cut=3)) is None  # it would be refused today
        assert known(workshop, replace(made, rows=made.rows[1:])) is None


def test_another_base_or_server_makes_another_artifact_and_job(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(base: dict[str, str]) -> Workshop:
        monkeypatch.setattr(Letters, "identity", base, raising=False)
        return Workshop(workshop.folder, workshop.plugin)

    def job(here: Workshop, made: planning.Plan) -> str:
        return engine.job_name(made, pool=here.pool, tuner=workshop.plugin.tuner)

    workshop = shop(make, Scholar())
    base = {"weights": "w1", "template": "t1", "engine": "torch 1"}
    with closing(on(base)) as before:
        made = draft(before)
        artifact = tune(before, made)
        first = job(before, made)
    for change, is_known in [({}, True), ({"weights": "w2"}, False), ({"template": "t2"}, False)]:
        with closing(on(base | change)) as later:
            assert known(later, made) == (artifact.digest if is_known else None)
            assert (job(later, made) == first) == is_known
    with closing(on(base | {"engine": "torch 2"})) as later:  # no training is gone on with on it
        assert known(later, made) == artifact.digest
        assert job(later, made) != first
    elsewhere = replace(made, candidate=replace(made.candidate, base_url="http://b.test/v1"))
    with closing(on(base)) as here:
        assert known(here, elsewhere) is None
        assert job(here, elsewhere) != first


def test_more_devices_than_a_tuner_knows_are_refused(make: Make) -> None:
    workshop = shop(make, Scholar())
    with pytest.raises(UsageError, match="by-heart trains on one device; --devices 2"):
        tune(workshop, draft(workshop, devices=2))


def test_a_hosted_model_has_neither_files_nor_parity(make: Make) -> None:
    class Hosted(ByHeart):
        has_tokens = False

        def prepare(self, job: TuneJob) -> list[PreparedRow]:
            return []

        def train(self, job: TuneJob, rows: Sequence[PreparedRow], *, report: Any) -> TrainResult:
            return TrainResult(
                base_digest="", template_digest="", metrics={}, environment={},
                backend="openai:ft:small", cost_usd=1.5,
            )  # fmt: skip

    artifact = tune(shop(make, Hosted()))
    assert (artifact.backend, artifact.folder, artifact.cost_usd) == ("openai:ft:small", "", 1.5)
    assert artifact.parity == ()


# ---------------------------------------------------------------- before it: --plan


class Reckons(Scholar):
    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        return TuneEstimate(steps=6, seconds=90, memory_gb=1.5, facts=("rank 16: a small model",))


def shown(workshop: Workshop, made: planning.Plan, why: str | None = None) -> Any:
    return preview(
        made, project=workshop.project, plugins=workshop.plugins, pool=workshop.pool,
        why_unlicensed=why,
    )  # fmt: skip


def test_a_plan_shows_rows_tokens_parity_and_estimate_and_trains_nothing(make: Make) -> None:
    tuner = Reckons()
    workshop = shop(make, tuner)
    found = shown(workshop, draft(workshop))
    assert found.refusals == ()
    assert (found.rows, found.parity_rows, found.parity) == (8, 8, ())
    # 8 prompts "Double n." with a mark before and after; replies of two letters and their end
    assert found.tokens.given == sum(len(f"Double {n}.") + 2 for n in range(6, 14))
    assert found.tokens.learnt == 8 * 3
    assert found.tokens.longest_case == "c10"
    assert found.estimate.seconds == 90
    assert (found.check_every, found.check_cases) == (2, 6)
    assert tuner.trained == 0
    assert not (workshop.project.home / "tuning").exists()
    assert workshop.store.artifacts() == []


def test_a_plan_tells_every_refusal_and_not_only_the_first(make: Make) -> None:
    workshop = shop(make, Cuts())
    made = planning.draft(
        workshop.task, StageTable(tuner="by-heart"), licence=planning.Licence(), against=nothing
    )
    found = shown(workshop, made, "there is no wall")
    assert len(found.refusals) == 2
    assert found.refusals[0] == "there is no wall"
    assert "too long" in found.refusals[1]


def test_a_tuner_whose_estimate_fails_would_be_refused(make: Make) -> None:
    class Short(Reckons):
        def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
            raise BackendError("the memory does not hold it")

    workshop = shop(make, Short())
    assert shown(workshop, draft(workshop)).refusals == ("the memory does not hold it",)
    assert issubclass(BackendError, HarnessError)
