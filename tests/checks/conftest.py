from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import Miss, checks
from harness.ports.manager import Plugins


@pytest.fixture(autouse=True)
def only_our_checks() -> Iterator[None]:
    """No installed plugin takes part, unless a test says so."""
    checks.use_plugins(Plugins())
    yield
    checks.use_plugins(None)


@pytest.fixture
def reason() -> Callable[..., str]:
    """Return a caller that expects a Miss and gives its reason, which is safe and short."""

    def caught(check: Callable[..., Any], *args: Any, **arguments: Any) -> str:
        with pytest.raises(Miss) as excinfo:
            check(*args, **arguments)
        text = str(excinfo.value)
        text.encode("utf-8")
        assert len(text) < 3000
        assert "\x1b" not in text
        assert text.count("\n") <= 12
        return text

    return caught


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Time what a check does, and not a collection of what other tests of the process left."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
