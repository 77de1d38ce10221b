"""Preference tuners and the reward model: they learn, on exactly the prepared ids, from TRL."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from harness_transformers.artifacts import parts_of
from harness_trl import journal
from harness_trl.guests import guest_manners
from harness_trl.pairs import other_side, pair_columns, unpaired_columns
from harness_trl.preference_recipes import DpoLoss, DpoRecipe
from harness_trl.recipe import read_recipe
from harness_trl.scorer import load_scorer
from harness_trl.torch_lora import TorchLora
from harness_trl.trl_dpo import TrlDpo
from harness_trl.trl_kto import TrlKto
from harness_trl.trl_orpo import TrlOrpo
from harness_trl.trl_reward import TrlReward

from harness import BackendError, Checkpoint, UsageError
from tests.plugins.preferring import held_out, margin, pair_job, pair_rows, reply_logps
from tests.plugins.tuning import (
    files_of,
    ignore,
    losses_of,
)

TUNERS = [TrlDpo, TrlKto, TrlOrpo, TrlReward]

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("tuner_class", [TrlDpo, TrlKto])
def test_the_chosen_reply_gains_on_pairs_that_were_not_trained(
    tuner_class: Any, base: Path, tmp_path: Path
) -> None:
    job = pair_job(base, tmp_path / "out")
    tuner = tuner_class()
    seen: list[Any] = []
    result = tuner.train(job, tuner.prepare(job), report=seen.append)
    fresh = tuner.prepare(held_out(job))
    before = margin(reply_logps(base, fresh))
    after = reply_logps(base, fresh, adapter=tmp_path / "out/adapter")
    assert margin(after) > before + 2
    assert all(chosen > rejected for chosen, rejected in after)
    assert result.metrics["final_margin"] > result.metrics["first_margin"] + 2
    assert [p.step for p in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].step == seen[-1].steps == tuner.estimate(job, tuner.prepare(job)).steps
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["adapter", "fingerprint.json", "train_report.json"]
    assert not list((tmp_path / "out").rglob("ref*")), "TRL's copy of the adapter was saved too"


def test_orpo_makes_the_chosen_reply_likelier(base: Path, tmp_path: Path) -> None:
    job = pair_job(base, tmp_path / "out")
    tuner = TrlOrpo()
    tuner.train(job, tuner.prepare(job), report=ignore)
    fresh = tuner.prepare(held_out(job))
    before, after = (reply_logps(base, fresh, adapter=a) for a in (None, tmp_path / "out/adapter"))
    assert all(now[0] > then[0] + 1 for then, now in zip(before, after, strict=True))
    assert margin(after) > margin(before) + 1


def test_a_reward_model_ranks_as_its_pairs_do_and_is_no_candidate(
    base: Path, tmp_path: Path
) -> None:
    """Trained on the same pairs turned round it ranks the other way: it is learnt, not luck."""
    tuner = TrlReward()
    fresh = tuner.prepare(held_out(pair_job(base, tmp_path)))
    for name, is_turned in (("as-said", False), ("turned", True)):
        job = pair_job(base, tmp_path / name, learning_rate=1e-2)
        if is_turned:
            turned = [replace(r, completion=r.rejected, rejected=r.completion) for r in job.rows]  # type: ignore[arg-type]
            job = replace(job, rows=tuple(turned))
        tuner.train(job, tuner.prepare(job), report=ignore)
        scorer = load_scorer(str(base), artifact=tmp_path / name)
        yes, no = scorer.scores(fresh), scorer.scores([other_side(r) for r in fresh])
        assert all((a < b) == is_turned for a, b in zip(yes, no, strict=True))
        row = pair_rows(count=1, start=100)[0]
        assert scorer.score(row.messages, row.completion) == pytest.approx(yes[0], abs=1e-5)
    with pytest.raises(UsageError, match=r"is a reward model.*no candidate"):
        parts_of(base, tmp_path / "turned", name=str(base))


# ---------------------------------------------------------------- exactly the prepared ids


def test_the_one_encoder_agrees_with_trls_own(base: Path, tmp_path: Path) -> None:
    """DPO's and KTO's trainers, left to prepare conversations, make the columns that we hand in."""
    from datasets import Dataset
    from harness_trl.base import tokenizer_of
    from harness_trl.trainable import trainable_model
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    job = pair_job(base, tmp_path, count=4)
    recipe = read_recipe(job, DpoRecipe)
    rows = TrlDpo().prepare(job)
    conversations = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in row.messages],
            "chosen": [{"role": "assistant", "content": row.completion}],
            "rejected": [{"role": "assistant", "content": row.rejected}],
        }
        for row in job.rows
    ]
    made = []
    with guest_manners():
        for config, trainer in ((DPOConfig, DPOTrainer), (KTOConfig, KTOTrainer)):
            args = config(
                output_dir=str(tmp_path / "t"), report_to="none", use_cpu=True, bf16=False,
                gradient_checkpointing=False, disable_tqdm=True,
            )  # fmt: skip
            made.append(
                trainer(
                    model=trainable_model(job, recipe),
                    args=args,
                    train_dataset=Dataset.from_list(conversations),
                    processing_class=tokenizer_of(job),
                ).train_dataset
            )
    pairs, single = made
    for ours, theirs in zip(pair_columns(rows), pairs, strict=True):
        assert all(theirs[name] == value for name, value in ours.items())
    ours_single = unpaired_columns(rows, batch_size=4, seed=0)
    names = ("prompt_ids", "completion_ids", "label")
    plain = [[tuple([r[n]] if n == "label" else r[n]) for n in names] for r in ours_single]
    assert sorted(plain) == sorted(
        [tuple([r[n]] if n == "label" else r[n]) for n in names] for r in single
    )


def test_a_strangers_reply_of_kto_is_never_an_answer_to_the_same_prompt(
    base: Path, tmp_path: Path
) -> None:
    rows = TrlKto().prepare(pair_job(base, tmp_path))
    own = {
        tuple(r["prompt_ids"]): {tuple(r["chosen_ids"]), tuple(r["rejected_ids"])}
        for r in pair_columns(rows)
    }
    columns = unpaired_columns(rows, batch_size=4, seed=5)
    assert len(columns) == 2 * len(rows)
    for start in range(0, len(columns), 4):
        assert [r["label"] for r in columns[start : start + 4]] == [True, False, True, False]
    for row in columns:
        assert tuple(row["KL_completion_ids"]) not in own[tuple(row["prompt_ids"])]


def test_orpo_learns_the_reply_and_not_the_prompt(base: Path, tmp_path: Path) -> None:
    """TRL's own likelihood term takes in the prompt; the labels say the reply alone."""
    job = pair_job(base, tmp_path / "out", count=1, epochs=1)
    tuner = TrlOrpo()
    rows = tuner.prepare(job)
    seen: list[Any] = []
    tuner.train(job, rows, report=seen.append)
    chosen = reply_logps(base, rows)[0][0]
    assert seen[0].numbers["nll"] == pytest.approx(-chosen, rel=1e-4)


def test_every_loss_that_a_recipe_may_name_is_one_of_trls(base: Path, tmp_path: Path) -> None:
    job = pair_job(base, tmp_path, count=4, label_smoothing=0.1)
    tuner = TrlDpo()
    rows = tuner.prepare(job)
    with guest_manners():
        trainer = tuner.make_trainer(
            job, recipe=read_recipe(job, DpoRecipe), rows=rows, folder=tmp_path / "t"
        )
        batch = trainer.data_collator(list(trainer.train_dataset))
        for name in get_args(DpoLoss):
            trainer.loss_types, trainer.loss_weights = [name], [1.0]
            assert trainer.compute_loss(trainer.model, batch).isfinite(), name
        trainer.loss_types = ["no-such-loss"]
        with pytest.raises(ValueError, match="Unknown loss type") as refused:
            trainer.compute_loss(trainer.model, batch)
    assert all(f"'{name}'" in str(refused.value) for name in get_args(DpoLoss))


def test_the_surplus_of_the_longer_reply_counts_as_ld_alpha_says(
    base: Path, tmp_path: Path
) -> None:
    """Every rejected reply is longer here: with 0 its surplus is not seen, with 1 all of it."""
    found = []
    for alpha in (None, 1.0, 0.0):
        said = {} if alpha is None else {"ld_alpha": alpha}
        job = pair_job(base, tmp_path, count=4, **said)
        tuner = TrlDpo()
        rows = tuner.prepare(job)
        with guest_manners():
            trainer = tuner.make_trainer(
                job, recipe=read_recipe(job, DpoRecipe), rows=rows, folder=tmp_path / "t"
            )
            batch = trainer.data_collator(list(trainer.train_dataset))
            found.append([v.tolist() for v in trainer.compute_ref_log_probs(trainer.model, batch)])
    whole, all_of_it, none = found
    assert all_of_it[0] == pytest.approx(whole[0])
    assert all_of_it[1] == pytest.approx(whole[1])
    assert none[0] == pytest.approx(whole[0])  # the shorter one is counted whole
    assert all(short > long for short, long in zip(none[1], whole[1], strict=True))


# ---------------------------------------------------------------- going on, and looking


@pytest.mark.parametrize("tuner_class", TUNERS)
def test_a_killed_training_goes_on_and_ends_the_same_to_the_bit(
    tuner_class: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEEP_EVERY_S", 0.0)
    whole = pair_job(base, tmp_path / "whole", count=8, epochs=2)
    tuner = tuner_class()
    rows = tuner.prepare(whole)
    seen: list[Any] = []
    tuner.train(whole, rows, report=seen.append)
    job = replace(whole, out_dir=tmp_path / "cut", state_dir=tmp_path / "state")
    cut: list[Any] = []

    def kill(progress: Any) -> None:
        cut.append(progress)
        if progress.step == len(seen) - 1:  # in the second epoch, whose order is another
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.train(job, rows, report=kill)
    assert not (tmp_path / "cut").exists()
    kept = files_of(tmp_path / "state")
    assert {Path(name).suffix for name in kept} <= {".json", ".safetensors"}, "no pickles"
    rest: list[Any] = []
    result = tuner.train(job, rows, report=rest.append)
    assert [p.step for p in rest] == [len(seen) - 1, len(seen)]
    assert losses_of(cut[:-1]) + losses_of(rest) == losses_of(seen)
    assert rest[-1].tokens == seen[-1].tokens
    assert result.metrics["steps"] == len(seen)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_dpo_goes_on_from_an_adapter_which_is_also_its_reference(
    base: Path, tmp_path: Path
) -> None:
    taught = pair_job(base, tmp_path / "sft", count=8, epochs=2)
    TorchLora().train(taught, TorchLora().prepare(taught), report=ignore)
    first = {}
    for name, recipe in (
        ("start", {}),
        ("early", {"precompute_ref_log_probs": True}),
        ("base", {"reference": "base"}),
        ("early-base", {"reference": "base", "precompute_ref_log_probs": True}),
    ):
        job = pair_job(base, tmp_path / name, count=8, epochs=2, **recipe)
        job = replace(job, start=tmp_path / "sft")
        tuner = TrlDpo()
        seen: list[Any] = []
        tuner.train(job, tuner.prepare(job), report=seen.append)
        first[name] = [seen[0].numbers["chosen"], *losses_of(seen)]
    assert first["start"][0] == 0  # the policy is the reference before its first step
    assert abs(first["base"][0]) > 0.1
    assert first["early"] == pytest.approx(first["start"], rel=1e-4, abs=1e-6)
    assert first["early-base"] == pytest.approx(first["base"], rel=1e-4, abs=1e-6)
    fresh = TrlDpo().prepare(held_out(taught))
    taught_well, better = (
        margin(reply_logps(base, fresh, adapter=tmp_path / name / "adapter"))
        for name in ("sft", "start")
    )
    assert better > taught_well + 0.5


def test_looks_see_whole_artifacts_and_can_stop_it(base: Path, tmp_path: Path) -> None:
    margins: list[float] = []
    fresh = TrlDpo().prepare(held_out(pair_job(base, tmp_path)))

    def look(checkpoint: Checkpoint) -> bool:
        random.random()
        adapter = checkpoint.folder / "adapter"
        margins.append(margin(reply_logps(base, fresh, adapter=adapter)))
        return checkpoint.step < 6

    job = replace(pair_job(base, tmp_path / "out"), check_every=3, check=look)
    tuner = TrlDpo()
    seen: list[Any] = []
    tuner.train(job, tuner.prepare(job), report=seen.append)
    assert len(margins) == 2
    assert [p.step for p in seen] == list(range(1, 7))
    assert margins[1] > margins[0]
    last = margin(reply_logps(base, fresh, adapter=tmp_path / "out/adapter"))
    assert last == pytest.approx(margins[1])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("tuner_class", TUNERS)
def test_pairs_that_teach_nothing_are_refused_by_name(
    tuner_class: Any, base: Path, tmp_path: Path
) -> None:
    job = pair_job(base, tmp_path)
    for change, said in (
        ({"rejected": job.rows[2].completion}, "1 of 16 rows have two equal replies: c2"),
        ({"rejected": None}, "1 of 16 rows have no `rejected` reply: c2"),
        ({"rejected": " "}, "1 of 16 rows have an empty reply: c2"),
        ({"completion": " "}, "1 of 16 rows have an empty reply: c2"),
        ({"completion": "", "calls": ({"name": "f"},)}, "1 of 16 rows have a tool call for a rep"),
    ):
        rows = [*job.rows[:2], replace(job.rows[2], **change), *job.rows[3:]]  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=said) as unpaired:
            tuner_class().prepare(replace(job, rows=tuple(rows)))
        assert unpaired.value.case_ids == ("c2",)  # so `max_cut` may leave it out
    long = replace(job.rows[4], rejected="no " * 300)
    with pytest.raises(UsageError, match=r"longer than max_length = 512.*longest is c4") as cut:
        tuner_class().prepare(replace(job, rows=(*job.rows[:4], long)))
    assert cut.value.case_ids == ("c4",)
    rows = list(tuner_class().prepare(job))
    rows[1] = replace(rows[1], rejected_ids=(9, *rows[1].rejected_ids[1:]))
    apart = r"in 1 of 16 rows the two replies follow different prompts: c1\. .*look ahead"
    with pytest.raises(BackendError, match=apart) as refused:
        tuner_class().train(job, rows, report=ignore)
    assert refused.value.case_ids == ("c1",)
    with pytest.raises(UsageError, match="trains in one process, not in 2"):
        tuner_class().train(replace(job, devices=2), tuner_class().prepare(job), report=ignore)


@pytest.mark.parametrize(
    ("tuner_class", "recipe", "said"),
    [
        (TrlDpo, {"loss": "sigmoyd"}, "loss"),
        (TrlDpo, {"loss": ["sigmoid", "sft"], "loss_weights": [1.0]}, "1 weights for 2 losses"),
        (TrlDpo, {"loss": "exo_pair"}, "needs label_smoothing above 0"),
        (TrlDpo, {"ld_alpha": 1.5}, "ld_alpha = 1.5"),
        (TrlDpo, {"method": "full"}, "method = 'full'"),
        (TrlKto, {"batch_size": 3}, "batch_size = 3"),
        (TrlOrpo, {"reference": "base"}, "unknown key 'reference'"),
        (TrlReward, {"beta": 0.1}, "unknown key 'beta'"),
    ],
)
def test_a_recipe_that_says_what_cannot_be_is_one_clear_error(
    tuner_class: Any, recipe: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="recipe: ") as refused:
        tuner_class().prepare(pair_job(base, tmp_path, **recipe))
    assert said in str(refused.value)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
def test_what_trl_refuses_is_an_error_of_the_recipe(base: Path, tmp_path: Path) -> None:
    job = pair_job(base, tmp_path / "out", targets=["q_proj", "lm_head"])
    with pytest.raises(UsageError, match=r"TRL refuses this recipe: .*`lm_head` is not supported"):
        TrlDpo().train(job, TrlDpo().prepare(job), report=ignore)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tuner_class", TUNERS)
def test_a_loss_that_is_no_number_stops_it(tuner_class: Any, base: Path, tmp_path: Path) -> None:
    """transformers would log 0, or the mean of the steps before, and go on to the end."""
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    job = pair_job(broken, tmp_path / "out", count=4)
    with pytest.raises(
        BackendError, match=r"the loss is nan at step 1 of \d+: nothing was written"
    ):
        tuner_class().train(job, tuner_class().prepare(job), report=ignore)
    assert not (tmp_path / "out").exists()


def test_a_reward_model_starts_from_the_base_alone(base: Path, tmp_path: Path) -> None:
    job = replace(pair_job(base, tmp_path), start=tmp_path / "sft")
    with pytest.raises(UsageError, match="starts from the base alone"):
        TrlReward().train(job, (), report=ignore)


@pytest.mark.parametrize("tuner_class", TUNERS)
def test_nothing_leaves_this_machine_and_nothing_is_said(
    tuner_class: Any,
    base: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.chdir(tmp_path)
    pings: list[Any] = []
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: pings.append("thread"))
    before = random.getstate(), torch.get_rng_state().tolist()
    job = pair_job(base, tmp_path / "out", count=4, epochs=1)
    tuner = tuner_class()
    tuner.train(job, tuner.prepare(job), report=ignore)
    assert pings == []
    assert capfd.readouterr() == ("", "")
    assert (random.getstate(), torch.get_rng_state().tolist()) == before
    assert {name.split("/")[0] for name in files_of(tmp_path)} == {"out"}
