"""The lean tuner: it learns, it is the same twice, and it leaves whole artifacts or none."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.encoding import IGNORED, encode_row
from harness_transformers.models import load_tokenizer, template_digest, weights_digest
from harness_trl import harness_tuners
from harness_trl.failures import explained
from harness_trl.recipe import Recipe, read_recipe
from harness_trl.torch_lora import TorchLora, plan_batches, supervised_loss
from harness_trl.trainable import trainable_model
from hypothesis import given, strategies as st

from harness import BackendError, MissingExtra, TuneJob, UsageError
from tests.plugins.tuning import (
    WORDS,
    files_of,
    ignore,
    losses_of,
    reply_of,
    small_job,
    small_rows,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_learns_its_rows_and_the_reply_changes(base: Path, tmp_path: Path) -> None:
    job = small_job(base, tmp_path / "out", epochs=30)
    tuner = TorchLora()
    seen: list[Any] = []
    result = tuner.train(job, tuner.prepare(job), report=seen.append)
    assert [p.step for p in seen] == list(range(1, 31))
    assert losses_of(seen)[-1] < 0.05 < losses_of(seen)[0]
    assert seen[-1].tokens == 30 * sum(len(r.input_ids) for r in tuner.prepare(job))
    assert result.metrics["last_epoch_loss"] == pytest.approx(losses_of(seen)[-1])
    for row in job.rows:
        assert reply_of(base, row) != row.completion
        assert reply_of(base, row, adapter=tmp_path / "out/adapter") == row.completion


def test_the_same_seed_gives_the_same_files_and_another_seed_does_not(
    base: Path, tmp_path: Path
) -> None:
    made = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        job = replace(
            small_job(base, tmp_path / name, batch_size=2, dropout=0.2, dtype="auto"),
            seed=seed,
        )
        random.seed(name)  # what came before in the process does not count
        tuner = TorchLora()
        tuner.train(job, tuner.prepare(job), report=ignore)
        made.append(files_of(tmp_path / name))
    assert made[0] == made[1]
    weights = "adapter/adapter_model.safetensors"
    assert made[0][weights] != made[2][weights]


def test_the_artifact_is_whole_and_tells_what_it_needs(base: Path, tmp_path: Path) -> None:
    job = small_job(base, tmp_path / "out", epochs=1)
    tuner = TorchLora()
    result = tuner.train(job, tuner.prepare(job), report=ignore)
    left = ["adapter", "fingerprint.json", "train_report.json"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == left
    kept = {p.name for p in (tmp_path / "out/adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"} <= kept
    assert {"tokenizer.json", "tokenizer_config.json"} <= kept
    assert not [name for name in kept if name.endswith((".bin", ".pt", ".md"))]
    config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    told = json.loads((tmp_path / "out/fingerprint.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "out/adapter")
    assert told["template_digest"] == result.template_digest == template_digest(tokenizer)
    assert told["base_digest"] == result.base_digest == weights_digest(base)
    assert told["stop_ids"] == [2]
    assert tokenizer.encode(told["probe"]["text"], add_special_tokens=False) == told["probe"]["ids"]
    assert told["prompts"][0]["text"].endswith("<|im_start|>assistant\n")
    assert told["recipe"]["seed"] == 3


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupt_leaves_nothing_half_written(base: Path, tmp_path: Path, at: int) -> None:
    job = small_job(base, tmp_path / "out", epochs=3)
    tuner = TorchLora()

    def stop(progress: Any) -> None:
        if progress.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.train(job, tuner.prepare(job), report=stop)
    assert not (tmp_path / "out").exists()
    tuner.train(job, tuner.prepare(job), report=ignore)
    before = files_of(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        tuner.train(replace(job, seed=9), tuner.prepare(job), report=stop)
    assert files_of(tmp_path / "out") == before


def test_its_loss_is_the_models_own_though_rows_are_padded_without_a_mask(
    base: Path, tmp_path: Path
) -> None:
    """Each row alone, through the model's own loss over all positions, weighted by tokens."""
    import torch

    job = small_job(base, tmp_path)
    rows = TorchLora().prepare(job)
    assert len({len(r.input_ids) for r in rows}) == len(rows)
    model = trainable_model(job, read_recipe(job))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:  # a fresh adapter adds nothing
                parameter.add_(0.02)
        ours = supervised_loss(model, rows).item()
        total, count = 0.0, 0
        for row in rows:
            n = sum(label != IGNORED for label in row.labels)
            out = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels]))
            total, count = total + out.loss.item() * n, count + n
    assert ours == pytest.approx(total / count, rel=1e-5)


def test_prepared_rows_are_those_of_the_one_encoder(base: Path, tmp_path: Path) -> None:
    job = small_job(base, tmp_path)
    tokenizer = load_tokenizer(base)
    assert list(TorchLora().prepare(job)) == [encode_row(tokenizer, r) for r in job.rows]


def test_a_loss_that_is_no_number_stops_the_tune(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    job = small_job(broken, tmp_path / "out")
    tuner = TorchLora()
    with pytest.raises(BackendError, match="the loss is nan at step 1 of 4: nothing was written"):
        tuner.train(job, tuner.prepare(job), report=ignore)
    assert not (tmp_path / "out").exists()


def test_a_tune_prints_nothing(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = small_job(base, tmp_path / "out", epochs=1)
    tuner = TorchLora()
    tuner.train(job, tuner.prepare(job), report=ignore)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"lr": 1e-3}, "unknown key 'lr'. Known keys: method, rank, alpha, dropout, targets"),
        ({"rank": 0}, "rank = 0: Input should be greater than or equal to 1"),
        ({"epochs": "many"}, "epochs = 'many': Input should be a valid integer"),
        ({"dtype": "float16"}, "dtype = 'float16': Input should be 'auto', 'bfloat16' or"),
        ({"method": "full", "rank": 8}, "method = 'full' trains all weights: rank would do"),
    ],
)
def test_a_wrong_recipe_is_told_by_key(recipe: dict[str, Any], said: str) -> None:
    job = TuneJob(base="x", rows=(), recipe=recipe, out_dir=Path("never"))
    with pytest.raises(UsageError) as caught:
        read_recipe(job)
    assert said in str(caught.value)


def test_a_recipes_seed_stands_above_the_jobs(base: Path) -> None:
    job = TuneJob(base=str(base), rows=(), recipe={}, out_dir=Path("never"), seed=5)
    assert read_recipe(job).seed == 5
    assert read_recipe(replace(job, recipe={"seed": 7})).seed == 7


def test_targets_that_the_model_lacks_are_told_with_those_it_has(
    base: Path, tmp_path: Path
) -> None:
    job = small_job(base, tmp_path, targets=["c_attn"])
    with pytest.raises(UsageError, match=r"do not fit .* Layers are .*q_proj"):
        trainable_model(job, read_recipe(job))


def test_rows_over_the_limit_are_counted_and_never_cut(base: Path, tmp_path: Path) -> None:
    lengths = {r.case_id: len(r.input_ids) for r in _prepare(base, tmp_path)}
    limit = sorted(lengths.values())[1]
    with pytest.raises(UsageError) as caught:
        _prepare(base, tmp_path, max_length=limit)
    longest = max(lengths, key=lengths.__getitem__)
    assert f"2 of 4 training rows are longer than max_length = {limit}" in str(caught.value)
    assert f"the longest is {longest} with {lengths[longest]}" in str(caught.value)
    assert f"Set max_length = {lengths[longest]} in the recipe" in str(caught.value)


def _prepare(base: Path, tmp_path: Path, **recipe: Any) -> Sequence[Any]:
    return TorchLora().prepare(small_job(base, tmp_path, **recipe))


def test_no_rows_is_a_usage_error(base: Path, tmp_path: Path) -> None:
    job = replace(small_job(base, tmp_path), rows=())
    with pytest.raises(UsageError, match="no rows to train on"):
        TorchLora().prepare(job)


@pytest.mark.parametrize("tuner", ["torch-lora", "trl-sft"])
def test_rows_that_teach_nothing_are_counted(base: Path, tmp_path: Path, tuner: str) -> None:
    job = small_job(base, tmp_path / "out")
    rows = list(TorchLora().prepare(job))
    rows[2] = replace(rows[2], labels=tuple(IGNORED for _ in rows[2].labels))
    with pytest.raises(BackendError, match=r"1 of 4 rows have no supervised token.*c2"):
        harness_tuners()[tuner]().train(job, rows, report=ignore)
    assert not (tmp_path / "out").exists()


def test_too_little_memory_says_what_to_lower() -> None:
    import torch

    said = (
        r"batch_size = 4 .* max_length = 512 .*batch_size = 2 with gradient_accumulation = 2 .*"
        r"gradient_checkpointing = true.*method = \"qlora\""
    )
    with pytest.raises(BackendError, match=said), explained(Recipe()):
        torch.empty(10**15)
    whole = Recipe(method="full", batch_size=1, gradient_checkpointing=True)
    with pytest.raises(BackendError) as caught, explained(whole):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert 'method = "lora"' in str(caught.value)
    assert "batch_size = 0" not in str(caught.value)
    assert "gradient_checkpointing" not in str(caught.value)
    said = r"the training failed, nothing was written: .*shape"
    with pytest.raises(BackendError, match=said), explained(Recipe()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=80),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_every_epoch_shows_every_row_once(
    lengths: list[int], batch_size: int, epochs: int, seed: int
) -> None:
    batches = plan_batches(lengths, batch_size=batch_size, epochs=epochs, seed=seed)
    assert batches == plan_batches(lengths, batch_size=batch_size, epochs=epochs, seed=seed)
    per_epoch = -(-len(lengths) // batch_size)
    assert len(batches) == epochs * per_epoch
    for epoch in range(epochs):
        shown = [i for b in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for i in b]
        assert sorted(shown) == list(range(len(lengths)))


def test_batches_hold_rows_of_like_length() -> None:
    chance = random.Random(0)
    lengths = [chance.randint(50, 250) for _ in range(200)]
    batches = plan_batches(lengths, batch_size=4, epochs=1, seed=0)
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert padded < 1.1 * sum(lengths)


def test_importing_the_plugin_imports_no_torch() -> None:
    code = (
        "import harness_trl, sys; harness_trl.harness_tuners(); "
        "print(sorted({'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "peft" else found(name)
    )
    with pytest.raises(MissingExtra, match=r"without peft.*pip install 'tuning-harness\[tune\]'"):
        harness_tuners()["torch-lora"]()


def test_a_real_model_learns_four_rows_within_seconds(smollm2_dir: Path, tmp_path: Path) -> None:
    rows = tuple(
        replace(r, completion=f"<<{word}>>") for r, word in zip(small_rows(), WORDS, strict=True)
    )
    job = TuneJob(
        base=str(smollm2_dir),
        rows=rows,
        recipe={"epochs": 8, "learning_rate": 2e-3},
        out_dir=tmp_path / "out",
    )
    tuner = TorchLora()
    seen: list[Any] = []
    tuner.train(job, tuner.prepare(job), report=seen.append)
    assert seen[-1].loss < 0.1 < seen[0].loss
    adapter = tmp_path / "out/adapter"
    assert reply_of(smollm2_dir, rows[0], adapter=adapter) == rows[0].completion
