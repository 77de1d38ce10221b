"""What a check found may be `[]` or `0`: in `assert` it holds, and elsewhere it is the value."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Reply, checks, hookimpl
from harness.checks.base import CheckResult
from harness.ports.manager import Plugins
from tests.engine.small import write_task

FALSE = ("[]", "{}", "0", "-0.0", '""', "null", "false")
EVALS = """
from harness import checks


def test_is_json(reply):
    assert checks.json(reply)


def test_fits(reply):
    assert checks.json_schema(reply, {}), "it must fit"


def test_is_zero(reply):
    assert checks.number("0 of 3", which="first") == 0
"""


@pytest.mark.parametrize("text", FALSE)
def test_an_assert_asks_whether_the_check_holds(text: str) -> None:
    assert checks.json(text)
    assert checks.json(Reply(text=text)), "with words of its own"
    assert checks.json_schema(text, {})
    assert (
        checks
        # a comment, and a line for each part
        .json(text)
    )  # fmt: skip
    assert len(text) > 99 or checks.json(text)
    assert len(text) == len("ä" * 99) or (checks.json(text) and checks.json(text))  # in bytes


@pytest.mark.parametrize("text", FALSE)
def test_elsewhere_it_is_the_value(text: str) -> None:
    value = checks.json(text)
    assert not isinstance(value, CheckResult)
    assert not value
    assert not checks.json(text)
    assert checks.json(text) in ([], {}, 0, "", None, False)
    assert (1 if checks.json(text) else 2) == 2
    assert [checks.json(text)] == [value]
    assert not any(checks.json(text) for _ in range(3))
    assert repr(checks.json(text)) == repr(value)
    if checks.json(text):
        pytest.fail("an `if` sees the value")


def test_what_is_written_in_c_sees_the_value_too() -> None:
    """It calls the check from within the `assert`, and has no frame of its own."""
    assert not any(map(checks.json, FALSE))
    assert not list(filter(checks.json, FALSE))
    with pytest.raises(AssertionError):
        assert any(map(checks.json, FALSE))
    with pytest.raises(AssertionError):
        assert sum(map(checks.number, ["0", "0"]))
    assert max(["0", "3"], key=checks.number) == "3"
    assert sorted(["3", "0"], key=checks.number)
    with pytest.raises(AssertionError):  # the check is asked, and somebody else has it too
        assert checks.json("[]") and any(map(checks.json, FALSE))  # noqa: PT018


def test_a_check_by_another_name() -> None:
    parse = checks.json
    assert parse("[]")
    assert harness.checks.json("[]")


def test_as_older_releases_of_pytest_rewrite_an_assert(tmp_path: Path) -> None:
    """They give each call in an `assert` the place of the whole of it."""
    path = tmp_path / "eval_old.py"
    path.write_text(
        "from harness import Reply, checks\n"
        "assert checks.json(Reply(text='[]')), 'with words'\n"
        "assert len('x') > 3 or checks.json('0')\n"
        "assert isinstance(checks.json('[]'), list)\n"
        "assert checks.number('0') == 0 or checks.json('[]')\n"
        "assert not checks.json('[]')\n"
    )
    tree = ast.parse(path.read_text())
    for statement in tree.body:
        for node in ast.walk(statement):
            ast.copy_location(node, statement)
    exec(compile(tree, path, "exec"), {})


def test_every_check_that_returns_what_it_found() -> None:
    assert checks.number("it is 0")
    assert checks.number("it is 0") == 0
    assert checks.code_block("```\n```")
    assert checks.code_block("```\n```") == ""
    assert checks.toml("# nothing is set")
    assert checks.toml("# nothing is set") == {}
    assert checks.contains_json("so: []")
    assert checks.contains_json("so: []") == []
    assert checks.contains_json("so: [0]")[0] == 0
    assert checks.one_of("?!", ["...", "yes"])
    with pytest.raises(harness.Miss):
        assert checks.json("")


def test_what_stands_in_for_it_says_what_was_found() -> None:
    def asked() -> Any:
        return checks.json("[]")

    assert asked() == []  # the call is not what the assert asks
    assert checks.run("json", "[]").reason == "[]"


def test_a_stranger_s_check_that_returns_nothing_holds() -> None:
    class Theirs:
        @hookimpl
        def harness_checks(self) -> Mapping[str, Any]:
            return {"silent": lambda reply: None, "never": lambda reply: False}

    plugins = Plugins()
    plugins.register(Theirs(), name="theirs")
    checks.use_plugins(plugins)
    assert checks.silent("x")
    assert checks.silent("x") is None
    with pytest.raises(harness.Miss):
        assert checks.never("x")


def test_outside_pytest(tmp_path: Path) -> None:
    script = tmp_path / "plain.py"
    lines = [f"assert checks.json({text!r})" for text in FALSE]
    script.write_text("from harness import checks\n" + "\n".join(lines) + "\nprint('all hold')\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("all hold\n", "")


def test_in_a_guard(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "p", primary="all")
    for old in folder.glob("eval_*.py"):
        old.unlink()
    (folder / "eval_json.py").write_text(EVALS)
    with harness.guard(folder) as guard:
        for text in FALSE:
            assert guard({"n": 1}, reply=text).is_good is True
        assert guard({"n": 1}, reply="[").is_good is False


def test_without_a_source_it_is_the_value() -> None:
    names: dict[str, Any] = {"checks": checks}
    with pytest.raises(AssertionError):
        exec("assert checks.json('[]')", names)
