"""`harness model parity`: what it says, what it ends with, and what it leaves in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugins.loopback import Answer, Seen, loopback
from tests.surface.inprocess import Cli
from tests.surface.test_cli import stuck

__all__ = ["stuck"]

SERVER = '''
class Server(Sums):
    """Serves the tuned model, and may open every prompt twice."""
    is_external = False
    def token_ids(self, request):
        return [1] * (os.environ.get("SERVER") == "twice") + codes(request.messages)
    def count_tokens(self, request):
        return len(self.token_ids(request))

@harness.hookimpl
def harness_backends():
    return {"adder": Sums, "server": Server}
'''


@pytest.fixture
def tuned(stuck: Cli) -> Cli:
    path = stuck.toy.root / "site/adder.py"
    text = path.read_text()
    old = '@harness.hookimpl\ndef harness_backends():\n    return {"adder": Sums}\n'
    assert old in text
    path.write_text(text.replace(old, SERVER))
    said = stuck("tune", "toy", "--override", "a test")
    assert said.code == 0, said.err
    return stuck


def test_what_was_tuned_is_compared_with_what_its_own_model_is_sent(tuned: Cli) -> None:
    said = tuned("model", "parity", "toy")
    assert said.code == 0, said.err
    assert "compared: 50 rows id by id" in said.out
    assert said.out.endswith("parity holds\n")


def test_what_was_tuned_is_named_where_another_candidate_was(tuned: Cli) -> None:
    said = tuned("model", "parity", "toy", "--candidate", "p1")
    assert said.code == 2
    name = said.err.rstrip().rpartition("Those that were tuned: ")[2]
    assert name.endswith("+tuned")
    assert tuned("model", "parity", "toy", "--candidate", name).code == 0


def test_a_server_is_compared_recorded_and_shown_in_the_report(tuned: Cli) -> None:
    name = "p0@server:sums+tuned"
    good = tuned("model", "parity", "toy", "--candidate", name)
    assert good.code == 0, good.err
    assert "5 probes" in good.out
    bad = tuned("model", "parity", "toy", "--candidate", name, "--rows", "5", SERVER="twice")
    assert bad.code == 1
    assert "✗ double-bos in c40: served ids begin twice with 1" in bad.out
    assert "parity fails: 1 difference" in bad.out
    told = tuned("model", "parity", "toy", "--candidate", name, "--json", SERVER="twice")
    assert told.code == 1
    assert told.json["holds"] is False
    assert told.json["check"]["findings"][0]["name"] == "double-bos"
    assert tuned("report", "toy").code == 0
    [page] = (tuned.toy.root / ".harness/reports").glob("*.html")
    text = page.read_text()
    assert "Parity fails." in text
    assert "server:sums" in text
    assert tuned("model", "parity", "toy", "--candidate", name).code == 0
    assert tuned("report", "toy").code == 0
    text = page.read_text()
    assert "Parity fails." not in text  # the last check of a runtime stands
    assert "Parity holds." in text


@pytest.mark.parametrize(
    ("listed", "asked", "says"),
    [
        (["whatever"], "whatever", ""),  # one alone is it
        (["base", "tuned"], "tuned", ""),  # of several, the one that is called as the artifact
        (["base", "other"], "", "lists 2 models (base, other): say which one serves it, --model"),
        ([], "", "lists 0 models (none)"),
    ],
)
def test_a_server_is_asked_under_the_name_that_it_lists(
    tuned: Cli, listed: list[str], asked: str, says: str
) -> None:
    def answer(seen: Seen) -> Answer:
        if seen.path == "/v1/models":
            return Answer(body={"data": [{"id": name} for name in listed]})
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        choice = {"message": {"content": "7"}, "finish_reason": "stop"}
        return Answer(body={"model": asked, "choices": [choice], "usage": usage})

    with loopback() as server:
        server.answer = answer
        said = tuned("model", "parity", "toy", "--against", server.base_url, "--no-logits")
        models = {r.body["model"] for r in server.seen if isinstance(r.body, dict)}
    if says:
        assert said.code == 2
        assert says in said.err
        assert models == set()
    else:
        assert f"against openai:{asked} at " in said.out
        assert models == {asked}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name a TASK, or rows prepared elsewhere"),
        (("toy", "--model", "x"), "--model is what the server of --against calls it"),
        (("--prepared", "."), "--prepared and --base go together"),
        (
            ("toy", "--candidate", "p1"),
            "to compare. Nothing was tuned yet for task 'toy': harness tune toy",
        ),
        (("toy", "--candidate", "tuned"), "Tune one with `harness tune toy`"),
        (("--prepared", "cases.jsonl", "--base", "adder:x"), "no input_ids"),
    ],
)
def test_what_cannot_be_compared_is_told(stuck: Cli, arguments: tuple[str, ...], says: str) -> None:
    (stuck.toy.root / "cases.jsonl").write_text('{"text": "x"}\n')
    said = stuck("model", "parity", *arguments)
    assert said.code == 2
    assert says in said.err


def test_rows_prepared_elsewhere_need_no_task(stuck: Cli, tmp_path: Path) -> None:
    ids = [1, *map(ord, "1 + 2"), 1, *map(ord, "3"), 0]
    row = {
        "input_ids": ids,
        "labels": [-100] * 7 + ids[7:],
        "messages": [
            {"role": "user", "content": "1 + 2"},
            {"role": "assistant", "content": "3"},
        ],
    }
    path = tmp_path / "prepared.jsonl"
    path.write_text(json.dumps(row) + "\n")
    good = stuck("model", "parity", "--prepared", str(path), "--base", "adder:small")
    assert good.code == 0, good.err
    path.write_text(json.dumps(row | {"labels": ids}) + "\n")
    bad = stuck("model", "parity", "--prepared", str(path), "--base", "adder:small")
    assert bad.code == 1
    assert "✗ prompt-supervised in prepared.jsonl:1" in bad.out
