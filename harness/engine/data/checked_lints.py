"""Rules that need parsing libraries: personal data, secrets, language, tool calls.

They stand on the checks that evals use. Knows no file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from harness.checks.safety import pii, secrets
from harness.checks.tools import valid_tool_calls
from harness.core.lints.base import Finding, Hits, Lint, Place, Row, Rule
from harness.core.words import count, percent
from harness.errors import Miss, MissingExtra, UsageError
from harness.records import Json, Reply

# what a shape of personal data or of a secret holds at the least; most rows are passed by
_PII = re.compile(r"@|(?:\d[ ().\-/]{0,3}){8}\d|[A-Z]{2}\d\d ?[A-Z0-9]{4}")
_SECRET = re.compile(
    r"[A-Za-z0-9_+/=.-]{16}|-----BEGIN|passw|token|secret|api[_ -]?key|://[^\s/]+@", re.IGNORECASE
)
# names that nobody can own (RFC 2606, RFC 6761): an address there is a stand-in already
_NOBODY = re.compile(
    r"@(?:[\w-]+\.)*(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)\b(?![.-]?\w)",
    re.IGNORECASE,
)
LONGEST = 20_000


class TextLint(Lint):
    """Finds personal data and secrets, by their shapes."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="secret",
            severity="error",
            about="A key, token or password stands in a row, by its shape. What is trained can be "
            "asked out of the model.",
            fix="Withdraw the key, and replace it in the data.",
        ),
        Rule(
            name="pii",
            severity="warn",
            about="An e-mail address, a phone number, an IBAN, a card or social security number "
            "stands in a row, by its shape and checksum; addresses at example.com and the like are "
            "nobody's. Names and street addresses have no shape: they are not found.",
            fix="Replace it by a stand-in, the same one everywhere.",
        ),
    )

    def __init__(self) -> None:
        self._found = {"secret": Hits(), "pii": Hits()}

    def see(self, row: Row) -> None:
        """Look through all texts of a row."""
        texts = [m.content for m in row.example.messages if m.role == "system"]
        text = "\n".join([*texts, row.asked, row.answer or ""])[:LONGEST]
        if _SECRET.search(text):
            self._look("secret", secrets, text, row)
        if _PII.search(text):
            text = _NOBODY.sub(lambda found: " " * len(found[0]), text) if "@" in text else text
            self._look("pii", pii, text, row)

    def _look(self, name: str, check: Any, text: str, row: Row) -> None:
        try:
            told = check(text)
        except Miss:
            return
        self._found[name].add(row, told.reason.splitlines()[0].strip())

    def findings(self) -> Iterable[Finding]:
        """Return what was found."""
        for name, what in (("secret", "a key, token or password"), ("pii", "personal data")):
            hits = self._found[name]
            if hits.count:
                text = f"{count(hits.count, 'row')} with {what}"
                yield self.found(name, text, count=hits.count, rows=hits.rows)


class LanguageLint(Lint):
    """Finds answers in another language than the others."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="wrong-language",
            severity="warn",
            about="Four answers in five are in one language, and this one is surely in another "
            "(texts of 12 words or more, 95 % sure). Without answers, questions are compared. In a "
            "large set every tenth or hundredth row is looked at.",
            fix="Translate the row, keep the language apart as a tag, or remove it.",
        ),
    )
    LEAST_WORDS = 12
    SURE = 0.95
    EACH = 5_000

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {"answer": Counter(), "question": Counter()}
        self._rows: dict[str, dict[str, list[Place]]] = {"answer": {}, "question": {}}
        self._tell: Any = None
        self.missing = ""

    def see(self, row: Row) -> None:
        """Tell the language of a row's texts."""
        # a row costs as much as all other rules together: a tenth of the rows tells of the rest
        seldom = 1 if row.number < self.EACH else 10 if row.number < 10 * self.EACH else 100
        if self.missing or row.number % seldom:
            return
        for what, text in (("answer", row.answer), ("question", row.content)):
            if text is None or text[:1] in "{[" or text.count(" ") < self.LEAST_WORDS - 1:
                continue
            language, sure = self._told(text)
            if sure < self.SURE:
                continue
            self._counts[what][language] += 1
            rows = self._rows[what].setdefault(language, [])
            if len(rows) < 100:
                rows.append(row.told(f"{language}, {percent(sure, digits=0)} sure"))
            return  # where there is an answer, it is what is learned

    def _told(self, text: str) -> tuple[str, float]:
        if self._tell is None:
            from harness.checks.prose import likeliest_language

            self._tell = likeliest_language
        try:
            found: tuple[str, float] = self._tell(text)
        except MissingExtra as exc:
            self.missing = str(exc)
            return "", 0.0
        return found

    def findings(self) -> Iterable[Finding]:
        """Return the rows of other languages."""
        for what, counts in self._counts.items():
            total = counts.total()
            if total < 20:
                continue
            language, most = counts.most_common(1)[0]
            others = total - most
            if others and most / total >= 0.8:
                rows = [p for code, r in self._rows[what].items() if code != language for p in r]
                yield self.found(
                    "wrong-language",
                    f"{others} of {total} {what}s looked at are not in {language!r}, as the others",
                    count=others,
                    rows=rows,
                )


class CallLint(Lint):
    """Finds tool calls that the offered tools do not allow."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="invalid-call",
            severity="error",
            about="The answer calls a tool that was not offered, leaves out a needed argument, "
            "gives an unknown one, or one that the tool's JSON schema refuses.",
            fix="Repair the call, or the tool's schema; what is trained will be imitated.",
        ),
    )

    def __init__(self, *, tools: Iterable[Json] = ()) -> None:
        self._tools = tuple(tools)
        self._hits = Hits()

    def see(self, row: Row) -> None:
        """Check the calls of a row."""
        example = row.example
        offered = example.inputs.get("tools")
        listed = tuple(offered) if isinstance(offered, list | tuple) else ()
        tools = example.tools or listed or self._tools
        calls = example.calls or _reference_calls(example.reference)
        calls += tuple(c for m in example.messages for c in m.tool_calls)
        if not calls or not tools or not all(_is_tool(t) for t in tools):
            return
        try:
            valid_tool_calls(Reply(text="", tool_calls=calls), [_closed(t) for t in tools])
        except Miss as exc:
            reason = str(exc).removeprefix("valid_tool_calls: ")
            self._hits.add(row, " ".join(reason.split()))
        except UsageError as exc:
            self._hits.add(row, f"the tool's schema is broken: {exc}")

    def findings(self) -> Iterable[Finding]:
        """Return the rows whose call is not allowed."""
        if self._hits.count:
            text = (
                f"{count(self._hits.count, 'row')} with a call that the offered tools do not allow"
            )
            yield self.found("invalid-call", text, count=self._hits.count, rows=self._hits.rows)


def _is_tool(tool: Json) -> bool:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    return isinstance(inner, Mapping) and isinstance(inner.get("name"), str)


def _reference_calls(reference: Json) -> tuple[Json, ...]:
    """Return a reference that is a call, as `{"name": ..., "arguments": {...}}`, or several."""
    several = reference if isinstance(reference, list | tuple) else (reference,)
    is_call = [isinstance(c, Mapping) and {"name", "arguments"} == c.keys() for c in several]
    return tuple(several) if is_call and all(is_call) else ()


def _closed(tool: Json) -> Json:
    """Return a tool whose schema forbids every argument that it does not name."""
    inner = dict(tool.get("function", tool))
    key = "input_schema" if "input_schema" in inner else "parameters"
    schema = inner.get(key)
    if (
        isinstance(schema, Mapping)
        and "additionalProperties" not in schema
        and isinstance(schema.get("properties"), Mapping)
    ):
        inner[key] = {**schema, "additionalProperties": False}
    return inner
