"""What every verb needs: the project, its store, plugins and backends, opened when asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from harness.engine.backends import BackendPool
from harness.engine.by_path import ArtifactsOf
from harness.engine.candidates import REFERENCE, candidate_names, resolve_candidate
from harness.engine.project import Project, artifact_folder, find_project, find_task_folder
from harness.engine.reins import REINS
from harness.engine.tasks import Task, load_task
from harness.errors import HarnessError, UsageError
from harness.ports.manager import Plugins
from harness.records import Candidate, Split, to_plain
from harness.store.journal import files_beside
from harness.store.store import Store
from harness.surface.cli import ANSWERED
from harness.surface.words import clean, from_here

if TYPE_CHECKING:
    from harness.engine.leaks import Leak

STDERR = 2
_LONE = re.compile("[\ud800-\udfff]")


class App:
    """A context manager around one command."""

    def __init__(self, store: str | None = None, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._stack = ExitStack()
        self._store_path = Path(store).absolute() if store else None

    def __enter__(self) -> App:
        self._stack.callback(partial(setattr, REINS, "stack_fd", REINS.stack_fd))
        if REINS.stack_fd is None:  # no parent reads it
            REINS.stack_fd = STDERR
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @cached_property
    def project(self) -> Project:
        """The project that the current folder lies in."""
        return find_project(Path.cwd(), store=self._store_path)

    @cached_property
    def store(self) -> Store:
        """The project's store, with the runs in it that were cut off before."""
        store = self._stack.enter_context(Store.open(self.project.store))
        if files_beside(store.path):
            from harness.surface.recovered import recover

            for line in recover(store, plugins=lambda: self.plugins):
                click.echo(line, err=True)
        return store

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plugins."""
        return Plugins(disabled=self.project.disabled_plugins).load()

    @cached_property
    def pool(self) -> BackendPool:
        """The backends in use."""
        pool = BackendPool(self.plugins, artifact_folder=partial(artifact_folder, self.project))
        self._stack.callback(pool.close)
        return pool

    def task(self, name: str) -> Task:
        """Return a task by name or path. Raises UsageError or TaskError."""
        return load_task(find_task_folder(self.project, name, cwd=Path.cwd()))

    def refuse_leaks(self, task: Task, *splits: Split, is_anew: bool = False) -> None:
        """Raise TaskError where cases of `splits` leak: no number of the task stands. `is_anew`
        looks at them again, whatever an earlier command has found.
        """
        from harness.engine.leaks import MEMORY, refuse_leaks

        refuse_leaks(
            task,
            *splits,
            memory=None if is_anew else self.project.home / MEMORY,
            told=lambda line: click.echo(line, err=True),
        )

    def leaks(self, task: Task) -> list[Leak]:
        """Return the leaks of dev and test; none is searched for where an earlier command found
        that there is none.
        """
        from harness.engine.leaks import MEMORY, every_leak

        say = partial(click.echo, err=True)
        return every_leak(task, memory=self.project.home / MEMORY, told=say)

    def candidate(self, task: Task, text: str, *, base_url: str | None = None) -> Candidate:
        """Return the candidate that `text` names in `task`. Raises UsageError."""
        finder = ArtifactsOf(
            task=task,
            store=lambda: self.store,
            project=self.project,
            plugins=lambda: self.plugins,
            note=lambda line: click.echo(line, err=True),
        )
        return resolve_candidate(task, text, base_url=base_url, artifact_digest=finder)

    def which_candidate(self, task: Task) -> UsageError:
        """Return what is said where no candidate was named: those that could be."""
        rows = self.store.runs(task=task.name)
        names = dict.fromkeys(r.candidate for r in rows if r.backend != REFERENCE)
        known = ", ".join(clean(name) for name in names)
        said = (
            f"Those with a recorded run: {known}."
            if known
            else f"None has a recorded run yet: harness eval {task.name} --candidate NAME. "
            f"Known: {', '.join(candidate_names(task))}."
        )
        return UsageError(f"which candidate? --candidate NAME. {said}")

    def say(self, *lines: str) -> None:
        """Print lines for people; nothing where JSON was asked for."""
        if not self.as_json:
            for line in lines:
                click.echo(line)

    def answer(self, plain: Any) -> None:
        """Print the one JSON value, where it was asked for."""
        if self.as_json:
            text = json.dumps(to_plain(plain), ensure_ascii=False, indent=1)
            ANSWERED.set(True)
            # half a surrogate pair, as models send it, can only be written as an escape
            click.echo(_LONE.sub(lambda half: f"\\u{ord(half[0]):04x}", text))

    def fail(self, error: HarnessError) -> int:
        """Say what is wrong beside an answer that was given; return the exit code."""
        click.echo(f"error: {clean(from_here(str(error)))}", err=True)
        return error.exit_code


def now() -> str:
    """Return the time as UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def options(*, candidates: bool = False) -> Callable[[Any], Any]:
    """Add the options that many verbs share."""

    def add(command: Any) -> Any:
        command = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")(
            command
        )
        if candidates:
            command = click.option(
                "--base-url", metavar="URL", help="Base URL of an OpenAI-compatible server."
            )(command)
        return command

    return add
