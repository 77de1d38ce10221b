"""A prompt as people have it, made into a prompt of a task. Knows no file.

Taken are templates of this house, of promptfoo (`{{ name }}`) and of Python (`{name}`), and plain
instructions without any, behind which the inputs are put.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from harness.core.prompts import DOCUMENTS, EXAMPLES, front_matter, names_in, parse_prompt
from harness.errors import TaskError

TOOLS = "tools.json"
"""The file of a new task that holds the tools which its rows offer."""
_MARK = re.compile(r"^@(system|user|assistant|examples)[ \t]*$", re.MULTILINE)
_FILLED = re.compile(r"\{\{|\{%")
_OPENS = re.compile(r"\{(?=[{%#])")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw")


def bare_prompt(inputs: Sequence[str], *, system: str = "", as_json: Sequence[str] = ()) -> str:
    """Return a prompt that is nothing but the inputs, below the system text of the rows."""
    head = f"@system\n{raw(system)}\n\n" if system.strip() else ""
    return f'+++\nfamily = "zero-shot"\n+++\n{head}@user\n{_listed(inputs, as_json)}\n'


def with_tools(prompt: str) -> str:
    """Return a prompt that offers the tools of the task's file of tools."""
    mark, _, rest = prompt.partition("\n")
    return f'{mark}\ntools = "{TOOLS}"\n{rest}'


def raw(text: str) -> str:
    """Return a text so that a template gives it back as it is."""
    marked = "\n".join(f" {line}" if _MARK.match(line) else line for line in text.split("\n"))
    if "{{" not in marked and "{%" not in marked and "{#" not in marked:
        return marked
    if _END_OF_RAW.search(marked):
        return _OPENS.sub("{{ '{' }}", marked)
    return "{% raw %}" + marked + "{% endraw %}"


def _listed(inputs: Sequence[str], as_json: Sequence[str]) -> str:
    filled = {n: f"{{{{ {n} | tojson }}}}" if n in as_json else f"{{{{ {n} }}}}" for n in inputs}
    if len(inputs) == 1:
        return filled[inputs[0]]
    return "\n".join(f"{name}: {fill}" for name, fill in filled.items())


def task_prompt(
    text: str,
    *,
    path: str,
    inputs: Sequence[str],
    renamed: Mapping[str, str],
    images: Sequence[str] = (),
    as_json: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """Return the prompt's text for the task, and what was changed in it.

    Raises TaskError where it cannot be read, or names an input that no row has.
    """
    notes: list[str] = []
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    _, body, line = front_matter(text, path=path)
    head = text[: len(text) - len(body)]
    if not body.strip():
        raise TaskError(f"{path}:{line}: the prompt is empty")
    for old, new in renamed.items():
        pattern = r"(\{\{-?\s*)" + re.escape(old) + r"(\s*(?:\||-?\}\}))"
        body = re.sub(pattern, lambda m, new=new: f"{m[1]}{new}{m[2]}", body)  # type: ignore[misc]
    shown = [n for n in inputs if n not in images]
    if not _FILLED.search(body):
        body = _unbraced(body, shown, renamed, notes)
    if not _MARK.search(body):
        body = f"@user\n{body.lstrip(chr(10))}"
    if not _FILLED.search(body) and shown:
        body = body.rstrip("\n") + "\n\n" + _listed(shown, as_json) + "\n"
        notes.append(f"it names no input: {_quoted(shown)} was put at its end")
    _check_names(head + body, path=path, inputs=inputs, renamed=renamed)
    return (head or '+++\nfamily = "zero-shot"\n+++\n') + body.rstrip("\n") + "\n", notes


def _unbraced(
    body: str, inputs: Sequence[str], renamed: Mapping[str, str], notes: list[str]
) -> str:
    """Return `{name}` of Python as `{{ name }}`, for names that are inputs."""
    found = []
    for name in [*inputs, *renamed]:
        if f"{{{name}}}" in body:
            body = body.replace(f"{{{name}}}", f"{{{{ {renamed.get(name, name)} }}}}")
            found.append(name)
    if found:
        notes.append(f"{_quoted(found)} in single braces became a template's double ones")
    return body


def _check_names(
    text: str, *, path: str, inputs: Sequence[str], renamed: Mapping[str, str]
) -> None:
    prompt = parse_prompt(text, name="prompt", path=path)
    known = {*inputs} | ({EXAMPLES} if prompt.shots else set())
    known |= {DOCUMENTS} if prompt.documents else set()
    for role, source in prompt.sections:
        for name in names_in(source) or []:
            if name in known:
                continue
            near = difflib.get_close_matches(name, [*inputs, *renamed], n=1, cutoff=0.5)
            hint = f" Did you mean {{{{ {renamed.get(near[0], near[0])} }}}}?" if near else ""
            at = next((n for n, one in enumerate(text.split("\n"), 1) if name in one), 1)
            raise TaskError(
                f"{path}:{at}: @{role} names {{{{ {name} }}}}, and no row has such an input. The "
                f"inputs: {', '.join(inputs)}.{hint}"
            )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
