"""What a local model is told to be without torch, and what it honours without an extra."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from harness_transformers import kept, models
from harness_transformers.artifacts import record_base
from harness_transformers.backend import LocalBackend

from harness import BackendConfig, BackendError, Decoding, Message, Request
from harness.engine.backends import describe
from harness.testing.conformance import conformance
from tests.plugins.tiny import build_tiny_model
from tests.plugins.tiny_vision import build_tiny_vision_model

ASK = Request(
    messages=(Message(role="user", content="How many were slow?"),),
    decoding=Decoding(max_tokens=3),
)
TOLD = """
import json, sys
from pathlib import Path
from harness import BackendConfig
from harness_transformers.backend import LocalBackend
told = []
for model, artifact in json.loads(sys.argv[1]):
    b = LocalBackend(BackendConfig(model=model, artifact=artifact and Path(artifact)))
    told.append([dict(b.identity), sorted(b.honours)])
    b.close()
print(json.dumps([told, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
HEAVY = {"torch", "transformers", "tokenizers", "peft", "PIL", "numpy", "safetensors"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kept.cache_dir() / "digests"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return build_tiny_model(tmp_path / "tiny")


def local(folder: Path, **more: Any) -> LocalBackend:
    return LocalBackend(BackendConfig(model=str(folder), **more))


def told(folder: Path, **more: Any) -> tuple[Mapping[str, str], frozenset[str]]:
    backend = local(folder, **more)
    try:
        return backend.identity, backend.honours
    finally:
        backend.close()


def adapter_of(folder: Path, out: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    models.require_peft()
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing")  # peft's, not ours
        tuned = get_peft_model(models.load_model(folder, dtype="float32"), config)
    tuned.save_pretrained(str(out / "adapter"))
    record_base(out / "adapter", base="tiny", base_digest=models.weights_digest(folder))
    return out


def is_loaded_anew(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the tokenizers that are loaded from now on."""
    loaded: list[Path] = []
    real = models.load_tokenizer

    def load(path: Path, **more: Any) -> Any:
        loaded.append(path)
        return real(path, **more)

    monkeypatch.setattr(models, "load_tokenizer", load)
    return loaded


def test_a_model_that_was_asked_before_is_told_without_torch(model: Path, tmp_path: Path) -> None:
    artifact = adapter_of(model, tmp_path / "artifact")
    sees = build_tiny_vision_model(tmp_path / "sees")
    asked = [(model, None), (model, artifact), (sees, None)]
    before = [told(folder, artifact=artifact) for folder, artifact in asked]
    done = subprocess.run(
        [sys.executable, "-c", TOLD, json.dumps(asked, default=str)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again, loaded = json.loads(done.stdout)
    assert again == [[dict(identity), sorted(honours)] for identity, honours in before]
    assert not HEAVY & set(loaded)
    assert "adapter" in before[1][0]
    assert "processor" in before[2][0]
    assert [("images" in honours) for _, honours in before] == [False, False, True]


def test_what_is_told_is_what_a_tokenizer_and_torch_say(model: Path) -> None:
    tokenizer = models.load_tokenizer(model)
    for _ in range(2):  # found out, then recalled
        identity, _ = told(model)
        assert identity["template"] == models.template_digest(tokenizer)
        assert identity["tokenizer"] == models.tokenizer_digest(tokenizer)
        assert identity["device"] == models.choose_device()
        assert identity["dtype"] == models.choose_dtype()
        assert identity["weights"] == models.weights_digest(model)


def test_what_was_kept_holds_for_the_same_files_libraries_and_machine_alone(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = told(model)
    loaded = is_loaded_anew(monkeypatch)
    assert told(model)[0] == first
    assert not loaded

    template = model / "chat_template.jinja"
    text = template.read_text()
    times = template.stat()
    template.write_text(text.replace("user", "USER").replace("assistant", "assistent"))
    os.utime(template, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert template.stat().st_size == times.st_size
    second, _ = told(model)
    assert len(loaded) == 1
    assert second["template"] != first["template"]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    told(model)
    assert len(loaded) == 2
    told(model, options={"chat_template_kwargs": {"enable_thinking": False}})
    assert len(loaded) == 3
    told(model)
    assert len(loaded) == 3
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9" if name == "tokenizers" else real(name)
    )
    told(model)
    assert len(loaded) == 4


def test_no_reply_is_recorded_under_words_that_are_no_longer_true(
    model: Path, own_cache: Path
) -> None:
    told(model)
    [place] = [p for p in own_cache.iterdir() if "device" in p.read_text()]
    plain = json.loads(place.read_text())
    plain["facts"] |= {"device": "cuda", "dtype": "float16"}
    place.write_text(json.dumps(plain))
    stale = local(model)
    assert stale.identity["device"] == "cuda"
    for ask in (stale.ready, lambda: asyncio.run(stale.answer(ASK))):
        with pytest.raises(BackendError, match=r"device 'cuda', now .*Run the same command") as why:
            ask()
        assert why.value.is_systemic
    stale.close()
    fresh = local(model)
    assert fresh.identity["device"] == models.choose_device()
    assert asyncio.run(fresh.answer(ASK)).output_tokens
    fresh.close()


@pytest.mark.parametrize("content", ["", "[]", '{"facts": 3, "stamps": {}}', "{"])
def test_what_was_kept_and_cannot_be_read_is_found_out_anew(
    model: Path, own_cache: Path, content: str
) -> None:
    before = told(model)
    for place in own_cache.iterdir():
        place.write_text(content)
    assert told(model) == before
    shutil.rmtree(own_cache)
    own_cache.write_text("")  # no folder: nothing can be kept
    assert told(model) == before


def test_a_schema_is_honoured_where_xgrammar_is_and_refused_with_its_extra_elsewhere(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = BackendConfig(model=str(model), options={"dtype": "float32"})
    shaped = Request(messages=ASK.messages, schema={"type": "object"})
    has_grammar = importlib.util.find_spec("xgrammar") is not None
    assert ("schema" in told(model)[1]) == has_grammar
    conformance(LocalBackend, config=config)
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    conformance(LocalBackend, config=config)
    backend = local(model)
    live = describe(backend, name="local:tiny")
    assert live.refuse(ASK) is None
    assert live.refuse(shaped) == (
        "local:tiny does not honour schema (a schema needs xgrammar: "
        "pip install 'tuning-harness[grammar]')"
    )
    backend.close()


def test_a_backend_that_honours_what_it_lacks_the_library_for_does_not_conform(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Boastful(LocalBackend):
        honours = frozenset({"schema"})  # type: ignore[assignment]

    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(AssertionError, match=r"says schema, which needs .*grammar"):
        conformance(Boastful, config=BackendConfig(model=str(model)))
