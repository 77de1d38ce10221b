"""A prompt taken apart: what is the same for every case, what is filled in. Knows no files.

A part is a paragraph of a section (a Jinja block that spans several is one), or the place where
examples stand. Removing one gives a prompt that could have been written so.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from harness.core.prompts import names_in
from harness.records import Prompt

_BLANK = re.compile(r"\n(?:[ \t]*\n)+")
Kind = Literal["static", "filled", "examples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a prompt. `number` counts from 1 through the prompt, `section` from 0."""

    number: int
    section: int
    role: str
    kind: Kind
    text: str


def parts_of(prompt: Prompt) -> tuple[Part, ...]:
    """Return the parts of a prompt, in order."""
    found: list[Part] = []
    for section, (role, source) in enumerate(prompt.sections):
        pieces = [""] if role == "examples" else _paragraphs(source)
        for text in pieces:
            kind: Kind = "examples" if role == "examples" else _kind(text)
            found.append(
                Part(number=len(found) + 1, section=section, role=role, kind=kind, text=text)
            )
    return tuple(found)


def removable(prompt: Prompt) -> tuple[Part, ...]:
    """Return the parts that can be taken out: static ones and examples, but for the last part of
    the last user section, without which nothing is asked.
    """
    parts = parts_of(prompt)
    users = {p.section for p in parts if p.role == "user"}
    return tuple(
        p
        for p in parts
        if p.kind != "filled"
        and (len(users) > 1 or p.role != "user" or sum(q.section == p.section for q in parts) > 1)
    )


def without(prompt: Prompt, numbers: Collection[int], *, name: str) -> Prompt | None:
    """Return the prompt without the parts of those numbers, or None where no user turn is left.

    A section with no part left is gone. What remains keeps the blank lines that it had before it.
    """
    parts = parts_of(prompt)
    sections, shots = [], prompt.shots
    for section, (role, source) in enumerate(prompt.sections):
        mine = [p for p in parts if p.section == section]
        kept = [p for p in mine if p.number not in numbers]
        if not kept:
            shots = 0 if role == "examples" else shots
            continue
        gone = len(kept) < len(mine)
        sections.append((role, "\n\n".join(p.text for p in kept) if gone else source))
    if not any(role == "user" for role, _ in sections):
        return None
    family = prompt.family
    if shots < prompt.shots and family in ("few-shot", "dynamic-few-shot"):
        family = "instructions" if any(role == "system" for role, _ in sections) else "zero-shot"
    return replace(
        prompt,
        name=name,
        family=family,
        sections=tuple(sections),
        shots=shots,
        retrieve=prompt.retrieve and bool(shots),
        seed=prompt.seed if shots else 0,
        without=prompt.without if shots else "",
        path="",
    )


def _paragraphs(source: str) -> list[str]:
    """Return the paragraphs of a template; those that make no template alone are kept together."""
    found: list[str] = []
    open_: list[str] = []
    for paragraph in (p for p in _BLANK.split(source) if p.strip()):
        open_.append(paragraph)
        if names_in("\n\n".join(open_)) is not None:
            found.append("\n\n".join(open_))
            open_ = []
    if open_:  # it was a template as a whole, so that this does not happen
        found.append("\n\n".join(open_))
    return found or [source]


def _kind(text: str) -> Kind:
    # a block that names nothing may still set what a later part uses
    return "static" if names_in(text) == [] and "{%" not in text else "filled"
