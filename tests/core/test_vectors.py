"""Every row of the validated vectors: inputs and the answers that must come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.bounds import mean_bounds, paired_bounds
from harness.core.release import Guard, Pair, compare, judge_release
from harness.core.wall import TryScores, WallInput, judge_wall
from harness.records import ReleaseVerdict, WallVerdict, canonical_json, from_plain, to_plain

FOLDER = Path(__file__).parent / "vectors"
FAMILIES = (
    "zero-shot", "instructions", "few-shot", "dynamic-few-shot", "chain-of-thought", "rag",
    "optimised",
)  # fmt: skip


def rows(file: str, key: str) -> list[Any]:
    return json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))[key]


TOLERANCE = rows("bounds", "tolerance")


@pytest.mark.parametrize("row", rows("bounds", "mean_bounds"), ids=lambda r: str(len(r["scores"])))
def test_mean_bounds_are_the_validated_ones(row: Any) -> None:
    found = mean_bounds(row["scores"], row["clusters"], alpha=row["alpha"])
    assert found.mean == pytest.approx(row["mean"], abs=TOLERANCE)
    assert found.lower == pytest.approx(row["lower"], abs=TOLERANCE)
    assert found.upper == pytest.approx(row["upper"], abs=TOLERANCE)
    assert found.clusters == row["clusters_n"]


@pytest.mark.parametrize(
    "row", rows("bounds", "paired_bounds"), ids=lambda r: str(len(r["differences"]))
)
def test_paired_bounds_are_the_validated_ones(row: Any) -> None:
    found = paired_bounds(row["differences"], row["clusters"], alpha=row["alpha"])
    assert found.mean == pytest.approx(row["mean"], abs=TOLERANCE)
    assert found.lower == pytest.approx(row["lower"], abs=TOLERANCE)
    assert found.upper == pytest.approx(row["upper"], abs=TOLERANCE)


@pytest.mark.parametrize("number", range(len(rows("wall_verdicts", "rows"))))
def test_wall_verdicts_are_the_validated_ones(number: int) -> None:
    row = rows("wall_verdicts", "rows")[number]
    tries = [
        TryScores(
            name=f"try {k}", family=FAMILIES[k % len(FAMILIES)], scores=[float(c) for c in scores]
        )
        for k, scores in enumerate(row["scores"])
    ]
    found = judge_wall(
        WallInput(
            task="vectors",
            tries=tries,
            target=row["target"],
            mid=row["mid"],
            clusters=row["clusters"],
            profile=row["profile"],
            reference_scores=[1.0] * len(row["scores"][0]),
            waivers={"labels": "the vectors have none"},
        )
    )
    expected = row["expected"]
    assert found.answer == expected["verdict"]
    assert found.best == f"try {expected['best']}"
    assert found.reach == pytest.approx(expected["p_reach"], abs=0.03)
    best = found.tries[expected["best"]].estimate
    assert best.mean == pytest.approx(expected["best_mean"], abs=1e-6)
    assert max(rung.estimate.upper for rung in found.tries) == pytest.approx(
        expected["upper"], abs=1e-6
    )
    assert from_plain(WallVerdict, json.loads(canonical_json(found))) == found


@pytest.mark.parametrize("number", range(len(rows("release_verdicts", "rows"))))
def test_release_verdicts_are_the_validated_ones(number: int) -> None:
    row = rows("release_verdicts", "rows")[number]

    def pair(name: str) -> Pair:
        """The vectors hold differences: arms that differ by just that."""
        d = np.array(row[name])
        return Pair(
            name=name,
            candidate=np.maximum(d, 0),
            baseline=np.maximum(-d, 0),
            clusters=row["clusters"],
        )

    primary = pair("primary")
    found = judge_release(
        compare(primary, task="vectors", split="test", baseline="b", candidate="c"),
        primary=primary,
        guards=[Guard(pair=pair("guardrail"), margin=row["margin"])],
        min_gain=rows("release_verdicts", "mid"),
    )
    assert found.answer == row["expected"]
    assert found.alpha == rows("release_verdicts", "alpha")
    assert from_plain(ReleaseVerdict, to_plain(found)) == found
