"""`harness data look`: rows first, as their domain writes them; then what all of them are like."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest

from harness.core.examples import Example
from harness.records import Message
from harness.surface.domains import blocks, pretty
from harness.surface.look import Part, gather
from harness.surface.look_text import field_lines, row_lines
from harness.surface.pictures import size_of
from harness.surface.plots import bar, bars, columns
from harness.surface.report.look_page import render_look
from harness.surface.words import clean
from tests.surface.chromium import Browser, binary
from tests.surface.inprocess import Cli
from tests.surface.payloads import PAYLOADS
from tests.surface.test_report_browser import CLEAN, load, misdeeds
from tests.surface.toy import Toy


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(Toy(tmp_path / "toy"), monkeypatch, capsys)


def png(width: int, height: int) -> bytes:
    """A whole picture, all black."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress((b"\0" + b"\0" * width) * height)
    pieces = [(b"IHDR", head), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in pieces
    )


def kinds(example: Example, folder: Path | None = None) -> list[tuple[str, str]]:
    return [(b.kind, b.text) for b in blocks(example, folder=folder)]


# ---------------------------------------------------------------- as the domain writes them


def test_chat_mail_json_and_sql_are_told_from_their_shape() -> None:
    turn = Message(role="user", content="Hi")
    mail = "From: Ann <a@x>\nSubject: Lamp\n\nIt is blue.\nAnn"
    query = "SELECT a, b FROM t WHERE a > 1 ORDER BY b"
    found = kinds(
        Example(
            place="f:1",
            inputs={
                "mail": mail,
                "also": {"subject": "S", "body": "B"},
                "q": query,
                "n": "From: x",
            },
            messages=(turn,),
            reference='{"a": [1, 2]}',
        )
    )
    assert [kind for kind, _ in found] == ["email", "email", "sql", "text", "turn", "json"]
    assert found[0][1] == "It is blue.\nAnn"
    assert "\nFROM t\n" in found[2][1]
    assert found[5][1] == '{"a": [1, 2]}'


@pytest.mark.parametrize(
    "value", [{}, [], {"a": [{"b": ["x" * 60, "y, z" * 20]}]}, ["w"] * 200, "x", None, [[[[1]]]]]
)
def test_pretty_json_is_the_same_json(value: object) -> None:
    assert json.loads(pretty(value)) == value
    assert max(map(len, pretty(["word"] * 200).split("\n"))) <= 82


def test_an_image_is_its_size_and_name_and_no_file_elsewhere_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(30, 20))
    (tmp_path / "secret.png").write_bytes(png(1, 1))
    inputs = {"near": "a.png", "far": "../secret.png", "gone": "b.png"}
    near, far, gone = blocks(Example(place="f:1", inputs=inputs), folder=folder)
    assert near.text.startswith("a.png  30×20, PNG, ")
    assert near.picture.startswith("data:image/png;base64,")
    assert not far.picture
    assert not gone.picture
    assert "no such file" in far.text


@pytest.mark.parametrize(
    "content",
    [
        png(30, 20),
        b"GIF89a" + struct.pack("<HH", 30, 20),
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08"
        + struct.pack(">HH", 20, 30)
        + b"\x01\x00",
        b"RIFF....WEBPVP8X" + b"\0" * 8 + (29).to_bytes(3, "little") + (19).to_bytes(3, "little"),
        b"RIFF....WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 30, 20),
        b"RIFF....WEBPVP8L" + b"\0" * 5 + struct.pack("<I", 29 | 19 << 14),
    ],
    ids=["png", "gif", "jpeg", "webp extended", "webp lossy", "webp lossless"],
)
def test_the_size_of_an_image_is_read_from_its_head(content: bytes) -> None:
    assert size_of(content) == (30, 20)
    for end in range(3, len(content)):
        size_of(content[:end])  # a head that was cut off is no crash


def test_plots_have_a_fixed_width_and_show_what_is_small() -> None:
    assert len(bar(0.5)) == len(bar(1)) == len(bar(0.0001)) == 24
    assert bar(0.0001).strip()
    assert bar(0).strip() == ""
    assert bars([("a", 900), ("b", 1)], total=901)[1].endswith("<1 %")
    assert columns([0, 1, 1000]) == " ▁█"
    plain = [*bars([("a", 3), ("b", 1)], total=4, plain=True), columns([0, 1, 9], plain=True)]
    assert "".join(plain).isascii()


def test_a_row_without_unicode_is_ascii_and_long_text_is_cut_in_the_middle() -> None:
    text = "\n".join(f"line {n}" for n in range(99))
    row = Example(place="f.csv:3", inputs={"text": text}, reference="x")
    lines = row_lines(row, plain=True)
    assert "".join(lines).isascii()
    assert lines[0] == "-- f.csv:3"
    assert any("88 more lines" in line for line in lines)
    assert "line 98" in lines[-2]
    assert len(row_lines(row, is_full=True)) == 101


def test_a_tie_and_what_a_row_holds_besides_are_shown() -> None:
    other = {"pair": {"a": "left", "b": "right", "preferred": "tie"}, "metadata": {"app": "Y"}}
    lines = row_lines(Example(place="f:1", inputs={"q": "x"}, other=other), plain=True)
    assert [line.split() for line in lines[2:]] == [
        [">", "answer", "none"],
        ["tied,", "a", "left"],
        ["tied,", "b", "right"],
        ["beside", "app:", "Y"],
    ]
    many = Example(place="f:1", inputs={f"i{n}": "x" for n in range(40)}, reference="y")
    assert any("17 more parts" in line for line in row_lines(many))
    assert not any("more parts" in line for line in row_lines(many, is_full=True))


def test_long_json_is_cut_at_spaces_and_keeps_every_word() -> None:
    said = "several words that go on " * 9
    lines = row_lines(Example(place="f:1", inputs={"q": "x"}, reference={"a": said}), width=60)
    assert "".join("".join(lines[2:])[9:].split()) == json.dumps({"a": said}).replace(" ", "")
    assert max(map(len, lines)) <= 60


# ---------------------------------------------------------------- which rows


def rows(count: int) -> list[Example]:
    splits = ("train", "dev", "test")
    return [
        Example(place=f"f:{n}", split=splits[n % 3], inputs={"n": n, "t": f"text {n}"}, reference=n)
        for n in range(count)
    ]


def test_rows_are_drawn_fairly_and_the_sealed_ones_stay_closed() -> None:
    drawn = [r for seed in range(300) for r in gather(rows(60), rows=4, seed=seed).rows]
    assert {r.split for r in drawn} == {"train", "dev"}
    times = [sum(r.place == f"f:{n}" for r in drawn) for n in range(60) if n % 3 < 2]
    assert min(times) > 10
    assert max(times) < 60
    seen = gather(rows(60), rows=2)
    assert seen.sealed == 20
    assert seen.described == 40
    assert not any("59" in line for line in field_lines(seen, plain=True))
    assert gather(rows(60), rows=99, split="test").described == 20


def test_flagged_rows_come_first_in_their_order() -> None:
    chosen = {"f:7": ("b",), "f:2": ("sealed",), "f:3": ("a",)}
    seen = gather(rows(30), rows=4, chosen=chosen)
    assert [r.place for r in seen.rows[:2]] == ["f:7", "f:3"]
    assert len(seen.rows) == 4


def test_a_file_is_read_as_a_task_is(cli: Cli) -> None:
    lines = [f"I want {n} lamps,{'yes' if n % 3 else 'no'},k{n}\n" for n in range(30)]
    (cli.toy.root / "r.csv").write_text("text,label,customer\n" + "".join(lines))
    said = cli("data", "look", "r.csv", "--map", "customer=cluster", "--map", "label=reference",
               "--map", "text=text", "--rows", "2")  # fmt: skip
    assert said.code == 0
    assert said.out.startswith("── r.csv:")
    assert "30 rows in 30 clusters, 30 with an answer" in said.out
    assert "reference  text, 2 different" in said.out
    plain = cli("data", "look", "r.csv", "--json").json
    assert plain["form"] == "columns"
    assert {f["name"] for f in plain["fields"]} >= {"inputs.text", "reference"}
    assert cli("data", "look", "nope.csv").code == 2
    assert cli("data", "look", "toy", "--map", "a=b").code == 2


def test_flagged_rows_of_a_file_say_what_was_found(cli: Cli) -> None:
    some = [f"Where is lamp number {n} of mine?,route {n % 3}\n" for n in range(40)]
    some[20] = "Where is lamp number 3 of mine?,route 1\n"
    (cli.toy.root / "r.csv").write_text("text,label\n" + "".join(some))
    said = cli("data", "look", "r.csv", "--order", "label-conflict", "--rows", "2")
    assert said.code == 0
    assert said.out.count("⚑ label-conflict (error)") == 2
    assert "label-conflict" in said.out.split("what the lints found")[1]
    wrong = cli("data", "look", "r.csv", "--order", "label-conflicts")
    assert wrong.code == 2
    assert "Did you mean 'label-conflict'?" in wrong.err


# ---------------------------------------------------------------- the page


def page_of(*some: Example) -> str:
    flags = {e.place: (f"rule: {e.place}",) for e in some}
    return render_look("x<y", gather(some, rows=99), flags=flags, counts={"rule": 1})


def test_the_page_holds_rows_as_text_alone() -> None:
    hostile = [
        Example(
            place=f"f:{n}",
            id=text,
            split=text,
            tags=(text,),
            cluster=text,
            inputs={text: text, "mail": f"From: {text}\nSubject: {text}\n\n{text}"},
            reference=[text],
        )
        for n, text in enumerate(PAYLOADS)
    ]
    html = page_of(*hostile)
    assert "<script" not in html.lower()
    assert "default-src &#39;none&#39;" in html
    assert html == page_of(*hostile)


@pytest.mark.skipif(binary() is None, reason="no chromium on this machine")
def test_the_page_in_a_browser_asks_for_nothing_and_fits_a_phone(tmp_path: Path) -> None:
    picture = f"data:image/png;base64,{base64.b64encode(png(400, 300)).decode()}"
    some = [
        Example(place=f"f:{n}", inputs={"text": text * 20, "image": picture}, reference="x" * 900)
        for n, text in enumerate(PAYLOADS)
    ]
    with Browser() as browser:
        for width, dark in ((390, False), (1200, True)):
            browser.look(width=width, dark=dark)
            path = load(browser, page_of(*some), tmp_path)
            found = misdeeds(browser, path)
            asked = [u for u in found["requests"] if not u.startswith("data:image/png")]
            assert found | {"requests": asked} == CLEAN
            assert browser.run("document.querySelectorAll('[style], script').length") == 0
            assert browser.run("document.documentElement.scrollWidth") == width
        assert browser.run("document.images[0].naturalWidth") == 400


def test_nothing_in_a_file_drives_the_terminal(cli: Cli) -> None:
    row = {
        "id": "\x1b]0;x\x07",
        "input": "\x1b[31mred",
        "expected": "\u202eolleh",
        "tags": ["\x9b1m"],
    }
    (cli.toy.root / "r.jsonl").write_text(json.dumps(row) + "\n")
    said = cli("data", "look", "r.jsonl")
    assert said.code == 0
    assert clean(said.out) == said.out


def test_rows_of_other_images_repeat_nobody_and_a_text_is_as_long_as_it_is() -> None:
    part = Part()
    for picture in ("data:image/png;base64,AA==", "data:image/png;base64,AQ=="):
        part.see(Example(place="f:1", images=(picture,)))
    assert part.facts()["same_inputs"] == 0
    part.see(Example(place="f:3", images=("data:image/png;base64,AA==",)))
    assert part.facts()["same_inputs"] == 1
    texts = Part()
    texts.see(Example(place="f:1", inputs={"ticket": "nine char"}))
    assert texts.facts()["input_characters"] == 9
