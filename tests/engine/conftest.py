from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.small import Plugin, Workshop, write_task


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """Return a maker of a project with one task; everything is closed at the end."""
    made: list[Workshop] = []

    def one_more(*, plugin: Plugin | None = None, **task: Any) -> Workshop:
        made.append(Workshop(write_task(tmp_path / f"p{len(made)}", **task), plugin))
        return made[-1]

    yield one_more
    for one in made:
        one.close()
