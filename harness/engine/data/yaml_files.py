"""YAML files as rows with their lines; bombs of aliases are refused. Knows no form."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.engine.data.lines import MEGABYTE, Row
from harness.engine.data.opening import opened
from harness.engine.text_files import DEEPEST
from harness.errors import MissingExtra, TaskError
from harness.records import Json

if TYPE_CHECKING:
    from harness.engine.data.containers import Container

LARGEST_YAML = 16 * MEGABYTE
MOST_NODES = 1_000_000


def yaml_rows(container: Container) -> Iterator[Row]:
    """Yield the one object of a YAML file; one that has `tests` an object a test, at its line."""
    try:
        import yaml
    except ImportError as exc:
        raise MissingExtra("reading YAML", extra="yaml") from exc
    with opened(container.path) as source:
        container.source = source
        raw = source.file.read(LARGEST_YAML + 1)
    if len(raw) > LARGEST_YAML:
        raise TaskError(
            f"{container.shown}:1: more than {LARGEST_YAML // MEGABYTE} MB of YAML, which has to "
            "be read whole. Write the rows as JSON Lines"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise TaskError(
            f"{container.shown}:{line}: byte {raw[exc.start]:#04x} is not UTF-8"
        ) from None
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            is_in = isinstance(event, yaml.events.CollectionStartEvent)
            depth += is_in - isinstance(event, yaml.events.CollectionEndEvent)
            if depth > DEEPEST:
                mark = event.start_mark
                place = f"{container.shown}:{mark.line + 1 if mark else 1}"
                raise TaskError(f"{place}: nested deeper than {DEEPEST} levels")
        loader = yaml.CSafeLoader(text)
        node: Any = loader.get_single_node()
        if node is None:
            raise TaskError(f"{container.shown}:1: the file is empty")
        _no_bomb(node, container.shown)
        found = loader.construct_document(node)
        tests = (
            next((v for k, v in node.value if k.value == "tests" and v.id == "sequence"), None)
            if node.id == "mapping"
            else None
        )
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"{container.shown}:{mark.line + 1 if mark else 1}"
        raise TaskError(f"{place}: not YAML: {exc.problem or exc.context}") from None
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: no such date, 5,000 digits
        raise TaskError(f"{container.shown}:1: not YAML: {exc}") from None
    try:
        plain = _plain(found)
    except ValueError as exc:
        raise TaskError(f"{container.shown}:1: {exc}") from None
    if tests is not None:
        config = {k: v for k, v in plain.items() if k != "tests"}
        for inner, test in zip(tests.value, plain["tests"], strict=True):
            yield inner.start_mark.line + 1, config | {"tests": [test]}
    elif isinstance(plain, list) and node.id == "sequence":
        for inner, row in zip(node.value, plain, strict=True):
            yield inner.start_mark.line + 1, row
    else:
        yield 1, plain


def _no_bomb(root: Any, name: str) -> None:
    """Refuse aliases that name what they stand in, or that unfold to millions of values; and keys
    that stand twice.
    """
    sizes: dict[int, int] = {}
    inside: set[int] = set()

    def size(node: Any) -> int:
        key = id(node)
        if key in sizes:
            return sizes[key]
        line = node.start_mark.line + 1
        if key in inside:
            raise TaskError(f"{name}:{line}: an alias names what it stands in")
        inside.add(key)
        total = 1
        if node.id == "mapping":
            keys = [k.value for k, _ in node.value if k.id == "scalar"]
            if len(set(keys)) != len(keys):
                twice = next(k for k in keys if keys.count(k) > 1)
                raise TaskError(f"{name}:{line}: the key {twice!r} stands twice")
            total += sum(size(k) + size(v) for k, v in node.value)
        elif node.id == "sequence":
            total += sum(size(v) for v in node.value)
        if total > MOST_NODES:
            raise TaskError(f"{name}:{line}: aliases that unfold to more than {MOST_NODES} values")
        inside.discard(key)
        sizes[key] = total
        return total

    size(root)


def _plain(value: Any) -> Json:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a number that JSON can hold")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dt.datetime | dt.date):
        return value.isoformat()
    raise ValueError(f"it holds {type(value).__name__}, which is no JSON")
