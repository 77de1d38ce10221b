"""A pupil whose replies depend on its instructions, and a teacher who rewrites those."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import hookimpl
from harness.engine.fetch import Silence
from harness.engine.optimise import Optimised, OptimiseWish, optimise
from harness.ports.optimisers import OptimisedPrompt, OptimiseJob
from harness.records import Reply, Request
from harness.testing import ScriptedBackend
from tests.engine.small import Workshop, rows, write_task

LESSONS = ["Be nice.", "Double the number.", "Double the number; digits only."]


def pupil(request: Request) -> Reply:
    """Double where it is told to; say it in digits for even numbers, or where that is told too."""
    told = "\n".join(m.content for m in request.messages if m.role == "system")
    n = int(request.messages[-1].content.split()[-1].rstrip("."))
    right = "Double" in told and (n % 2 == 0 or "digits" in told)
    return Reply(text=str(2 * n) if right else "many", latency_s=0.01)


def teacher(request: Request) -> str:
    """Give the lesson after the one that stands in the instructions; where none does, the useless
    first or the second, by what it was shown.
    """
    text = request.messages[-1].content
    known = [n for n, lesson in enumerate(LESSONS) if f"```\n{lesson}\n```" in text]
    after = known[0] + 1 if known else sum(map(ord, text)) % 2
    return f"Here they are:\n```\n{LESSONS[min(after, 2)]}\n```"


class Watching:
    """An optimiser by `search`, which keeps the jobs that it was given."""

    def __init__(self, search: Callable[[OptimiseJob], Sequence[OptimisedPrompt]]) -> None:
        self.search = search
        self.jobs: list[OptimiseJob] = []

    def optimise(self, job: OptimiseJob) -> Sequence[OptimisedPrompt]:
        self.jobs.append(job)
        return self.search(job)


class School:
    """A project with the schemes `pupil:` and `teacher:`, and, where given, an optimiser `mine`."""

    def __init__(
        self,
        root: Path,
        *,
        mine: Callable[[OptimiseJob], Sequence[OptimisedPrompt]] | None = None,
        pupil: Callable[[Request], Any] = pupil,
        teacher: Callable[[Request], Any] = teacher,
        external: Sequence[str] = (),
        dev: int = 20,
        train: int = 10,
        **task: Any,
    ) -> None:
        some = task.pop("some", None) or [
            *rows(dev=0, train=train, test=0, start=10),
            *rows(dev=dev, train=0, test=0, start=500),
            *rows(dev=0, train=0, test=6, start=7000),
        ]
        self.pupil = ScriptedBackend(pupil, is_external="pupil" in external)
        self.teacher = ScriptedBackend(teacher, is_external="teacher" in external)
        self.mine = Watching(mine or (lambda job: []))
        folder = write_task(root, some=some, **{"model": "pupil:small", **task})
        self.shop = Workshop(folder)
        self.shop.plugins.register(self, name="school")
        import harness_gepa

        self.shop.plugins.register(harness_gepa, name="gepa")

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        return {"pupil": lambda config: self.pupil, "teacher": lambda config: self.teacher}

    @hookimpl
    def harness_optimizers(self) -> Mapping[str, Any]:
        return {"mine": lambda: self.mine}

    def optimise(self, optimiser: str = "gepa", **wish: Any) -> Optimised:
        given = {"reflect": "teacher:large", "seed_prompt": "plain", **wish}
        return optimise(
            self.shop.task,
            OptimiseWish(optimiser=optimiser, **given),
            plugins=self.shop.plugins,
            pool=self.shop.pool,
            store=self.shop.store,
            progress=Silence(),
            at=self.shop.at,
        )

    def close(self) -> None:
        self.shop.close()

    @property
    def made(self) -> list[Path]:
        return sorted((self.shop.folder / "prompts" / "made").glob("*"))

    @property
    def sent(self) -> list[str]:
        """All that reached either model, as text."""
        asked = [*self.pupil.requests, *self.teacher.requests]
        return ["\n".join(m.content for m in request.messages) for request in asked]


@contextmanager
def schools(root: Path, *plugins: ModuleType, **given: Any) -> Iterator[Callable[..., School]]:
    """Open schools below `root`, each with more plugins than its own, and close them all."""
    with ExitStack() as opened:
        numbers = count()

        def one_more(**settings: Any) -> School:
            one = School(root / f"s{next(numbers)}", **{**given, **settings})
            opened.callback(one.close)
            for plugin in plugins:
                one.shop.plugins.register(plugin, name=plugin.__name__)
            return one

        yield one_more


def numbers_in(texts: Iterable[str]) -> set[int]:
    return {int(n) for text in texts for n in re.findall(r"\d+", text)}
