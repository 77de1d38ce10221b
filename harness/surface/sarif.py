"""Findings as SARIF 2.1.0, which code hosts show beside the lines. Knows no rule.

Source: OASIS, Static Analysis Results Interchange Format 2.1.0, sections 3.13 (log), 3.19 (tool),
3.27 (result), 3.49 (rule).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from harness.core.lints.base import Finding, Place, Rule
from harness.surface.words import clean

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
LEVELS = {"error": "error", "warn": "warning", "note": "note"}
_SHEET = re.compile(r"(?<=\.xlsx)#.*$", re.IGNORECASE)
_PLACE = re.compile(r"^(?P<file>.+?):(?P<line>[1-9]\d*)(?![\w.])")


def sarif(findings: Sequence[Finding], *, rules: Sequence[Rule]) -> dict[str, Any]:
    """Return the log: one result for each row that a finding names, or one where it names none."""
    used = [r for r in rules if any(f.rule == r.name for f in findings)]
    index = {rule.name: number for number, rule in enumerate(used)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tuning-harness",
                        "version": version("tuning-harness"),
                        "rules": [_rule(rule) for rule in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [r for f in findings for r in _results(f, index[f.rule])],
            }
        ],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.about.split(". ")[0].rstrip(".") + "."},
        "fullDescription": {"text": rule.about},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _results(finding: Finding, number: int) -> list[dict[str, Any]]:
    base = {"ruleId": finding.rule, "ruleIndex": number, "level": LEVELS[finding.severity]}
    text = clean(finding.message)
    if finding.groups:  # the first of a group, the others beside it
        found = []
        for group in finding.groups:
            said = {"message": {"text": f"{text}. Here: {_names(group)}"}}
            others = [r for r in map(_location, group[1:21]) if r]
            related = {"relatedLocations": others} if others else {}
            found.append(base | said | _at(group[0]) | related)
        return found
    if not finding.rows:
        return [base | {"message": {"text": text}}]
    return [
        base | {"message": {"text": f"{text}{f'. Here: {clean(r.detail)}' if r.detail else ''}"}}
        | _at(r)
        for r in finding.rows
    ]  # fmt: skip


def _names(group: Sequence[Place]) -> str:
    some = " = ".join(clean(p.id or p.place) for p in group[:5])
    return some + (" = ..." if len(group) > 5 else "")


def _at(place: Place) -> dict[str, Any]:
    location = _location(place)
    return {"locations": [location]} if location else {}


def _location(place: Place) -> dict[str, Any]:
    match = _PLACE.match(place.place)
    if match is None:
        return {}
    file = _SHEET.sub("", match["file"])
    # a relative reference (RFC 3986): a colon in its first part would be read as a scheme
    uri = quote(file.replace("\\", "/"), safe="/~!$&'()*+,;=@", errors="replace")
    found: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": int(match["line"])},
        }
    }
    if place.id:
        found["logicalLocations"] = [{"name": clean(place.id)}]
    return found
