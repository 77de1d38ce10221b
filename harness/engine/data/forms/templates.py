"""What promptfoo's templates say: vars put into asserts, and texts kept from being filled.

Knows names, as `{{expected}}` and `{{item.label}}`; no filter, no condition and no file.
Seen in promptfoo 0.121: it fills texts in `vars` and in the values of asserts, and reads the file
that a text beginning `file://` or `package:` names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.engine.data.forms.base import is_texts, text_of
from harness.records import Json

_SIGNS = re.compile(r"\{[{%#]")
_ONE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")
_RAW = re.compile(r"\{% raw %\}(.*)\{% endraw %\}", re.DOTALL)
_FILES = ("file://", "package:")
UNKNOWN = object()
"""What a template says that only promptfoo can fill: it has a filter, or a name that is no var."""


def plain(value: Json) -> Json:
    """Return a value without the marks that keep promptfoo from reading it as a template."""
    match = _RAW.fullmatch(value) if isinstance(value, str) else None
    return value if match is None else match[1]


def filled(value: Json, inputs: Mapping[str, Json]) -> Any:
    """Return what an assert's value says with the vars put in, as `{{expected}}`, or UNKNOWN.

    promptfoo fills texts and lists of texts, and nothing inside an object.
    """
    if is_texts(value):
        found = [filled(one, inputs) for one in value]
        return UNKNOWN if any(one is UNKNOWN for one in found) else found
    if not isinstance(value, str):
        return value
    if _RAW.fullmatch(value):
        return plain(value)
    if value.startswith(_FILES):
        return UNKNOWN
    if not _SIGNS.search(value):
        return value
    whole = _ONE.fullmatch(value)
    if whole and _var(whole[1], inputs) is not UNKNOWN:
        return _var(whole[1], inputs)
    told = {name: _var(name, inputs) for name in _ONE.findall(value)}
    if _SIGNS.search(_ONE.sub("", value)) or any(v is UNKNOWN for v in told.values()):
        return UNKNOWN
    return _ONE.sub(lambda match: text_of(told[match[1]]), value)


def _var(name: str, inputs: Mapping[str, Json]) -> Any:
    """Return a var, or what stands in one, as `item.label`; UNKNOWN where there is none."""
    found: Any = inputs
    for key in name.split("."):
        if not isinstance(found, Mapping) or key not in found:
            return UNKNOWN
        found = found[key]
    return UNKNOWN if isinstance(found, str) and _SIGNS.search(found) else found


def named(value: Json) -> str:
    """Return the var that a template is: the answer, which is then no input. "" for none."""
    whole = _ONE.fullmatch(value) if isinstance(value, str) else None
    return whole[1] if whole else ""


def without(inputs: Mapping[str, Json], name: str) -> dict[str, Json]:
    """Return the vars without one, or without what stands in one, as `item.label`."""
    head, _, rest = name.partition(".")
    if name in inputs or head not in inputs:
        rest = ""
        head = name
    found = {key: value for key, value in inputs.items() if key != head}
    inner = without(inputs[head], rest) if rest and isinstance(inputs[head], Mapping) else {}
    return {**found, head: inner} if inner else found


def kept(value: Json) -> Json:
    """Return an assert's value so that promptfoo takes it as it stands."""
    if is_texts(value):
        return [kept(one) for one in value]
    if not isinstance(value, str) or not (_SIGNS.search(value) or value.startswith(_FILES)):
        return value
    if "endraw" in value:
        raise ValueError("an answer or check holds `endraw`, which ends promptfoo's plain text")
    return f"{{% raw %}}{value}{{% endraw %}}"


def kept_input(name: str, value: Json) -> Json:
    """Return a var so that promptfoo takes it as it stands. Raises ValueError where it cannot be:
    what it fills in a var it fills twice, plain marks or not.
    """
    if isinstance(value, str) and _SIGNS.search(value):
        raise ValueError(
            f"its input {name!r} holds {{{{, {{% or {{#, which promptfoo fills as a template"
        )
    return kept(value)
