from __future__ import annotations

import pytest

from harness.core.looks import alpha_left, alpha_of_look, looks_line
from harness.errors import UsageError


def test_the_first_look_gets_four_percent_and_all_together_never_five() -> None:
    spent = [alpha_of_look(j) for j in range(1, 2000)]
    assert spent[:4] == pytest.approx([0.04, 0.005, 0.01 / 6, 0.01 / 12])
    assert sum(spent) < 0.05


@pytest.mark.parametrize("looks", [0, 1, 2, 5, 40])
def test_spent_and_left_make_five_percent(looks: int) -> None:
    spent = sum(alpha_of_look(j) for j in range(1, looks + 1))
    assert spent + alpha_left(looks) == pytest.approx(0.05)


def test_looks_are_counted_from_one() -> None:
    with pytest.raises(UsageError):
        alpha_of_look(0)
    with pytest.raises(UsageError):
        alpha_left(-1)


def test_the_line_says_what_the_next_look_gets() -> None:
    assert "1 look spent 4 % of 5 %" in looks_line(1)
    assert "0.5 %" in looks_line(1)
