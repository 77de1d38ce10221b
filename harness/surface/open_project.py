"""The store, the plugins and the backends of one session, opened when first needed.

Knows nothing of cases or evals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.checks import use_plugins
from harness.engine.backends import BackendPool
from harness.engine.by_path import ArtifactsOf
from harness.engine.project import Project, artifact_folder, find_project
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.ports.manager import Plugins
from harness.records import Split
from harness.store.journal import files_beside
from harness.store.store import Store


class OpenProject:
    """What a session has open. `store` names the database, where a person did; where items are
    only collected, nothing is written, and no plugin is loaded unless replies' keys are compared.
    `told` is given what is said of runs that were cut off; without it, none is recovered.
    """

    def __init__(
        self,
        *,
        store: str | None,
        is_collecting: bool,
        compares_keys: bool,
        told: Callable[[str], None] | None = None,
    ) -> None:
        self._place = Path(store) if store else None
        self._is_collecting = is_collecting
        self._compares_keys = compares_keys
        self._told = told
        self._opened: tuple[Store, Plugins, BackendPool] | None = None
        self._read_only: Store | None = None
        self._seen: set[Path] = set()

    def store(self, folder: Path) -> Store:
        """Return the store of the project of `folder`; for reading alone while collecting."""
        if not self._is_collecting:
            return self._open(folder)[0]
        if self._read_only is None:
            self._read_only = Store.open(self._project(folder).store, read_only=True)
        self._refuse_another(folder, self._read_only)
        return self._read_only

    def plugins(self, folder: Path) -> Plugins:
        """Return the plugins, loaded."""
        return self._open(folder)[1]

    def pool(self, folder: Path) -> BackendPool:
        """Return the backends."""
        if not self._is_collecting:
            return self._open(folder)[2]
        project = self._project(folder)
        plugins = Plugins(disabled=project.disabled_plugins)
        if self._compares_keys:
            plugins.load()
        return BackendPool(plugins, artifact_folder=partial(artifact_folder, project))

    def refuse_leaks(self, task: Task, split: Split, *, told: Callable[[str], None]) -> None:
        """Raise TaskError where cases of `split` leak, as every verb does."""
        from harness.engine.leaks import MEMORY, refuse_leaks

        memory = self._project(task.folder).home / MEMORY
        refuse_leaks(task, split, memory=memory, told=told, is_looking=self._is_collecting)

    def artifacts_of(self, task: Task, *, note: Callable[[str], None]) -> ArtifactsOf:
        """Return what finds the artifacts of `task`, by name, digest or path."""
        return ArtifactsOf(
            task=task,
            store=lambda: self.store(task.folder),
            project=self._project(task.folder),
            plugins=lambda: self.plugins(task.folder),
            note=note,
            is_looking=self._is_collecting,
        )

    def close(self) -> None:
        """Close the backends and the store."""
        if self._opened is not None:
            store, _, pool = self._opened
            pool.close()
            store.close()
            self._opened = None
        if self._read_only is not None:
            self._read_only.close()
            self._read_only = None

    def _project(self, folder: Path) -> Project:
        return find_project(folder, store=self._place)

    def _open(self, folder: Path) -> tuple[Store, Plugins, BackendPool]:
        if self._opened is None:
            project = self._project(folder)
            store = Store.open(project.store)
            plugins = Plugins(disabled=project.disabled_plugins).load()
            use_plugins(plugins)
            pool = BackendPool(plugins, artifact_folder=partial(artifact_folder, project))
            self._opened = (store, plugins, pool)
            if self._told is not None and files_beside(store.path):
                from harness.surface.recovered import recover

                for line in recover(store, plugins=lambda: plugins):
                    self._told(line)
        self._refuse_another(folder, self._opened[0])
        return self._opened

    def _refuse_another(self, folder: Path, opened: Store) -> None:
        """Raise UsageError where a task's project keeps its runs elsewhere than in `opened`: they
        would be lost to its verbs, and stand on the ladder of a task of that name.
        """
        if folder in self._seen:
            return
        own = self._project(folder).store
        if own != opened.path:
            raise UsageError(
                f"{folder}: its project keeps its runs in {own}, and this session's are kept in "
                f"{opened.path}. Run the evals of each project in a session of its own, or name "
                "one store for all: --store PATH."
            )
        self._seen.add(folder)
