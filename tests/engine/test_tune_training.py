from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engine import tune as engine, tune_plan as planning
from harness.engine.candidates import resolve_candidate
from harness.engine.dev_looks import look_plan, look_score
from harness.engine.project import artifact_folder
from harness.engine.sweeping import Waste, remove
from harness.errors import BackendError, MissingExtra, Refused, TaskError, UsageError
from harness.ports.tuners import Checkpoint, TrainProgress, TrainResult, TuneJob
from harness.records import Artifact, Case, CurvePoint, PreparedRow
from harness.store.trainings import DOOR, is_running, open_training
from tests.engine.small import ByHeart, Plugin, Workshop, rows

Make = Callable[..., Workshop]
TUNE = {"tuner": "by-heart", "prompt": "plain"}


class Scholar(ByHeart):
    """Learns in six steps; after step n it knows the first `knows[n - 1]` dev answers.

    Keeps its step in `state_dir`, goes on from there, and breaks at step `breaks`.
    """

    def __init__(self, *knows: int, breaks: int | None = None, error: Any = KeyboardInterrupt):
        super().__init__()
        self.knows = knows or (0, 1, 2, 3, 4, 5)
        self.breaks, self.error = breaks, error
        self.done: list[int] = []
        self.jobs: list[TuneJob] = []

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        return len(self.knows)

    def train(self, job: TuneJob, rows: Sequence[PreparedRow], *, report: Any) -> TrainResult:
        self.trained += 1
        self.jobs.append(job)
        state = job.state_dir / "step.json" if job.state_dir else None
        first = json.loads(state.read_text()) if state and state.is_file() else 0
        for step in range(first + 1, len(self.knows) + 1):
            if step == self.breaks:
                self.breaks = None
                raise self.error("it broke")
            self.done.append(step)
            report(TrainProgress(step=step, steps=6, loss=1 / step, tokens=9 * step, seconds=step))
            if state is not None:
                state.write_text(str(step))
            is_due = job.check_every and (step % job.check_every == 0 or step == len(self.knows))
            if is_due and job.check is not None:
                folder = job.out_dir / "seen"
                folder.mkdir(exist_ok=True)
                self._write(folder, step)
                if not job.check(Checkpoint(step=step, steps=len(self.knows), folder=folder)):
                    break
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()
        seen = job.out_dir / "seen"
        if seen.is_dir():
            (seen / "known.json").unlink()
            seen.rmdir()
        self._write(job.out_dir, step)
        return TrainResult(base_digest="b", template_digest="t", metrics={}, environment={})

    def _write(self, folder: Path, step: int) -> None:
        known = {f"Double {n}.": str(2 * n) for n in range(self.knows[step - 1])}
        (folder / "known.json").write_text(json.dumps({"step": str(step), **known}))


class MissingExtraHere(MissingExtra):
    """What another virtual environment says of a library that it lacks."""

    def __init__(self, what: str) -> None:
        super().__init__(what, extra="tune")


def nothing(_: Sequence[Case]) -> dict[str, str]:
    return {}


def shop(make: Make, tuner: ByHeart, **task: Any) -> Workshop:
    return make(plugin=Plugin(tuner=tuner), **{"tune": TUNE, **task})


def draft(workshop: Workshop, **changes: Any) -> planning.Plan:
    made = planning.plan(
        workshop.task, licence=planning.Licence(override="a test"), against=nothing
    )
    return replace(made, **changes)


def tune(workshop: Workshop, made: planning.Plan | None = None, **options: Any) -> Artifact:
    return engine.tune(
        made or draft(workshop),
        project=workshop.project,
        plugins=workshop.plugins,
        pool=workshop.pool,
        store=workshop.store,
        report=options.pop("report", lambda step: None),
        at=workshop.at,
        **options,
    )


def known_of(workshop: Workshop, artifact: Artifact) -> dict[str, str]:
    folder = artifact_folder(workshop.project, artifact.digest)
    return json.loads((folder / "known.json").read_text())  # type: ignore[no-any-return]


def left_over(workshop: Workshop) -> list[str]:
    home = workshop.project.home / "tuning"
    return sorted(p.name for p in home.glob("*/*")) if home.is_dir() else []


# ---------------------------------------------------------------- looks at dev


def test_the_best_checkpoint_on_dev_is_kept_and_of_equals_the_earlier(make: Make) -> None:
    tuner = Scholar(0, 2, 3, 3, 1, 1)
    workshop = shop(make, tuner)
    seen: list[tuple[CurvePoint, bool]] = []
    notes: list[str] = []
    artifact = tune(
        workshop,
        draft(workshop, check_every=1, patience=9),
        looked=lambda p, b: seen.append((p, b)),
        note=notes.append,
    )
    assert [p.score for p, _ in seen] == pytest.approx([0, 2 / 6, 3 / 6, 3 / 6, 1 / 6, 1 / 6])
    assert [b for _, b in seen] == [False, True, True, False, False, False]  # 0 chooses nothing
    assert known_of(workshop, artifact)["step"] == "3"
    assert artifact.curve == tuple(p for p, _ in seen)
    assert artifact.curve[2] == CurvePoint(step=3, loss=1 / 3, score=0.5, tokens=27, seconds=3)
    assert artifact.metrics["dev_looks"] == 6
    assert (artifact.metrics["best_step"], artifact.metrics["dev_score"]) == (3, 0.5)
    assert artifact.metrics["loss_at_best_look"] == 1 / 3
    assert artifact.metrics["loss_at_last_look"] == 1 / 6
    assert notes == ["kept: the checkpoint of step 3, the best on dev"]
    assert left_over(workshop) == []


def test_looks_without_a_hit_choose_nothing_and_say_what_to_look_for(make: Make) -> None:
    workshop = shop(make, Scholar(0, 0, 0, 0, 0, 0))
    seen: list[bool] = []
    notes: list[str] = []
    artifact = tune(
        workshop,
        draft(workshop, check_every=2),
        looked=lambda _, b: seen.append(b),
        note=notes.append,
    )
    assert seen == [False] * 3
    assert known_of(workshop, artifact)["step"] == "6"  # the last
    assert "best_step" not in artifact.metrics
    assert (artifact.metrics["dev_looks"], artifact.metrics["dev_score"]) == (3, 0)
    assert notes[0].startswith("dev was 0 % at each of 3 looks. No checkpoint was chosen by it; ")
    assert notes[1].startswith("for example c0, whose reply was '?': assert ")
    assert (
        "too few steps or too low a learning_rate (loss 0.75 at first, 0.183 at last)" in notes[2]
    )


def test_a_training_without_a_better_score_for_some_looks_is_stopped(make: Make) -> None:
    tuner = Scholar(1, 3, 2, 2, 6, 6)
    workshop = shop(make, tuner)
    artifact = tune(workshop, draft(workshop, check_every=1, patience=2))
    assert tuner.done == [1, 2, 3, 4]
    assert known_of(workshop, artifact)["step"] == "2"


def test_nothing_can_be_better_than_every_case_so_it_is_stopped_there(make: Make) -> None:
    tuner = Scholar(3, 6, 6, 6, 6, 6)
    workshop = shop(make, tuner)
    artifact = tune(workshop, draft(workshop, check_every=1))
    assert tuner.done == [1, 2]
    assert known_of(workshop, artifact)["step"] == "2"


def test_by_itself_dev_is_looked_at_about_five_times_and_zero_is_never(make: Make) -> None:
    tuner = Scholar(*range(20))
    workshop = shop(make, tuner)
    tune(workshop, draft(workshop, patience=9))
    assert tuner.jobs[0].check_every == 4
    artifact = tune(workshop, draft(workshop, check_every=0))
    assert tuner.jobs[1].check is None
    assert "dev_looks" not in artifact.metrics
    assert [p.score for p in artifact.curve] == [None] * len(artifact.curve)
    assert len(artifact.curve) == 20


def test_what_a_look_asked_is_not_asked_again_of_the_artifact(make: Make) -> None:
    workshop = shop(make, Scholar(1, 2, 3))
    tune(workshop, draft(workshop, check_every=1))
    asked = sum(len(b.asked) for b in workshop.plugin.made)
    [run] = workshop.run("plain@letters:small+tuned")
    assert sum(len(b.asked) for b in workshop.plugin.made) == asked
    assert sum(t.scores[0].value or 0 for t in run.trials) == 3


def test_a_scorer_has_no_looks_at_dev_and_is_no_candidate(make: Make) -> None:
    class Scorer(Scholar):
        makes = "scorer"

    workshop = shop(make, Scorer(), tune={**TUNE, "check_every": 2})
    said: list[str] = []
    artifact = tune(workshop, note=said.append)
    assert said == ["by-heart makes a scorer, which gives no replies: dev is not looked at"]
    assert artifact.makes == "scorer"
    assert all(p.score is None for p in artifact.curve)
    with pytest.raises(UsageError, match=r"'tuned' is a reward model, made by by-heart"):
        resolve_candidate(
            workshop.task,
            "tuned",
            artifact_digest=lambda name: workshop.store.artifact(name, task="double"),
        )
    with pytest.raises(UsageError, match="no training of replies goes on from it"):
        engine.find_start(workshop.task, "tuned", store=workshop.store, project=workshop.project)


def test_a_large_dev_is_sampled_and_it_is_said(make: Make) -> None:
    workshop = shop(make, Scholar(), some=rows(dev=30))
    how = look_plan(draft(workshop, check_cases=10), steps=20)
    again = look_plan(draft(workshop, check_cases=10), steps=20)
    assert how == again
    assert (len(how.cases), how.every) == (10, 4)
    assert how.notes == ("a look asks 10 of 30 dev cases, always the same ones",)


def test_a_primary_score_that_needs_pytest_is_replaced_and_it_is_said(make: Make) -> None:
    workshop = shop(make, Scholar(1, 2, 3), primary="share")
    (workshop.folder / "eval_double.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
        "def test_share(case, reply, score, tmp_path):\n    score(0.5)\n"
    )
    primary, note = look_score(workshop.task)
    assert primary == "all"
    assert "cannot use the primary score 'share' (" in note
    assert "tmp_path" in note
    assert note.endswith("whether all of these pass: right")
    artifact = tune(workshop, draft(workshop, check_every=1))
    assert [p.score for p in artifact.curve] == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_a_look_that_fails_is_told_and_stops_no_training(make: Make) -> None:
    class Broken(Scholar):
        def _write(self, folder: Path, step: int) -> None:
            super()._write(folder, step)
            if folder.name == "seen" and step == 2:
                (folder / "known.json").write_text("{")

    workshop = shop(make, Broken(1, 2, 3))
    notes: list[str] = []
    artifact = tune(workshop, draft(workshop, check_every=1), note=notes.append)
    assert [p.score for p in artifact.curve] == [1 / 6, None, 0.5]
    assert notes[0].startswith("step 2: no look at dev: letters:small cannot be made")


def test_a_strangers_tuner_that_knows_nothing_of_checks_is_no_trouble(make: Make) -> None:
    workshop = shop(make, ByHeart())
    notes: list[str] = []
    artifact = tune(workshop, note=notes.append)
    assert [p.loss for p in artifact.curve] == [0.5]
    assert notes == ["dev is not looked at (its steps are not known); ask for it: check_every"]


# ---------------------------------------------------------------- cut short, and gone on with


@pytest.mark.parametrize("error", [KeyboardInterrupt, BackendError, RuntimeError])
def test_a_training_that_was_cut_short_goes_on_and_ends_as_if_it_had_not_been(
    make: Make, error: type[BaseException]
) -> None:
    tuner = Scholar(1, 2, 3, 2, 2, 1, breaks=5, error=error)
    workshop = shop(make, tuner)
    made = draft(workshop, check_every=2, patience=9)
    with pytest.raises(error):
        tune(workshop, made)
    assert "state" in left_over(workshop)
    assert "out" not in left_over(workshop)
    assert workshop.store.artifacts() == []
    notes: list[str] = []
    resumed = tune(workshop, made, note=notes.append)
    assert notes[0].startswith("going on with a training that was cut short")
    assert tuner.done == [1, 2, 3, 4, 5, 6]
    assert left_over(workshop) == []
    whole = tune(workshop, made)
    assert tuner.done[6:] == [1, 2, 3, 4, 5, 6]
    assert resumed == whole
    assert known_of(workshop, whole)["step"] == "2"


def test_a_look_that_was_made_before_a_kill_is_not_made_again(make: Make) -> None:
    tuner = Scholar(1, 3, 2, 2, 2, 2, breaks=3)
    workshop = shop(make, tuner)
    made = draft(workshop, check_every=1, patience=2)
    with pytest.raises(KeyboardInterrupt):
        tune(workshop, made)
    [job] = (workshop.project.home / "tuning").iterdir()
    (job / "state/step.json").write_text("0")  # its tuner saves less often than it is looked at
    seen: list[int] = []
    artifact = tune(workshop, made, looked=lambda p, _: seen.append(p.step))
    assert seen == [3, 4]
    assert tuner.done == [1, 2, 1, 2, 3, 4]
    assert known_of(workshop, artifact)["step"] == "2"


def test_fresh_begins_anew_and_another_recipe_is_another_training(make: Make) -> None:
    tuner = Scholar(breaks=4)
    workshop = shop(make, tuner)
    with pytest.raises(KeyboardInterrupt):
        tune(workshop)
    tuner.done.clear()
    tune(workshop, draft(workshop, recipe={"epochs": 2}))
    assert tuner.done == [1, 2, 3, 4, 5, 6]
    tuner.done.clear()
    tune(workshop, is_fresh=True)
    assert tuner.done == [1, 2, 3, 4, 5, 6]


def test_what_is_refused_leaves_no_state(make: Make) -> None:
    tuner = Scholar(breaks=4, error=Refused)
    workshop = shop(make, tuner)
    with pytest.raises(Refused):
        tune(workshop)
    assert not (workshop.project.home / "tuning").exists()


def test_an_eval_that_breaks_in_the_midst_costs_no_training(make: Make) -> None:
    """A reward is made of the task's evals: one that breaks after hours is mended, and gone on."""
    tuner = Scholar(breaks=4, error=TaskError)
    workshop = shop(make, tuner)
    with pytest.raises(TaskError):
        tune(workshop)
    tune(workshop)
    assert tuner.done == [1, 2, 3, 4, 5, 6]
    assert left_over(workshop) == []


@pytest.mark.parametrize("error", [Refused, MissingExtraHere])
def test_a_refusal_of_today_throws_away_nothing_that_was_trained_before(
    make: Make, error: Any
) -> None:
    tuner = Scholar(breaks=4)
    workshop = shop(make, tuner)
    with pytest.raises(KeyboardInterrupt):
        tune(workshop)
    tuner.breaks, tuner.error = 4, error
    with pytest.raises(error):
        tune(workshop)
    tune(workshop)
    assert tuner.done == [1, 2, 3, 4, 5, 6]


def test_two_processes_do_not_train_one_job(tmp_path: Path) -> None:
    with open_training(tmp_path, "job", facts={}) as training:
        assert is_running(training.folder)
        with (
            pytest.raises(Refused, match="another process is training this very job"),
            open_training(tmp_path, "job", facts={}),
        ):
            pass
    assert [p.name for p in tmp_path.iterdir()] == [DOOR]


def test_those_who_come_while_a_training_ends_are_refused_or_are_alone(tmp_path: Path) -> None:
    """The lock goes with the folder of the training: nobody may hold one that is gone."""
    inside: list[int] = []
    seen: list[str] = []

    def come_often(who: int) -> None:
        for _ in range(40):
            try:
                with open_training(tmp_path, "job", facts={}) as training:
                    inside.append(who)
                    (training.state / "step").write_text("1")
                    seen.append("alone" if inside == [who] else "together")
                    inside.remove(who)
            except Refused:
                seen.append("refused")

    with ThreadPoolExecutor(4) as several:
        list(several.map(come_often, range(4)))  # raises what one of them raised
    assert set(seen) <= {"alone", "refused"}
    assert "alone" in seen
    assert [p.name for p in tmp_path.iterdir()] == [DOOR]


def test_what_is_trained_in_again_is_not_swept_away(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), open_training(tmp_path, "job", facts={}) as training:
        (training.state / "step").write_text("1")
        raise KeyboardInterrupt
    waste = Waste(folder=training.folder, bytes=1, reason="", is_training=True)
    said: list[str] = []
    with open_training(tmp_path, "job", facts={}) as again:
        assert again.was_there
        assert remove([waste], note=said.append) == 0
        assert (again.state / "step").is_file()
    assert said == [f"{training.folder} is kept: it is trained in again"]
