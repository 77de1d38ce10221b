"""From what a person wrote after `+` to an artifact: its name, its digest, or its folder.

A folder is known by its content: a file that changed is another artifact, and asks anew. Its safe
files are kept on the shelf, so that what was scored can be scored again; nothing is known of how it
was made, and every gate says so until it is adopted with what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine.project import Project
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.ports.manager import Plugins
from harness.records import digest
from harness.store.artifacts import shelf_lock
from harness.store.store import Store

if TYPE_CHECKING:
    from harness.records import Artifact

BY_PATH = "a path"
"""What an artifact of which nothing but its files is known says of its origin."""
_SEEN: dict[tuple[object, ...], str] = {}
"""Digests by what a folder looked like: one command resolves a candidate several times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactsOf:
    """Finds the artifacts of one task. The store is opened and plugins are loaded where they are
    needed; `note` is told of a folder that was taken; one that `is_looking` takes none.
    """

    task: Task
    store: Callable[[], Store]
    project: Project
    plugins: Callable[[], Plugins]
    note: Callable[[str], None] = lambda _: None
    is_looking: bool = False

    def __call__(self, text: str) -> Artifact:
        """Return the artifact of a name or digest prefix. Raises UsageError."""
        return self.store().artifact(text, task=self.task.name)

    def by_path(self, path: Path, *, backend: str) -> Artifact | str:
        """Return the artifact whose files lie at `path`, for the base `backend`; where nothing may
        be written, a digest that no artifact has.

        Raises UsageError where it is no adapter or model of that base, Refused for a pickle.
        """
        folder = path.expanduser().resolve()
        shelf = (self.project.home / "artifacts").resolve()
        if folder.is_relative_to(shelf) and folder != shelf:
            return self(folder.relative_to(shelf).parts[0])
        if self.is_looking:
            return digest(["by path", str(folder)])
        looks = (str(self.project.store), self.task.name, backend, *_looks(folder))
        if looks not in _SEEN:
            _SEEN[looks] = self._taken(folder, path, backend=backend)
        return self(_SEEN[looks])

    def _taken(self, folder: Path, path: Path, *, backend: str) -> str:
        from harness.engine.adopting import adopt_folder

        if not backend.startswith("local:"):
            raise UsageError(
                f"{path} is a folder, and {backend} loads none: serve the files there, and adopt "
                f"them to say what is served: harness model adopt {path} --base {backend} "
                f"--task {self.task.name}"
            )
        with shelf_lock(self.project.home):
            done = adopt_folder(
                folder,
                base=backend,
                task=self.task,
                project=self.project,
                plugins=self.plugins(),
                store=self.store(),
                at=_now,
                is_by_path=True,
            )
        made = done.artifact
        if made.origin == BY_PATH:
            self.note(
                f"{path} is {made.digest[:16]}; how it was trained is not known. To say what is: "
                f"harness model adopt {path} --base {backend} --task {self.task.name} "
                "--prompt NAME --trained-on ROWS"
            )
        return made.digest


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _looks(folder: Path) -> list[object]:
    """Names, sizes and times of the files: what changes when one of them does."""
    found: list[object] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            told = path.stat()
            found += [str(path), told.st_size, told.st_mtime_ns]
    return found
