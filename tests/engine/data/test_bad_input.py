"""Files that are broken in every way that files are: one clear message, with file and line."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from harness.core.examples import Example
from harness.engine.data import lines, tables
from harness.engine.data.bad_rows import BadRows
from harness.engine.data.converting import convert
from harness.engine.data.reading import open_examples
from harness.engine.data.writing import write_examples
from harness.errors import HarnessError, UsageError

ROW = b'{"question": "who?", "answer": "me"}\n'


def cut(content: bytes) -> tuple[bytes, int]:
    """Return a gzip file without its end, and the line to which it can be unpacked."""
    packed = gzip.compress(content)[:-20]
    return packed, zlib.decompressobj(wbits=31).decompress(packed).count(b"\n") + 1


CUT, LAST = cut(ROW * 999)
OBJECT, LAST_OF_OBJECT = cut(b'{\n"a":\n' + ROW * 999)
DEEP = b'{"question": "q", "answer": ' + b"[" * 5000 + b"]" * 5000 + b"}\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "x.jsonl", "x.jsonl:1: the file is empty"),
    "blank lines": (b"\n\n", "x.jsonl", "x.jsonl:1: no rows"),
    "UTF-16": (
        "\ufeff".encode("utf-16-le") + "a,b\n".encode("utf-16-le"),
        "x.csv",
        "x.csv:1: the file is UTF-16",
    ),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "x.jsonl", "x.jsonl:1: the file is not text"),
    "cut gzip": (
        CUT,
        "x.jsonl.gz",
        f"x.jsonl.gz:{LAST}: the gzip file ends too early",
    ),
    "cut gzip of a table": (CUT, "x.csv.gz", f"x.csv.gz:{LAST}: the gzip file ends too early"),
    "cut gzip of one object": (
        OBJECT,
        "x.json.gz",
        f"x.json.gz:{LAST_OF_OBJECT}: the gzip file ends too early",
    ),
    "gzip cut in its head": (CUT[:7], "x.jsonl.gz", "x.jsonl.gz:1: the gzip file ends too early"),
    "broken gzip": (
        gzip.compress(ROW)[:-8] + bytes(8),
        "x.jsonl.gz",
        "x.jsonl.gz:2: the packed file is damaged",
    ),
    "cut array": (b'[{"question": "a", "answer": "b"},\n{"quest', "x.json", "x.json:2: not JSON"),
    "array without a comma": (
        b'[{"a": "1", "b": ""}\n{"a": 2}]',
        "x.json",
        "x.json:2: not JSON: a comma or ]",
    ),
    "deep array": (b"[" + DEEP.strip() + b"]", "x.json", "x.json:1: nested"),
    "aliases": (LAUGHS.encode(), "x.yaml", "aliases that unfold to more than 1000000 values"),
    "deep YAML": (b"a: " + b"[" * 200 + b"]" * 200, "x.yaml", "x.yaml:1: nested deeper than 100"),
    "YAML in itself": (
        b"tests: &a\n- vars: *a\n",
        "x.yaml",
        "x.yaml:1: an alias names what it stands in",
    ),
    "YAML twice": (
        b"tests:\n- vars: {q: a}\n  vars: {q: b}\n",
        "x.yaml",
        "x.yaml:2: the key 'vars' stands twice",
    ),
    "no YAML": (b"tests: [\n", "x.yaml", "x.yaml:2: not YAML"),
    "open quote": (
        b'question,answer\n"who,me\n',
        "x.csv",
        "x.csv:2: not CSV: a quoted cell is not closed",
    ),
    "header twice": (
        b"question,question,answer\na,b,c\n",
        "x.csv",
        "'question' stands twice in the header",
    ),
    "another zip": (b"PK\x03\x04", "x.xlsx", "x.xlsx: the zip file is damaged"),
    "parquet": (b"PAR1 and then nothing", "x.parquet", "x.parquet: the Parquet file is damaged"),
}
ROWS: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"question": "q", "answer": NaN}', "NaN is not JSON; write null"),
    "infinity": (b'{"question": "q", "answer": 1e999}', "larger than any number"),
    "a key twice": (b'{"question": "q", "question": "r"}', "the key 'question' stands twice"),
    "5,000 digits": (b'{"question": ' + b"7" * 5000 + b"}", "a number of more than 4300 digits"),
    "depth": (DEEP.strip(), "nested deeper than 100 levels"),
    "Latin-1": (
        '{"question": "Größe", "answer": "g"}'.encode("latin-1"),
        "byte 17 of the line, 0xf6, is not UTF-8",
    ),
    "no object": (b'"a text"', "a row must be an object, not text"),
    "cut line": (b'{"question": "q', "not JSON: Unterminated string"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(path: Path) -> str:
    """The one message about a file, of which nothing was written."""
    with pytest.raises(HarnessError) as caught:
        convert(path, Path("out.jsonl"), to="columns")
    assert caught.value.exit_code == 2
    assert not Path("out.jsonl").exists()
    assert not list(Path.cwd().glob(".*")), "a half-written file is left"
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_one_message(name: str) -> None:
    content, file, said = FILES[name]
    Path(file).write_bytes(content)
    assert said in refused(Path(file))


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_row_is_told_with_its_line_and_can_be_left_out(name: str) -> None:
    content, said = ROWS[name]
    Path("x.jsonl").write_bytes(ROW + content + b"\n" + ROW)
    message = refused(Path("x.jsonl"))
    assert message.startswith("x.jsonl:2: ")
    assert said in message
    done = convert(Path("x.jsonl"), Path("out.jsonl"), to="columns", skip_bad=True)
    assert (done.written.rows, done.reading.bad_count) == (2, 1)


def test_a_missing_file_a_folder_and_a_pipe_are_refused_and_none_is_waited_for() -> None:
    assert "x.jsonl: no such file" in refused(Path("x.jsonl"))
    Path("folder").mkdir()
    assert "a folder without a data set" in refused(Path("folder"))
    os.mkfifo("pipe")
    assert "no file but a pipe or a device" in refused(Path("pipe"))
    assert "no file but a pipe or a device" in refused(Path("/dev/null"))
    with pytest.raises(UsageError, match="no file but a pipe or a device"):
        write_examples(Path("pipe"), [Example(place="")], form="columns", overwrite=True)


def test_a_line_of_200_mb_is_refused_in_flat_memory() -> None:
    with Path("x.jsonl").open("wb") as file:
        file.write(b'{"question": "')
        for _ in range(200):
            file.write(b"x" * lines.MEGABYTE)
    tracemalloc.start()
    message = refused(Path("x.jsonl"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message.startswith("x.jsonl:1: the line is longer than 32 MB")
    assert peak < 100 * lines.MEGABYTE


def test_a_packed_bomb_is_refused_in_flat_memory() -> None:
    """300 MB of one line, in 10 KB of zstandard."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=19)
    with Path("x.jsonl.zst").open("wb") as raw, packer.stream_writer(raw) as file:
        for _ in range(300):
            file.write(b" " * lines.MEGABYTE)
    tracemalloc.start()
    message = refused(Path("x.jsonl.zst"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "longer than 32 MB" in message
    assert peak < 150 * lines.MEGABYTE


def test_zstandard_that_was_cut_off_is_told(tmp_path: Path) -> None:
    import zstandard

    whole = zstandard.ZstdCompressor().compress(os.urandom(90_000).hex().encode() + b"\n" + ROW)
    Path("x.jsonl.zst").write_bytes(whole[:-9])
    assert "x.jsonl.zst:1: the packed file is damaged (it ends too early: it was cut off" in (
        refused(Path("x.jsonl.zst"))
    )


def test_a_spreadsheet_that_is_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LARGEST_SHEET", 4 * lines.MEGABYTE)
    with zipfile.ZipFile("x.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/sharedStrings.xml", b" " * (2 * lines.MEGABYTE))
    assert "it unpacks to 2 MB, more than a spreadsheet should" in refused(Path("x.xlsx"))
    with zipfile.ZipFile("y.xlsx", "w") as archive:
        archive.writestr(
            "xl/workbook.xml", '<!DOCTYPE a [<!ENTITY b "c">]><workbook>&b;</workbook>'
        )
    assert "defines XML entities" in refused(Path("y.xlsx"))


def test_a_byte_order_mark_crlf_and_blank_lines_do_no_harm() -> None:
    row = {"question": "Größe?", "answer": "50 cm"}
    text = json.dumps(row, ensure_ascii=False)
    Path("x.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{text}\r\n\r\n{text}\r\n".encode())
    Path("x.json").write_bytes(b"\xef\xbb\xbf" + f"[\r\n{text},\r\n{text}\r\n]\r\n".encode())
    Path("x.csv").write_bytes(
        "\ufeffquestion;answer\r\nGröße?;50 cm\r\n;\r\nGröße?;50 cm\r\n".encode()
    )
    for name in ("x.jsonl", "x.json", "x.csv"):
        found = list(open_examples(Path(name)))
        assert [(dict(e.inputs), e.reference) for e in found] == [
            ({"question": "Größe?"}, "50 cm"),
            ({"question": "Größe?"}, "50 cm"),
        ]
    places = [e.place for e in open_examples(Path("x.json"))]
    assert places == ["x.json:2", "x.json:3"]


def test_an_array_on_one_line_is_read_an_element_at_a_time() -> None:
    """Alpaca's own file is one: 22 MB; here 12 MB, of which little is ever held."""
    row = json.dumps({"instruction": "x" * 4000, "output": "y"})
    with Path("x.json").open("w") as file:
        file.write("[" + ",".join([row] * 3_000) + "]")
    tracemalloc.start()
    count = sum(1 for _ in open_examples(Path("x.json")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3_000
    assert peak < 6 * lines.MEGABYTE


def test_the_target_is_replaced_whole_and_only_where_that_was_asked_for() -> None:
    Path("x.jsonl").write_bytes(ROW * 3)
    Path("out.jsonl").write_text("mine")
    with pytest.raises(UsageError, match="exists already: --force replaces it"):
        convert(Path("x.jsonl"), Path("out.jsonl"), to="columns")
    Path("bad.jsonl").write_bytes(ROW + b"{}\n{\n")
    with pytest.raises(BadRows):
        convert(Path("bad.jsonl"), Path("out.jsonl"), to="columns", overwrite=True)
    assert Path("out.jsonl").read_text() == "mine"
    convert(Path("x.jsonl"), Path("out.jsonl"), to="columns", overwrite=True)
    assert Path("out.jsonl").read_bytes().count(b"\n") == 3
    with pytest.raises(UsageError, match="one file"):
        convert(Path("x.jsonl"), Path("x.jsonl"), to="cases", overwrite=True)


def test_ctrl_c_leaves_nothing_behind() -> None:
    def rows() -> object:
        yield Example(place="a:1", inputs={"q": "a"}, reference="b")
        raise KeyboardInterrupt

    for name in ("out.jsonl", "out.csv", "out.jsonl.gz", "out.parquet", "out.xlsx"):
        with pytest.raises(KeyboardInterrupt):
            write_examples(Path(name), rows(), form="columns")  # type: ignore[arg-type]
    assert list(Path.cwd().iterdir()) == []


def test_half_a_surrogate_pair_is_escaped_in_json_and_refused_in_a_table() -> None:
    Path("x.jsonl").write_bytes(b'{"question": "\\ud83d", "answer": "half"}\n')
    done = convert(Path("x.jsonl"), Path("out.jsonl"), to="columns")
    assert done.written.lost == {}
    assert b"\\ud83d" in Path("out.jsonl").read_bytes()
    with pytest.raises(UsageError, match="half a surrogate pair"):
        convert(Path("x.jsonl"), Path("out.csv"), to="columns")
