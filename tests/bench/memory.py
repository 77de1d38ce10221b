"""What 100,000 trials hold: whole processes, their peak of memory and their seconds.

`python tests/bench/memory.py` runs, one after another, in folders of its own: ten repeats of
10,000 cases and one of 100,000, through `harness eval`, each from an application that answers at
once and again from the store; and as many parametrised no-op items of plain pytest beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = """about = "Say a word."
model = "python:app:answer"
cases = "cases.jsonl"
target = 0.9
target_reason = "A bench."
repeats = {repeats}
"""
# an application that answers at once: what is measured is what we hold
APP = """def answer(text: str) -> str:
    return text.rpartition(" ")[2]


answer.is_external = False
"""
EVAL = "def test_word(case, reply):\n    assert reply.text == case.reference\n"
NOOP = """import pytest

@pytest.mark.parametrize("n", range({total}))
def test_noop(n):
    assert n >= 0
"""


def make_task(root: Path, *, cases: int, repeats: int) -> Path:
    """Write a task of `cases`, each asked `repeats` times, whose replies are all right."""
    folder = root / "evals" / "words"
    (folder / "prompts").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.harness]\ntasks = 'evals'\n")
    (folder / "task.toml").write_text(TASK.format(repeats=repeats))
    (folder / "app.py").write_text(APP)
    (folder / "eval_words.py").write_text(EVAL)
    (folder / "prompts" / "plain.md").write_text("@user\nSay this word: {{ word }}\n")
    with (folder / "cases.jsonl").open("w") as lines:
        for n in range(cases):
            row = {"id": f"c{n}", "split": "dev", "inputs": {"word": f"word{n}"}}
            lines.write(json.dumps(row | {"reference": f"word{n}"}) + "\n")
    return root


def make_noop(root: Path, *, total: int) -> Path:
    """Write a test that pytest runs `total` times."""
    root.mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_noop.py").write_text(NOOP.format(total=total))
    return root


def measure(command: list[str], *, folder: Path) -> tuple[float, float]:
    """Return the peak of a process in MB, and its seconds. Raises RuntimeError where it fails."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")[-2000:])
    kilobytes = used.ru_maxrss / 1024 if sys.platform == "darwin" else used.ru_maxrss
    return kilobytes / 1024, took_s


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    total, repeats = options.trials, options.repeats
    python = sys.executable
    ours = [python, "-m", "harness", "eval", "words", "--candidate", "plain"]
    bare = [python, "-m", "pytest", "-q", "-p", "no:harness", "test_noop.py"]
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        many = make_task(root / "a", cases=total // repeats, repeats=repeats)
        once = make_task(root / "b", cases=total, repeats=1)
        noop = make_noop(root / "c", total=total)
        subjects = [
            (f"{total // repeats:,} cases, {repeats} repeats", ours, many),
            ("the same, from the store", ours, many),
            (f"{total:,} cases, once", ours, once),
            ("the same, from the store", ours, once),
            (f"{total:,} no-op items of plain pytest", bare, noop),
        ]
        print(f"| {total:,} trials | peak | seconds |\n| --- | --- | --- |", flush=True)
        for name, command, folder in subjects:
            peak_mb, took_s = measure(command, folder=folder)
            print(f"| {name} | {peak_mb:.0f} MB | {took_s:.0f} |", flush=True)


if __name__ == "__main__":
    main()
