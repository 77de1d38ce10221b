"""Inspect: URL N FOLDER. Scores by its own `match` over its own openai-api provider."""

import os
import sys

url, total, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.environ |= {"STUB_BASE_URL": url, "STUB_API_KEY": "none", "INSPECT_LOG_DIR": folder}

from inspect_ai import Task, eval  # noqa: A004, E402
from inspect_ai.dataset import MemoryDataset, Sample  # noqa: E402
from inspect_ai.scorer import exact  # noqa: E402
from inspect_ai.solver import generate  # noqa: E402

samples = [
    Sample(id=n, input=f"Say this word: word{n}", target=f"word{n}") for n in range(1, total + 1)
]
log = eval(
    Task(dataset=MemoryDataset(samples), solver=generate(), scorer=exact()),
    model="openai-api/stub/stub",
    max_connections=32,
    max_samples=32,
    max_retries=0,
    display="none",
)[0]
assert log.status == "success", log.error
assert all(s.scores["exact"].value in ("C", 1) for s in log.samples)
