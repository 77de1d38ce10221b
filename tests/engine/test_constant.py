"""`constant:TEXT` answers the same to every case: what a lazy answer scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine.ladder import read_ladder, try_scores, why_not_counted
from tests.engine.small import Workshop, rows, write_task


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(write_task(tmp_path, some=rows(dev=4)))
    yield workshop
    workshop.close()


def test_a_constant_answers_every_case_alike_and_asks_no_backend(shop: Workshop) -> None:
    [run] = shop.run("constant:4")
    # the cases are 0, 1, 2 and 3, doubled: the lazy answer is right once
    assert sorted(s.value or 0.0 for t in run.trials for s in t.scores) == [0.0, 0.0, 0.0, 1.0]
    assert all(t.fault is None for t in run.trials)
    assert shop.plugin.made == []
    assert run.is_complete


def test_a_text_with_the_signs_of_other_candidates_is_only_a_text(shop: Workshop) -> None:
    [run] = shop.run("constant:plain@letters:small+x: \n")
    assert run.candidate.backend == "constant:plain@letters:small+x: \n"
    assert run.candidate.prompt is None


def test_a_constant_is_no_try(shop: Workshop) -> None:
    """Nobody prompted anything: a wall must not rest on it."""
    runs = shop.run("constant:4", "plain")
    notes = {r.candidate.name: why_not_counted(r, shop.task) for r in runs}
    assert notes == {"constant:4": "recorded replies", "plain": ""}
    rungs = try_scores(shop.task, read_ladder(shop.task, shop.store))
    assert [r.name for r in rungs] == ["plain"]
