"""Digests that were recorded stand, whatever a record gains and wherever its class lives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import types
import typing
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from harness import records
from harness.records import Case, Decoding, Prompt, Run, digest, digest_rows, from_plain, to_plain

KINDS: list[Any] = sorted(
    {k for name in dir(records) if dataclasses.is_dataclass(k := getattr(records, name))},
    key=lambda kind: kind.__name__,
)
# Stores out there hold these. A new field has a default that is left out, and changes none.
STANDING = {
    "Artifact": "b6d245c428da2749",
    "Candidate": "e0b578dd67b0ac85",
    "Case": "da4b4d11925d6678",
    "Check": "6ee00de80634c839",
    "Comparison": "5c51de4c280c44dc",
    "Condition": "a05f0ec1193d6f6f",
    "CurvePoint": "84ca9ee285998095",
    "Decoding": "6bdcf35b7e9ff9bf",
    "Estimate": "d2ef35f7271bd091",
    "Fault": "4071c8072d043e33",
    "LedgerEntry": "3109b79195dd06c0",
    "Message": "fcf9ab6cb006b301",
    "ParityCheck": "53df080f1e127450",
    "ParityFinding": "631b548c13eb3988",
    "PreparedRow": "b7f1d09bb8218dbf",
    "Prompt": "4dba35d0820435b1",
    "ReleaseVerdict": "83384587d1359816",
    "Reply": "832cb5683bf7f26f",
    "Request": "66ebb3c0115da53f",
    "Run": "3e4c2cc992118b99",
    "Score": "33c35efc47a4a0a9",
    "TrainingRow": "e8f78e860345217f",
    "Trial": "88047b1a0d946822",
    "Try": "24a1fb522c9d6ff0",
    "WallVerdict": "fd356ca45556b0be",
}


def made(hint: Any) -> Any:
    """A value of `hint`; a record has its required fields alone."""
    plain = {str: "text", int: 3, float: 0.25, bool: True, Any: {"x": [1, "é"]}}
    if hint in plain:
        return plain[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return inner[0]
    if origin is tuple:
        return (made(inner[0]),)
    if origin is Mapping:
        return {"k": made(inner[1])}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: made(hints[f.name]) for f in dataclasses.fields(hint) if needed(f)})
    return made(next(a for a in inner if a is not type(None)))


def needed(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.init and field.default is missing and field.default_factory is missing


def test_every_kind_of_record_has_a_digest_that_stands() -> None:
    assert {kind.__name__ for kind in KINDS} == set(STANDING)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_recorded_digest_stands(kind: Any) -> None:
    record = made(kind)
    assert digest(record)[:16] == STANDING[kind.__name__]
    assert from_plain(kind, to_plain(record)) == record


def test_identities_of_cases_prompts_and_runs_stand() -> None:
    case, prompt, run = made(Case), made(Prompt), made(Run)
    assert (case.digest[:16], case.inputs_digest[:16]) == ("af24993759f9b1f0", "ecfb963f13e72749")
    assert prompt.digest[:16] == "a3a9c2b082df1efd"
    assert run.id == STANDING["Run"]
    assert run.candidate.digest[:16] == "7f5cbce99e1f385a"


def test_help_imports_no_record() -> None:
    code = "import sys, harness.surface.cli; print('harness.records' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@settings(max_examples=30, deadline=None)
@given(
    count=st.sampled_from([0, 1, 2, 999, 1000, 1001, 2003]),
    row=st.lists(st.none() | st.text(max_size=3), max_size=3),
)
def test_the_digest_of_rows_is_that_of_their_list(count: int, row: list[str | None]) -> None:
    rows = [[n, *row] for n in range(count)]
    assert digest_rows(iter(rows)) == digest(rows)


class Pair(typing.NamedTuple):
    """A tuple that is told by no exact type."""

    left: int
    right: Any


def test_what_is_like_a_list_or_an_object_has_the_plain_form_of_one() -> None:
    inner = types.MappingProxyType({1: Decoding(stop=("a",)), "x": (None, [Pair(2, {3: "é"})])})
    plain = {"1": {"temperature": 0.0, "max_tokens": 256, "stop": ["a"]}}
    plain |= {"x": [None, [[2, {"3": "é"}]]]}
    assert to_plain([inner, OrderedDict(a=inner)]) == [plain, {"a": plain}]


def test_what_a_case_asks_about_is_its_inputs_and_its_images_however_it_is_copied() -> None:
    """It is found out once, and belongs to no copy that asks about something else."""
    case = Case(id="a", inputs={"x": 1}, split="dev", images=("data:image/png;base64,AA==",))
    known = case.inputs_digest
    for same in (pickle.loads(pickle.dumps(case)), copy.copy(case), replace(case, id="b")):
        assert same.inputs_digest == known
    others = (replace(case, inputs={"x": 2}), replace(case, images=()), replace(case, images=("",)))
    assert len({known, *(other.inputs_digest for other in others)}) == 4
    assert "digest" not in repr(case)
