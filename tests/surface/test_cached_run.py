"""What a run costs whose replies are all known: in a real process, against a real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench import projects
from tests.plugins.loopback import Answer, Loopback, Seen, completion, loopback

HEAVY = ("aiohttp", "filelock", "httpx", "jsonschema", "numpy", "rich", "scipy", "sqlite_utils")
"""Each takes longer to import than it takes to run a hundred cached items."""
LATER = {"harness.records.tuning", "harness.records.verdicts"}
"""Records that no run of evals makes: 4 ms before the first request."""
RUN = """
import sys
import pytest
code = pytest.main(sys.argv[1:])
names = {n if n.startswith("harness.records.") else n.partition(".")[0] for n in sys.modules}
print("LOADED", *sorted(names))
raise SystemExit(code)
"""


def echo(seen: Seen) -> Answer:
    return Answer(body=completion(seen.body["messages"][-1]["content"].rpartition(" ")[2]))


def test_a_cached_run_imports_nothing_that_only_sends_or_computes(tmp_path: Path) -> None:
    root = projects.make_task(tmp_path / "words", total=20)
    with loopback() as server:
        server.answer = echo
        first, sending = run(root, server)
        seen = len(server.seen)
        second, loaded = run(root, server)
        assert len(server.seen) == seen == 20
    assert "20 passed" in first
    assert "20 passed" in second
    assert "plain" in second  # the table, intervals included
    assert not loaded & set(HEAVY)
    assert not (loaded | sending) & LATER
    assert "pydantic" not in loaded | sending  # as long as a run's own work (docs/decisions/0016)


def run(root: Path, server: Loopback) -> tuple[str, set[str]]:
    arguments = ["-q", "-p", "no:cacheprovider", "evals/words", "--candidate=plain"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, f"--base-url={server.base_url}"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out, _, loaded = done.stdout.partition("LOADED ")
    return out, set(loaded.split())
