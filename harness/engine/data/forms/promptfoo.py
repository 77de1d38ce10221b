"""promptfoo's tests: `vars`, `assert`, `metadata`; as YAML, JSON Lines, or CSV with `__expected`.

The evals that OpenAI's closing product exports are promptfoo configurations. The first `equals`
is the reference; asserts that mean the same as a check of ours are that check, all others are kept
under `assert`, and named where they are lost.
Source: https://www.promptfoo.dev/docs/configuration/test-cases, and
/docs/configuration/expected-outputs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.checks.peers import PROMPTFOO
from harness.core.examples import Example
from harness.engine.data.forms.base import (
    Form,
    Object,
    asked_text,
    is_objects,
    is_texts,
    kind_of,
    text_of,
)
from harness.engine.data.forms.promptfoo_asserts import (
    BESIDE as BESIDE_ONE,
    LISTS,
    assert_of,
    check_of,
    is_only_measured,
    several_of,
)
from harness.engine.data.forms.templates import (
    UNKNOWN,
    filled,
    kept,
    kept_input,
    named,
    plain,
    without,
)
from harness.engine.text_files import strict_json
from harness.records import Json

TEST = frozenset({"vars", "assert", "metadata", "description"})
MOST = 10_000
"""Tests that the lists in one test's vars may stand for."""


def expand(config: Object) -> Iterator[tuple[str, Object]]:
    """Yield the tests of a configuration with its defaults, lists in vars taken apart."""
    tests = config.get("tests")
    if tests is None and _is_of_table(config):
        yield "", config
        return
    if tests is None and "vars" in config:
        tests = [config]
    if isinstance(tests, str):
        raise ValueError(f"its tests are in another file, {tests}: convert that one")
    if not isinstance(tests, list):
        raise ValueError(
            "it has no `tests`" + (" but `scenarios`" if "scenarios" in config else "")
        )
    default = config.get("defaultTest") or {}
    if not isinstance(default, Mapping):
        raise ValueError("its `defaultTest` is in another file: write it into this one")
    usual = default.get("vars") or {}
    if not isinstance(usual, Mapping):
        raise ValueError(
            f"the `vars` of `defaultTest` are in another file, {usual}: write them here"
        )
    for number, test in enumerate(tests):
        name = f"#{number + 1}" if len(tests) > 1 else ""
        if not isinstance(test, Mapping):
            raise ValueError(f"a test must be an object, not {kind_of(test)}: {str(test)[:60]!r}")
        given = test.get("vars") or {}
        if not isinstance(given, Mapping):
            raise ValueError(f"the `vars` of a test are in another file, {given}: write them here")
        merged = {**usual, **given}
        row = {**default, **test, "assert": [*_list(default), *_list(test)]}
        lists = {k: v for k, v in merged.items() if isinstance(v, list)}
        combined = 1
        for values in lists.values():
            combined *= len(values)
        if combined > MOST:
            raise ValueError(f"the lists in its vars stand for {combined} tests")
        for chosen in itertools.product(*lists.values()):
            yield name, row | {"vars": merged | dict(zip(lists, chosen, strict=True))}


def _is_of_table(row: Object) -> bool:
    """Whether an object is a row of CSV: a table of `vars` alone has no column of promptfoo's."""
    if any(key.startswith("__") for key in row):
        return True
    is_text = bool(row) and all(isinstance(value, str) for value in row.values())
    return is_text and not row.keys() & {"vars", "prompts", "providers", "scenarios", "defaultTest"}


def _list(test: Object) -> list[Json]:
    found = test.get("assert") or []
    return found if isinstance(found, list) else [found]


def parse(row: Object, place: str) -> Example:
    """Return a test, of YAML or of a CSV row. Raises ValueError."""
    if "vars" not in row:
        row = of_table(row)
    inputs = row.get("vars")
    if not isinstance(inputs, Mapping) or not inputs:
        raise ValueError("`vars` must be an object that is not empty")
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise ValueError(f"`metadata` must be an object, not {kind_of(metadata)}")
    given: dict[str, Any] = {}
    rest = dict(metadata)
    for name in ("id", "split", "cluster"):
        if isinstance(rest.get(name), str):
            given[name] = rest.pop(name)
    if isinstance(rest.get("tags"), str):
        rest["tags"] = [part.strip() for part in rest["tags"].split(",")]
    if is_texts(rest.get("tags")):
        given["tags"] = tuple(rest.pop("tags"))
    if isinstance(rest.get("provenance"), Mapping):
        given["provenance"] = rest.pop("provenance")
    other: dict[str, Json] = {k: v for k, v in row.items() if k not in TEST}
    if rest:
        other["metadata"] = rest
    if row.get("description"):
        other["description"] = row["description"]
    checks, left = [], []
    answered_by = ""
    whole = _whole(row, inputs)
    by_mean = whole is None and _is_by_mean(row)
    if whole is not None:
        checks.append(whole)
        other.pop("threshold", None)
        left += [dict(one) for one in _list(row) if is_only_measured(one)]
    for one in () if whole is not None else _list(row):
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            raise ValueError("an assert must be an object with a `type`")
        if is_only_measured(one):
            left.append(dict(one))
            continue
        told = filled(one.get("value"), inputs)
        is_plain = one.keys() <= {"type", "value", *BESIDE_ONE} and told is not UNKNOWN
        if one["type"] == "equals" and is_plain and "reference" not in given:
            given["reference"] = told
            answered_by = named(one.get("value"))
            continue
        if by_mean:
            found = None
        elif one["type"] == "assert-set":
            found = _set(one, inputs)
            inner = one["assert"] if found is not None else []
            left += [dict(row) for row in inner if is_only_measured(row)]
        else:
            check = _known(one, inputs)
            found = None if check is None else [check]
        if found is None:
            left.append(dict(one))
        else:
            checks += found
    metrics = [one["metric"] for one in _list(row) if one not in left and one.get("metric")]
    if metrics:
        other["metric"] = metrics  # a case's checks are one score
    if checks:
        other["checks"] = checks
    if left:
        other["assert"] = left
    shown = {name: plain(value) for name, value in without(inputs, answered_by).items()}
    return Example(place=place, inputs=shown or dict(inputs), other=other, **given)


def _known(one: Json, inputs: Object) -> Json | None:
    """Return the check that an assert is, its value filled in; None where there is none."""
    if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
        return None
    told = filled(one.get("value"), inputs)
    return None if told is UNKNOWN else check_of({**one, "value": told})


def _is_by_mean(row: Object) -> bool:
    """Whether no assert of a test must hold: the mean of all has to reach its `threshold`."""
    bound = row.get("threshold")
    is_all = bound is None or (isinstance(bound, int | float) and bound >= 1)
    return bool(row.get("assertScoringFunction")) or not is_all


def _whole(row: Object, inputs: Object) -> Json | None:
    """Return all asserts of a test as one check, where its `threshold` decides."""
    asserts = _list(row)
    if row.get("threshold") is None or row.get("assertScoringFunction") or not asserts:
        return None
    if not all(isinstance(one, Mapping) and isinstance(one.get("type"), str) for one in asserts):
        return None  # told below
    return several_of(asserts, row["threshold"], known=lambda one: _known(one, inputs))


def _set(one: Mapping[str, Json], inputs: Object) -> list[Json] | None:
    """Return the checks that an `assert-set` is; None where one of its asserts is none of ours."""
    rows = one.get("assert")
    if not isinstance(rows, list) or one.keys() - {"type", "assert", "threshold", *BESIDE_ONE}:
        return None
    if not all(isinstance(row, Mapping) and isinstance(row.get("type"), str) for row in rows):
        raise ValueError("an assert in an `assert-set` must be an object with a `type`")
    found = [_known(row, inputs) for row in rows if not is_only_measured(row)]
    if any(check is None for check in found):
        return None
    if one.get("threshold") is None:
        return found
    check = several_of(rows, one["threshold"], known=lambda row: _known(row, inputs))
    return None if check is None else [check]


# ---------------------------------------------------------------- CSV


def of_table(row: Object) -> dict[str, Json]:
    """Return a CSV row as a test. Source: promptfoo's csv.ts, assertionFromString."""
    inputs: dict[str, Json] = {}
    metadata: dict[str, Json] = {}
    asserts: list[Json] = []
    other: dict[str, Json] = {}
    for column, value in row.items():
        if not column.startswith("__"):
            inputs[column] = value
        elif value in (None, ""):
            continue
        elif column.startswith("__expected"):
            asserts.append(_assert_of(str(value)))
        elif column.startswith("__metadata:"):
            key = column.removeprefix("__metadata:")
            is_list = key.endswith("[]")
            parts = [p.strip() for p in str(value).split(",")] if is_list else value
            metadata[key.removesuffix("[]")] = parts
        elif column == "__description":
            other["description"] = value
        else:
            other[column] = value
    return {"vars": inputs, "assert": asserts, "metadata": metadata, **other}


_TYPED = re.compile(r"^((?:not-)?([a-z0-9:-]+?))(?:\((\d+(?:\.\d+)?)\))?:(?!//)(.*)$", re.DOTALL)


def _assert_of(text: str) -> Json:
    """Return what a cell asserts: `TYPE: VALUE`, `TYPE(THRESHOLD): VALUE`, or a text to equal."""
    if text.strip().removeprefix("not-") in {"is-json", "contains-json"}:
        return {"type": text.strip()}
    match = _TYPED.match(text)
    if match is None or match[2] not in OTHERS:
        return {"type": "equals", "value": text}
    kind, plain, threshold, value = match[1], match[2], match[3], match[4].strip()
    one: dict[str, Json] = {"type": kind, "value": value}
    if plain in LISTS:
        one["value"] = [part.strip() for part in value.split(",")]
    elif plain in {"is-json", "contains-json"}:
        one["value"] = strict_json(value)
    return one | ({"threshold": float(threshold)} if threshold else {})


_BARE = {"is-json", "contains-json", "not-is-json", "not-contains-json"}
OTHERS = frozenset({*PROMPTFOO, "fn", "eval", "grade"})
"""Types of asserts; a text that begins otherwise is what the reply must equal."""


# ---------------------------------------------------------------- writing


def write(example: Example) -> dict[str, Json]:
    """Return a test. Raises ValueError where its inputs are several turns."""
    inputs: dict[str, Json] = dict(example.inputs)
    if example.messages or example.images:
        if inputs:
            raise ValueError("it has turns beside its inputs, which a test has no place for")
        inputs = {"input": asked_text(example)}
    # promptfoo takes a list for several tests
    inputs = {k: text_of(v) if isinstance(v, list) else v for k, v in inputs.items()}
    inputs = {k: kept_input(k, v) for k, v in inputs.items()}
    row: dict[str, Json] = {}
    if "description" in example.other:
        row["description"] = example.other["description"]
    row["vars"] = inputs
    asserts: list[Json] = []
    if example.reference is not None:
        asserts.append({"type": "equals", "value": kept(example.reference)})
    checks = example.other.get("checks") or ()
    told = [a for c in checks if (a := assert_of(c)) is not None] if is_objects(checks) else []
    asserts += [{**a, "value": kept(a["value"])} if "value" in a else a for a in told]
    asserts += example.other.get("assert") or []
    if asserts:
        row["assert"] = asserts
    beside = example.other.get("metadata")
    metadata = dict(beside) if isinstance(beside, Mapping) else {}
    for name in ("id", "split", "cluster", "provenance"):
        if getattr(example, name):
            metadata[name] = getattr(example, name)
    if example.tags:
        metadata["tags"] = list(example.tags)
    if metadata:
        row["metadata"] = metadata
    known = {"checks", *TEST}
    return row | {k: v for k, v in example.other.items() if k not in known and k in BESIDE}


BESIDE = frozenset(
    {"options", "threshold", "provider", "providers", "prompts", "assertScoringFunction"}
)


def write_table(example: Example) -> dict[str, Json]:
    """Return a row of promptfoo's CSV."""
    test = write(example)
    row: dict[str, Json] = {k: text_of(v) for k, v in test["vars"].items()}
    for number, one in enumerate(test.get("assert", ()), start=1):
        is_read_as_json = str(one["type"]).removeprefix("not-") in {"is-json", "contains-json"}
        if one.keys() - {"type", "value"} or (
            isinstance(one.get("value"), Mapping) and not is_read_as_json
        ):
            continue  # a cell has no place for it
        row["__expected" if number == 1 else f"__expected{number}"] = _expected(one)
    for key, value in test.get("metadata", {}).items():
        if is_texts(value):
            row[f"__metadata:{key}[]"] = ",".join(value)
        else:
            row[f"__metadata:{key}"] = text_of(value)
    if "description" in test:
        row["__description"] = test["description"]
    return row


def _expected(one: Mapping[str, Json]) -> str:
    kind, value = one["type"], one.get("value")
    if value is None:
        return str(kind)
    if kind == "equals":
        text = text_of(value)
        match = _TYPED.match(text)
        is_clear = (match is None or match[2] not in OTHERS) and text not in _BARE
        return text if is_clear else f"equals: {text}"
    return f"{kind}: {','.join(value) if is_texts(value) else text_of(value)}"


def marks(row: Object) -> float:
    """Tell how sure a row makes us."""
    if isinstance(row.get("vars"), Mapping):
        return 0.97 if "assert" in row or row.keys() <= TEST | BESIDE else 0.8
    if any(str(key).startswith(("__expected", "__metadata:")) for key in row):
        return 0.97
    is_config = "tests" in row and bool(row.keys() & {"prompts", "providers", "defaultTest"})
    tests = row.get("tests")
    has_vars = (
        isinstance(tests, list)
        and bool(tests)
        and isinstance(tests[0], Mapping)
        and "vars" in tests[0]
    )
    return 0.97 if is_config or has_vars else 0.0


FORM = Form(
    name="promptfoo",
    about="promptfoo's tests, and the exports of OpenAI's evals product",
    carries="inputs, reference (as `equals`), checks that promptfoo has too, id, split, cluster, "
    "tags, provenance, description",
    parse=parse,
    marks=marks,
    why="rows have `vars`, or columns like `__expected`",
    write=write,
    write_table=write_table,
    expand=expand,
)
