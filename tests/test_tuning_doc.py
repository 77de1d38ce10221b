"""docs/tuning.md is a project: its files are written, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs/tuning.md"


def test_the_project_of_the_page_tunes(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for language, body in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        first, _, rest = body.partition("\n")
        if language != "sh":
            path = tmp_path / first.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(rest, encoding="utf-8")
    facts = tmp_path / "by_heart-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: by-heart\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[harness]\nby-heart = by_heart\n")
    said = []
    for command in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0].splitlines():
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        said.append((done.returncode, done.stdout + done.stderr))
    (planned, plan), (tuned, told), (scored, scores) = said
    assert planned == 1, plan
    assert "refused   tuning 'capitals' is refused: there is no wall" in plan
    assert "parity    3 rows compared id by id, no difference" in plan
    assert tuned == 0, told
    assert "1 row(s) left out, without a reference: t4" in told
    assert "step 2: dev 50 %, the best so far: kept" in told
    assert "best 100 % at step 4" in told
    assert "step 6" not in told.replace("of 6", "")
    assert scored == 0, scores
