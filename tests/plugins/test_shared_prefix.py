"""What rows begin with alike is computed once, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness_trl.recipe import read_recipe
from harness_trl.shared_prefix import FAMILIES, can_share, shared_length
from harness_trl.torch_lora import supervised_loss

from harness import PreparedRow
from tests.plugins.tuning import small_job

pytestmark = pytest.mark.usefixtures("one_thread")


def row(ids: list[int], *, learnt: int) -> PreparedRow:
    """A row whose last `learnt` tokens are learnt."""
    labels = (*[-100] * (len(ids) - learnt), *ids[len(ids) - learnt :])
    return PreparedRow(case_id=str(ids), input_ids=tuple(ids), labels=labels)


BEGIN = list(range(3, 23))
ROWS = (
    row([*BEGIN, 30, 31, 32, 33], learnt=2),
    row([*BEGIN, 40, 41, 42, 43, 44, 45, 46], learnt=3),
    row([*BEGIN, 50, 51], learnt=1),
)


def family(kind: str) -> Any:
    """A tiny model of random weights, with heads that share keys."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=None,
        pad_token_id=0,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.set_attn_implementation("eager")
    return model.train()


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_loss_and_gradients_are_those_of_the_long_way(
    kind: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    import torch

    model = family(kind)
    assert can_share(model, read_recipe(small_job(tiny_model_dir, tmp_path)))
    assert shared_length(ROWS) == len(BEGIN)
    found = []
    for shares in (False, True):
        model.zero_grad()
        loss = supervised_loss(model, ROWS, shares=shares)
        loss.backward()
        grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((loss.item(), grads))
    (long, theirs), (short, ours) = found
    assert short == pytest.approx(long, rel=1e-6)
    assert theirs.keys() == ours.keys()
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-4, atol=1e-6, msg=name)


def test_the_beginning_ends_before_what_is_learnt_and_must_be_worth_it() -> None:
    alike = [row([*BEGIN, 60], learnt=6), row([*BEGIN, 61], learnt=2)]
    # 15 tokens are given in the first row; the last of them predicts one that is learnt
    assert shared_length(alike) == 14
    assert shared_length(ROWS[:1]) == 0
    assert shared_length([row([1, 2, 3, 4], learnt=1), row([1, 2, 3, 5], learnt=1)]) == 0
    assert shared_length([row(BEGIN, learnt=1), row(BEGIN[::-1], learnt=1)]) == 0


def test_what_differs_between_rows_or_is_computed_twice_is_not_shared(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    model = family("llama")

    def shares(**recipe: Any) -> bool:
        return can_share(model, read_recipe(small_job(tiny_model_dir, tmp_path, **recipe)))

    assert shares()
    assert not shares(dropout=0.1)
    assert not shares(gradient_checkpointing=True)
    model.config.attention_dropout = 0.1
    assert not shares()
    model.config.attention_dropout = 0.0
    model.config.model_type = "something-new"
    assert not shares()
