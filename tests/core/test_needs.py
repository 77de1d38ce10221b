from __future__ import annotations

import numpy as np
import pytest

from harness.core.needs import Pace, cases_for_difference, cases_to_settle, shrunk_best


def pace(means: list[float], *, error: float = 0.04) -> Pace:
    x = np.array(means)
    cov = np.eye(len(x)) * error**2
    return Pace(means=x, cov=cov, best=int(np.argmax(x)), window=len(x))


def settle(one: Pace, **changes: float) -> int:
    plain = {"n": 100, "clusters": 100, "target": 0.8, "limit": 0.1, "each_alpha": 0.003}
    return cases_to_settle(one, resolution=0.08, **(plain | changes))  # type: ignore[arg-type]


FLAT = [0.70, 0.74, 0.66, 0.71, 0.69, 0.73, 0.67]


def test_luck_is_shrunk_out_of_the_best() -> None:
    assert shrunk_best(pace(FLAT)) == pytest.approx(0.70, abs=0.001)
    without_noise = shrunk_best(pace(FLAT, error=0.0001))
    assert without_noise == pytest.approx(0.74, abs=0.001)


def test_a_nearer_target_needs_more_cases() -> None:
    assert settle(pace(FLAT)) <= settle(pace(FLAT), target=0.76)
    assert settle(pace(FLAT), target=0.7) == 2000  # the cap: more cases are not the way


def test_the_need_is_never_below_one_and_a_half_times_what_there_is() -> None:
    assert settle(pace(FLAT), target=0.99) == 150


def test_too_few_clusters_ask_for_thirty() -> None:
    assert settle(pace(FLAT), target=0.99, clusters=15) == 300


def test_a_difference_at_its_threshold_is_no_question_of_cases() -> None:
    assert cases_for_difference(0.0, error=0.02, n=100) is None
    assert cases_for_difference(0.001, error=0.02, n=100) is None
    assert cases_for_difference(0.02, error=0.02, n=100) == pytest.approx(930, abs=20)
