"""A prompt as texts that a machine may rewrite, and back. Knows no optimiser and no file.

What a rewritten prompt may fill in is what its seed fills in, neither more nor less: a text that a
model wrote can lose a field, name one that is not there, open a turn of its own, or loop for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import jinja2

from harness.errors import TaskError
from harness.records import Prompt

_MARK = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_OPENING = re.compile(r"\{\{|\{%|\{#")
_TURN = re.compile(r"^@(?:system|user|assistant|examples)[ \t]*$", re.MULTILINE)
ADDED = "system"
"""The section that a rewritten prompt may have though its seed has none."""


def named_sections(prompt: Prompt) -> dict[str, str]:
    """Return the texts of `prompt` by section: its role, and `role-2` for a second of one role.
    Where examples stand is no text, and stays as it is.
    """
    return {name: text for name, text in _named(prompt) if name != "examples"}


def _named(prompt: Prompt) -> list[tuple[str, str]]:
    seen: dict[str, int] = {}
    named = []
    for role, text in prompt.sections:
        seen[role] = seen.get(role, 0) + 1
        named.append((role if seen[role] == 1 else f"{role}-{seen[role]}", text))
    return named


def marks_of(prompt: Prompt) -> tuple[str, ...]:
    """Return what a prompt's texts fill in, as `{{ question }}`: each once, in order."""
    return tuple(dict.fromkeys(m for _, text in prompt.sections for m in _MARK.findall(text)))


def rewritten(seed: Prompt, texts: Mapping[str, str], *, name: str) -> Prompt:
    """Return `seed` with other texts, as a file of it would be read; an empty text is no section.

    Raises TaskError where no prompt file could hold them, or they fill in something else.
    """
    known = named_sections(seed)
    unknown = sorted(set(texts) - {*known, ADDED})
    if unknown:
        raise TaskError(f"the prompt has no section {unknown[0]!r}: {', '.join(known)}")
    ours = {name: _as_read(text) for name, text in texts.items()}
    sections = []
    if ADDED not in known and ours.get(ADDED):
        sections.append((ADDED, ours[ADDED]))
    for section, (role, text) in zip([n for n, _ in _named(seed)], seed.sections, strict=True):
        new = ours.get(section, text)
        if new or not text or role == "examples":
            sections.append((role, new))
    made = replace(seed, name=name, family="optimised", sections=tuple(sections), path="")
    _check(made, marks_of(seed))
    return made


def _check(made: Prompt, marks: tuple[str, ...]) -> None:
    for role, text in made.sections:
        turn = _TURN.search(text)
        if turn:
            raise TaskError(f"a line {turn[0].strip()!r} in {role} would open a section")
        unfinished = _OPENING.search(_MARK.sub("", text))
        if unfinished:
            raise TaskError(f"{unfinished[0]!r} in {role} opens something that is never closed")
        if re.search("[\ud800-\udfff]", text):
            raise TaskError(f"half a surrogate pair in {role}: no file can hold it")
    found = marks_of(made)
    lost = [m for m in marks if m not in found]
    if lost:
        raise TaskError(f"the prompt has lost {lost[0]}: the model would not see it")
    foreign = [m for m in found if m not in marks]
    if foreign:
        raise TaskError(f"{foreign[0]} fills in nothing: only {', '.join(marks) or 'no mark'} may")
    for role, text in made.sections:
        try:
            jinja2.Environment().parse(text)  # noqa: S701 - nothing is rendered here
        except jinja2.TemplateSyntaxError as exc:
            raise TaskError(f"{role}: line {exc.lineno}: {exc.message}") from exc


def _as_read(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip("\n").rstrip()
