"""Progress off a terminal: a line where there is something to tell."""

from __future__ import annotations

import io

from harness.surface.progress import SMALL, TextProgress


def test_many_small_batches_are_told_once_and_at_the_end() -> None:
    said = io.StringIO()
    with TextProgress(said, label="gepa: replies") as progress:
        for _ in range(50):
            progress.begin("x:m", 4)
            for _ in range(4):
                progress.advance("x:m")
    first, last = said.getvalue().splitlines()
    assert first.startswith("gepa: replies: 0 of 4,")
    assert last.startswith("gepa: replies: 200 of 200,")


def test_replies_are_counted_and_not_what_was_tried_or_held_back() -> None:
    said = io.StringIO()
    with TextProgress(said) as progress:
        progress.begin("x:m", 40)
        for number in range(40):
            progress.advance("x:m", is_reply=number < 20)
    last = said.getvalue().splitlines()[-1]
    assert last.startswith("replies: 20 of 40,")
    assert "to go" not in last


def test_a_large_batch_is_told_as_it_begins() -> None:
    said = io.StringIO()
    with TextProgress(said) as progress:
        progress.begin("x:m", 3)
        progress.begin("y:m", SMALL)
        assert f"replies: 0 of {SMALL + 3}," in said.getvalue().splitlines()[-1]
