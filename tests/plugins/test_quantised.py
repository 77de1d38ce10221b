"""Eight and four bits by bitsandbytes, for real: made on this CPU, saved, loaded and asked."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from harness_servers.vllm import arguments
from harness_transformers.backend import LocalBackend
from harness_transformers.models import load_model

from harness import BackendConfig, Decoding, Message, Request, ServeJob, UsageError
from tests.plugins.test_merging import build_adapter, local, logits, make, reply
from tests.plugins.tiny import build_tiny_model
from tests.plugins.tiny_vision import build_tiny_vision_model, picture

pytest.importorskip("bitsandbytes")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny", seed=3)


@pytest.fixture(scope="module")
def artifact(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(base, tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def made(base: Path, artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forms")
    for form in ("merged-bf16", "int8", "nf4"):
        make(form, base=base, artifact=artifact, out=folder / form)
    return {form.name: form for form in folder.iterdir()}


def test_fewer_bits_are_fewer_bytes_and_coarser_logits(
    made: dict[str, Path], base: Path, artifact: Path
) -> None:
    wanted = logits(base, artifact / "adapter")
    sizes, off = [], []
    for form in ("merged-bf16", "int8", "nf4"):
        folder = made[form] / "merged"
        sizes.append(sum(p.stat().st_size for p in folder.glob("*.safetensors")))
        off.append(float((logits(folder) - wanted).abs().mean() / wanted.abs().mean()))
        assert not (made[form] / "float32").exists()
    assert sizes == sorted(sizes, reverse=True)
    assert off == sorted(off)
    assert off[1] < off[2] / 2


def test_the_local_backend_answers_from_few_bits_and_says_so_in_its_identity(
    made: dict[str, Path], base: Path, artifact: Path
) -> None:
    tuned = reply(local(model=str(base), artifact=artifact))
    kinds = {
        form: LocalBackend(BackendConfig(model=str(base), artifact=made[form])).identity
        for form in ("int8", "nf4")
    }
    assert kinds["int8"]["weights"] != kinds["nf4"]["weights"]
    assert all("bitsandbytes" in one["kernels"] for one in kinds.values())
    again = [reply(local(model=str(base), artifact=made["int8"])) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0][:4] == tuned[:4]
    assert reply(local(model=str(base), artifact=made["nf4"]))


def test_a_method_without_kernels_here_is_refused_with_who_can_serve_it(base: Path) -> None:
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    folder = base.parent / "gptq"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"quantised by gptq.*Serve it, with vLLM"):
        LocalBackend(BackendConfig(model=str(folder)))


def test_an_adapter_is_not_put_onto_a_quantised_base(made: dict[str, Path], artifact: Path) -> None:
    with pytest.raises(UsageError, match="is quantised, and an adapter is added into whole"):
        load_model(made["int8"] / "merged", adapter=artifact / "adapter")


def test_vllm_is_told_rank_template_and_name_of_an_adapter(base: Path, artifact: Path) -> None:
    job = ServeJob(name="mine", folder=artifact, base=str(base), port=8000, context=512)
    told = arguments(job)
    assert told[:4] == ("serve", str(base), "--host", "127.0.0.1")
    adapter = artifact / "adapter"
    for pair in (
        ("--max-lora-rank", "8"),  # the least that vLLM takes
        ("--lora-modules", f"mine={adapter}"),
        ("--chat-template", str(adapter / "chat_template.jinja")),
        ("--max-model-len", "512"),
    ):
        assert pair in list(pairwise(told))


@pytest.mark.parametrize("form", ["int8", "nf4"])
def test_a_model_that_sees_still_sees_in_few_bits(form: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    base = build_tiny_vision_model(tmp_path / "seeing")
    make(form, base=base, artifact=base, out=tmp_path / form)
    config = json.loads((tmp_path / form / "merged/config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    asked = Request(
        messages=(Message(role="user", content="?", images=(picture((250, 0, 0)),)),),
        decoding=Decoding(max_tokens=4),
    )
    whole = LocalBackend(local(model=str(base)))
    few = LocalBackend(local(model=str(base), artifact=tmp_path / form))
    try:
        assert few.pixel_digest(asked) == whole.pixel_digest(asked) != ""
        assert few.token_ids(asked) == whole.token_ids(asked)
        assert asyncio.run(few.answer(asked)).output_tokens
    finally:
        few.close()
        whole.close()
