"""What a stranger reads who has done one thing and asks for the next."""

from __future__ import annotations

import json
import re
import shutil

from harness.surface.report import words
from tests.surface.inprocess import Cli


def test_a_wall_without_tries_names_the_model_that_was_asked_instead(cli: Cli) -> None:
    assert cli("eval", "toy", "--candidate", "plain@adder:large").code == 0
    said = cli("wall", "toy")
    assert said.code == 3
    assert "no complete try over dev on adder:small" in said.err
    assert "run on adder:large" in said.err
    assert "`model` in task.toml" in said.err


def test_runs_have_no_column_that_says_nothing(cli: Cli) -> None:
    cli("eval", "toy", "--candidate", "plain")
    heads = cli("runs").out.splitlines()[0].split()
    assert heads == ["run", "task", "split", "candidate", "backend", "cases", "at"]
    cli("eval", "toy", "--candidate", "plain", "--sample", "3")
    assert cli("runs").out.splitlines()[0].split()[-3:] == ["cases", "note", "at"]


def test_doctor_leaves_nothing_behind_in_a_folder_without_tasks(cli: Cli) -> None:
    shutil.rmtree(cli.toy.task)
    said = cli("doctor")
    assert said.code == 0
    assert "– store: none yet" in said.out
    assert "– tasks: none yet: harness init NAME" in said.out
    assert not (cli.toy.root / ".harness").exists()


def test_the_page_of_data_says_one_row_and_one_length_as_people_do(cli: Cli) -> None:
    """It said `1 rows without`, and `nine in ten 1–1, all 1–1 items`."""
    rows = [{"q": f"what of {n}?", "marks": [str(n)], "answer": f"it is {n}"} for n in range(40)]
    del rows[0]["marks"]
    text = "\n".join(json.dumps(row) for row in rows)
    (cli.toy.root / "rows.jsonl").write_text(text + "\n")
    assert cli("data", "look", "rows.jsonl", "--html", "rows.html").code == 0
    page = (cli.toy.root / "rows.html").read_text()
    assert "lists: all of 1 items; 1 row without" in page


def test_without_a_candidate_those_that_could_be_are_named(cli: Cli) -> None:
    """`compare` said `Missing option`, and `gate` asked which, of what it did not tell."""
    for verb in ("compare", "gate"):
        said = cli(verb, "toy")
        assert said.code == 2
        assert "which candidate? --candidate NAME. None has a recorded run yet" in said.err
        assert "Known: plain, reference, shots." in said.err
    cli("eval", "toy", "--candidate", "shots", "--candidate", "constant:6")
    for verb in ("compare", "gate"):
        said = cli(verb, "toy")
        assert said.code == 2
        known = said.err.partition("Those with a recorded run: ")[2]
        assert sorted(known.rstrip(".\n").split(", ")) == ["constant:6", "shots"]


def test_a_misspelt_verb_is_told_which_it_may_have_been(cli: Cli) -> None:
    said = cli("laddr", "toy")
    assert said.code == 2
    assert "No such command 'laddr'. Did you mean 'ladder'?" in said.err
    assert "Did you mean" not in cli("xyzzy").err
    assert "No such option '--stroe'" in cli("--stroe", "x").err


def test_the_report_shows_the_lazy_answers_that_a_score_is_read_against(cli: Cli) -> None:
    cli("eval", "toy", *(f"--candidate={n}" for n in ("plain", "constant:6", "reference")))
    cli("report", "toy", "--out", "page.html")
    page = (cli.toy.root / "page.html").read_text()
    table = page[page.index("Every candidate over dev") :].partition("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]*)(?:<br><span[^>]*>(.*?)</span>)?</th>', table) == [
        ("plain", ""),
        ("constant:6", "the same answer to all"),
        ("reference", "positive control"),
    ]


def test_no_number_of_a_verdict_is_parted_from_its_sign_in_a_page() -> None:
    """`33.5` stood at the end of a line and `%` on the next, and one page had two minus signs."""
    text = "-33.4 points (-47.1 to -19.7 at 4 %), 80 % sure of few-shot-2"
    assert words.said(text) == (
        "\u221233.4 points (\u221247.1 to \u221219.7 at 4\u202f%), 80\u202f% sure of few-shot-2"
    )
