"""Broken files at every command that reads data: one message, with its place, and nothing left."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from harness.engine.data import lines
from tests.surface.inprocess import Cli

ROWS = [
    {"id": f"a{i}", "split": "train", "inputs": {"question": f"who is number {i}?"},
     "reference": "me"}
    for i in range(24)
]  # fmt: skip
GOOD = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
ASKS = b'{"id": "b", "split": "train", "inputs": {"question": "q"}, "reference": '
FILES: dict[str, tuple[str, bytes | None, str]] = {
    "missing": ("bad.jsonl", None, "bad.jsonl: no such file"),
    "a folder": ("bad", None, "bad: a folder"),
    "empty": ("bad.jsonl", b"", "bad.jsonl:1: the file is empty"),
    "cut gzip": (
        "bad.jsonl.gz",
        gzip.compress(GOOD * 40)[:-30],
        "bad.jsonl.gz: the gzip file ends",
    ),
    "another encoding": ("bad.jsonl", b"\xff\xfea\x00", "bad.jsonl:1: the file is UTF-16"),
    "one long line": ("bad.jsonl", GOOD + ASKS + b'"' + b"x" * 2_000_000, "bad.jsonl:25: the line"),
}
LINES: dict[str, tuple[bytes, str]] = {
    "mixed encodings": (ASKS + b'"Gr\xf6\xdfe"}', "is not UTF-8"),
    "a nested bomb": (ASKS + b"[" * 5000 + b"]" * 5000 + b"}", "nested deeper than 100 levels"),
    "NaN": (ASKS + b"NaN}", "NaN is not JSON"),
    "a key twice": (ASKS + b'"x", "id": "c"}', "the key 'id' stands twice"),
    "5,000 digits": (ASKS + b"7" * 5000 + b"}", "a number of more than 4300 digits"),
}
# a command, its exit code for one bad line among good ones, and whether it may write the others:
# look shows them, lint finds them, convert and split refuse (--skip-bad), curate counts them
COMMANDS: dict[str, tuple[tuple[str, ...], int, bool]] = {
    "look": (("data", "look"), 0, False),
    "lint": (("data", "lint"), 1, False),
    "split": (("data", "split", "--out", "out.jsonl"), 2, False),
    "convert": (("data", "convert", "out.jsonl", "--to", "columns"), 2, False),
    "curate": (("data", "curate", "--task", "toy", "--out", "out.jsonl"), 1, False),
    "init": (("init", "fresh", "--candidate", "constant:me", "--from"), 0, True),
}


def said(cli: Cli, name: str, path: str) -> tuple[int, str]:
    words = list(COMMANDS[name][0])
    words.insert(len(words) if name == "init" else 2, path)
    done = cli(*words)
    return done.code, done.out + done.err


def files(root: Path) -> set[str]:
    found = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    return {str(p) for p in found if not {".harness", "__pycache__"} & set(p.parts)}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_cannot_be_read_is_one_message_and_leaves_nothing(
    command: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_ROW", 1 << 20)
    Path("bad").mkdir()
    for name, (file, content, told) in FILES.items():
        if content is not None:
            Path(file).write_bytes(content)
        before = files(Path.cwd())
        code, text = said(cli, command, file)
        assert code == 2, (name, text)
        [error] = [line for line in text.splitlines() if line.startswith("error")]
        assert told in error, (name, text)
        assert files(Path.cwd()) == before, name
        if content is not None:
            Path(file).unlink()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_line_that_cannot_be_read_is_told_with_its_place_by_every_command(
    command: str, cli: Cli
) -> None:
    _, expected, writes = COMMANDS[command]
    chosen = ["NaN"] if command == "init" else list(LINES)  # init runs its new task each time
    for name in chosen:
        bad, told = LINES[name]
        Path("bad.jsonl").write_bytes(GOOD + bad + b"\r\n")
        before = files(Path.cwd())
        code, text = said(cli, command, "bad.jsonl")
        assert code == expected, (name, text)
        [line] = [part for part in text.splitlines() if "bad.jsonl:25" in part][:1]
        assert told in line, (name, text)
        left = {f for f in files(Path.cwd()) - before if not f.startswith(".pytest_cache")}
        assert bool(left) == writes, (name, left)
        Path("out.jsonl").unlink(missing_ok=True)
        shutil.rmtree("evals/fresh", ignore_errors=True)


def test_the_cases_of_a_task_are_read_as_strictly_by_synth(cli: Cli) -> None:
    cases = cli.toy.task / "cases.jsonl"
    for name, (bad, told) in LINES.items():
        cases.write_bytes(GOOD + bad + b"\n")
        done = cli("data", "synth", "toy", "--by", "perturb", "--out", "out.jsonl")
        assert done.code == 2, name
        assert "cases.jsonl:25" in done.err, (name, done.err)
        assert told.replace("is not UTF-8", "not UTF-8") in done.err, (name, done.err)
        assert not Path("out.jsonl").exists()


def test_ctrl_c_in_a_long_lint_says_how_far_it_came_and_leaves_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.core.lints.answers import AnswerLint

    Path("rows.jsonl").write_bytes(GOOD)
    before, see = files(Path.cwd()), AnswerLint.see

    def stopped(self: AnswerLint, row: object) -> None:
        if row.number == 9:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        see(self, row)  # type: ignore[arg-type]

    monkeypatch.setattr(AnswerLint, "see", stopped)
    done = cli("data", "lint", "rows.jsonl", "--sarif", "log.sarif")
    assert done.code == 130
    assert "stopped after 24 rows" in done.err, "the first two thousand are read at once"
    assert files(Path.cwd()) == before
