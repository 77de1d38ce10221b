"""A weight file that is not whole is found by its head alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.errors import StoreError
from harness.store.tensors import check_weights, safetensors_shapes

HEAD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [24, 28]},
}


def whole(head: object = HEAD, *, data: int = 28) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + b"\x01" * data


def test_a_whole_file_tells_its_shapes(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(whole())
    assert safetensors_shapes(file) == {"a": (2, 3), "b": (1,)}
    assert check_weights(tmp_path) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=len(whole()) - 1))
def test_every_copy_that_broke_off_is_found(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    file = tmp_path_factory.mktemp("f") / "a.safetensors"
    file.write_bytes(whole()[:length])
    with pytest.raises(StoreError, match=r"a\.safetensors is not a whole safetensors file"):
        safetensors_shapes(file)


@pytest.mark.parametrize(
    "held",
    [
        b"<!DOCTYPE html><html><body>404</body></html>",
        struct.pack("<Q", 1 << 60) + b"{}",
        whole([1, 2]),
        whole({"a": {"shape": [1]}}),
        whole({"a": {"shape": [1], "data_offsets": [8, 4]}}),
        whole({"a": "nothing"}),
        whole(data=40),
        struct.pack("<Q", 60_000) + b"[" * 60_000,
    ],
    ids=["html", "huge", "list", "no offsets", "backwards", "text", "too long", "deep"],
)
def test_what_is_no_such_file_is_told_without_being_loaded(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(held)
    with pytest.raises(StoreError, match="Copy it again"):
        check_weights(tmp_path)


def test_a_part_that_an_index_names_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "model-1.safetensors").write_bytes(whole())
    index = {"weight_map": {"a": "model-1.safetensors", "c": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(StoreError, match=r"names model-2\.safetensors, which is not there"):
        check_weights(tmp_path)


def test_a_gguf_file_must_begin_as_one(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04")
    with pytest.raises(StoreError, match="not a GGUF file"):
        check_weights(tmp_path)
