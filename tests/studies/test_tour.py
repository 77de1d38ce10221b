"""The whole loop on the real model, as `make demo` runs it. Long: `make studies`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.study
def test_the_tour_finds_a_wall_tunes_and_ships(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "evals/nl_query", tmp_path / "evals/nl_query")
    shutil.copytree(ROOT / "fixtures/nl_query", tmp_path / "fixtures/nl_query")
    (tmp_path / "pyproject.toml").write_text("[tool.harness]\ntasks = 'evals'\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    began = time.monotonic()
    subprocess.run(
        ["sh", "evals/nl_query/tour.sh"], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True
    )
    print(f"the tour took {time.monotonic() - began:.0f} s")
    ledger = subprocess.run(
        [sys.executable, "-m", "harness", "gate", "nl_query", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    verdict = json.loads(ledger.stdout)["verdict"]
    assert verdict["answer"] == "SHIP"
    assert verdict["look"] == 1, "judging the same pair again is the same look"
    assert (tmp_path / ".harness/reports/nl_query.html").is_file()
