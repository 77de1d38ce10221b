"""docs/tuning.md is a project: its files are written, and its commands run."""

from __future__ import annotations

from pathlib import Path

from tests.pages import run_commands, write_project


def test_the_project_of_the_page_tunes(tmp_path: Path) -> None:
    write_project("tuning.md", tmp_path)
    facts = tmp_path / "by_heart-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: by-heart\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[harness]\nby-heart = by_heart\n")
    said = [
        (done.returncode, done.stdout + done.stderr) for done in run_commands("tuning.md", tmp_path)
    ]
    (planned, plan), (tuned, told), (scored, scores) = said
    assert planned == 1, plan
    assert "refused   tuning 'capitals' is refused: there is no wall" in plan
    assert "parity    3 rows compared id by id, no difference" in plan
    assert tuned == 0, told
    assert "1 row left out, without a reference: t4" in told
    assert "step 2: dev 50 %, the best so far: kept" in told
    assert "best 100 % at step 4" in told
    assert "step 6" not in told.replace("of 6", "")
    assert scored == 0, scores
