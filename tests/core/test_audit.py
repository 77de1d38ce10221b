"""Which labels are read, and what is concluded from what was said of them."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from harness.core.audit import HARD, RANDOM, Label, draw_sample, weigh

CASES = [f"c{n}" for n in range(200)]


@settings(max_examples=50, deadline=None)
@given(failed=st.sets(st.sampled_from(CASES)))
def test_the_sample_is_what_the_rules_ask_for(failed: set[str]) -> None:
    sample = draw_sample(CASES, failed)
    assert len(sample.random) == RANDOM
    rest = failed - set(sample.random)
    assert len(sample.hard) == min(HARD, len(rest))
    assert set(sample.hard) <= rest
    assert len(set(sample.order)) == len(sample.order)
    # as many that some try passes as beyond-random ones that none does, so that nobody can tell
    passes = [c for c in sample.order if c not in failed]
    assert len(passes) >= min(len(sample.hard), len(CASES) - len(failed))
    # the random part knows nothing of outcomes
    assert sample.random == draw_sample(CASES, ()).random


def test_what_was_read_stands_when_later_tries_change_what_is_hard() -> None:
    first = draw_sample(CASES, CASES[:100])
    later = draw_sample(CASES, CASES[:60], judged=first.order)
    kept = set(first.hard) & set(CASES[:60])
    assert kept <= set(later.hard)


def said_of(sample: tuple[str, ...], wrong: set[str]) -> dict[str, Label]:
    return {c: "wrong" if c in wrong else "right" for c in sample}


def audit(wrong: set[str], *, target: float = 0.9, failed: set[str] | None = None):  # type: ignore[no-untyped-def]
    sample = draw_sample(CASES, failed or ())
    return weigh(
        sample,
        said_of(sample.order, wrong),
        clusters={c: c for c in CASES},
        failed_by_all=failed or (),
        target=target,
    )


def test_a_clean_audit_excludes_nothing() -> None:
    found = audit(set())
    assert found.ceiling is not None
    assert found.ceiling.upper == 1
    assert 0.88 < found.ceiling.lower < 0.92  # 30 of 30, Clopper-Pearson .905 before the t


def test_the_ceiling_is_the_bound_of_the_random_cases() -> None:
    sample = draw_sample(CASES, ())
    found = audit(set(sample.random[:15]))
    assert found.ceiling is not None
    assert 0.62 < found.ceiling.upper < 0.70  # 15 of 30: Clopper-Pearson .661


def test_wrong_labels_that_were_found_among_the_failed_lower_the_ceiling_for_certain() -> None:
    failed = set(CASES[:60])
    sample = draw_sample(CASES, failed)
    found = audit(set(sample.hard), failed=failed)
    assert found.ceiling is not None
    assert found.ceiling.upper == 1 - HARD / len(CASES)
    assert (found.hard_wrong, len(found.wrong)) == (HARD, HARD)


def test_an_unfinished_audit_decides_only_what_is_certain_already() -> None:
    sample = draw_sample(CASES, ())
    clusters = {c: c for c in CASES}
    few = said_of(sample.order[:10], set(sample.order[:10]))
    for target, is_decided in [(0.9, False), (0.96, True)]:
        found = weigh(sample, few, clusters=clusters, failed_by_all=(), target=target)
        assert (found.ceiling is not None) is is_decided
        assert (found.needed, found.is_complete) == (20, False)
    assert found.ceiling is not None
    assert found.ceiling.upper == 0.95


def test_unsure_excludes_nothing_and_shows_nothing() -> None:
    sample = draw_sample(CASES, ())
    said: dict[str, Label] = dict.fromkeys(sample.order, "unsure")
    found = weigh(sample, said, clusters={c: c for c in CASES}, failed_by_all=(), target=0.9)
    assert found.ceiling is not None
    assert found.ceiling.upper == 1
    assert found.ceiling.lower == 0
