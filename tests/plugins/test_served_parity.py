"""Parity with servers: llama.cpp's as it runs here, and vLLM's endpoints as its source has them,
answered by a loopback server with a real tokenizer and model. That with `transformers serve` is in
test_openai_serve.py, which has it running.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.models import load_tokenizer

from harness.engine.backends import BackendPool
from harness.records import Message, ParityCheck
from tests.plugins.loopback import Answer, Loopback, Seen, loopback
from tests.plugins.served import ROWS, WITH_SYSTEM, check, failed, prepare
from tests.plugins.servers import llama_server
from tests.plugins.test_merging import build_adapter, make
from tests.plugins.tiny import CHATML

# ---------------------------------------------------------------- llama.cpp's own server


@pytest.fixture(scope="module")
def llama(other_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The tiny model as a GGUF file, exported with an adapter that adds nothing."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs the wheel xllamacpp")
    home = tmp_path_factory.mktemp("llama")
    nothing = build_adapter(other_template, home / "nothing", scale=0.0)
    make("gguf-f32", base=other_template, artifact=nothing, out=home)
    with llama_server(home / "gguf" / "model-f32.gguf", home / "server.log") as url:
        yield f"{url}/v1#llama.cpp"


def test_parity_with_llama_cpp_holds_for_the_model_that_it_serves(
    pool: BackendPool, llama: str, other_template: Path, tmp_path: Path
) -> None:
    path = prepare(other_template, tmp_path / "rows.jsonl")
    found = check(pool, path, base=other_template, url=llama, model="any")
    assert found.holds, found.findings
    # its keys and values are in half precision, which may tip a near tie: told, and no failure
    assert {f.name for f in found.findings} <= {"near-tie", "logits-differ"}
    assert found.compared == (
        "3 rows id by id", "5 probes", "the tokenizers on a text", "3 greedy replies",
    )  # fmt: skip
    assert found.probes == 5


def test_another_template_than_llama_cpp_has_is_named(
    pool: BackendPool, llama: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    """The served template puts a system turn before a bare question; this one does not."""
    path = prepare(tiny_model_dir, tmp_path / "rows.jsonl")
    found = check(pool, path, base=tiny_model_dir, url=llama, model="any", with_logits=False)
    assert failed(found) == ["default-system-prompt"]
    assert "into the served prompt only" in found.findings[0].detail
    assert "You are a helpful assistant." in found.findings[0].detail


def test_a_server_without_the_adapter_thinks_like_another_model(
    pool: BackendPool, llama: str, other_template: Path, tmp_path: Path
) -> None:
    """Ids cannot show it: the template and the tokenizer are the same."""
    adapter = build_adapter(other_template, tmp_path / "artifact", scale=0.5)
    path = prepare(other_template, tmp_path / "rows.jsonl")
    found = check(pool, path, base=other_template, url=llama, model="any", artifact=str(adapter))
    assert failed(found) == ["another-model"], found.findings
    assert "the base without the adapter" in found.findings[0].detail


# ---------------------------------------------------------------- vLLM, as its source has it


@dataclass(kw_only=True)
class Vllm:
    """Answers as vLLM does, with the model in `folder`. What it does wrongly is set by a test."""

    folder: Path
    template: str = CHATML
    changes: Callable[[list[int]], list[int]] = lambda ids: ids
    tells_template: bool = False
    knows_ends: bool = True
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from harness_transformers.backend import LocalBackend

        from harness import BackendConfig

        self.tokenizer = load_tokenizer(self.folder)
        self.local = LocalBackend(BackendConfig(model=str(self.folder)))

    def ids(self, body: Any) -> list[int]:
        if "prompt" in body:
            return list(self.tokenizer.encode(body["prompt"], add_special_tokens=False))
        ids = self.tokenizer.apply_chat_template(
            body["messages"],
            chat_template=self.template,
            add_generation_prompt=body.get("add_generation_prompt", True),
            return_dict=False,
        )
        return self.changes([int(i) for i in ids])

    def answer(self, seen: Seen) -> Answer:
        self.asked.append(seen.path)
        if seen.path == "/v1/models":
            return Answer(body={"data": [{"id": "tuned"}]})
        if seen.path == "/tokenizer_info":
            if not self.tells_template:
                return Answer(status=404, body={"detail": "Not Found"})
            return Answer(body={"chat_template": self.template})
        if seen.path == "/tokenize":
            ids = self.ids(seen.body)
            return Answer(body={"count": len(ids), "max_model_len": 512, "tokens": ids})
        if seen.path == "/detokenize":
            return Answer(body={"prompt": self.tokenizer.decode(seen.body["tokens"])})
        return Answer(body=self.completion(seen.body))

    def completion(self, body: Any) -> Any:
        from harness import Request

        request = Request(messages=tuple(Message(**m) for m in body["messages"]))
        if not self.knows_ends:
            self.local.__dict__["_stops"] = frozenset()
        steps, end = self.local.greedy_logprobs(request, tokens=body["max_tokens"], top=5)
        shown = [
            {
                "token": s["token"],
                "logprob": s["logprob"],
                "top_logprobs": [{"token": t, "logprob": p} for t, p in s["top"]],
            }
            for s in steps
        ]
        return {
            "model": "tuned",
            "choices": [
                {
                    "finish_reason": "stop" if end else "length",
                    "message": {"content": "".join(s["token"] for s in steps)},
                    "logprobs": {"content": shown},
                }
            ],
            "usage": {"prompt_tokens": len(self.ids(body)), "completion_tokens": len(steps)},
        }


@pytest.fixture
def vllm(tiny_model_dir: Path) -> Iterator[tuple[Vllm, str]]:
    made = Vllm(folder=tiny_model_dir)
    with loopback() as served:
        connect(served, made)
        yield made, f"{served.base_url}#vllm"
    made.local.close()


def connect(served: Loopback, made: Vllm) -> None:
    served.answer = made.answer


def of_vllm(
    pool: BackendPool, served: tuple[Vllm, str], folder: Path, tmp_path: Path, **more: Any
) -> ParityCheck:
    path = prepare(folder, tmp_path / "rows.jsonl")
    return check(pool, path, base=folder, url=served[1], model="tuned", **more)


def test_parity_with_vllms_endpoints_holds(
    pool: BackendPool, vllm: tuple[Vllm, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    found = of_vllm(pool, vllm, tiny_model_dir, tmp_path)
    assert found.findings == ()
    assert found.compared[0] == "3 rows id by id"
    assert found.compared[-1] == "3 greedy replies"
    assert "does not tell which ids end its replies" in found.unknown[0]
    assert {"/tokenize", "/v1/chat/completions"} <= set(vllm[0].asked)


def test_what_a_vllm_server_does_otherwise_is_named(
    pool: BackendPool, vllm: tuple[Vllm, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    def planted(**wrong: Any) -> list[str]:
        vllm[0].template, vllm[0].changes = CHATML, lambda ids: ids
        for name, value in wrong.items():
            setattr(vllm[0], name, value)
        return failed(of_vllm(pool, vllm, tiny_model_dir, tmp_path, with_logits=False))

    assert planted() == []
    assert "default-system-prompt" in planted(template=WITH_SYSTEM)
    assert "double-bos" in planted(changes=lambda ids: [ids[0], *ids])
    assert "generation-prompt" in planted(changes=lambda ids: ids[:-4])


def test_a_template_that_vllm_tells_is_read_for_what_changes_with_the_day(
    pool: BackendPool, vllm: tuple[Vllm, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    vllm[0].template = "{% set day = strftime_now('%d') %}" + CHATML
    vllm[0].tells_template = True
    found = of_vllm(pool, vllm, tiny_model_dir, tmp_path, with_logits=False)
    assert [(f.severity, f.name) for f in found.findings] == [("warn", "date-in-template")]


def test_a_folder_of_the_datasets_library_is_read(
    pool: BackendPool, vllm: tuple[Vllm, str], tiny_model_dir: Path, tmp_path: Path
) -> None:
    """As axolotl and TRL leave their prepared rows."""
    datasets = pytest.importorskip("datasets")
    path = prepare(tiny_model_dir, tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    folder = tmp_path / "last_run_prepared" / "0a1b"
    datasets.Dataset.from_list(rows).save_to_disk(str(folder))
    path.unlink()
    found = check(
        pool, folder.parent, base=tiny_model_dir, url=vllm[1], model="tuned", with_logits=False
    )
    assert found.findings == ()
    assert found.rows == 3
    shutil.rmtree(folder)


def closing(folder: Path, under: Path) -> Path:
    """Return the model with one row of its head changed: every reply ends at once, and surely."""
    import torch
    from harness_transformers.models import load_model
    from safetensors.torch import load_file, save_file

    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    ends = [
        tokenizer.apply_chat_template(
            [{"role": r, "content": c} for r, c in turns],
            add_generation_prompt=True,
            return_dict=False,
        )
        for turns, _ in ROWS
    ]
    with torch.inference_mode():
        last = [
            model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
            for ids in ends
        ]
    made = Path(shutil.copytree(folder, under / "closing"))
    weights = load_file(made / "model.safetensors")
    head = weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    head[tokenizer.convert_tokens_to_ids("<|im_end|>")] = 20 * torch.stack(last).mean(0)
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    return made


def test_a_server_that_does_not_know_an_end_that_the_model_is_sure_of_is_found(
    pool: BackendPool, tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = closing(tiny_model_dir, tmp_path)
    for knows in (True, False):
        made = Vllm(folder=folder, knows_ends=knows)
        with loopback() as served:
            connect(served, made)
            found = of_vllm(pool, (made, f"{served.base_url}#vllm"), folder, tmp_path)
        made.local.close()
        assert failed(found) == ([] if knows else ["does-not-stop"])
        assert not any("was not seen" in line for line in found.unknown)
    assert "3 of 3 replies that end here with '<|im_end|>'" in found.findings[0].detail
    assert "the server writes it and goes on" in found.findings[0].detail
