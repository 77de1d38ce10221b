"""What is trained, and on what: adapters of every kind, all weights, an artifact to go on from."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.backend import LocalBackend
from harness_transformers.models import load_model
from harness_trl.guests import guest_manners, quiet_datasets, quiet_libraries
from harness_trl.recipe import batching_of, read_recipe
from harness_trl.torch_lora import Loop, TorchLora
from harness_trl.trainable import trainable_model
from harness_trl.trl_sft import TrlSft, make_trainer

from harness import (
    BackendConfig,
    BackendError,
    Decoding,
    MissingExtra,
    Request,
    TrainingRow,
    TuneJob,
    UsageError,
)
from tests.plugins.tiny import build_tiny_model
from tests.plugins.tuning import (
    build_trainable_model,
    files_of,
    ignore,
    is_installed,
    losses_of,
    reply_of,
    single_thread,
    small_job,
    train,
    tuner_of,
)

TUNERS = ["torch-lora", "trl-sft"]
needs_bitsandbytes = pytest.mark.skipif(
    not is_installed("bitsandbytes"), reason="needs the extra: pip install 'tuning-harness[quant]'"
)

pytestmark = pytest.mark.usefixtures("one_thread")


def served(base: Path, artifact: Path, row: TrainingRow, **options: Any) -> str:
    """The reply of `local:base+artifact`, as an eval would have it."""
    config = BackendConfig(
        model=str(base), artifact=artifact, options={"dtype": "float32", **options}
    )
    backend = LocalBackend(config)
    try:
        asked = Request(messages=row.messages, decoding=Decoding(max_tokens=24))
        return asyncio.run(backend.answer(asked)).text
    finally:
        backend.close()


# ---------------------------------------------------------------- methods


@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize(
    "recipe",
    [{"method": "dora"}, {"method": "full", "learning_rate": 5e-3}],
    ids=lambda recipe: str(recipe["method"]),
)
def test_each_method_learns_and_is_served(
    base: Path, tmp_path: Path, tuner: str, recipe: dict[str, Any]
) -> None:
    job = small_job(base, tmp_path / "out", epochs=25, **recipe)
    result = train(tuner, job)
    assert result.metrics["last_epoch_loss"] < 0.3 < result.metrics["first_loss"]
    row = job.rows[0]
    assert served(base, job.out_dir, row) == row.completion
    kinds = {"dora": "adapter", "full": "merged"}
    left = {p.name for p in job.out_dir.iterdir()}
    assert left == {kinds[str(recipe["method"])], "fingerprint.json", "train_report.json"}


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_whole_model_keeps_its_bases_configuration_and_precision(
    base: Path, tmp_path: Path, tuner: str
) -> None:
    """TRL writes its own padding token into the configuration that is in memory."""
    import torch
    from safetensors.torch import load_file

    half = tmp_path / "half"
    shutil.copytree(base, half)
    load_model(base, dtype=torch.bfloat16).save_pretrained(str(half))
    job = small_job(half, tmp_path / "out", epochs=1, method="full")
    train(tuner, job)
    made = job.out_dir / "merged"
    for name in ("config.json", "generation_config.json"):
        assert (made / name).read_bytes() == (half / name).read_bytes()
    ours, theirs = load_file(made / "model.safetensors"), load_file(half / "model.safetensors")
    assert ours.keys() == theirs.keys()  # tied weights are stored once
    assert {t.dtype for t in ours.values()} == {torch.bfloat16}
    assert not [p for p in made.iterdir() if p.suffix in (".bin", ".pt", ".md")]


@needs_bitsandbytes
@pytest.mark.parametrize("tuner", TUNERS)
def test_an_adapter_on_four_bits_learns_and_says_what_it_was_made_on(
    base: Path, tmp_path: Path, tuner: str
) -> None:
    import torch
    from safetensors.torch import load_file

    job = small_job(base, tmp_path / "out", epochs=15, method="qlora", dtype="bfloat16")
    result = train(tuner, job)
    assert result.metrics["last_epoch_loss"] < 0.5 * result.metrics["first_loss"]
    assert result.environment["base_precision"].startswith("nf4: the adapter was made on the base")
    weights = load_file(job.out_dir / "adapter/adapter_model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float32}
    # TRL would round it: some number must need more than bfloat16 holds
    assert any(not torch.equal(t, t.bfloat16().float()) for t in weights.values())
    assert served(base, job.out_dir, job.rows[0])


@needs_bitsandbytes
def test_an_adapter_on_four_bits_stays_float32_inside_trl(base: Path, tmp_path: Path) -> None:
    import torch

    job = small_job(base, tmp_path, method="qlora")
    rows = TorchLora().prepare(job)
    with quiet_libraries(), quiet_datasets():
        trainer = make_trainer(job, recipe=read_recipe(job), rows=rows, folder=tmp_path / "t")
    trained = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
    assert trained == {torch.float32}
    assert type(trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer).__name__ == (
        "Linear4bit"
    )


def test_four_bits_without_the_library_name_the_extra(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "bitsandbytes" else found(name, *more),
    )
    with pytest.raises(MissingExtra, match=r"qlora.*pip install 'tuning-harness\[quant\]'"):
        train("torch-lora", small_job(base, tmp_path / "out", method="qlora"))


# ---------------------------------------------------------------- the same steps in both


@pytest.mark.parametrize("tuner", TUNERS)
def test_accumulated_batches_are_one_step(base: Path, tmp_path: Path, tuner: str) -> None:
    """Losses are means over the tokens of a step, not over its batches: rows differ in length."""
    curves = []
    for name, recipe in (
        ("one", {"batch_size": 4}),
        ("added", {"batch_size": 1, "gradient_accumulation": 4}),
        ("again", {"batch_size": 4, "gradient_checkpointing": True}),
    ):
        seen: list[Any] = []
        result = train(tuner, small_job(base, tmp_path / name, epochs=3, **recipe), seen.append)
        assert result.metrics["rows_a_step"] == 4
        curves.append(losses_of(seen))
    assert curves[1] == pytest.approx(curves[0], rel=2e-4)
    assert curves[2] == pytest.approx(curves[0], rel=1e-5)


def test_the_lean_loop_has_trls_losses_on_the_same_rows_in_the_same_order(
    base: Path, tmp_path: Path
) -> None:
    job = small_job(base, tmp_path / "out", epochs=3, batch_size=2, learning_rate=3e-3)
    recipe, rows = read_recipe(job), TorchLora().prepare(job)
    with guest_manners():
        trainer = make_trainer(job, recipe=recipe, rows=rows, folder=tmp_path / "t")
    numbers = {row.input_ids: index for index, row in enumerate(rows)}
    batches: list[list[int]] = []
    collate = trainer.data_collator

    def watch(features: Any) -> Any:
        batches.append([numbers[tuple(f["input_ids"])] for f in features])
        return collate(features)

    trainer.data_collator = watch
    with guest_manners():
        trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    ours: list[float] = []

    def note(_: int, loss: float) -> bool:
        ours.append(loss)
        return True

    Loop(trainable_model(job, recipe), rows, recipe=recipe, batches=batches).run(note)
    assert len(theirs) == 6
    assert sorted(batches[0] + batches[1]) == [0, 1, 2, 3]
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_loss_that_is_no_number_stops_trl_too(base: Path, tmp_path: Path) -> None:
    """transformers would log the mean of the steps before instead."""
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(base, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match="the loss is nan at step 1 of 4: nothing was written"):
        train("trl-sft", small_job(broken, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_tokenizer_without_padding_or_end_is_trained_and_left_as_it_is(
    base: Path, tmp_path: Path, tuner: str
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    path = bare / "tokenizer_config.json"
    plain = json.loads(path.read_text())
    for key in ("pad_token", "eos_token"):
        plain.pop(key, None)
    path.write_text(json.dumps(plain))
    job = small_job(bare, tmp_path / "out", epochs=2)
    result = train(tuner, job)
    whole = train(tuner, small_job(base, tmp_path / "whole", epochs=2))
    assert result.metrics["last_epoch_loss"] == whole.metrics["last_epoch_loss"]
    made = json.loads((job.out_dir / "adapter/tokenizer_config.json").read_text())
    assert not made.get("pad_token")
    assert not made.get("eos_token")


# ---------------------------------------------------------------- going on from an artifact


@pytest.fixture(scope="module")
def first(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TuneJob:
    """An adapter of rank 8 that has learnt its rows."""
    with single_thread():
        job = small_job(base, tmp_path_factory.mktemp("first") / "out", epochs=25, rank=8)
        train("torch-lora", job)
    return job


@pytest.mark.parametrize("tuner", TUNERS)
def test_an_adapter_goes_on_where_it_was(
    base: Path, first: TuneJob, tmp_path: Path, tuner: str
) -> None:
    before = files_of(first.out_dir)
    seen: list[Any] = []
    job = small_job(base, tmp_path / "out", epochs=1, learning_rate=1e-9)
    train(tuner, replace(job, start=first.out_dir), seen.append)
    ended = json.loads((first.out_dir / "train_report.json").read_text())["losses"][-1]
    assert seen[0].loss < ended  # one step further than the last loss that was seen
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        made = (tmp_path / "out/adapter" / name).read_bytes()
        if name.endswith(".json"):
            assert json.loads(made)["r"] == 8
    assert served(base, tmp_path / "out", job.rows[0]) == job.rows[0].completion
    assert files_of(first.out_dir) == before


def test_what_does_not_fit_the_first_adapter_is_told(
    base: Path, first: TuneJob, tmp_path: Path
) -> None:
    other = build_trainable_model(
        build_tiny_model(tmp_path / "raw", seed=5), tmp_path / "other-base"
    )
    pickled = tmp_path / "pickled"
    shutil.copytree(first.out_dir, pickled)
    (pickled / "adapter/adapter_model.bin").write_bytes(b"\x80\x04.")
    for job, said in (
        (small_job(base, tmp_path / "o", rank=4), r"rank = 4, but the adapter in .* has rank = 8"),
        (small_job(base, tmp_path / "o", method="dora"), r"is of method 'lora'.*method = 'lora'"),
        (small_job(other, tmp_path / "o"), r"was tuned on .*Use it with its own base"),
    ):
        with pytest.raises(UsageError, match=said):
            train("torch-lora", replace(job, start=first.out_dir))
    with pytest.raises(UsageError, match="pickled files, which can run code"):
        train("torch-lora", replace(small_job(base, tmp_path / "o"), start=pickled))
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("tuner", TUNERS)
def test_all_weights_go_on_from_an_adapter_and_an_adapter_from_all_weights(
    base: Path, first: TuneJob, tmp_path: Path, tuner: str
) -> None:
    seen: list[Any] = []
    whole = small_job(base, tmp_path / "whole", epochs=1, method="full", learning_rate=1e-6)
    train(tuner, replace(whole, start=first.out_dir), seen.append)
    assert seen[0].loss < 0.5
    assert served(base, tmp_path / "whole", whole.rows[0]) == whole.rows[0].completion
    # No base wears an adapter that was made on other weights: it comes merged into them.
    job = small_job(base, tmp_path / "out", epochs=12)
    rows = tuple(replace(r, completion=f"no {n}") for n, r in enumerate(job.rows))
    result = train(tuner, replace(job, rows=rows, start=tmp_path / "whole"))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "merged",
        "fingerprint.json",
        "train_report.json",
    }
    assert served(base, tmp_path / "out", job.rows[0]) == "no 0"
    assert result.metrics["trainable_parameters"] < 1e5


# ---------------------------------------------------------------- devices


def test_a_gpu_that_is_not_there_is_told_before_anything(base: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for tuner in TUNERS:
        with pytest.raises(UsageError, match=r'device = "cuda", but torch sees no CUDA device'):
            tuner_of(tuner).prepare(small_job(base, tmp_path, device="cuda"))


def test_a_steps_rows_are_the_same_on_any_number_of_devices(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dealt(devices: int, **recipe: Any) -> tuple[int, int, int]:
        dealing = batching_of(read_recipe(small_job(base, tmp_path, **recipe)), devices=devices)
        return dealing.batch_size, dealing.accumulation, dealing.rows

    assert dealt(1, batch_size=4, gradient_accumulation=4) == (4, 4, 16)
    assert dealt(2, batch_size=4, gradient_accumulation=4) == (4, 2, 16)
    assert dealt(2, batch_size=4) == (2, 1, 4)
    assert dealt(6, batch_size=4, gradient_accumulation=3) == (2, 1, 12)
    with pytest.raises(UsageError, match=r"the 4 rows of a step .* cannot be dealt to 3 devices"):
        dealt(3, batch_size=4)
    job = replace(small_job(base, tmp_path), devices=2)
    with pytest.raises(UsageError, match="torch-lora trains in one process, not in 2"):
        train("torch-lora", job)
    monkeypatch.setenv("HARNESS_TUNE_WORKER", "1")
    with pytest.raises(UsageError, match=r"wants: 2; this process is one of 1"):
        TrlSft().train(job, (), report=ignore)


def test_reply_of_a_base_is_not_what_was_learnt(base: Path, first: TuneJob) -> None:
    """The tests above ask for replies that the base does not give."""
    for row in first.rows:
        assert reply_of(base, row) != row.completion
