"""GRPO: the task's evals are the reward, and replies are drawn for exactly the prepared prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.encoding import prompt_ids
from harness_transformers.models import load_tokenizer
from harness_trl import journal, trl_grpo
from harness_trl.trl_grpo import TrlGrpo

from harness import Refused, UsageError, reward
from harness.errors import TaskError
from tests.plugins.rewarded import grpo_job, prompt_rows, rewarding_task
from tests.plugins.tuning import (
    files_of,
    ignore,
    losses_of,
    reply_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def rewards_of(seen: list[Any]) -> list[float]:
    return [p.numbers["reward"] for p in seen]


def test_the_mean_reward_rises_and_so_does_the_score_of_greedy_replies(
    base: Path, tmp_path: Path
) -> None:
    job = grpo_job(base, tmp_path / "out", rewarding_task(tmp_path), learning_rate=3e-2)
    tuner = TrlGrpo()
    rows = tuner.prepare(job)
    seen: list[Any] = []
    result = tuner.train(job, rows, report=seen.append)
    earned = rewards_of(seen)
    assert len(earned) == 20 == tuner.estimate(job, rows).steps
    assert sum(earned[:4]) / 4 < 0.6
    assert sum(earned[-4:]) / 4 > 0.9
    assert result.metrics["final_reward"] > 0.9
    assert result.environment["reward"] == "the evals right"
    with reward(job.task_folder or "") as worth:
        for row in job.rows[:3]:
            text = reply_of(base, row, adapter=tmp_path / "out/adapter")
            assert (worth(row.case_id, text) or 0) > 0.9


def test_replies_are_drawn_for_exactly_the_prepared_ids_until_any_stop_id(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trl_grpo, "stop_ids", lambda *_: frozenset({2, 7}))
    job = grpo_job(base, tmp_path / "out", rewarding_task(tmp_path), epochs=1)
    tuner = TrlGrpo()
    rows = tuner.prepare(job)
    tokenizer = load_tokenizer(base)
    for row, prepared in zip(job.rows, rows, strict=True):
        assert list(prepared.input_ids) == prompt_ids(tokenizer, row.messages)
    asked: list[Any] = []
    made = tuner.make_trainer

    def watched(*args: Any, **kwargs: Any) -> Any:
        trainer = made(*args, **kwargs)
        plain = trainer.model.generate

        def generate(**inputs: Any) -> Any:
            asked.append((inputs["input_ids"], inputs["attention_mask"], trainer.generation_config))
            return plain(**inputs)

        trainer.model.generate = generate
        return trainer

    monkeypatch.setattr(tuner, "make_trainer", watched)
    tuner.train(job, rows, report=ignore)
    wanted = {row.input_ids for row in rows}
    sent = [
        tuple(ids[mask.bool()].tolist())
        for batch, masks, _ in asked
        for ids, mask in zip(batch, masks, strict=True)
    ]
    assert set(sent) == wanted
    assert len(sent) == 12 * len(rows)
    assert all(sorted(config.eos_token_id) == [2, 7] for _, _, config in asked)


def test_an_eval_that_breaks_stops_the_training_with_its_message(
    base: Path, tmp_path: Path
) -> None:
    job = grpo_job(base, tmp_path / "out", rewarding_task(tmp_path, primary="breaks"))
    tuner = TrlGrpo()
    with pytest.raises(TaskError, match=r"an eval broke.*no such unit"):
        tuner.train(job, tuner.prepare(job), report=ignore)
    assert not (tmp_path / "out").exists()


def test_unscored_replies_are_left_out_and_are_no_misses(base: Path, tmp_path: Path) -> None:
    """Half the cases cannot be told: counted as misses, the mean would be halved."""
    job = grpo_job(base, tmp_path / "all", rewarding_task(tmp_path / "a"), epochs=1)
    half = grpo_job(
        base, tmp_path / "half", rewarding_task(tmp_path / "b", primary="silent"), epochs=1
    )
    means = []
    for one in (job, half):
        seen: list[Any] = []
        tuner = TrlGrpo()
        tuner.train(one, tuner.prepare(one), report=seen.append)
        told = [p.numbers["reward"] for p in seen if "reward" in p.numbers]
        means.append(sum(told) / len(told))
    assert means[1] == pytest.approx(means[0], abs=0.15)
    assert means[1] > 0.35
    odd = replace(half, rows=tuple(r for r in half.rows if int(r.case_id[1:]) % 2))
    with pytest.raises(Refused, match="in 2 steps no reply was scored at all"):
        TrlGrpo().train(odd, TrlGrpo().prepare(odd), report=ignore)


def test_no_difference_between_replies_is_said_and_nothing_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = rewarding_task(tmp_path, primary="never")
    job = grpo_job(base, tmp_path / "out", task, epochs=1)
    tuner = TrlGrpo()
    rows = tuner.prepare(job)
    with pytest.raises(Refused, match=r"in 4 steps no .*all earned 0.*tune with SFT first"):
        tuner.train(job, rows, report=ignore)
    monkeypatch.setattr(trl_grpo, "PATIENCE", 2)
    with pytest.raises(Refused, match="in 2 steps no reply earned more"):
        tuner.train(job, rows, report=ignore)
    assert not (tmp_path / "out").exists()


def test_a_killed_training_goes_on_and_ends_the_same_to_the_bit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same prompts in the same order, same draws: the second epoch's among them."""
    monkeypatch.setattr(journal, "KEEP_EVERY_S", 0.0)
    whole = grpo_job(
        base, tmp_path / "whole", rewarding_task(tmp_path), epochs=2, group=4, beta=0.1
    )
    tuner = TrlGrpo()
    rows = tuner.prepare(whole)
    seen: list[Any] = []
    tuner.train(whole, rows, report=seen.append)
    job = replace(whole, out_dir=tmp_path / "cut", state_dir=tmp_path / "state")

    def kill(progress: Any) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.train(job, rows, report=kill)
    rest: list[Any] = []
    tuner.train(job, rows, report=rest.append)
    assert [p.step for p in rest] == [7, 8]
    assert losses_of(rest) == losses_of(seen)[-2:]
    assert rewards_of(rest) == rewards_of(seen)[-2:]
    assert rest[-1].tokens == seen[-1].tokens
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_prompts_are_never_cut_and_other_bad_input_is_said_first(
    base: Path, tmp_path: Path
) -> None:
    task = rewarding_task(tmp_path)
    no_room = "no room for max_new_tokens = 6 within max_length = 24"
    with pytest.raises(UsageError, match=no_room) as cut:
        TrlGrpo().prepare(grpo_job(base, tmp_path, task, max_length=24))
    assert set(cut.value.case_ids) == {row.case_id for row in prompt_rows()} - {"c3"}
    with pytest.raises(UsageError, match="group = 1"):
        TrlGrpo().prepare(grpo_job(base, tmp_path, task, group=1))
    job = grpo_job(base, tmp_path / "out", task)
    with pytest.raises(UsageError, match="two rows have one case id"):
        TrlGrpo().prepare(replace(job, rows=(*job.rows, job.rows[0])))
    with pytest.raises(UsageError, match="needs a task"):
        TrlGrpo().train(replace(job, task_folder=None), TrlGrpo().prepare(job), report=ignore)
    tools = replace(job.rows[0], tools=({"name": "look_up"},))
    with pytest.raises(UsageError, match="the prompt offers tools"):
        TrlGrpo().prepare(replace(job, rows=(tools,)))
    few = replace(job, rows=job.rows[:1], recipe={**job.recipe, "batch_size": 4})
    assert TrlGrpo().estimate(few, TrlGrpo().prepare(few)).steps == 5
