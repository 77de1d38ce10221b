"""Where a project keeps its tasks and its store. Knows nothing of what a task holds."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.store.home import HOME

STORE = Path(HOME) / "harness.db"
TASKS = "evals"
_KNOWN = {"tasks", "store", "disabled_plugins"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """`root` holds the pyproject.toml; `tasks` the task folders; `store` is the database file."""

    root: Path
    tasks: Path
    store: Path
    disabled_plugins: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The folder beside the store where artifacts, reports and locks live."""
        return self.store.parent


def find_project(start: Path, *, store: Path | None = None) -> Project:
    """Return the project that `start` lies in: the nearest `[tool.harness]`, else the nearest
    git root, else the folder whose `evals/` holds the task of `start`, else `start` itself.

    Raises UsageError where `[tool.harness]` is not readable or holds an unknown key.
    """
    start = start.resolve()
    folders = [start, *start.parents] if start.is_dir() else list(start.parents)
    settings: dict[str, object] = {}
    root = next((f for f in folders if (f / ".git").exists()), _around(folders))
    for folder in folders:
        found = _settings(folder / "pyproject.toml")
        if found is not None:
            root, settings = folder, found
            break
    unknown = sorted(set(settings) - _KNOWN)
    if unknown:
        raise UsageError(
            f"{root / 'pyproject.toml'}: [tool.harness] has unknown keys {unknown}. "
            f"Known: {sorted(_KNOWN)}."
        )
    disabled = settings.get("disabled_plugins", [])
    return Project(
        root=root,
        tasks=root / str(settings.get("tasks", TASKS)),
        store=(store or root / str(settings.get("store", STORE))).resolve(),
        disabled_plugins=tuple(disabled) if isinstance(disabled, list) else (),
    )


def _around(folders: list[Path]) -> Path:
    # pytest starts from a task's folder, the verbs from where a person stands: the same project
    task = next((f for f in folders if (f / "task.toml").exists()), None)
    within = [f for f in task.parents if f.name == TASKS] if task else []
    return within[0].parent if within else folders[0]


def find_task_folder(project: Project, task: str, *, cwd: Path) -> Path:
    """Return the folder of `task`, a name under the project's tasks or a path.

    Raises UsageError naming the known tasks.
    """
    for folder in (project.tasks / task, cwd / task):
        if (folder / "task.toml").is_file():
            return folder.resolve()
    known = ", ".join(task_names(project)) or "none yet (make one: `harness init NAME`)"
    raise UsageError(
        f"no task {task!r} under {project.tasks}. Known: {known}. `harness doctor` lists them."
    )


def artifact_folder(project: Project, digest: str) -> Path:
    """Return where the files of an artifact lie."""
    return project.home / "artifacts" / digest[:16]


def task_names(project: Project) -> list[str]:
    """Return the names of the project's tasks, sorted."""
    return sorted(p.parent.name for p in project.tasks.glob("*/task.toml"))


_FOUND: dict[Path, Path] = {}
"""Task folders by where the search began: asked several times an item, so remembered."""


def task_folder_of(path: Path) -> Path | None:
    """Return the nearest folder at or above `path` that holds a `task.toml`."""
    if path in _FOUND:
        return _FOUND[path]
    for folder in [path, *path.parents]:
        if (folder / "task.toml").is_file():
            _FOUND[path] = folder
            return folder
        if (folder / ".git").exists() or (folder / "pyproject.toml").exists():
            return None
    return None


def _settings(path: Path) -> dict[str, object] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if "[tool.harness" not in text:
        return None
    try:
        found = tomllib.loads(text).get("tool", {}).get("harness")
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{path}: not TOML: {exc}") from exc
    return found if isinstance(found, dict) else None
