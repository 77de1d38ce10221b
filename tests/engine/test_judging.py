"""Judges of an evaluation: whom they ask beside the candidates."""

from __future__ import annotations

from pathlib import Path

from harness.engine.evaluate import TrialId
from harness.engine.fetch import OFFLINE, Outcome, has_no_verdict, no_verdict, not_asked
from harness.engine.judges import Judging
from harness.records import Fault, Reply
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


def test_only_a_backend_that_did_not_answer_is_its_trouble(tmp_path: Path) -> None:
    """A file of replies that has none for a case, and what was not asked, are no backend's."""
    judge = {"backend": "letters:judge", "rubric": "x", "kind": "pairwise", "against": "terse"}
    workshop = Workshop(write_task(tmp_path, **{"judges.shorter": judge}))
    trial = TrialId(candidate="plain", case_id="c0")
    found = []
    try:
        for fault in (
            Fault(origin="backend", message="no one at home", is_missing=True),
            Fault(origin="harness", message=f"no recorded reply {OFFLINE}", is_missing=True),
            Fault(origin="harness", message="r.jsonl has no reply for it", is_missing=True),
        ):
            judging = Judging(workshop.evaluate("plain"), pool=workshop.pool, artifact_digest=str)
            judging.evaluation.outcomes[trial] = Outcome(key="k", reply=Reply(text="a"))
            [(other, [beside])] = judging.others([("shorter", trial)])
            other.outcomes[beside] = Outcome(key="o", fault=fault)
            assert judging.asks([("shorter", trial)]) == {}
            lost = judging.judged["shorter", trial].fault
            assert lost is not None
            assert fault.message in lost.message
            found.append(has_no_verdict(lost))
    finally:
        workshop.close()
    assert found == [True, False, False]
    assert not has_no_verdict(no_verdict("shorter", f"no recorded reply {OFFLINE}"))
    assert not has_no_verdict(not_asked("the cap of $1"))
