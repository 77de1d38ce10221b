"""Image files of a task: found beside the case file, told by their first bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from harness.engine.images import LARGEST_MB, media_type
from harness.engine.tasks import load_task
from harness.errors import TaskError
from tests.engine.small import write_rows, write_task

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def row(photo: object, n: int = 0) -> dict[str, object]:
    return {"id": f"c{n}", "split": "dev", "inputs": {"n": n, "photo": photo}, "reference": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_task(tmp_path, some=[row("shots/a.png")], images=["photo"])
    (folder / "shots").mkdir()
    (folder / "shots/a.png").write_bytes(PNG)
    return folder


def test_the_named_inputs_become_data_urls_and_stay_names_in_the_template(folder: Path) -> None:
    write_rows(folder, [row("shots/a.png"), row(["shots/a.png"] * 2, 1), row(None, 2)])
    one, two, none = load_task(folder).cases
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert (one.images, two.images, none.images) == ((url,), (url, url), ())
    assert one.inputs["photo"] == "shots/a.png"


def test_another_image_under_the_same_name_is_another_case(folder: Path) -> None:
    before = load_task(folder)
    (folder / "shots/a.png").write_bytes(PNG + b"\0")
    after = load_task(folder)
    assert before.cases[0].inputs_digest != after.cases[0].inputs_digest
    assert before.inputs_digest("dev") != after.inputs_digest("dev")


def test_without_the_key_no_file_is_looked_for(tmp_path: Path) -> None:
    folder = write_task(tmp_path, some=[row("not/there.png")])
    assert load_task(folder).cases[0].images == ()


@pytest.mark.parametrize(
    ("photo", "says"),
    [
        ("none.png", "inputs.photo: none.png: No such file"),
        ("shots", "shots: Is a directory"),
        ("notes.txt", "notes.txt: not a PNG, JPEG, WebP or GIF"),
        ("large.png", f"large.png: more than {LARGEST_MB} MB"),
        (7, "inputs.photo: 7 is not the path of an image"),
    ],
)
def test_what_is_no_image_is_told_with_the_cases_line(
    folder: Path, photo: object, says: str
) -> None:
    (folder / "notes.txt").write_text("PNG")
    with (folder / "large.png").open("wb") as file:  # sparse: it takes no room
        file.write(PNG)
        file.truncate(LARGEST_MB * 1_000_000 + 1)
    write_rows(folder, [row("shots/a.png"), row(photo, 1)])
    with pytest.raises(TaskError) as told:
        load_task(folder)
    assert "cases.jsonl:2: " in str(told.value)
    assert says in str(told.value)


def test_a_case_without_the_input_is_told(folder: Path) -> None:
    text = (folder / "cases.jsonl").read_text()
    plain = {"id": "c9", "split": "dev", "inputs": {"n": 9}, "reference": "0"}
    (folder / "cases.jsonl").write_text(text + json.dumps(plain) + "\n")
    with pytest.raises(TaskError, match=r"cases.jsonl:2: case 'c9' lacks the input 'photo'"):
        load_task(folder)


def test_the_media_type_is_told_by_the_first_bytes() -> None:
    told = {
        PNG: "image/png",
        b"\xff\xd8\xff\xe0": "image/jpeg",
        b"GIF89a": "image/gif",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ": "image/webp",
        b"RIFF\x00\x00\x00\x00WAVEfmt ": None,
        b"<svg/>": None,
        b"": None,
    }
    assert {content: media_type(content) for content in told} == told
