"""Which line of one long JSON text cannot be read; and NaN in the scores of a log, which can be."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.engine.data.reading import open_examples
from harness.engine.scores import inspect_log
from harness.errors import TaskError, UsageError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("NaN", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ('1, "q": "z"', "the key 'q' stands twice"),
        ("1" * 5000, "a number of more than 4300 digits"),
        ("-1e999", "-1e999 is larger"),
        ("[" * 200 + "]" * 200, "nested deeper"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ("1 2", "not JSON: Expecting ',' delimiter"),
    ],
    ids=lambda text: text[:20],
)
def test_the_line_of_a_fault_in_one_object_is_told(fault: str, reason: str) -> None:
    text = '{\n "a": "NaN, {\\"q\\": [",\n "tests": [{"vars": {"q": 1}},\n  {"vars": {"q": "y",\n'
    Path("c.json").write_text(f'{text}    "n": {fault}}}}}],\n "q": 1, "prompts": ["p"]\n}}\n')
    with pytest.raises(TaskError) as told:
        list(open_examples(Path("c.json")))
    assert str(told.value).startswith(f"c.json:5: {reason}")


def sample(number: int, **other: Any) -> dict[str, Any]:
    row = {"id": number, "epoch": 1, "input": f"question {number}", "target": f"answer {number}"}
    return row | {"scores": {"m": {"value": float("nan")}}} | other


LOG: dict[str, Any] = {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}}


def zipped(*texts: str) -> Path:
    with zipfile.ZipFile("log.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(LOG))
        for number, text in enumerate(texts):
            archive.writestr(f"samples/{number}_epoch_1.json", text)
    return Path("log.eval")


def test_nan_among_the_scores_of_an_inspect_log_is_no_fault() -> None:
    samples = [sample(n) for n in range(3)]
    Path("log.json").write_text(json.dumps(LOG | {"samples": samples}, indent=1))
    for path in (zipped(*map(json.dumps, samples)), Path("log.json")):
        assert [e.reference for e in open_examples(path)] == [f"answer {n}" for n in range(3)]


def test_nan_in_a_sample_itself_is_one() -> None:
    samples = [sample(0), sample(1, target=float("nan"))]
    text = json.dumps(
        LOG | {"samples": [sample(0, scores={}), samples[1] | {"scores": {}}]}, indent=1
    )
    Path("log.json").write_text(text)
    line = text[: text.index("NaN")].count("\n") + 1
    with pytest.raises(TaskError, match=f"^log.json:{line}: sample 2: NaN is not JSON"):
        list(open_examples(Path("log.json")))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps(sample(1, target=float("inf"))), "NaN is not JSON"),
        (
            '{"id": 1, "id": 2, "epoch": 1, "input": "q", "target": "a"}',
            "the key 'id' stands twice",
        ),
        ('{"id": 1, "epoch": 1, "input": "q", "target": ' + "7" * 5000 + "}", "a number of more"),
        ('{"id": 1, "epoch": 1, "input": ' + "[" * 5000 + "]" * 5000 + "}", "nested deeper"),
        ("", "not JSON: Expecting value"),
    ],
)
def test_a_bad_sample_of_an_inspect_log_is_a_row_that_cannot_be_read(
    text: str, reason: str
) -> None:
    reading = open_examples(zipped(json.dumps(sample(0)), text, json.dumps(sample(2))))
    assert [e.id for e in reading] == ["0", "2"]
    assert [row.place for row in reading.bad] == ["log.eval:2"]
    assert reading.bad[0].reason.startswith(f"samples/1_epoch_1.json: {reason}")


def test_metadata_that_is_no_object_is_told() -> None:
    reading = open_examples(zipped(*(json.dumps(sample(n, metadata=[[n]] * n)) for n in range(2))))
    assert [e.id for e in reading] == ["0"]
    assert reading.bad[0].reason == "`metadata` must be an object, not a list"


def test_a_part_of_a_log_that_unpacks_without_end_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspect_log, "LARGEST_ENTRY", 1 << 20)
    path = zipped(json.dumps(sample(0)), "0" * (1 << 21))
    with pytest.raises(UsageError, match=r"log.eval:samples/1_epoch_1.json: it unpacks to 2 MB"):
        list(open_examples(path))


def test_a_row_that_is_a_list_is_a_row_where_others_follow() -> None:
    row = '{"question": "who?", "answer": "me"}\n'
    Path("x.jsonl").write_text("[1, 2]\n" + row * 2)
    reading = open_examples(Path("x.jsonl"))
    assert len(list(reading)) == 2
    assert reading.bad == [("x.jsonl:1", "data_type: a row must be an object, not a list")]
    Path("y.jsonl").write_text(f"[{row.strip()},{row.strip()}]\n")
    assert len(list(open_examples(Path("y.jsonl")))) == 2
