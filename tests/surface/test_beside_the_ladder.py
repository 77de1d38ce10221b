"""What stands beside the tries: other models, anatomy, a slimmer prompt, documents, 2 x 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.surface.inprocess import Cli
from tests.surface.school import build
from tests.surface.toy import Toy

RAG = """+++
family = "rag"
documents = 1
+++
@system
{% for d in documents %}
{{ d.text }}
{% endfor %}

@user
What is {{ question }}?
{{ a }} + {{ b }} =
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(build(Toy(tmp_path)), monkeypatch, capsys)


def flat(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- models


def test_a_model_ladder_is_shown_beside_the_tries_and_counts_none(cli: Cli) -> None:
    models = "adder:small,adder:middle,adder:large"
    said = cli("ladder", "toy", "--only-files", "--models", models)
    assert said.code == 0, said.err
    assert "2 tries count" in said.out
    shown = flat(said.out)
    # (mean, the paired difference, the verdict on the target of 90 %)
    assert "adder:small (the task's) plain 50 % (38–62) no" in shown
    assert "adder:large plain 100 % (95–100) +50.0 (+37.4 to +61.5) yes, shown" in shown
    assert "adder:middle parts 93 % (85–98) +10.0 (-0.0 to +20.3) on the mean" in shown
    told = cli("ladder", "toy", "--only-files", "--show", "--models", models, "--json").json
    assert [r["model"] for r in told["models"]][::2] == models.split(",")
    assert told["models"][-1]["cost_usd"] == pytest.approx(0.01)
    assert [t["candidate"] for t in told["tries"] if t["is_counted"]] == ["parts", "plain"]


def test_a_base_model_without_a_template_is_left_out_and_told_why(cli: Cli) -> None:
    said = cli("ladder", "toy", "--only-files", "--models", "adder:base,adder:small")
    assert said.code == 0, said.err
    assert said.out.count("base has no chat template") == 1, "every prompt has the same reason"
    assert "left out: parts@adder:base and plain@adder:base: base has no chat" in flat(said.out)
    assert not [line for line in cli.toy.sent if line.startswith("base")]


def test_a_name_that_is_no_model_is_an_error_before_anything_is_asked(cli: Cli) -> None:
    said = cli("ladder", "toy", "--only-files", "--models", "small")
    assert said.code == 2
    assert "'small' is not SCHEME:MODEL" in said.err
    assert cli.toy.sent == []


def test_a_stronger_model_within_budget_ends_the_climb_and_outside_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the runs to the verdict: dev is long enough for 95 % of `large` to be shown."""
    toy = build(Toy(tmp_path), dev=80)
    cli = Cli(toy, monkeypatch, capsys)
    assert cli("ladder", "toy", "--only-files", "--models", "adder:large").code == 0
    verdict = cli("wall", "toy", "--json").json["verdict"]
    assert (verdict["answer"], verdict["best"]) == ("SHIP_PROMPT", "parts@adder:large")
    with (toy.task / "task.toml").open("a") as file:
        file.write("[budgets]\nmean_cost_usd = 0.005\n")
    verdict = cli("wall", "toy", "--json").json["verdict"]
    assert verdict["answer"] != "SHIP_PROMPT"


# ---------------------------------------------------------------- anatomy and slim


def test_an_anatomy_says_what_each_part_costs_and_does_and_is_no_try(cli: Cli) -> None:
    said = cli("ladder", "toy", "--only-files", "--anatomy", "parts")
    assert said.code == 0, said.err
    shown = flat(said.out)
    assert "parts: 83 % (73–91) on 60 dev cases, 22 tokens each" in shown
    assert "2 system static 2 -33.3 (-45.0 to -21.9) Work carefully." in shown
    assert "3 system static 6 +0.0 (-5.0 to +5.0) Never apologise" in shown
    assert "5 user filled 4 – {{ a }} + {{ b }} =" in shown
    assert "counted by the backend" in shown
    assert cli("ladder", "toy", "--only-files", "--show", "--json").json["tries"] == []
    asked = len(cli.toy.sent)
    assert cli("ladder", "toy", "--only-files", "--anatomy", "parts").code == 0
    assert len(cli.toy.sent) == asked  # every reply was in the store


def test_a_slim_prompt_keeps_what_matters_and_is_a_file_that_can_be_run(cli: Cli) -> None:
    said = cli("model", "slim", "toy", "--candidate", "parts", "--margin", ".1")
    assert said.code == 0, said.err
    assert "16 of 22 tokens a case saved (73 %)" in flat(said.out)
    text = (cli.toy.task / "prompts/made/slim-parts.md").read_text()
    assert text.endswith("@system\nWork carefully.\n@user\n{{ a }} + {{ b }} =\n")
    assert 'note = "parts without 3 parts, for parts: +0.0 points on dev' in text
    run = cli("eval", "toy", "--candidate", "slim-parts", "--json").json["runs"][0]["run"]
    right = sum(t["scores"][0]["value"] for t in run["trials"])
    assert right == 50


def test_too_few_cases_for_a_slim_prompt_are_told_before_anything_is_asked(cli: Cli) -> None:
    said = cli("model", "slim", "toy", "--candidate", "parts")
    assert said.code == 3
    assert "60 clusters of dev cases cannot exclude a loss of 3 points over 4" in said.err
    assert "About 147 clusters could" in said.err
    assert cli.toy.sent == []


def test_a_slim_prompt_that_a_person_edited_is_not_overwritten(cli: Cli) -> None:
    assert cli("model", "slim", "toy", "--candidate", "parts", "--margin", ".1").code == 0
    path = cli.toy.task / "prompts/made/slim-parts.md"
    path.write_text(path.read_text() + "\nMine.\n")
    said = cli("model", "slim", "toy", "--candidate", "parts", "--margin", ".1")
    assert said.code == 2
    assert "was edited since it was made" in said.err
    assert path.read_text().endswith("Mine.\n")


# ---------------------------------------------------------------- documents


def with_documents(toy: Toy) -> None:
    """Every second case finds its sum in a document; a third of those say which they need."""
    rows = [json.loads(line) for line in (toy.task / "cases.jsonl").read_text().splitlines()]
    faq = []
    for n, row in enumerate(rows):
        a, b = row["inputs"]["a"], row["inputs"]["b"]
        row["inputs"]["question"] = f"sum{n}"
        if n % 2 == 0:
            faq.append({"id": f"d{n}", "text": f"sum{n}: The sum of {a} and {b} is {a + b}."})
        if n % 3 == 0:
            row["documents"] = [f"d{n}" if n % 2 == 0 else "d0"]
    toy.write_cases(rows)
    (toy.task / "faq.jsonl").write_text("".join(json.dumps(row) + "\n" for row in faq))
    (toy.task / "prompts/rag-1.md").write_text(RAG)
    settings = (toy.task / "task.toml").read_text()
    (toy.task / "task.toml").write_text('documents = "faq.jsonl"\n' + settings)


def test_retrieval_is_measured_by_itself_in_eval_and_ladder(cli: Cli) -> None:
    with_documents(cli.toy)
    line = (
        "retrieval of rag-1: recall@1 50 % (29–71) on 20 cases that say what they need; "
        "40 do not say"
    )
    said = cli("eval", "toy", "--candidate", "rag-1", "--candidate", "plain")
    assert said.code == 0, said.err
    assert line in said.out
    assert "retrieval of plain" not in said.out
    said = cli("ladder", "toy", "--only-files")
    assert said.code == 0, said.err
    assert line in said.out
    assert "rag-1 rag 100 %" in flat(said.out)


def test_rag_and_another_factor_are_compared_as_a_two_by_two(cli: Cli) -> None:
    with_documents(cli.toy)
    four = ["plain", "rag-1", "plain@adder:middle", "rag-1@adder:middle"]
    lacking = cli("compare", "toy", "--two-by-two", *four)
    assert lacking.code == 3
    assert "harness eval toy --candidate 'plain' --candidate 'rag-1'" in lacking.err
    assert cli("eval", "toy", *(f"--candidate={name}" for name in four)).code == 0
    asked = len(cli.toy.sent)
    said = cli("compare", "toy", "--two-by-two", *four)
    assert said.code == 0, said.err
    assert len(cli.toy.sent) == asked
    shown = flat(said.out)
    assert "plain: 50 % (38–62) rag-1: 100 % (95–100)" in shown
    assert "rag-1 for plain +50.0" in shown
    assert "together they do less than the sum of each alone" in shown
    told = cli("compare", "toy", "--two-by-two", *four, "--json").json
    assert told["effects"]["interaction"]["mean"] == pytest.approx(-0.4)
