"""What a training will need is said before it, and the defaults suit the model's size."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from harness_trl import preference_tuner, trl_grpo
from harness_trl.base import count_parameters, stored_dtype
from harness_trl.estimating import activation_bytes, held_by_sft, memory_of
from harness_trl.recipe import Recipe, chosen_by_size, read_recipe
from harness_trl.torch_lora import TorchLora, supervised_loss
from harness_trl.trainable import trainable_model
from pydantic import Field

from harness import TuneJob, UsageError
from tests.plugins.preferring import pair_job
from tests.plugins.rewarded import grpo_job, rewarding_task
from tests.plugins.tuning import settle_imports, small_job, tuner_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    settle_imports()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wide_model(tmp_path_factory.mktemp("deep") / "wide", layers=4, vocabulary=384)


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _wide_model(tmp_path_factory.mktemp("wordy") / "wide", layers=2, vocabulary=4096)


def test_defaults_suit_the_size_of_the_model() -> None:
    rates = [
        chosen_by_size(Recipe, method=method, parameters=parameters)["learning_rate"]
        for method in ("lora", "full")
        for parameters in (135_000_000, 1_500_000_000, 7_000_000_000, 70_000_000_000)
    ]
    assert rates == [1e-3, 5e-4, 2e-4, 1e-4, 1e-4, 5e-5, 2e-5, 1e-5]
    small = chosen_by_size(Recipe, method="lora", parameters=10**8)
    large = chosen_by_size(Recipe, method="lora", parameters=10**10)
    assert (small["batch_size"], small["gradient_checkpointing"]) == (4, False)
    assert large["batch_size"] * large["gradient_accumulation"] == 16
    assert large["gradient_checkpointing"] is True


def test_a_recipes_own_keys_and_a_tuners_own_defaults_stand(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    class Gentle(Recipe):
        learning_rate: float = Field(default=1e-6, gt=0)

    class Other(Recipe):
        sizes: ClassVar[str] = "sft"
        more: int = 1

    said: dict[str, Any] = {"rank": 4, "epochs": 7}
    job = TuneJob(base=str(tiny_model_dir), rows=(), recipe=said, out_dir=tmp_path)
    recipe = read_recipe(job)
    assert (recipe.rank, recipe.alpha, recipe.epochs) == (4, 8.0, 7)
    assert recipe.learning_rate == 1e-3
    assert read_recipe(job, Gentle).learning_rate == 1e-6
    assert read_recipe(job, Other).more == 1
    whole = read_recipe(replace(job, recipe={"method": "full"}))
    assert whole.learning_rate == 1e-4


def test_a_length_that_the_model_does_not_hold_is_told(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"max_length = 513, but .* holds 512 tokens"):
        read_recipe(small_job(tiny_model_dir, tmp_path, max_length=513))


def test_the_headers_tell_size_and_precision(tiny_model_dir: Path, tmp_path: Path) -> None:
    job = small_job(tiny_model_dir, tmp_path)
    model = trainable_model(job, read_recipe(replace(job, recipe={"method": "full"})))
    assert count_parameters(tiny_model_dir) == sum(p.numel() for p in model.parameters())
    assert stored_dtype(tiny_model_dir) == "float32"
    cut = tmp_path / "model.safetensors"
    cut.write_bytes((tiny_model_dir / "model.safetensors").read_bytes()[:40])
    with pytest.raises(UsageError, match="is not a whole safetensors file"):
        count_parameters(tmp_path)


@pytest.mark.parametrize("tuner", ["torch-lora", "trl-sft"])
def test_an_estimate_says_what_was_chosen_and_what_it_takes(
    tiny_model_dir: Path, tmp_path: Path, tuner: str
) -> None:
    job = small_job(tiny_model_dir, tmp_path / "out", batch_size=2, gradient_accumulation=2)
    made = tuner_of(tuner)
    rows = made.prepare(job)
    found = made.estimate(job, rows)
    assert found.steps == 4
    assert found.cost_usd == 0
    assert 0 < found.seconds < 60
    assert 0.7 < found.memory_gb < 0.8
    text = "\n".join(found.facts)
    assert "method lora makes an adapter, in float32 on cpu" in text
    assert "chosen for this size: rank = 16, alpha = 32" in text
    assert "said by the recipe: batch_size = 2" in text
    tokens = 4 * sum(len(r.input_ids) for r in rows)
    assert f"4 rows, {tokens:,} tokens in 4 epochs, 4 steps of 4 rows (2 at once, 2 " in text
    assert "98,624 parameters" in text
    assert "memory: weights 0.4 MB" in text
    assert "time: from 5 steps of 4 rows of middling length, after one to warm up" in text
    assert found.least_seconds is None or 0 < found.least_seconds < found.seconds
    assert not (tmp_path / "out").exists()  # nothing is left of these steps
    seen: list[Any] = []
    made.train(job, rows, report=seen.append)
    assert len(seen) == found.steps


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("more", [{}, {"method": "full"}], ids=["lora", "full"])
def test_the_memory_of_the_layers_is_reckoned_within_a_factor(
    deep: Path, tmp_path: Path, dtype: str, more: dict[str, Any]
) -> None:
    """Against what autograd really keeps for the way back, each storage once."""
    import torch
    from harness_trl.torch_lora import Loop

    job = small_job(deep, tmp_path, dtype=dtype, batch_size=4, **more)
    recipe, rows = read_recipe(job), TorchLora().prepare(job)
    model = trainable_model(job, recipe)
    Loop(model, rows, recipe=recipe)  # lowers what is trained, as a training does
    held = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = supervised_loss(model, rows)
    assert loss.requires_grad
    held_at_once = held_by_sft(job, recipe, rows, lean=True)
    reckoned = memory_of(job, recipe, held_at_once, lean=True)
    assert 1 / 1.5 < (reckoned.activations + reckoned.logits) / sum(kept.values()) < 1.5
    shape = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 4}
    twice = recipe.model_copy(update={"gradient_checkpointing": True})
    assert activation_bytes(shape, twice, width=4, length=9, lean=True) < (
        activation_bytes(shape, recipe, width=4, length=9, lean=True) / 2
    )


@pytest.mark.parametrize("name", ["trl-sft", "trl-dpo", "trl-kto", "trl-orpo", "trl-reward"])
def test_the_memory_of_a_step_is_reckoned_within_a_factor(
    wordy: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the peak of torch's allocator in the two steps of the probe, and they give a time."""
    made = tuner_of(name)
    job = pair_job(wordy, tmp_path / "out", count=4)
    _compare_with_peak(made, job, monkeypatch)
    assert not (tmp_path / "out").exists()


def test_the_memory_of_a_step_of_grpo_is_reckoned_within_a_factor(
    wordy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = grpo_job(
        wordy, tmp_path / "out", rewarding_task(tmp_path), batch_size=1, group=8, max_new_tokens=8
    )
    _compare_with_peak(tuner_of("trl-grpo"), job, monkeypatch)
    away = replace(job, task_folder=None)
    unknown = tuner_of("trl-grpo").estimate(away, tuner_of("trl-grpo").prepare(away))
    assert unknown.seconds is None
    assert "there is no task, whose evals are the reward" in unknown.facts[-1]


def _compare_with_peak(made: Any, job: TuneJob, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc

    from harness_trl import estimating
    from transformers import Trainer

    plain, seen = Trainer.train, []
    reckoned: list[Any] = []

    def train(trainer: Any, **how: Any) -> Any:
        gc.collect()
        with _peak_bytes(seen):
            return plain(trainer, **how)

    def kept(*args: Any, **kwargs: Any) -> Any:
        reckoned.append(memory_of(*args, **kwargs))
        return reckoned[-1]

    monkeypatch.setattr(Trainer, "train", train)
    for module in (estimating, preference_tuner, trl_grpo):
        monkeypatch.setattr(module, "memory_of", kept)
    found = made.estimate(job, made.prepare(job))
    assert found.steps == made.steps(job, made.prepare(job))
    assert found.seconds is not None, found.facts
    [memory] = reckoned
    # the weights and the adapter were there before the first step
    assert 1 / 1.5 < (memory.total - memory.weights) / seen[0] < 1.5


@contextlib.contextmanager
def _peak_bytes(seen: list[int]) -> Iterator[None]:
    """Note how much torch's allocator held at most, beyond what it held before."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        yield
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = (e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    seen.append(max(itertools.accumulate(changes)))


def _wide_model(folder: Path, *, layers: int, vocabulary: int) -> Path:
    """Proportions of a real one: layers of 256, with the tiny one's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.plugins.tiny import build_tiny_model

    build_tiny_model(folder)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder
