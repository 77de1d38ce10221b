from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import pytest

import harness
from harness import Miss, Reply, UsageError, checks, hookimpl
from harness.checks import registry
from harness.checks.base import Undecided
from harness.errors import PluginError
from harness.ports.manager import Plugins


def with_checks(**offered: Any) -> None:
    """Take part as a plugin that offers these checks."""
    module = types.ModuleType("acme_checks")
    module.harness_checks = hookimpl(lambda: offered)  # type: ignore[attr-defined]
    plugins = Plugins()
    plugins.register(module, name="acme")
    checks.use_plugins(plugins)


def polite(reply: Reply | str, *, word: str = "please") -> str:
    text = reply if isinstance(reply, str) else reply.text
    if word not in text:
        raise Miss(f"no {word!r}", value=0.25)
    return word


def bare(reply: str) -> None:
    assert reply == "x", "not x"


def test_a_check_that_cannot_say_what_it_is_names_its_plugin() -> None:
    def rude(reply: Reply) -> None:
        """Never called."""

    def broken(texts: Any) -> str:
        raise LookupError("no weights here")

    rude.identity = broken  # type: ignore[attr-defined]
    with_checks(rude=rude)
    with pytest.raises(PluginError, match=r"'rude' of .*raised LookupError: no weights here"):
        registry.identity_of("rude")


def test_the_exported_names_are_sorted_complete_and_real() -> None:
    assert checks.__all__ == sorted({*registry.HOMES, *registry.TOOLS, "no"})
    assert dir(checks) == checks.__all__
    for name in checks.__all__:
        assert getattr(checks, name) is not None
        if name in registry.HOMES:
            assert checks.named(name).__module__ == f"harness.checks.{registry.HOMES[name]}"
            assert checks.named(name).__doc__


def test_every_public_function_of_a_family_is_exported() -> None:
    for family, names in registry.FAMILIES.items():
        assert list(names) == sorted(names)
        for name in names:
            assert callable(getattr(getattr(checks, family), name))


def test_importing_checks_costs_no_library() -> None:
    heavy = ["regex", "jsonschema", "sqlglot", "numpy", "rapidfuzz", "sacrebleu", "pluggy"]
    code = f"""
import sys
from harness import Reply, checks
checks.contains(Reply(text="x"), "x")
checks.json('{{"a": 1}}')
checks.no.equals("a", "b")
print([m for m in {heavy} if m in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_negated_check_turns_reason_and_value_round() -> None:
    result = checks.no.contains("cat", "dog")
    assert (result.name, result.value) == ("no.contains", 1.0)
    assert result.reason == "contains: 'dog' is not in 'cat'"
    with pytest.raises(Miss, match=r"^no\.contains: 'cat' is in 'cat'$") as excinfo:
        checks.no.contains("cat", "cat")
    assert excinfo.value.value == 0
    assert checks.no.token_f1("a b", "b c", normalise=()).value == pytest.approx(0.5)


DOCTYPE = '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
BROKEN_SQL = "```sql\nselect from from\n```\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("contains_json", "[1" * 2000 + ' {"a": 1}'),
        ("contains_sql", BROKEN_SQL * 60 + "```sql\nselect a from b\n```"),
        ("contains_xml", "<a>&</a> " * 60 + "<a>1</a>"),
        ("python", "not " * 10_000 + "1"),
        ("sql", "select " + "(" * 4000 + "1" + ")" * 4000),
        ("toml", "a=" + "[" * 5000 + "]" * 5000),
        ("xml", DOCTYPE),
    ],
)
def test_what_was_not_read_to_its_end_is_no_evidence_of_absence(name: str, text: str) -> None:
    for check in (checks.named(name), checks.named(f"no.{name}")):
        with pytest.raises(Undecided):
            check(text)


def test_a_wrong_argument_is_no_evidence_for_the_negated_check() -> None:
    with pytest.raises(UsageError):
        checks.no.contains_all("cat", [])
    with pytest.raises(TypeError):
        checks.no.contains("cat", needle="x")


def test_a_check_is_run_by_name_with_arguments_from_a_file() -> None:
    assert checks.run("contains", "abc", {"text": "a"}).reason == "'a' is in 'abc'"
    assert checks.run("no.contains", "abc", {"text": "x"})
    assert checks.run("json", "[1]").reason == "[1]"
    with pytest.raises(Miss):
        checks.run("contains", "abc", {"text": "x"})


def test_a_wrong_name_or_argument_says_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no check 'contians'\. Did you mean contains"):
        checks.run("contians", "abc", {})
    with pytest.raises(UsageError, match=r"missing a required argument: 'text'.*It takes text"):
        checks.run("contains", "abc", {"texts": "a"})
    with pytest.raises(UsageError, match="unexpected keyword argument 'loud'"):
        checks.run("contains", "abc", {"text": "a", "loud": True})


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    assert not hasattr(checks, "nothing_like_it")
    assert not hasattr(checks.no, "nothing_like_it")
    assert not hasattr(checks, "__wrapped__")


def test_a_stranger_adds_a_check_by_the_hook() -> None:
    with_checks(polite=polite)
    assert checks.polite("yes please") == "please"
    assert harness.checks.polite is checks.polite
    assert "polite" in checks.names()
    with pytest.raises(Miss, match="no 'thanks'"):
        checks.polite("yes", word="thanks")
    assert checks.no.polite("yes").value == 0.75
    assert checks.run("no.polite", "yes", {"word": "thanks"})
    with pytest.raises(UsageError, match="It takes word"):
        checks.run("polite", "yes", {"wort": "x"})


def test_a_stranger_may_say_no_with_false_or_a_bare_assert() -> None:
    with_checks(never=lambda reply: False, bare=bare)
    with pytest.raises(Miss, match="never: it does not hold"):
        checks.never("x")
    assert checks.no.never("x")
    with pytest.raises(Miss, match="bare: not x"):
        checks.bare("y")
    assert checks.no.bare("y")


def test_a_strangers_error_stays_a_fault_and_is_named() -> None:
    def broken(reply: str) -> None:
        raise KeyError("oops")

    with_checks(broken=broken)
    for check in (checks.broken, checks.no.broken):
        with pytest.raises(KeyError) as excinfo:
            check("x")
        assert "raised by the check 'broken'" in excinfo.value.__notes__[0]


@pytest.mark.parametrize("name", ["contains", "no", "run", "text", "no.thing"])
def test_a_stranger_cannot_take_a_name_of_ours(name: str) -> None:
    with_checks(**{name: polite})
    with pytest.raises(PluginError, match="is a name of harness"):
        checks.names()
    assert checks.contains("a", "a")  # ours go on


def test_the_installed_plugins_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load(self: Plugins) -> Plugins:
        loads.append(self)
        return self

    monkeypatch.setattr(Plugins, "load", load)
    checks.use_plugins(None)
    assert not hasattr(checks, "nothing_like_it")
    assert not hasattr(checks, "nothing_else")
    assert len(loads) == 1
