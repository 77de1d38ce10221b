"""Judges of an evaluation: whom they ask beside the candidates."""

from __future__ import annotations

from pathlib import Path

from harness.engine.evaluate import TrialId
from harness.engine.judges import Judging
from tests.engine.small import Workshop, write_task


def test_the_other_side_of_a_pair_is_asked_where_the_candidates_are(tmp_path: Path) -> None:
    """A server that a person named is not passed by on the way to the model's usual address."""
    judge = {"backend": "letters:judge", "rubric": "x", "kind": "pairwise", "against": "terse"}
    workshop = Workshop(write_task(tmp_path, **{"judges.shorter": judge}))
    try:
        asked = []
        for url in (None, "http://127.0.0.1:9/v1"):
            judging = Judging(
                workshop.evaluate("plain"), pool=workshop.pool, artifact_digest=str, base_url=url
            )
            [(other, _)] = judging.others([("shorter", TrialId(candidate="plain", case_id="c0"))])
            asked.append(other.candidates["terse"].base_url)
        assert asked == [None, "http://127.0.0.1:9/v1"]
    finally:
        workshop.close()
