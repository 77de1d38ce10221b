"""From a template and a case to a request. Knows nothing of files, backends or tokens.

The same `render` makes what is sent at inference and what a tuner trains on: there is no second
renderer to disagree with it. Section marks are found in the template's own text before anything
is filled in, so no case can open a turn of its own.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.core.answers import called, reply_for
from harness.core.toml_errors import line_and_words
from harness.errors import TaskError
from harness.records import (
    FAMILIES,
    Case,
    Decoding,
    Json,
    Message,
    Prompt,
    Request,
)

if TYPE_CHECKING:
    from harness.records import TrainingRow

_SECTION = re.compile(r"^@(system|user|assistant|examples)[ \t]*$", re.MULTILINE)
_KEYS = {"family", "shots", "retrieve", "seed", "schema", "tools", "documents", "note"}
_KEYS |= {"answer_after", "answer_key", "decoding", "made", "without"}
EXAMPLES = "examples"
"""The variable of a template that holds the examples, each with `user` and `reply`."""

DOCUMENTS = "documents"
"""The variable of a template that holds the passages found, each with `id` and `text`."""
Documents = Mapping[str, Sequence[Json]]
"""Passages by case id."""


def front_matter(text: str, *, path: str) -> tuple[dict[str, Any], str, int]:
    """Split a prompt file into its settings, its body, and the line where the body begins.

    Raises TaskError where the settings are not TOML or hold an unknown key.
    """
    if not text.startswith("+++\n"):
        return {}, text, 1
    head, mark, body = text[4:].partition("\n+++\n")
    if not mark:
        raise TaskError(f"{path}:1: the settings opened by +++ are never closed by a line +++")
    try:
        settings = tomllib.loads(head)
    except tomllib.TOMLDecodeError as exc:
        line, what = line_and_words(exc, head)
        raise TaskError(f"{path}:{line + 1}: the settings are not TOML: {what}") from exc
    unknown = sorted(set(settings) - _KEYS)
    if unknown:
        raise TaskError(f"{path}:1: unknown settings {unknown}. Known: {sorted(_KEYS)}.")
    return settings, body, head.count("\n") + 4


def parse_prompt(
    text: str, *, name: str, path: str, schema: Json = None, tools: Sequence[Json] = ()
) -> Prompt:
    """Return the prompt that a file's `text` describes. `schema` and `tools` are as parsed.

    Raises TaskError with `path:line` for an unknown family, a missing user section, text before
    the first section, or a template that Jinja cannot read.
    """
    settings, body, first_line = front_matter(text.replace("\r\n", "\n"), path=path)
    family = settings.get("family", "zero-shot")
    if family not in FAMILIES:
        raise TaskError(f"{path}:1: unknown family {family!r}. Families: {', '.join(FAMILIES)}.")
    marks = list(_SECTION.finditer(body))
    if not marks or body[: marks[0].start()].strip():
        raise TaskError(
            f"{path}:{first_line}: a prompt begins with @system, @user or @assistant, alone on a "
            "line. Write @user above the text"
        )
    sections = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        source = body[mark.end() : following.start() if following else None].strip("\n")
        line = first_line + body[: mark.start()].count("\n")
        role = mark.group(1)
        if role == "examples" and source.strip():
            raise TaskError(f"{path}:{line + 1}: @examples has no text of its own")
        try:
            _compiled(source)
        except jinja2.TemplateSyntaxError as exc:
            raise TaskError(f"{path}:{line + exc.lineno}: {exc.message}") from exc
        sections.append((role, source.rstrip()))
    roles = [role for role, _ in sections]
    if roles.count("user") < 1:
        raise TaskError(f"{path}:{first_line}: no @user section")
    shots = int(settings.get("shots", 0))
    if bool(shots) != ("examples" in roles or any(map(_names_examples, sections))):
        raise TaskError(f"{path}:1: `shots = N` and an @examples section go together")
    return Prompt(
        name=name,
        family=family,
        sections=tuple(sections),
        shots=shots,
        retrieve=bool(settings.get("retrieve", False)),
        seed=int(settings.get("seed", 0)),
        schema=schema,
        path=path,
        tools=tuple(tools),
        documents=int(settings.get("documents", 0)),
        answer_after=str(settings.get("answer_after", "")),
        answer_key=str(settings.get("answer_key", "")),
        decoding=dict(settings.get("decoding", {})),
        without=str(settings.get("without", "")),
    )


def _names_examples(section: tuple[str, str]) -> bool:
    return EXAMPLES in meta.find_undeclared_variables(_environment().parse(section[1]))


def render(
    prompt: Prompt,
    case: Case,
    *,
    examples: Sequence[Case] = (),
    documents: Documents | None = None,
    decoding: Decoding,
) -> Request:
    """Return the request for `case`. `documents` are those of the case and of each example, by
    case id. Raises TaskError where the template needs an absent field.
    """
    found = documents or {}
    messages: list[Message] = []
    for role, source in prompt.sections:
        if role == "examples":
            for example in examples:
                messages += _turns(prompt, example, found.get(example.id, ()))
        else:
            shown = _as_texts(prompt, examples, found) if EXAMPLES in source else ()
            content = _fill(source, case, prompt, found.get(case.id, ()), shown)
            messages.append(Message(role=role, content=content))  # type: ignore[arg-type]
    if case.images:
        last = max(n for n, m in enumerate(messages) if m.role == "user")
        messages[last] = replace(messages[last], images=case.images)
    return Request(
        messages=tuple(messages), decoding=decoding, schema=prompt.schema, tools=prompt.tools
    )


def training_row(
    prompt: Prompt,
    case: Case,
    *,
    examples: Sequence[Case] = (),
    documents: Documents | None = None,
) -> TrainingRow:
    """Return what is trained for `case`: the messages of `render`, and the reference as reply
    (with the reply that it is preferred to, where the case has one). Tools are shown as they are
    asked with, and so are images. A reference that is tool calls is trained as calls, where the
    prompt offers tools; any other is text.

    Raises TaskError where the case has no reference.
    """
    from harness.records import TrainingRow

    if case.reference_text is None:
        raise TaskError(f"{case.line or case.id}: case {case.id!r} has no reference to learn from")
    request = render(prompt, case, examples=examples, documents=documents, decoding=Decoding())
    said = called(case.reference) if prompt.tools else None
    return TrainingRow(
        case_id=case.id,
        messages=request.messages,
        completion=(
            reply_for(prompt, case.reference, text=case.reference_text) if said is None else said[0]
        ),
        calls=() if said is None else said[1],
        rejected=(
            None
            if case.rejected_text is None
            else reply_for(prompt, case.rejected, text=case.rejected_text)
        ),
        tools=request.tools,
    )


def query_text(case: Case) -> str:
    """Return what a retriever compares: the text of the inputs that are plain strings."""
    texts = [v for v in case.inputs.values() if isinstance(v, str)]
    return "\n".join(texts) or json.dumps(dict(case.inputs), ensure_ascii=False)


def check_text(source: str, names: Collection[str], *, place: str) -> None:
    """Raise TaskError, naming `place`, where a template is broken or names what it is not given."""
    try:
        asked = meta.find_undeclared_variables(_environment().parse(source))
    except jinja2.TemplateSyntaxError as exc:
        raise TaskError(f"{place}: line {exc.lineno}: {exc.message}") from exc
    unknown = sorted(asked - set(names))
    if unknown:
        known = ", ".join(sorted(names))
        raise TaskError(f"{place}: {unknown[0]!r} is undefined. What it may name: {known}.")


def names_in(source: str) -> list[str] | None:
    """Return what a template is filled with, sorted; None where it is no template by itself."""
    try:
        return sorted(meta.find_undeclared_variables(_environment().parse(source)))
    except jinja2.TemplateSyntaxError:
        return None


def fill_text(source: str, values: Mapping[str, Json], *, place: str) -> str:
    """Return a template of no prompt with `values` in it. Raises TaskError naming `place`."""
    try:
        return str(_compiled(source).render(**values))
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as exc:
        known = ", ".join(sorted(values))
        raise TaskError(f"{place}: {exc}. What it may name: {known}.") from exc


def _turns(prompt: Prompt, example: Case, documents: Sequence[Json]) -> list[Message]:
    user = next(source for role, source in reversed(prompt.sections) if role == "user")
    if example.reference_text is None:
        raise TaskError(f"{example.line or example.id}: an example needs a reference")
    reply = reply_for(prompt, example.reference, text=example.reference_text)
    asked = _fill(user, example, prompt, documents)
    return [
        Message(role="user", content=asked, images=example.images),
        Message(role="assistant", content=reply),
    ]


def _as_texts(prompt: Prompt, examples: Sequence[Case], documents: Documents) -> list[Json]:
    """Return the examples as texts for a section, so that no turn of the model's is put up."""
    turns = [_turns(prompt, e, documents.get(e.id, ())) for e in examples]
    return [{"user": user.content, "reply": reply.content} for user, reply in turns]


def _fill(
    source: str,
    case: Case,
    prompt: Prompt,
    documents: Sequence[Json] = (),
    examples: Sequence[Json] = (),
) -> str:
    values = dict(case.inputs)
    if prompt.shots:
        values.setdefault(EXAMPLES, list(examples))
    if prompt.documents:
        if DOCUMENTS in values:
            raise TaskError(
                f"{prompt.path or prompt.name}: case {case.id!r} has a field `documents` of its "
                "own, which this prompt fills with passages. Rename one of them."
            )
        values[DOCUMENTS] = list(documents)
    try:
        return str(_compiled(source).render(**values))
    except jinja2.UndefinedError as exc:
        fields = ", ".join(sorted(values)) or "none"
        raise TaskError(
            f"{prompt.path or prompt.name}: case {case.id!r}"
            f"{f' ({case.line})' if case.line else ''}: {exc.message}. Its fields: {fields}."
        ) from exc
    except jinja2.TemplateError as exc:
        raise TaskError(f"{prompt.path or prompt.name}: case {case.id!r}: {exc}") from exc
    except (TypeError, ValueError, ArithmeticError) as exc:
        # an expression of the template that does not suit the case's value
        raise TaskError(f"{prompt.path or prompt.name}: case {case.id!r}: {exc}") from exc


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # prompts are plain text for a model, not a page
    )
    environment.filters["tojson"] = lambda value: json.dumps(
        value, ensure_ascii=False, separators=(",", ":")
    )
    return environment


@cache
def _compiled(source: str) -> jinja2.Template:
    template = _environment().from_string(source)
    # a plain dict: jinja2 copies it for each case, and copies its own chain of dicts three times
    # as slowly as it fills in the rest
    template.globals = dict(template.globals)
    return template
