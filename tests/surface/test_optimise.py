from __future__ import annotations

from pathlib import Path

import pytest

from tests.surface.inprocess import Cli

TEACHER = """
class Teacher:
    is_external = True

    def __init__(self, config):
        pass

    def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write("reflect\\n")
        return harness.Reply(text="```\\nAdd the two numbers.\\n```")

@harness.hookimpl
def harness_backends():
    return {"adder": Adder, "teacher": Teacher}
"""


@pytest.fixture
def school(cli: Cli) -> Cli:
    module = cli.toy.root / "site" / "adder.py"
    module.write_text(module.read_text().split("@harness.hookimpl")[0] + TEACHER)
    (cli.toy.task / "prompts/shots.md").unlink()
    return cli


def made(cli: Cli) -> list[Path]:
    return sorted((cli.toy.task / "prompts/made").glob("*"))


def test_ladder_optimises_the_best_prompt_and_tries_what_comes_of_it(school: Cli) -> None:
    wish = ["--only-files", "--optimise", "--reflect", "teacher:large", "--max-calls", "60"]
    said = school("ladder", "toy", "--only-files", *wish)
    assert said.code == 0, said.err
    assert "made prompts/made/optimised-gepa.md from plain (" in said.out
    (path,) = made(school)
    assert "@system\nAdd the two numbers.\n" in path.read_text()
    tries = {
        t["candidate"]: t
        for t in school("ladder", "toy", "--only-files", "--show", "--json").json["tries"]
    }
    assert tries["optimised-gepa"]["family"] == "optimised"
    assert tries["optimised-gepa"]["estimate"]["mean"] == 1
    assert tries["plain"]["estimate"]["mean"] < 1
    asked = len(school.toy.sent)
    assert school("ladder", "toy", "--only-files", *wish).code == 0
    assert len(school.toy.sent) == asked, "all of it is in the store"
    assert made(school) == [path]


def test_ladder_optimises_by_another_optimiser_that_is_named(school: Cli) -> None:
    wish = ["--optimise", "dspy", "--reflect", "teacher:large", "--max-calls", "30"]
    said = school("ladder", "toy", "--only-files", *wish)
    assert said.code == 0, said.err
    assert "made prompts/made/optimised-dspy.md from plain (" in said.out
    assert "@system\nAdd the two numbers.\n" in made(school)[0].read_text()


def test_an_internal_case_and_an_external_reflection_model_are_refused(school: Cli) -> None:
    rows = [
        {"id": f"c{i}", "split": s, "inputs": {"a": i, "b": 1}, "reference": str(i + 1), "tags": t}
        for i, (s, t) in enumerate([("dev", [])] * 6 + [("train", ["internal"])] * 4)
    ]
    school.toy.write_cases(rows)  # type: ignore[arg-type]
    wish = ["ladder", "toy", "--only-files", "--optimise", "--max-calls", "60"]
    wish += ["--reflect", "teacher:large"]
    said = school(*wish)
    assert said.code == 2
    assert "'c6' is tagged internal, and the reflection model teacher:large" in said.err
    assert "reflect" not in school.toy.sent
    assert made(school) == []
    assert school(*wish, "--override-boundary", "the customer agreed").code == 0
    assert "reflect" in school.toy.sent


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (["--optimise", "nope"], "no optimiser 'nope'. Known: dspy, gepa"),
        (["--reflect", "teacher:x"], "need --optimise"),
        (["--optimise", "--max-calls", "5"], "--max-calls 5 lets gepa try no rewrite"),
        (["--optimise", "--optimise-from", "nope"], "no prompt 'nope'. Known: plain"),
    ],
)
def test_a_wish_that_cannot_be_says_why(school: Cli, wish: list[str], says: str) -> None:
    said = school("ladder", "toy", "--only-files", *wish)
    assert said.code == 2
    assert says in said.err
