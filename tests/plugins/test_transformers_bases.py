"""Adapters of one base share it in memory, and answer as if each had a model of its own."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from harness_transformers import bases
from harness_transformers.artifacts import record_base
from harness_transformers.backend import LocalBackend
from harness_transformers.bases import Factors, shared_base
from harness_transformers.models import load_model, weights_digest

from harness import BackendConfig, Decoding, Message, Request

TARGETS = {"all": "all-linear", "some": ["q_proj", "v_proj"]}


def make_adapter(model_dir: Path, folder: Path, *, targets: str, seed: int) -> Path:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS[targets], task_type="CAUSAL_LM")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing")  # peft's, not ours
        torch.manual_seed(seed)
        tuned = get_peft_model(load_model(model_dir, dtype="float32"), config)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    tuned.save_pretrained(str(folder))
    record_base(folder, base="tiny", base_digest=weights_digest(model_dir))
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(tiny_model_dir, folder / name, targets=name, seed=seed)
        for seed, name in enumerate(TARGETS)
    ]


def local(model: Path, adapter: Path | None = None, dtype: str = "float32") -> LocalBackend:
    return LocalBackend(BackendConfig(model=str(model), artifact=adapter, options={"dtype": dtype}))


REQUESTS = [
    Request(
        messages=(Message(role="user", content=f"How many were slow in hour {n}?"),),
        decoding=Decoding(max_tokens=12),
    )
    for n in range(6)
]


def texts(*backends: LocalBackend) -> list[list[str]]:
    """Ask all of them everything at once."""

    async def one(backend: LocalBackend) -> list[str]:
        replies = await asyncio.gather(*(backend.answer(r) for r in REQUESTS))
        return [r.text for r in replies]

    async def every() -> Sequence[list[str]]:
        return await asyncio.gather(*map(one, backends))

    return list(asyncio.run(every()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_a_base_wears_is_bit_for_bit_a_model_with_that_adapter(
    tiny_model_dir: Path, adapters: list[Path], dtype: str
) -> None:
    for adapter in [*adapters, None, adapters[0]]:
        alone = load_model(tiny_model_dir, dtype=dtype, adapter=adapter)
        base, worn = shared_base(tiny_model_dir, dtype=dtype, adapter=adapter)
        with base.wearing(worn) as model:
            for (name, mine), (_, own) in zip(
                [*model.named_parameters(), *model.named_buffers()],
                [*alone.named_parameters(), *alone.named_buffers()],
                strict=True,
            ):
                assert mine.dtype == own.dtype, name
                assert torch.equal(mine, own), name


def test_a_half_precision_adapter_keeps_the_rotary_frequencies_of_its_base(
    tiny_model_dir: Path, adapters: list[Path]
) -> None:
    """Rounded with the weights, they moved every reply of a tuned model against its base."""
    tuned = load_model(tiny_model_dir, dtype="bfloat16", adapter=adapters[1])
    plain = load_model(tiny_model_dir, dtype="bfloat16")
    for (name, mine), (_, own) in zip(tuned.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(mine, own), name


def test_candidates_on_one_base_hold_its_weights_once_and_answer_as_alone(
    tiny_model_dir: Path, adapters: list[Path]
) -> None:
    alone = []
    for adapter in (None, *adapters):
        backend = local(tiny_model_dir, adapter)
        alone += texts(backend)
        backend.close()
        del backend
    gc.collect()
    assert len({tuple(t) for t in alone}) == 3  # each adapter tells
    together = [local(tiny_model_dir, adapter) for adapter in (None, *adapters)]
    assert texts(*together) == alone
    assert texts(*reversed(together)) == alone[::-1]

    plain, both = together[0], together[1:]
    homes = {b._base[0] for b in together}
    assert len(homes) == 1
    storages = [
        {name: p.untyped_storage().data_ptr() for name, p in b._model.named_parameters()}
        for b in together
    ]
    assert storages[0] == storages[1] == storages[2]
    kept = plain._base[0]._adapters
    for backend in both:  # of an adapter, in the precision of the file, only its factors are kept
        changes = kept[backend._parts.adapter]
        assert changes
        assert all(isinstance(c, Factors) for c in changes.values())
    for backend in together:
        backend.close()
    del homes, together, plain, both, backend
    gc.collect()
    assert not [k for k in bases._bases if k[2] == "float32" and str(tiny_model_dir) in k[0]]
