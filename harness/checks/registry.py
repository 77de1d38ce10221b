"""Finds checks by name, negates them, and asks plugins for theirs. Knows what none of them does."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from harness.checks.asserted import fit
from harness.checks.base import CheckResult, Undecided, held, miss, show
from harness.errors import HarnessError, Miss, PluginError, UsageError, words_of
from harness.records import Case, Json

if TYPE_CHECKING:
    from harness.ports.manager import Plugins

FAMILIES: dict[str, tuple[str, ...]] = {
    "budget": ("cost", "finish_reason", "first_token", "latency", "perplexity", "tokens"),
    "code": ("code_block", "python", "sql", "sql_equal", "toml", "xml"),
    "json_": ("contains_json", "json", "json_equal", "json_overlap", "json_schema"),
    "markup": ("contains_html", "contains_sql", "contains_xml", "html"),
    "numbers": ("between", "close_to", "number"),
    "prose": ("language", "length", "reading_grade"),
    "safety": ("pii", "profanity", "refusal", "secrets", "words"),
    "sets": ("one_of", "set_f1", "set_precision", "set_recall", "token_f1"),
    "similarity": (
        "bleu",
        "chrf",
        "edit_distance",
        "edit_similarity",
        "gleu",
        "rouge_l",
        "rouge_n",
    ),
    "text": (
        "contains",
        "contains_all",
        "contains_any",
        "ends_with",
        "equals",
        "regex",
        "starts_with",
    ),
    "together": ("several",),
    "tools": (
        "step_count",
        "tool_call",
        "tool_f1",
        "tool_sequence",
        "tool_used",
        "valid_tool_calls",
    ),
    "traces": ("span_count", "span_duration", "span_errors"),
}
HOMES = {name: family for family, names in FAMILIES.items() for name in names}
TOOLS = ("named", "names", "negate", "run", "use_plugins")
_PREFIX = "no."
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
Check = Callable[..., Any]

_plugins: list[Plugins] = []  # the one that is in use; empty until a stranger's name is asked for


class UnknownCheck(UsageError, AttributeError):
    """No check has this name: an AttributeError too, so that `hasattr(checks, name)` works."""


def use_plugins(plugins: Plugins | None) -> None:
    """Take third-party checks from `plugins`; None goes back to what is installed."""
    _plugins[:] = [] if plugins is None else [plugins]
    _strangers.cache_clear()


@functools.cache
def _strangers() -> Mapping[str, Check]:
    """Return the checks of plugins by name, loaded once.

    Raises PluginError where one takes a name of ours.
    """
    if not _plugins:
        from harness.ports.manager import Plugins

        _plugins.append(Plugins().load())
    found = {}
    for name, check in _plugins[0].table("harness_checks").items():
        if name in HOMES or name in (*TOOLS, "no") or is_module(name) or name.startswith(_PREFIX):
            raise PluginError(
                f"harness_checks: {name!r} (of {getattr(check, '__module__', check)}) is a name of "
                "harness.checks itself. Rename it there, or refuse the plugin in [tool.harness] "
                "disabled_plugins."
            )
        found[name] = _bordered(name, check)
    return found


def is_module(name: str) -> bool:
    """Tell whether `harness.checks.NAME` is a file of ours."""
    return name.isidentifier() and find_spec(f"harness.checks.{name}") is not None


def _bordered(name: str, check: Check) -> Check:
    """Return a stranger's check, in which `False` and a bare assert are misses too."""

    @functools.wraps(check)
    def bordered(*args: Any, **arguments: Any) -> Any:
        try:
            result = check(*args, **arguments)
        except Miss:
            raise
        except AssertionError as exc:
            raise miss(name, str(exc) or "its assertion failed") from exc
        except Exception as exc:  # border: a stranger's check can raise anything
            exc.add_note(f"raised by the check {name!r} of {check.__module__}")
            raise
        if result is False:
            raise miss(name, "it does not hold")
        return fit(result, check=bordered, name=name, frame=sys._getframe(1))

    return bordered


def named(name: str) -> Check:
    """Return the check called `name`; `no.NAME` is that check negated.

    Raises UnknownCheck with the likeliest names.
    """
    if name.startswith(_PREFIX):
        return negate(named(name.removeprefix(_PREFIX)), name=name.removeprefix(_PREFIX))
    if name in HOMES:
        check: Check = getattr(importlib.import_module(f"harness.checks.{HOMES[name]}"), name)
        return check
    strangers = _strangers()
    if name in strangers:
        return strangers[name]
    import difflib

    known = names()
    likely = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    raise UnknownCheck(f"no check {show(name)}. Did you mean {', '.join(likely)}?")


def names() -> list[str]:
    """Return the name of every check, those of plugins too."""
    return sorted({*HOMES, *_strangers()})


def negate(check: Check, *, name: str = "") -> Callable[..., CheckResult]:
    """Return the check that holds where `check` misses, with its reason, and the other way round.

    What came to no decision (a pattern out of time) and what is no measurement (a wrong argument)
    stays what it is. The score is what is left to 1.
    """
    called = name or getattr(check, "__name__", type(check).__name__)

    @functools.wraps(check)
    def negated(*args: Any, **arguments: Any) -> CheckResult:
        try:
            result = check(*args, **arguments)
        except Undecided:
            raise
        except Miss as exc:
            return held(_PREFIX + called, str(exc), value=1.0 - exc.value)
        is_result = isinstance(result, CheckResult)
        reason = result.reason if is_result else _seen(result)
        raise miss(_PREFIX + called, reason, value=1.0 - result.value if is_result else 0.0)

    return negated


def identity_of(name: str, *, texts: Callable[[], Collection[str]] = frozenset[str]) -> str | None:
    """Return what a plugin's check is: its distribution, version, and what its own `identity` (a
    text, or a function that gives one) adds, as a digest of weights. None for a check of ours.

    A function that takes an argument is given `texts()`: all that stand where it may be called.
    Raises PluginError where it fails, for nobody knows then whether earlier scores still stand.
    """
    if name in HOMES or name not in _strangers():
        return None
    check = _strangers()[name]
    top = str(getattr(check, "__module__", "")).split(".", maxsplit=1)[0]
    own = next((i for i in _plugins[0].infos if i.module.split(".", maxsplit=1)[0] == top), None)
    said = getattr(check, "identity", "")
    parts = [own.distribution, own.version] if own else [top]
    try:
        if callable(said):
            said = said(texts()) if inspect.signature(said).parameters else said()
    except HarnessError:
        raise
    except Exception as exc:  # border: a stranger's function can raise anything
        raise PluginError(
            f"harness_checks: {name!r} of {parts[0]} cannot say what it is: its `identity` raised "
            f"{type(exc).__name__}: {words_of(exc)}. Repair it there, or refuse the plugin in "
            "[tool.harness] disabled_plugins."
        ) from exc
    return " ".join([*parts, str(said)]).strip()


def _seen(result: Any) -> str:
    return _ADDRESS.sub("", show(result))  # of a syntax tree: it differs from run to run


class Negations:
    """Every check negated: `checks.no.contains(reply, "x")`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., CheckResult]:
        if name.startswith("_"):
            raise AttributeError(name)
        return negate(named(name), name=name)

    def __dir__(self) -> list[str]:
        return names()


no = Negations()


def run(
    name: str,
    reply: Any,
    arguments: Mapping[str, Json] | None = None,
    *,
    case: Case | None = None,
) -> CheckResult:
    """Run the check called `name` with arguments from a file; raises Miss as the check does.

    `case` is given to a check that takes it. Raises UsageError where the check takes no such
    argument, or lacks one.
    """
    given: dict[str, Any] = dict(arguments or {})
    check = binding(name, given)
    if case is not None and getattr(check, "takes_case", False):
        given["case"] = case
    result = check(reply, **given)
    return result if isinstance(result, CheckResult) else held(name, _seen(result))


def binding(name: str, arguments: Mapping[str, Json]) -> Check:
    """Return the check called `name`, which takes `arguments` after the reply.

    Raises UsageError where there is none, it takes no such argument, or lacks one.
    """
    check = named(name)
    signature = inspect.signature(check)
    try:
        signature.bind(None, **arguments)
    except TypeError as exc:
        takes = ", ".join(list(signature.parameters)[1:]) or "nothing"
        raise UsageError(f"check {name!r}: {exc}. It takes {takes}.") from exc
    for row in _within(name, arguments):
        binding(row["name"], row.get("arguments") or {})
    return check


def _within(name: str, arguments: Mapping[str, Json]) -> list[Mapping[str, Any]]:
    if name.removeprefix(_PREFIX) != "several":
        return []
    from harness.checks.together import rows_of

    return rows_of(arguments["checks"])


def names_in(row: Mapping[str, Json]) -> list[str]:
    """Return the names of the checks that a row of checks asks for, without `no.`."""
    name, arguments = str(row["name"]), row.get("arguments") or {}
    return [
        name.removeprefix(_PREFIX),
        *(each for inner in _within(name, arguments) for each in names_in(inner)),
    ]
