"""A base model's template is decided by a person, is trained, and travels with the artifact."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.backend import LocalBackend
from harness_transformers.encoding import IGNORED, encode_row
from harness_transformers.models import load_tokenizer
from harness_trl.torch_lora import TorchLora

from harness import (
    BackendConfig,
    Decoding,
    Message,
    RecipeError,
    Request,
    TrainingRow,
    UsageError,
)
from harness.engine.candidates import backend_options
from harness.engine.tasks import load_task
from harness.errors import TaskError
from tests.engine.small import write_settings, write_task
from tests.plugins.test_transformers_tools import SEARCH, SHOWS_TOOLS
from tests.plugins.tuning import build_trainable_model, small_job, small_rows, train

PLAIN = {"chat_template": "plain"}
OWN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"


@pytest.fixture(scope="module")
def base(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model: no chat template."""
    folder = build_trainable_model(tiny_model_dir, tmp_path_factory.mktemp("base") / "model")
    (folder / "chat_template.jinja").unlink()
    return folder


pytestmark = pytest.mark.usefixtures("one_thread")


def sent(base: Path, artifact: Path | None, **options: Any) -> Sequence[int]:
    backend = LocalBackend(BackendConfig(model=str(base), artifact=artifact, options=options))
    row = small_rows()[0]
    return backend.token_ids(Request(messages=row.messages, decoding=Decoding()))


def test_a_base_model_is_not_trained_before_its_template_is_decided(
    base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no chat template.*chat_template = .plain"):
        TorchLora().prepare(small_job(base, tmp_path))


@pytest.mark.parametrize("tuner", ["torch-lora", "trl-sft"])
def test_the_template_of_the_task_is_trained_and_travels(
    base: Path, tmp_path: Path, tuner: str
) -> None:
    job = replace(small_job(base, tmp_path / "out", epochs=1), options=PLAIN)
    prepared = TorchLora().prepare(job)
    train(tuner, job)
    ids = sent(base, job.out_dir)
    assert list(prepared[0].input_ids[: len(ids)]) == list(ids)
    # The candidate of the artifact has the same options as that of its base.
    assert sent(base, job.out_dir, **PLAIN) == ids == sent(base, None, **PLAIN)
    with pytest.raises(UsageError, match="has a chat template of its own"):
        sent(base, job.out_dir, chat_template=OWN)


def test_a_template_in_the_recipe_is_refused_and_told_its_place(base: Path, tmp_path: Path) -> None:
    job = replace(small_job(base, tmp_path / "out", **PLAIN), options=PLAIN)
    with pytest.raises(
        RecipeError, match=r"belongs in task.toml.*chat_template = .plain.*jinja"
    ) as e:
        TorchLora().prepare(job)
    assert e.value.keys == ("chat_template",)


def test_a_template_of_a_file_is_read_from_the_tasks_folder(base: Path, tmp_path: Path) -> None:
    folder = write_task(tmp_path)
    (folder / "own.jinja").write_text(OWN)
    name = f"local:{base}"
    table = {f'backends."{name}"': {"chat_template": "own.jinja"}}
    write_settings(folder, model=name, **table)
    options = backend_options(load_task(folder), name)
    assert options == {"chat_template": OWN}
    job = replace(small_job(base, tmp_path / "out", epochs=1), options=options)
    train("torch-lora", job)
    assert load_tokenizer(job.out_dir / "adapter").chat_template == OWN
    assert sent(base, job.out_dir) == sent(base, None, chat_template=OWN)
    (folder / "own.jinja").unlink()
    with pytest.raises(TaskError, match=r"own\.jinja: no such file"):
        backend_options(load_task(folder), name)
    with pytest.raises(UsageError, match="only 'plain' is known, or the text"):
        TorchLora().prepare(replace(job, options={"chat_template": "chatml"}))


def test_a_model_with_a_template_of_its_own_keeps_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    job = replace(small_job(tiny_model_dir, tmp_path), options=PLAIN)
    with pytest.raises(UsageError, match="has a chat template of its own, which is the right"):
        TorchLora().prepare(job)


def test_no_generation_markers_are_needed(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Where a reply begins is found from the ids, so a template without them is as good."""
    tokenizer = load_tokenizer(tiny_model_dir)
    assert "generation %}" not in tokenizer.chat_template
    for row, source in zip(
        TorchLora().prepare(small_job(tiny_model_dir, tmp_path)), small_rows(), strict=True
    ):
        learnt = [label for label in row.labels if label != IGNORED]
        assert tokenizer.decode(learnt) == f"{source.completion}<|im_end|>\n"


def test_tools_are_trained_as_they_are_asked_with(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    shutil.copytree(base, folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = SHOWS_TOOLS
    tokenizer.save_pretrained(str(folder))
    asked = (Message(role="user", content="How many?"),)
    row = TrainingRow(case_id="t", messages=asked, completion="<call>", tools=(SEARCH,))
    prepared = encode_row(tokenizer, row)
    backend = LocalBackend(BackendConfig(model=str(folder)))
    ids = backend.token_ids(Request(messages=asked, tools=(SEARCH,), decoding=Decoding()))
    assert "search" in tokenizer.decode(list(ids))
    assert list(prepared.input_ids[: len(ids)]) == list(ids)
    assert prepared.labels[len(ids) - 1] == IGNORED
    assert prepared.labels[len(ids)] != IGNORED
    bare = encode_row(tokenizer, replace(row, tools=()))
    assert len(bare.input_ids) < len(prepared.input_ids)
