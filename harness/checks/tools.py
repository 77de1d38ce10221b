"""Tells whether a reply called the right tools. Knows nothing of what the tools do.

A call is read in each shape in which backends hand it on: `{"name", "arguments"}`, OpenAI's
`{"function": {"name", "arguments": "<JSON text>"}}`, Anthropic's `{"name", "input"}`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.checks.base import CheckResult, held, lines, listed, miss, printable, shorten, show
from harness.checks.differences import Comparison
from harness.checks.json_ import value_of
from harness.checks.schema import problems_of
from harness.checks.sets import f1_of
from harness.errors import Miss, UsageError
from harness.records import Json, Message, Reply

Turn = Reply | Message
Trajectory = Turn | Iterable[Turn]
"""One reply, or the replies (or messages) of a dialogue in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. `problem` says why the arguments cannot be read, where they cannot."""

    name: str
    arguments: Json = None
    problem: str = ""

    @property
    def title(self) -> str:
        """The name, fit for a reason: a model wrote it."""
        return printable(shorten(self.name, 60))

    def __str__(self) -> str:
        return f"{self.title}({show(self.arguments, 100) if not self.problem else '?'})"


def _call(plain: Json) -> Call:
    inner = plain.get("function", plain) if isinstance(plain, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        return Call(name="?", problem=f"a call without a name: {show(plain)}")
    arguments = inner.get("arguments", inner.get("input", {}))
    if isinstance(arguments, str):
        try:
            arguments = value_of(arguments, name="arguments") if arguments.strip() else {}
        except Miss as exc:
            return Call(name=inner["name"], problem=str(exc))
    if not isinstance(arguments, Mapping):
        return Call(name=inner["name"], problem=f"arguments are no object: {show(arguments)}")
    return Call(name=inner["name"], arguments=dict(arguments))


def calls_of(replies: Trajectory, *, name: str) -> list[Call]:
    """Return the calls of a reply, or of several, in order."""
    return [_call(plain) for turn in turns_of(replies, name=name) for plain in turn.tool_calls]


def turns_of(replies: Trajectory, *, name: str) -> list[Turn]:
    """Return the turns that the model took: replies, and the messages of the assistant."""
    several = [replies] if isinstance(replies, Reply | Message) else list(replies)
    for turn in several:
        if not isinstance(turn, Reply | Message):
            raise UsageError(f"{name}: takes a Reply or several, not {type(turn).__name__}")
    return [t for t in several if isinstance(t, Reply) or t.role == "assistant"]


def tool_call(
    reply: Trajectory,
    name: str | None = None,
    *,
    arguments: Mapping[str, Json] | None = None,
    accepted: Mapping[str, Sequence[Json]] | None = None,
    optional: Iterable[str] = (),
    allow_extra: bool = False,
    absolute: float = 0.0,
    relative: float = 0.0,
) -> CheckResult:
    """Hold where some call is of the tool `name` (of any where None) with these arguments.

    `arguments` are the values expected, `accepted` lists several good ones for an argument;
    `optional` ones may be left out. Others are wrong unless `allow_extra`, or nothing was said of
    arguments. A miss shows the differences of the call that comes nearest. `checks.no.tool_call`
    holds where nothing was called.
    """
    calls = calls_of(reply, name="tool_call")
    if not calls:
        raise miss("tool_call", f"no call, expected {name or 'one'}")
    of_name = [c for c in calls if name is None or c.name == name]
    if not of_name:
        raise miss("tool_call", f"no call of {name!r}; called: {', '.join(map(str, calls[:5]))}")
    compare = Comparison(allow_extra=True, absolute=absolute, relative=relative)
    told = [
        _wrong(c, arguments, accepted, frozenset(optional), compare, allow_extra=allow_extra)
        for c in of_name
    ]
    best = min(range(len(told)), key=lambda i: len(told[i]))
    if told[best]:
        raise miss("tool_call", f"{of_name[best]}\n  {lines(told[best])}")
    return held("tool_call", f"it called {of_name[best]}")


def _wrong(
    call: Call,
    arguments: Mapping[str, Json] | None,
    accepted: Mapping[str, Sequence[Json]] | None,
    optional: frozenset[str],
    compare: Comparison,
    *,
    allow_extra: bool,
) -> list[str]:
    if call.problem:
        return [call.problem]
    if arguments is None and accepted is None:
        return []
    good = {key: [value] for key, value in (arguments or {}).items()}
    good |= {key: list(values) for key, values in (accepted or {}).items()}
    found = []
    for key, values in good.items():
        if key not in call.arguments:
            if key not in optional:
                found.append(f"{key}: missing, expected {_options(values)}")
        elif all(compare.report(call.arguments[key], value) for value in values):
            found.append(f"{key}: expected {_options(values)}, got {show(call.arguments[key], 80)}")
    if not allow_extra:
        extra = [key for key in call.arguments if key not in good and key not in optional]
        found += [f"{key}: not expected, got {show(call.arguments[key], 80)}" for key in extra]
    return found


def _options(values: Sequence[Json]) -> str:
    return show(values[0], 80) if len(values) == 1 else f"one of {show(values, 80)}"


def valid_tool_calls(reply: Trajectory, tools: Iterable[Json]) -> CheckResult:
    """Hold where every call names one of `tools` (as the request offered them) and its arguments
    fit that tool's schema. No call at all holds too.
    """
    schemas = {}
    for tool in tools:
        inner = tool.get("function", tool)
        schemas[inner["name"]] = inner.get("parameters", inner.get("input_schema", {}))
    calls = calls_of(reply, name="valid_tool_calls")
    found = []
    for call in calls:
        problem = call.problem
        if not problem and call.name not in schemas:
            problem = f"no such tool; offered: {', '.join(schemas) or 'none'}"
        problem = problem or problems_of(call.arguments, schemas[call.name])
        if problem:
            found.append(f"{call.title}: {problem}")
    if found:
        raise miss("valid_tool_calls", lines(found))
    return held("valid_tool_calls", f"{len(calls)} calls, each of an offered tool")


def tool_sequence(
    reply: Trajectory,
    expected: Sequence[str],
    *,
    order: Literal["exact", "subsequence", "any"] = "exact",
) -> CheckResult:
    """Hold where the tools called are the `expected` ones: these alone in this order, in this order
    with others between (`subsequence`), or as often in `any` order.
    """
    got, wanted = [c.name for c in calls_of(reply, name="tool_sequence")], list(expected)
    reason = f"expected {show(wanted)} ({order}), got {show(got)}"
    if order == "exact":
        fits = got == wanted
    elif order == "any":
        fits = Counter(got) == Counter(wanted)
    elif order == "subsequence":
        rest = iter(got)
        fits = all(any(name == other for other in rest) for name in wanted)
    else:
        raise UsageError(f"tool_sequence: order is exact, subsequence or any, not {order!r}")
    if not fits:
        raise miss("tool_sequence", reason)
    return held("tool_sequence", reason)


def tool_f1(reply: Trajectory, expected: Iterable[str], *, at_least: float = 1.0) -> CheckResult:
    """Score the F1 of the names of the tools called against `expected`, each as often as called."""
    got = Counter(c.name for c in calls_of(reply, name="tool_f1"))
    return f1_of("tool_f1", got, Counter(expected), at_least=at_least)


def tool_used(
    reply: Trajectory,
    names: str | Iterable[str],
    *,
    at_least: int = 1,
    at_most: int | None = None,
) -> CheckResult:
    """Hold where each of the tools `names` was called so often, whatever else was called.

    `checks.no.tool_used(reply, "delete")` holds where it never was.
    """
    wanted = listed(names, name="tool_used", what="names")
    counts = Counter(c.name for c in calls_of(reply, name="tool_used"))
    found = [
        f"{name!r} was called {counts[name]} times, expected {_often(at_least, at_most)}"
        for name in wanted
        if counts[name] < at_least or (at_most is not None and counts[name] > at_most)
    ]
    if found:
        called = show(dict(counts.most_common(10)))
        raise miss("tool_used", f"{lines(found)}\n  called: {called}")
    told = ", ".join(f"{name!r} {counts[name]} times" for name in wanted)
    return held("tool_used", f"it called {shorten(told)}")


def step_count(
    reply: Trajectory,
    *,
    at_least: int = 0,
    at_most: int | None = None,
    of: Literal["calls", "turns"] = "calls",
) -> CheckResult:
    """Hold where the model took so many steps: tool calls, or turns of its own."""
    if of not in ("calls", "turns"):
        raise UsageError(f"step_count: of is 'calls' or 'turns', not {of!r}")
    if not at_least and at_most is None:
        raise UsageError("step_count: give at_least, at_most, or both")
    calls = calls_of(reply, name="step_count") if of == "calls" else []
    n = len(calls) if of == "calls" else len(turns_of(reply, name="step_count"))
    if n < at_least or (at_most is not None and n > at_most):
        called = f": {', '.join(c.title for c in calls[:10])}" if calls else ""
        raise miss("step_count", f"{n} {of}, expected {_often(at_least, at_most)}{called}")
    return held("step_count", f"{n} {of}")


def _often(at_least: int, at_most: int | None) -> str:
    if at_most is None:
        return f"at least {at_least}"
    return f"{at_least} to {at_most}" if at_least else f"at most {at_most}"
