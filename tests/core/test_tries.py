from __future__ import annotations

import numpy as np
import pytest

from harness.core.tries import (
    TryScores,
    build_tries,
    failed_by_all,
    is_same_try,
    repeats_of,
    repeats_table,
    score_table,
)
from harness.errors import UsageError


def test_the_same_prompt_and_decoding_are_one_try_whatever_they_are_called() -> None:
    assert is_same_try(("p", "d", "r1"), ("p", "d", "r2"))
    assert not is_same_try(("p", "d", "r1"), ("p", "other grammar", "r2"))


def test_the_same_replies_are_one_try() -> None:
    assert is_same_try(("p1", "d", "r"), ("p2", "d", "r"))


def test_unknown_digests_are_never_the_same() -> None:
    assert not is_same_try(("", "d", ""), ("", "d", ""))


def test_a_chain_of_repeats_leads_to_the_first() -> None:
    found = repeats_of([("a", "d", "1"), ("b", "d", "2"), ("a", "d", "3"), ("c", "d", "3")])
    assert found == (None, None, 0, 0)


def test_ten_prompts_that_all_score_nought_are_ten_tries() -> None:
    tries = [
        TryScores(
            name=f"p{k}", family="zero-shot", scores=[0.0] * 5, prompt_digest=f"{k}",
            decoding_digest="d", replies_digest=f"r{k}",
        )
        for k in range(10)
    ]  # fmt: skip
    assert sum(rung.is_counted for rung in build_tries(tries, None)) == 10


def test_wins_and_losses_are_against_the_best_counted_try() -> None:
    tries = [
        TryScores(name="a", family="zero-shot", scores=[1, 0, 0, 0]),
        TryScores(name="b", family="few-shot", scores=[0, 1, 1, 0]),
        TryScores(name="big", family="few-shot", scores=[1, 1, 1, 1], is_countable=False,
                  note="another model"),
    ]  # fmt: skip
    a, b, big = build_tries(tries, None)
    assert (a.wins, a.losses) == (1, 2)
    assert (b.wins, b.losses) == (0, 0)
    assert (big.wins, big.losses, big.is_counted, big.note) == (2, 0, False, "another model")


def test_a_missing_case_is_neither_won_nor_lost_and_widens_both_bounds() -> None:
    whole = [1.0, 0.0] * 15
    holes = [1.0, None, *whole[2:]]
    full, some = build_tries(
        [
            TryScores(name="a", family="zero-shot", scores=whole),
            TryScores(name="b", family="few-shot", scores=holes),
        ],
        None,
        best=0,
    )
    assert (some.wins, some.losses, some.missing) == (0, 0, 1)
    assert some.estimate.n == 29
    assert some.estimate.lower == full.estimate.lower  # missing taken as the 0 that it was
    assert some.estimate.upper > full.estimate.upper


def test_repeats_keep_their_place_and_say_what_they_repeat() -> None:
    twin = {"prompt_digest": "p", "decoding_digest": "d"}
    first, second = build_tries(
        [
            TryScores(name="a", family="zero-shot", scores=[1, 0], **twin),
            TryScores(name="b", family="zero-shot", scores=[1, 1], **twin),
        ],
        None,
    )
    assert first.is_counted
    assert not second.is_counted
    assert second.note == "repeats a"


def test_tries_must_be_aligned_and_of_a_known_family() -> None:
    with pytest.raises(UsageError, match="has 1 scores for 2 cases"):
        score_table([TryScores(name="a", family="zero-shot", scores=[1.0])], 2)
    with pytest.raises(UsageError, match="'cot'"):
        score_table([TryScores(name="a", family="cot", scores=[1.0])], 1)


def test_cases_that_every_try_failed_are_named_unless_one_is_missing() -> None:
    table = np.array([[0, 0], [0, 1], [0, np.nan], [0, 0]])
    assert failed_by_all(table) == (0, 3)


def test_repeats_are_read_only_where_every_try_has_as_many() -> None:
    one = TryScores(name="a", family="zero-shot", scores=[0.5], repeats=[[1.0, None]])
    table = repeats_table([one, one], 1)
    assert table is not None
    assert table.shape == (1, 2, 2)
    assert np.isnan(table[0, 0, 1])
    three = TryScores(name="b", family="zero-shot", scores=[1.0], repeats=[[1.0, 1.0, 1.0]])
    bare = TryScores(name="c", family="zero-shot", scores=[1.0])
    assert repeats_table([one, three], 1) is None
    assert repeats_table([one, bare], 1) is None


def test_no_tries_make_no_rungs() -> None:
    assert build_tries([], None) == ()
