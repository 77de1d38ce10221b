"""`harness model gc` takes what nothing needs; names are found in every task."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from typing import Any

import pytest

from harness.records import (
    Artifact,
    Candidate,
    Fault,
    LedgerEntry,
    Run,
    Score,
    Trial,
    from_plain,
)
from harness.store.store import Store
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy


def store_of(toy: Toy) -> Store:
    return Store.open(toy.root / ".harness" / "harness.db")


def pretend(toy: Toy, name: str, **facts: Any) -> str:
    """A recorded artifact whose folder holds one file: what gc decides on."""
    digest = f"{len(list((toy.root / '.harness').glob('artifacts/*'))) + 1:x}" * 64
    folder = toy.root / ".harness" / "artifacts" / digest[:16]
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{}" * 50)
    if name:
        plain = dict.fromkeys(
            ("base", "base_digest", "template_digest", "prompt", "prompt_digest", "data_digest"),
            "x",
        )
        made: Artifact = from_plain(
            Artifact,
            plain
            | {"digest": digest, "name": name, "task": "toy", "tuner": "t", "rows": 8, "recipe": {}}
            | {"seed": 0, "folder": f"artifacts/{digest[:16]}", **facts},
        )
        with store_of(toy) as store:
            store.add_artifact(made, at="2026-01-01T00:00:00+00:00")
            if made.is_pilot:
                entry = LedgerEntry(
                    kind="pilot", task="toy", at="2026", payload={"artifact": digest}
                )
                store.record(entry)
    return digest


def test_gc_takes_what_nothing_needs_and_nothing_else(cli: Cli) -> None:
    toy = cli.toy
    (toy.root / ".harness").mkdir()
    store_of(toy).close()
    tuned = pretend(toy, "tuned")
    pilot = pretend(toy, "pilot-8", is_pilot=True)
    wanted = pretend(toy, "pilot-16", is_pilot=True)
    orphan = pretend(toy, "")
    released = pretend(toy, "")
    home = toy.root / ".harness"
    with (toy.task / "task.toml").open("a") as file:
        file.write(f"[candidates.kept]\nprompt = 'plain'\nartifact = '{wanted[:12]}'\n")
    with store_of(toy) as store:
        payload = {"verdict": {"artifact": released}}
        store.record(LedgerEntry(kind="release", task="toy", at="2026", payload=payload))
    cut_short = home / "tuning" / "job1"
    (cut_short / "state").mkdir(parents=True)
    (cut_short / "job.json").write_text('{"task": "toy", "name": "tuned"}')
    for name in (".tuning-abc", ".making-abc"):
        (home / name).mkdir()

    young = cli("model", "gc", "--yes")
    assert "nothing to remove" in young.out  # all of it was made today
    old = time.time() - 20 * 86_400
    for path in [*home.rglob("*"), *home.glob(".*")]:
        os.utime(path, (old, old))
    (home / "artifacts" / orphan[:16] / "a.json").touch()
    dry = cli("model", "gc", "--dry-run", "--json").json
    (home / "artifacts" / orphan[:16] / "a.json").touch()
    assert f"artifacts/{orphan[:16]}" not in dry["would_go"]
    os.utime(home / "artifacts" / orphan[:16] / "a.json", (old, old))

    said = cli("model", "gc", "--yes")
    assert said.code == 0, said.err
    assert f"artifacts/{pilot[:16]}" in said.out
    assert "a pilot on 8 rows of toy" in said.out
    assert "a training that was cut short, tuned of toy" in said.out
    assert {p.name for p in (home / "artifacts").iterdir()} == {
        tuned[:16],
        wanted[:16],
        released[:16],
    }
    assert not list(home.glob(".*-abc"))
    assert not cut_short.exists()
    assert "nothing to remove" in cli("model", "gc", "--yes").out
    listed = cli("model", "list").out
    assert re.search(r"pilot-8 .*gone", listed)
    assert cli("model", "verify", pilot[:16]).code == 1
    with sqlite3.connect(home / "harness.db") as connection:  # records are never removed
        assert connection.execute("SELECT count(*) FROM artifacts").fetchone() == (3,)


def test_gc_keeps_what_a_task_file_names_anywhere(cli: Cli) -> None:
    toy = cli.toy
    (toy.root / ".harness").mkdir()
    store_of(toy).close()
    usual, other, people, first, unnamed = (
        pretend(toy, f"pilot-{n}", is_pilot=True)[:16] for n in range(5)
    )
    path = toy.task / "task.toml"
    path.write_text(
        f"default_candidates = ['reference', 'plain@adder:small+{usual}']\n{path.read_text()}"
        "[judges.nicer]\nbackend = 'adder:small'\nrubric = 'Which is nicer?'\nkind = 'pairwise'\n"
        f"against = 'plain@adder:small+{other}'\n"
        f"[advise]\npeople = 'plain@adder:small+{people}'\n"
        f"[tune]\ntuner = 't'\nprompt = 'plain'\nname = 'small'\nstart = '{first}'\n"
    )
    said = cli("model", "gc", "--days", "0", "--yes", "--json")
    assert said.code == 0, said.err
    assert said.json["removed"] == [f"artifacts/{unnamed}"]


def test_gc_asks_first_and_a_training_that_runs_is_left(cli: Cli) -> None:
    from filelock import FileLock

    home = cli.toy.root / ".harness"
    home.mkdir()
    store_of(cli.toy).close()
    job = home / "tuning" / "job1"
    job.mkdir(parents=True)
    orphan = pretend(cli.toy, "")
    with FileLock(str(job / "lock")):
        said = cli("model", "gc", "--days", "0")  # nobody answers the question
        assert "Remove them?" in said.out
        assert "tuning/job1" not in said.out
        assert (home / "artifacts" / orphan[:16]).is_dir()
    assert cli("model", "gc", "--days", "0", "--json").code == 2


def test_gc_tells_no_folder_as_removed_that_is_still_there(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cli.toy.root / ".harness").mkdir()
    store_of(cli.toy).close()
    orphan = pretend(cli.toy, "")[:16]

    def full(**_: object) -> str:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        said = cli("model", "gc", "--days", "0", "--yes", "--json")
    assert said.json == {"removed": [], "bytes": 0}
    assert "could not be removed: the disk is full" in said.err
    assert cli("model", "gc", "--days", "0", "--yes", "--json").json["removed"] == [
        f"artifacts/{orphan}"
    ]


def test_a_run_that_lacks_replies_is_shown_with_a_number(cli: Cli) -> None:
    (cli.toy.root / ".harness").mkdir()
    made = pretend(cli.toy, "tuned")
    lost = Fault(origin="backend", message="gone", is_missing=True)
    with store_of(cli.toy) as store:
        store.add_run(
            Run(
                task="toy",
                split="dev",
                candidate=Candidate(name="tuned", backend="adder:small", artifact=made),
                inputs_digest="i",
                labels_digest="l",
                evals_digest="e",
                is_complete=False,
                trials=(
                    Trial(case_id="a", scores=(Score(name="right", value=1.0),)),
                    Trial(case_id="b", fault=lost),
                ),
            ),
            at="2026-01-01T00:00:00+00:00",
        )
    assert "2 cases, partial: 50.0 %" in cli("model", "show", "tuned").out


def test_a_name_in_two_tasks_asks_for_the_task(cli: Cli) -> None:
    (cli.toy.root / ".harness").mkdir()
    pretend(cli.toy, "tuned")
    pretend(cli.toy, "tuned", task="other")
    said = cli("model", "show", "tuned")
    assert said.code == 2
    assert "several tasks (toy, other): add --task NAME" in said.err
    assert cli("model", "show", "tuned", "--task", "other").code == 0
    assert "is not an artifact of this project. Known: tuned" in cli("model", "show", "x").err


def test_a_digest_that_begins_two_artifacts_is_ambiguous_and_a_name_never_means_a_pilot(
    cli: Cli,
) -> None:
    (cli.toy.root / ".harness").mkdir()
    for name, digest, task in [("one", "ab1", "toy"), ("two", "ab2", "toy"), ("three", "ac", "b")]:
        pretend(cli.toy, name, digest=digest.ljust(64, "0"), task=task)
    pretend(cli.toy, "draft", task="b", is_pilot=True)
    assert "'ab' is ambiguous. Known: one (ab1" in cli("model", "show", "ab").err
    assert cli("model", "show", "ac", "--json").code == 0
    assert "'draft' is not an artifact of this project" in cli("model", "show", "draft").err
