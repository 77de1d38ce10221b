"""Which asks go together: every one once, within bounds, whatever order they came in."""

from __future__ import annotations

import random

from harness_transformers.plan import Ask, plan
from hypothesis import given, settings, strategies as st


def ask(index: int, ids: tuple[int, ...], new_tokens: int = 8) -> Ask:
    return Ask(index=index, ids=ids, new_tokens=new_tokens, digest=str(ids))


prompts = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=60).map(tuple), min_size=1, max_size=60
)


@settings(deadline=None)
@given(prompts, st.integers(1, 9), st.integers(1, 400), st.booleans())
def test_every_ask_is_in_one_batch_and_every_prefix_is_shared(
    ids: list[tuple[int, ...]], rows: int, tokens: int, shares: bool
) -> None:
    asks = [ask(i, x) for i, x in enumerate(ids)]
    batches = plan(asks, rows=rows, tokens=tokens, shares_prefix=shares)
    assert sorted(a.index for b in batches for a in b.asks) == list(range(len(ids)))
    for batch in batches:
        assert 1 <= len(batch.asks) <= rows
        first = batch.asks[0].ids
        assert all(a.ids[: batch.prefix] == first[: batch.prefix] for a in batch.asks)
        assert all(len(a.ids) > batch.prefix for a in batch.asks), "a row keeps a token of its own"
        own = max(len(a.ids) - batch.prefix + a.new_tokens for a in batch.asks)
        assert len(batch.asks) == 1 or own * len(batch.asks) <= tokens


@settings(deadline=None)
@given(prompts, st.integers(0, 5))
def test_batches_do_not_depend_on_the_order_of_arrival(
    ids: list[tuple[int, ...]], seed: int
) -> None:
    asks = [ask(0, x) for x in ids]
    shuffled = random.Random(seed).sample(asks, len(asks))
    settings_ = {"rows": 8, "tokens": 10_000, "shares_prefix": True}
    assert plan(asks, **settings_) == plan(shuffled, **settings_)


def test_two_prompts_that_begin_differently_share_within_themselves() -> None:
    spec = tuple(range(100, 400))
    shots = tuple(range(400, 900))
    short = [ask(i, (1, 2, 50 + i)) for i in range(10)]
    long = [ask(10 + i, (1, *spec, *shots, 50 + i)) for i in range(10)]
    retrieved = [ask(20 + i, (1, *spec, 2000 + i, 50 + i)) for i in range(10)]
    batches = plan([*short, *long, *retrieved], rows=64, tokens=100_000, shares_prefix=True)
    assert sorted((b.prefix, len(b.asks)) for b in batches) == [(2, 10), (301, 10), (801, 10)]


def test_a_batch_that_must_be_cut_is_cut_evenly() -> None:
    asks = [ask(i, (i, i)) for i in range(100)]
    batches = plan(asks, rows=64, tokens=10_000, shares_prefix=False)
    assert [len(b.asks) for b in batches] == [50, 50]
