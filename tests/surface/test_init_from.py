"""`harness init --from`: a table becomes a task that runs, and a number; or nothing at all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from harness.engine.data.reading import open_examples
from harness.engine.tasks import load_task
from harness.surface.cli.init_columns import ask_columns, guessed_roles, open_mapped
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

SUMS = "".join(f"{n},{2 * n},{3 * n},k{n},\n" for n in range(40))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    found = Cli(Toy(tmp_path / "toy"), monkeypatch, capsys)
    (tmp_path / "toy/sums.csv").write_text("a,b,result,customer,remark\n" + SUMS)
    (tmp_path / "toy/p.txt").write_text("{{ a }} + {{ b }} =")
    return found


def folder(cli: Cli) -> Path:
    return cli.toy.root / "evals/mine"


LONG = "a summary that goes on and on, so that no reply can be asked to hold it, and on further"
FROM = ("init", "mine", "--from", "sums.csv", "--prompt", "p.txt")


def test_a_table_becomes_a_task_and_a_number_with_its_interval(cli: Cli) -> None:
    said = cli(*FROM, "--candidate", "adder:small", "--target", "0.8")
    assert said.code == 0, said.err
    assert "input 'a', input 'b', answer 'result', cluster 'customer'" in said.out
    assert "p@adder:small on 10 dev cases: answer " in said.out
    assert "The right answers themselves pass the check (10 of 10)." in said.out
    assert "the column 'remark'" in said.out
    settings = (folder(cli) / "task.toml").read_text()
    assert 'model = "adder:small"' in settings
    assert "target = 0.8" in settings
    again = cli("eval", "mine")
    assert again.code == 0
    assert "16 passed" in again.out or "missed" in again.out
    assert cli("doctor").code == 0


def test_a_check_that_lacks_a_library_says_which(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that are SQL are compared by a library of an extra."""
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    rows = "".join(f"how many {n} of {2 * n},SELECT count(*) FROM t{n}\n" for n in range(20))
    (cli.toy.root / "sql.csv").write_text("question,answer\n" + rows)
    said = cli("init", "mine", "--from", "sql.csv", "--model", "adder:small")
    assert said.code == 2
    assert (
        "no case was scored by `answer`: checks.sql_equal needs the extra: "
        "pip install 'tuning-harness[checks]'"
    ) in said.out
    assert "a model that answers" not in said.out  # it does


def test_its_json_holds_the_number_and_what_was_lost(cli: Cli) -> None:
    said = cli(*FROM, "--candidate", "constant:6", "--json")
    found = said.json
    assert said.code == 0
    assert sum(found["cases"].values()) == 40
    assert found["check"]["kind"] == "the same number"
    assert found["number"]["cases"] == 10
    assert 0 <= found["number"]["estimate"]["mean"] <= 0.1
    assert found["not_carried_over"] == ["the column 'remark' (--map remark=NAME carries it)"]


def test_after_a_lazy_answer_the_next_step_asks_the_model(cli: Cli) -> None:
    lazy = cli(*FROM, "--candidate", "constant:6")
    [line] = [one for one in lazy.out.splitlines() if one.startswith("  harness eval mine")]
    command, _, told = line.partition("#")
    assert command.split() == ["harness", "eval", "mine", "--candidate", "p"]
    assert told.split()[0] == load_task(folder(cli)).settings.model
    asked = cli("init", "other", *FROM[2:], "--candidate", "adder:small")
    assert "  harness eval other  # adder:small on all " in asked.out


@pytest.mark.usefixtures("hurry")
def test_a_backend_that_is_down_leaves_the_task_and_says_how_to_go_on(cli: Cli) -> None:
    said = cli(*FROM, "--candidate", "adder:small", MODE="down")
    assert said.code == 4
    assert "its first run did not go through" in said.out
    assert "harness eval mine --sample 10" in said.out
    assert cli("eval", "mine", "--sample", "10").code == 0


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        ("text,label\n", (), "no rows"),
        ("", (), "empty"),
        ("text,label\nx,y\n", (), "1 usable row of 1"),
        ("text,text\na,b\nc,d\n", (), "'text' stands twice"),
        ("foo,bar\n1,2\n3,4\n", (), "which column holds the right answer?"),
        ("text,label\n,a\n,b\n", (), "rows that ask nothing: 2"),
        ("text,label\na,b\nc,d\n", ("--prompt", "bad.txt"), "Did you mean {{ text }}?"),
        ("text,label\na,b\nc,d\n", ("--prompt", "gone.txt"), "gone.txt: no such file"),
        ("text,label\na,b\nc,d\n", ("--map", "tekst=answer"), "Did you mean 'text'?"),
        ("text,label\na,b\nc,d\n", ("--map", "text"), "is not COLUMN=ROLE"),
        (
            "text,label\na,b\nc,d\n",
            ("--map", "label=anser"),
            "did you mean label=answer? An input of that name is label=inputs.anser",
        ),
        ("text,label\na,b\nc,d\n", ("--map", "label=Answer"), "did you mean label=answer?"),
        ("text,label\na,b\nc,d\n", ("--candidate", "gpt"), "is not SCHEME:MODEL"),
        ("text,label\na,b\nc,d\n", ("--candidate", "zz:gpt"), "no backend 'zz'"),
        ("text,label\na,b\nc,d\n", ("--candidate", "replay:gone.jsonl"), "gone.jsonl"),
    ],
)
def test_bad_input_is_told_and_leaves_nothing(
    cli: Cli, rows: str, more: tuple[str, ...], says: str
) -> None:
    (cli.toy.root / "bad.csv").write_text(rows)
    (cli.toy.root / "bad.txt").write_text("Sort {{ txt }}")
    before = sorted(p.name for p in (cli.toy.root / "evals").iterdir())
    said = cli("init", "mine", "--from", "bad.csv", *more)
    assert said.code == 2, said.out
    assert says in said.err
    assert sorted(p.name for p in (cli.toy.root / "evals").iterdir()) == before


def test_what_needs_from_is_refused_without_it_and_a_task_is_not_overwritten(cli: Cli) -> None:
    said = cli("init", "mine", "--candidate", "constant:x")
    assert said.code == 2
    assert "--candidate goes with --from FILE" in said.err
    assert "exists already" in cli("init", "toy", "--from", "sums.csv").err


def test_the_first_of_several_long_answers_is_a_right_reply(cli: Cli) -> None:
    rows = [
        {"input": f"say {n}", "expected": {"references": [f"{LONG} {n}", f"words {n}"]}}
        for n in range(30)
    ]
    path = cli.toy.root / "r.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    said = cli("init", "mine", "--from", "r.jsonl", "--candidate", "constant:word 3")
    assert said.code == 0
    assert "The right answers themselves pass the check (10 of 10)." in said.out
    assert "constant:word 3 on 10 dev cases" in said.out


def test_rows_that_cannot_be_read_are_told_with_their_line(cli: Cli) -> None:
    (cli.toy.root / "b.jsonl").write_text('{"q": "a", "label": NaN}\n{"q": "b", "label": "x"}\n')
    said = cli("init", "mine", "--from", "b.jsonl", "--yes", "--candidate", "constant:x")
    assert said.code == 2
    assert said.err.startswith("error: b.jsonl:1: NaN is not JSON; write null. 1 row could not be")
    assert "name their form with --form or leave them out with --skip-bad" in said.err
    left = cli(
        "init", "mine", "--from", "b.jsonl", "--yes", "--candidate", "constant:x", "--skip-bad"
    )
    assert left.code == 2
    assert "1 usable row of 1" in left.err
    assert not folder(cli).exists()


def test_an_equals_of_promptfoo_counts_beside_its_other_asserts(cli: Cli) -> None:
    tests = "".join(
        f"  - vars: {{q: 'Say {n}'}}\n"
        f"    assert: [{{type: is-json}}, {{type: equals, value: '{{\"n\": {n}}}'}}]\n"
        for n in range(12)
    )
    (cli.toy.root / "c.yaml").write_text(f"prompts: [x]\nproviders: [y]\ntests:\n{tests}")
    said = cli("init", "mine", "--from", "c.yaml", "--candidate", 'constant:{"n": 3}', "--json")
    assert said.code == 0
    assert said.json["number"]["estimate"]["mean"] < 0.2
    assert (
        "the configuration's `prompts` (--prompt FILE brings one)" in said.json["not_carried_over"]
    )


def test_a_system_message_that_the_prompt_of_the_person_replaces_is_told(cli: Cli) -> None:
    brief = {"role": "system", "content": "Be brief."}
    rows = [
        {"input": [brief, {"role": "user", "content": f"q{n}"}], "ideal": f"a{n % 3}"}
        for n in range(12)
    ]
    (cli.toy.root / "o.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    told = "the system message that every row has: the prompt of --prompt stands instead"
    asked = ("--from", "o.jsonl", "--candidate", "constant:a1", "--json")
    (cli.toy.root / "p.txt").write_text("Which? {{ message }}")
    assert told in cli("init", "mine", *asked, "--prompt", "p.txt").json["not_carried_over"]
    (cli.toy.root / "p.txt").write_text("@system\nBe brief.\n@user\n{{ message }}")
    for name, prompt in (("other", ("--prompt", "p.txt")), ("bare", ())):
        assert told not in cli("init", name, *asked, *prompt).json["not_carried_over"]


def chat(number: int, name: str | None) -> dict[str, Any]:
    """A row of chat that offers a tool, and calls it where a name is given."""
    ask = {"role": "user", "content": f"Please {name or 'tell me of'} order {number}"}
    answer: dict[str, Any] = {"role": "assistant", "content": f"Order {number} is late."}
    if name:
        function = {"name": name, "arguments": json.dumps({"id": number})}
        call = {"id": f"c{number}", "type": "function", "function": function}
        answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    tools = [{"type": "function", "function": {"name": "cancel", "parameters": schema}}]
    return {"messages": [ask, answer], "tools": tools}


def test_rows_that_offer_tools_become_a_task_whose_prompt_does_and_whose_evals_read_calls(
    cli: Cli,
) -> None:
    rows = [chat(n, "cancel" if n % 2 else None) for n in range(10)]
    (cli.toy.root / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (cli.toy.root / "p.md").write_text(
        '+++\nfamily = "instructions"\n[decoding]\nmax_tokens = 9\n+++\n@user\n{{ message }}\n'
    )
    said = cli("init", "mine", "--from", "c.jsonl", "--prompt", "p.md",
               "--candidate", "constant:No.")  # fmt: skip
    assert said.code == 0
    assert "the tools that every row offers are in tools.json: `cancel`" in said.out
    assert "first check  the same tool calls" in said.out
    assert "answer 50 %" in said.out, "only the rows that call nothing are right"
    assert "The right answers themselves pass the check (10 of 10)." in said.out
    prompt = load_task(folder(cli)).prompts["p"]
    assert [t["function"]["name"] for t in prompt.tools] == ["cancel"]


# ---------------------------------------------------------------- which column is what


def test_the_guess_is_what_the_reader_does(cli: Cli) -> None:
    (cli.toy.root / "g.csv").write_text("id,text,label,tags\n1,a,b,x;y\n2,c,d,\n")
    reading = open_examples(Path("g.csv"))
    assert guessed_roles(reading) == {
        "id": "id", "text": "input", "label": "reference", "tags": "tags"
    }  # fmt: skip


def test_on_a_terminal_the_columns_are_asked_for(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (cli.toy.root / "g.csv").write_text("Eins,Zwei,Drei\nwhat,right,src\nwhy,wrong,src2\n")
    said = iter(["Viel", "Zwei", "Drei", "Drei", "Eins"])
    monkeypatch.setattr(click, "prompt", lambda *a, **k: next(said))
    found = ask_columns(open_examples(Path("g.csv")), {"Eins": "Eins"})
    assert found == {"Eins": "Eins", "Zwei": "reference", "Drei": "cluster"}
    told = capsys.readouterr().err
    assert "no column 'Viel'" in told
    assert "no column 'Drei': Eins" in told
    assert "--map Eins=Eins --map Zwei=answer --map Drei=cluster" in told


def test_what_the_prompt_does_not_name_may_be_the_answer(cli: Cli) -> None:
    (cli.toy.root / "g.csv").write_text("Frage,Antwort\nwhat,right\nwhy,wrong\n")
    reading, words, _, left = open_mapped(
        Path("g.csv"), form=None, mapped={}, prompt="{Frage}", is_asking=False, is_sure=False
    )
    assert [e.reference for e in reading] == ["right", "wrong"]
    assert words == ["input 'Frage'", "answer 'Antwort'"]
    assert left == []


def test_only_right_answers_that_were_scored_are_counted(cli: Cli) -> None:
    tests = [
        {"vars": {"q": "say one"}, "assert": [{"type": "equals", "value": "one"}]},
        {"vars": {"q": "say two"}, "assert": [{"type": "contains", "value": "two"}]},
        {"vars": {"q": "say six"}, "assert": [{"type": "contains", "value": "six"}]},
    ]
    (cli.toy.root / "promptfooconfig.json").write_text(json.dumps({"tests": tests}))
    said = cli("init", "mine", "--from", "promptfooconfig.json", "--candidate", "constant:two")
    assert said.code == 0, said.err
    assert "on 3 dev cases" in said.out
    assert "The right answers themselves pass the check (1 of 3)." in said.out
