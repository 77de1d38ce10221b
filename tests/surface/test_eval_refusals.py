"""What cannot be an eval as it stands is refused before anything is asked, by file and line."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from harness.engine.eval_files import load_eval_files
from harness.engine.eval_names import place_of
from harness.errors import TaskError
from tests.surface.inprocess import Cli

RIGHT = "def test_right(case, reply):\n    assert reply\n"
AGAIN = "class TestMore:\n    def test_right(self, case, reply):\n        assert not reply\n"
NAMED_TWICE = (
    "evals/toy/eval_toy.py:1: a second eval named 'right'; the first stands at evals/toy/{}. "
    "A score is what one function gives, whatever its file or class: rename one of the two."
)


def write(cli: Cli, **files: str) -> None:
    for name, text in files.items():
        (cli.toy.task / f"{name}.py").write_text(text)


# ---------------------------------------------------------------- two evals of one name


@pytest.mark.parametrize("more", [(), ("-k", "TestMore"), ("--collect-only",)])
@pytest.mark.parametrize(("again", "line"), [(RIGHT, 1), (AGAIN, 2)])
def test_two_evals_of_one_name_are_refused(
    cli: Cli, again: str, line: int, more: tuple[str, ...]
) -> None:
    """Their mean would be a score that nobody wrote."""
    write(cli, eval_toy=RIGHT, eval_more=again)
    said = cli("eval", "toy", "--candidate", "shots", "--", *more)
    assert said.code == 2
    assert NAMED_TWICE.format(f"eval_more.py:{line}") in said.err
    assert cli.toy.sent == []
    with pytest.raises(TaskError, match=r"eval_toy\.py:1: a second eval named 'right'"):
        load_eval_files(cli.toy.task)  # a guard would average them, too


@pytest.mark.parametrize("more", [(), ("-n", "2")])
def test_pytest_says_of_them_what_it_says_of_a_file_that_it_cannot_collect(
    cli: Cli, more: tuple[str, ...]
) -> None:
    write(cli, eval_toy=RIGHT, eval_more=AGAIN)
    done = cli.pytest("evals/toy", "--candidate", "shots", *more)
    assert done.code == 2, done.out
    assert "ERROR collecting evals/toy/eval_toy.py" in done.out
    assert NAMED_TWICE.format("eval_more.py:2") in done.out
    assert cli.toy.sent == []


def test_of_a_decorated_function_the_place_is_its_own() -> None:
    """That of its wrapper is one for all that it decorates: they would be one eval."""

    def of(case: object) -> None:
        pass

    @functools.wraps(of)
    def wrapped(*given: object) -> None:
        of(*given)

    here = f"{__file__}:{of.__code__.co_firstlineno}"
    assert place_of(of) == place_of(wrapped) == here
    assert place_of(functools.partial(of, None)) == here
    assert place_of(print) != here


def test_one_function_that_two_files_have_is_one_eval(cli: Cli) -> None:
    write(cli, eval_toy=RIGHT, eval_more="from eval_toy import test_right\n")
    said = cli("eval", "toy", "--candidate", "shots", "--json")
    [one] = said.json["runs"]
    assert one["run"]["is_complete"]
    assert {s["value"] for t in one["run"]["trials"] for s in t["scores"]} == {1.0}


def test_ordinary_tests_beside_evals_may_have_one_name(cli: Cli) -> None:
    write(
        cli,
        eval_toy=f"{RIGHT}def test_tool(tmp_path):\n    pass\n",
        eval_more="def test_tool():\n    pass\n",
    )
    assert cli("eval", "toy", "--candidate", "shots").code == 0
    assert [one.name for one in load_eval_files(cli.toy.task).evals] == ["right"]


def test_two_tasks_may_have_evals_of_one_name(cli: Cli) -> None:
    write(cli, eval_toy=RIGHT)
    other = cli.toy.task.parent / "other"
    other.mkdir()
    (other / "eval_other.py").write_text(RIGHT)
    for file in ("task.toml", "cases.jsonl"):
        (other / file).write_text((cli.toy.task / file).read_text())
    done = cli.pytest("evals", "--candidate", "reference")
    assert done.code == 0, done.out
    assert "24 passed" in done.out


# ---------------------------------------------------------------- a fixture that there is not

MISSPELT = "def test_right(case, replyy):\n    assert replyy\n"
OF_A_FIXTURE = """import pytest

@pytest.fixture
def words(reply, casee):
    return reply.text.split()

def test_right(case, words):
    assert words
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (MISSPELT, "eval_toy.py:1: test_right asks for 'replyy', which is no fixture. "),
        (OF_A_FIXTURE, "eval_toy.py:3: words asks for 'casee', which is no fixture. "),
    ],
)
@pytest.mark.parametrize("more", [(), ("-k", "right"), ("-n", "1")])
def test_a_misspelt_fixture_is_told_with_what_was_meant(
    cli: Cli, text: str, told: str, more: tuple[str, ...]
) -> None:
    write(cli, eval_toy=text, eval_more="def test_other(case, reply):\n    assert reply\n")
    said = cli("eval", "toy", "--candidate", "shots", "--", *more)
    assert said.code == 2
    assert told in said.err
    assert "Did you mean 'reply'?" in said.err or "Did you mean 'case'?" in said.err
    assert cli.toy.sent == []
    assert cli("runs", "--json").json == []


def test_what_is_meant_may_be_a_fixture_of_the_file_or_of_a_conftest(cli: Cli) -> None:
    write(cli, conftest="import pytest\n@pytest.fixture\ndef price_list():\n    return 1\n")
    write(cli, eval_toy="def test_right(case, reply, prices_list):\n    assert reply\n")
    assert "Did you mean 'price_list'?" in cli("eval", "toy", "--candidate", "shots").err
    write(cli, eval_toy="def test_right(case, reply, zebra):\n    assert reply\n")
    said = cli("eval", "toy", "--candidate", "shots").err
    assert "'zebra', which is no fixture. `pytest --fixtures` lists those there are." in said


def test_an_eval_that_is_skipped_may_ask_for_a_fixture_of_a_plugin_that_is_not_there(
    cli: Cli,
) -> None:
    write(
        cli,
        eval_toy=f"import pytest\n{RIGHT}"
        "@pytest.mark.skipif(True, reason='no such plugin')\n"
        "def test_more(case, reply, mocker):\n    assert reply\n"
        "@pytest.fixture\ndef of(request):\n    return request.param\n"
        "@pytest.mark.parametrize('of', [1, 2], indirect=True)\n"
        "@pytest.mark.parametrize('part', [1, 2])\n"
        "@pytest.mark.parametrize('none', [])\n"
        "@pytest.mark.usefixtures('tmp_path')\n"
        "def test_parts(case, reply, of, part, none):\n    assert reply\n",
    )
    said = cli("eval", "toy", "--candidate", "shots")
    assert said.code == 0, said.out


def test_a_fixture_that_there_is_not_refuses_what_would_ask_for_it_alone(cli: Cli) -> None:
    """Who leaves an eval out by `-k`, or by a hook in a conftest.py, does without its plugin."""
    write(cli, eval_toy=RIGHT, eval_more="def test_more(case, reply, mocker):\n    assert reply\n")
    assert cli("eval", "toy", "--candidate", "shots", "--", "-k", "right").code == 0
    assert len(cli.toy.sent) == 12
    assert "test_more[reference-c0]" in cli("eval", "toy", "--", "--collect-only").out
    for mark in ("skip", "xfail"):
        write(
            cli,
            conftest="import pytest\ndef pytest_collection_modifyitems(items):\n"
            f"    [i.add_marker(pytest.mark.{mark}) for i in items if 'more' in i.name]\n",
        )
        assert cli("eval", "toy", "--candidate", "shots").code == 0


def test_pytest_refuses_a_misspelt_fixture_as_an_option_that_is_wrong(cli: Cli) -> None:
    write(cli, eval_toy=MISSPELT)
    done = cli.pytest("evals/toy", "--candidate", "shots")
    assert done.code == 4, done.out
    assert "ERROR: evals/toy/eval_toy.py:1: test_right asks for 'replyy'" in done.err
    assert cli.toy.sent == []


def test_ordinary_tests_elsewhere_are_left_to_pytest(cli: Cli, tmp_path: Path) -> None:
    (cli.toy.root / "test_else.py").write_text("def test_it(no_such_thing):\n    pass\n")
    done = cli.pytest("test_else.py", "evals/toy", "--candidate", "shots")
    assert done.code == 1, done.out
    assert "fixture 'no_such_thing' not found" in done.out
