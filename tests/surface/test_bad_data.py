"""Broken files at every command that reads data: one message, with its place, and nothing left."""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from pathlib import Path

import pytest

from harness.engine import text_files
from harness.engine.data import lines
from tests.surface.inprocess import Cli, Said

ROWS = [
    {"id": f"a{i}", "split": "train", "inputs": {"question": f"who is number {i}?"},
     "reference": "me"}
    for i in range(24)
]  # fmt: skip
GOOD = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CUT = gzip.compress(GOOD * 40)[:-30]
LAST = zlib.decompressobj(wbits=31).decompress(CUT).count(b"\n") + 1
ASKS = b'{"id": "b", "split": "train", "inputs": {"question": "q"}, "reference": '
FILES: dict[str, tuple[str, bytes | None, str]] = {
    "missing": ("bad.jsonl", None, "bad.jsonl: no such file"),
    "a folder": ("bad", None, "bad: a folder"),
    "empty": ("bad.jsonl", b"", "bad.jsonl:1: the file is empty"),
    "cut gzip": ("bad.jsonl.gz", CUT, f"bad.jsonl.gz:{LAST}: the gzip file ends too early"),
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
TELLS = {
    "look": ("data", "look", "@", "--html", "out.html"),
    "lint": ("data", "lint", "@", "--sarif", "out.sarif"),
}
MAKES = {
    "split": ("data", "split", "@", "--out", "out.jsonl"),
    "convert": ("data", "convert", "@", "out.jsonl", "--to", "columns"),
    "curate": ("data", "curate", "@", "--task", "copies", "--out", "out.jsonl"),
    "init": ("init", "fresh", "--candidate", "constant:me", "--from", "@"),
}
COMMANDS = {**TELLS, **MAKES}
COPIES = """\
about = "Copies of a word."
cases = "cases.jsonl"
primary = "right"
target = 0.9
target_reason = "a test"
model = "constant:me"
"""


@pytest.fixture(autouse=True)
def copies(cli: Cli) -> None:
    """A task whose eval takes the answers of GOOD."""
    folder = cli.toy.task.parent / "copies"
    folder.mkdir()
    (folder / "task.toml").write_text(COPIES, encoding="utf-8")
    (folder / "cases.jsonl").write_text(
        '{"id": "d", "split": "dev", "inputs": {"question": "is it dark?"}, "reference": "me"}\n'
    )
    (folder / "eval_copies.py").write_text(
        "def test_right(case, reply):\n    assert reply.text == case.reference\n"
    )


def said(cli: Cli, name: str, path: str, *more: str) -> Said:
    return cli(*(path if word == "@" else word for word in COMMANDS[name]), *more)


def errors(done: Said) -> list[str]:
    return [line for line in (done.out + done.err).splitlines() if line.startswith("error:")]


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
        done = said(cli, command, file)
        assert done.code == 2, (name, done)
        [error] = errors(done)
        assert told in error, (name, done)
        assert files(Path.cwd()) == before, name
        if content is not None:
            Path(file).unlink()


@pytest.mark.parametrize("command", MAKES)
def test_what_makes_something_of_rows_makes_nothing_where_one_cannot_be_read(
    command: str, cli: Cli
) -> None:
    for name, (bad, told) in LINES.items():
        Path("bad.jsonl").write_bytes(GOOD + bad + b"\r\n" + GOOD)
        before = files(Path.cwd())
        done = said(cli, command, "bad.jsonl")
        assert done.code == 2, (name, done)
        [error] = errors(done)
        assert error.startswith("error: bad.jsonl:25: "), (name, done)
        assert told in error, (name, done)
        assert "1 row could not be read" in error, (name, done)
        assert "nothing was written" in error, (name, done)
        assert files(Path.cwd()) == before, name


@pytest.mark.parametrize("command", TELLS)
def test_what_tells_of_rows_tells_of_the_others_and_ends_with_the_first_that_it_could_not_read(
    command: str, cli: Cli
) -> None:
    for name, (bad, told) in LINES.items():
        Path("bad.jsonl").write_bytes(GOOD + bad + b"\r\n")
        done = said(cli, command, "bad.jsonl")
        assert done.code == 2, (name, done)
        [error] = errors(done)
        assert error.startswith("error: bad.jsonl:25: "), (name, done)
        assert told in error, (name, done)
        assert told in done.out, (name, done)
        if command == "look":
            assert "who is number" in Path("out.html").read_text(encoding="utf-8")
        else:
            log = json.loads(Path("out.sarif").read_text(encoding="utf-8"))
            found = [r for r in log["runs"][0]["results"] if r["ruleId"] == "unreadable"]
            [place] = found[0]["locations"]
            assert place["physicalLocation"]["region"]["startLine"] == 25


@pytest.mark.parametrize("command", COMMANDS)
def test_several_bad_rows_are_counted_and_left_out_where_that_was_asked_for(
    command: str, cli: Cli
) -> None:
    Path("good.jsonl").write_bytes(GOOD)
    clean = said(cli, command, "good.jsonl")
    made = written(command)
    bad = "".join(
        f"{text.decode('latin-1')}\n" for text, _ in LINES.values() if b"\xf6" not in text
    )
    Path("bad.jsonl").write_bytes(GOOD + bad.encode() + bad.encode())
    told = said(cli, command, "bad.jsonl", "--json")
    assert told.code == 2, told
    assert json.loads(told.out)["exit_code"] == 2, "one JSON value, and it tells the code"
    assert "8 rows could not be read" in json.loads(told.out)["error"]
    assert written(command) is None
    left = said(cli, command, "bad.jsonl", "--skip-bad")
    assert left.code == clean.code == 0, left
    assert "bad.jsonl:25: " in left.out, "the first of them"
    assert "8 rows could not be read" in left.out
    if command in MAKES:
        assert written(command) == made
        assert made is not None


def written(command: str) -> str | None:
    """Return what a command wrote, and take it away."""
    cases, found = Path("evals/fresh/cases.jsonl"), None
    for path in (Path("out.jsonl"), cases):
        if path.exists():
            found = path.read_text(encoding="utf-8")
            path.unlink()
    shutil.rmtree(cases.parent, ignore_errors=True)
    return found if command in MAKES else None


@pytest.mark.parametrize("command", COMMANDS)
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(command: str, cli: Cli) -> None:
    found = {}
    for name, content in {
        "unix": GOOD,
        "windows": b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"),
    }.items():
        Path("rows.jsonl").write_bytes(content)
        done = said(cli, command, "rows.jsonl")
        assert done.code == 0, (name, done)
        found[name] = (done.out, written(command))
        Path("out.html").unlink(missing_ok=True)
    assert found["unix"] == found["windows"]


def test_the_cases_of_a_task_are_read_as_strictly_by_synth(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "LONGEST_ROW", 1 << 20)
    cases = cli.toy.task / "cases.jsonl"
    long = (ASKS + b'"' + b"x" * 2_000_000 + b'"}', "the line is longer than 1 MB")
    for name, (bad, told) in {**LINES, "one long line": long}.items():
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
