"""How much memory a run takes: 100,000 trials are promised to stay below 400 MB."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from harness.engine.backends import BackendPool
from harness.engine.candidates import resolve_candidate
from harness.engine.evaluate import Evaluation, fetch_all
from harness.engine.fetch import Silence
from harness.engine.tasks import load_task
from harness.ports.manager import Plugins
from harness.records import Run, Score
from harness.store.store import Store

TRIALS = 5_000
MOST_BYTES = 3_000
"""A trial, with its case, outcome, score and record, while its run is stored: with 100 MB for the
process, 100,000 of them take 400.
"""


def recorded(folder: Path, *, total: int) -> Run:
    """Evaluate a candidate over `total` cases, and store the run."""
    folder.mkdir(parents=True)
    (folder / "task.toml").write_text(
        'about = "Say a word."\nmodel = "openai:stub"\ncases = "cases.jsonl"\n'
        'target = 0.9\ntarget_reason = "A test."\n'
    )
    (folder / "eval_words.py").write_text("def test_word(case, reply):\n    assert reply.text\n")
    rows = (
        {"id": f"c{n}", "split": "dev", "inputs": {"word": f"w{n}"}, "reference": f"w{n}"}
        for n in range(total)
    )
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = load_task(folder)
    candidate = resolve_candidate(task, "constant:w1", artifact_digest=str)
    pool = BackendPool(Plugins(), artifact_folder=Path)
    evaluation = Evaluation(task, [candidate], split="dev", pool=pool)
    trials = evaluation.trial_ids()
    with Store.open(folder / "store.db") as store:
        fetch_all([(evaluation, trials)], store=store, progress=Silence())
        scores = {t: [Score(name="word", value=1.0)] for t in trials}
        (run,) = evaluation.runs(scores, faults={}, aggregates={}, is_complete=lambda _: True)
        store.add_run(run, at="2026-01-01T00:00:00+00:00")
    return run


def test_a_trial_takes_its_hundred_thousandth_of_what_is_promised(tmp_path: Path) -> None:
    recorded(tmp_path / "few", total=3)  # what is imported once is no part of a trial
    tracemalloc.start()
    try:
        run = recorded(tmp_path / "many", total=TRIALS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(run.trials) == TRIALS
    assert 0 < most / TRIALS < MOST_BYTES
