"""TRL's trainer behind our door: the same rows, the same losses, and none of its habits."""

from __future__ import annotations

import logging
import random
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.encoding import IGNORED
from harness_transformers.models import load_model, load_tokenizer
from harness_trl.guests import no_telemetry, quiet_datasets, quiet_libraries, trl_warnings
from harness_trl.recipe import read_recipe
from harness_trl.torch_lora import TorchLora
from harness_trl.trl_sft import (
    TrlSft,
    check_dataset,
    make_trainer,
)

from harness import BackendError
from tests.plugins.tuning import (
    files_of,
    ignore,
    losses_of,
    reply_of,
    small_job,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_trains_as_torch_lora_does_step_by_step(base: Path, tmp_path: Path) -> None:
    """One batch holds all rows, so both see the same at every step."""
    from safetensors.torch import load_file

    curves = []
    for name, tuner in (("lean", TorchLora()), ("trl", TrlSft())):
        job = small_job(base, tmp_path / name, epochs=6)
        seen: list[Any] = []
        tuner.train(job, tuner.prepare(job), report=seen.append)
        assert [(p.step, p.steps) for p in seen] == [(i, 6) for i in range(1, 7)]
        curves.append((losses_of(seen), [p.tokens for p in seen]))
    (lean, lean_tokens), (trl, trl_tokens) = curves
    assert lean_tokens == trl_tokens
    assert lean == pytest.approx(trl, rel=1e-3)
    assert lean[0] == pytest.approx(trl[0], rel=1e-6)
    ours, theirs = (
        load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("lean", "trl")
    )
    assert ours.keys() == theirs.keys()


def test_it_learns_its_rows_and_the_reply_changes(base: Path, tmp_path: Path) -> None:
    job = small_job(base, tmp_path / "out", epochs=30)
    tuner = TrlSft()
    result = tuner.train(job, tuner.prepare(job), report=ignore)
    assert result.metrics["last_epoch_loss"] < 0.05
    assert result.environment["trl"]
    for row in job.rows:
        assert reply_of(base, row, adapter=tmp_path / "out/adapter") == row.completion
    assert (tmp_path / "out/train_report.json").is_file()
    assert not list((tmp_path / "out").glob(".*"))


def test_the_one_encoder_agrees_with_trls_own(base: Path, tmp_path: Path) -> None:
    """TRL's reading of the same conversations gives the ids and labels that we train."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    job = small_job(base, tmp_path)
    ours = TrlSft().prepare(job)
    conversations = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in row.messages],
            "completion": [{"role": "assistant", "content": row.completion}],
        }
        for row in job.rows
    ]
    with no_telemetry(), quiet_datasets(), quiet_libraries():
        config = SFTConfig(
            output_dir=str(tmp_path / "t"), max_length=512, report_to="none", use_cpu=True,
            bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        )  # fmt: skip
        theirs = SFTTrainer(
            model=load_model(base, dtype="float32"),
            args=config,
            train_dataset=Dataset.from_list(conversations),
            processing_class=load_tokenizer(base),
        ).train_dataset
    check_dataset(theirs, ours)


def test_trl_drops_no_row_here_and_one_that_it_dropped_would_stop_the_tune(
    base: Path, tmp_path: Path
) -> None:
    """Its own preparation leaves out a row without a supervised token, and says nothing."""
    from trl import SFTTrainer

    job = small_job(base, tmp_path / "out")
    rows = list(TrlSft().prepare(job))
    rows[2] = replace(rows[2], labels=tuple(IGNORED for _ in rows[2].labels))
    with quiet_libraries(), quiet_datasets():
        trainer = make_trainer(job, recipe=read_recipe(job), rows=rows, folder=tmp_path / "t")
        check_dataset(trainer.train_dataset, rows)
        theirs = SFTTrainer._prepare_dataset(
            trainer, trainer.train_dataset, trainer.processing_class, trainer.args, False, None, ""
        )
    assert len(theirs) == 3
    with pytest.raises(BackendError, match="TRL dropped 1 of 4 rows in silence"):
        check_dataset(theirs, rows)


def test_a_changed_row_is_named(base: Path, tmp_path: Path) -> None:
    rows = TrlSft().prepare(small_job(base, tmp_path))
    taken = [{"input_ids": list(r.input_ids), "labels": list(r.labels)} for r in rows]
    check_dataset(taken, rows)
    taken[1]["labels"][-1] = IGNORED
    with pytest.raises(BackendError, match="TRL changed the labels of row c1"):
        check_dataset(taken, rows)


def test_what_trl_warns_of_is_heard_though_it_logs_it_only_once() -> None:
    with trl_warnings() as said:
        logging.getLogger("trl.trainer.sft_trainer").warning("the prompt is not a prefix of %s", 1)
        logging.getLogger("trl").info("all is well")
    assert said == ["the prompt is not a prefix of 1"]


def test_nothing_leaves_this_machine(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL pings its makers for every trainer unless it is kept from it."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _telemetry
    from trl import SFTTrainer

    assert hasattr(SFTTrainer, "_send_telemetry"), "TRL moved its ping: see QuietTrainer"
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    pings: list[Any] = []
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: pings.append("thread"))
    calls: list[Any] = []
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, lambda *args: calls.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: calls.append(args))
    job = small_job(base, tmp_path / "out", epochs=1)
    tuner = TrlSft()
    tuner.train(job, tuner.prepare(job), report=ignore)
    assert calls == []
    assert pings == []
    assert constants.HF_HUB_OFFLINE is False
    # And the test can fail: the same trainer without its muzzle does ping.
    with quiet_libraries(), quiet_datasets():
        trainer = make_trainer(
            job, recipe=read_recipe(job), rows=tuner.prepare(job), folder=tmp_path / "t"
        )
    SFTTrainer._send_telemetry(trainer)
    assert pings == ["thread"]


def test_an_interrupt_leaves_nothing_half_written(base: Path, tmp_path: Path) -> None:
    job = small_job(base, tmp_path / "out", epochs=3)
    tuner = TrlSft()

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner.train(job, tuner.prepare(job), report=stop)
    assert not (tmp_path / "out").exists()


def test_it_prints_nothing_and_leaves_the_process_as_it_was(
    base: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np
    import torch
    from datasets.utils.logging import is_progress_bar_enabled

    monkeypatch.chdir(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    had_bar = is_progress_bar_enabled()
    job = small_job(base, tmp_path / "out", epochs=1)
    tuner = TrlSft()
    tuner.train(job, tuner.prepare(job), report=ignore)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert capfd.readouterr() == ("", "")
    assert before == after
    assert is_progress_bar_enabled() == had_bar
    assert {name.split("/")[0] for name in files_of(tmp_path)} == {"out"}
