"""A configuration of promptfoo in several files: read below its folder, and no code is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.engine.data.reading import Reading, open_examples
from harness.errors import TaskError

CONFIG = """\
prompts: [file://prompt.txt, 'Again: {{q}}']
providers: [openai:x]
defaultTest: file://shared/default.yaml
scenarios: [{config: [], tests: []}]
templates: {paris: {type: equals, value: Paris}}
tests:
  - vars: {q: 'Capital?'}
    assert: [{$ref: '#/templates/paris'}]
  - file://shared/more.csv
  - vars: {q: file://long.txt, data: file://one.json}
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "in"
    (here / "shared").mkdir(parents=True)
    monkeypatch.chdir(here)
    (tmp_path / "secret.txt").write_text("a secret")
    Path("shared/default.yaml").write_text("vars: {tone: short}\nassert: [{type: is-json}]\n")
    Path("shared/more.csv").write_text("q,__expected\nIs it open?,contains: yes\nWhen?,noon\n")
    Path("long.txt").write_text("A long text\n")
    Path("one.json").write_text('{"a": 1}')


def opened(text: str) -> Reading:
    Path("c.yaml").write_text(text)
    return open_examples(Path("c.yaml"))


def test_tests_defaults_texts_and_asserts_are_taken_from_where_they_stand() -> None:
    reading = opened(CONFIG)
    one, two, three, four = list(reading)
    assert [e.inputs["q"] for e in (one, two, three, four)] == [
        "Capital?", "Is it open?", "When?", "A long text",
    ]  # fmt: skip
    assert {e.inputs["tone"] for e in (one, two, three, four)} == {"short"}
    assert four.inputs["data"] == {"a": 1}
    assert (one.reference, three.reference) == ("Paris", "noon")
    assert [c["name"] for c in two.other["checks"]] == ["json", "contains"]
    assert reading.bad_count == 0


def test_what_is_no_row_is_named() -> None:
    reading = opened(CONFIG)
    list(reading)
    assert list(reading.left) == [
        "the configuration's `prompts` (2) (--prompt FILE brings one)",
        "the configuration's `providers`",
        "the configuration's `scenarios`",
    ]


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("file://tests.py", "it is code, and none is run"),
        ("{vars: {q: file://make.js}}", "it is code, and none is run"),
        ("{vars: {q: file://../secret.txt}}", "outside the configuration's folder"),
        ("{vars: {q: 'file:///etc/hostname'}}", "outside the configuration's folder"),
        ("{vars: {q: file://gone.txt}}", "no such file"),
        ("file://shared/*.tsv", "no file has such a name"),
        ("{vars: {q: a}, assert: [{$ref: '#/no/such'}]}", "points at nothing"),
    ],
)
def test_a_test_that_needs_more_is_a_row_that_cannot_be_read(test: str, says: str) -> None:
    reading = opened(f"prompts: [x]\ntests:\n  - vars: {{q: fine}}\n  - {test}\n")
    assert [e.inputs["q"] for e in reading] == ["fine"]
    ((place, reason),) = reading.bad
    assert place == "c.yaml:4"
    assert says in reason


def test_a_configuration_that_names_itself_ends() -> None:
    reading = opened("prompts: [x]\ntests:\n  - file://c.yaml\n  - vars: {q: fine}\n")
    assert [e.inputs["q"] for e in reading][-1] == "fine"
    assert reading.bad_count == 1


def test_the_same_in_json_and_with_all_tests_in_one_file() -> None:
    Path("c.json").write_text(json.dumps({"prompts": ["x"], "tests": "shared/more.csv"}))
    assert [e.inputs["q"] for e in open_examples(Path("c.json"))] == ["Is it open?", "When?"]


def test_a_registry_of_openais_evals_says_where_the_rows_are() -> None:
    with pytest.raises(TaskError, match=r"c.yaml:1: .*rows are in r/s.jsonl"):
        opened(
            "r.v0:\n  class: evals.elsuite.basic.match:Match\n  args: {samples_jsonl: r/s.jsonl}\n"
        )
