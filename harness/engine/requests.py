"""Renders the requests of a task, with the examples and documents that each prompt asks for.

Knows nothing of backends or replies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from harness.core.prompts import Documents, query_text, render, training_row
from harness.engine.tasks import Task
from harness.errors import TaskError
from harness.records import Candidate, Case, Prompt, Request, digest

if TYPE_CHECKING:
    from harness.engine.documents import Library, Retrieval
    from harness.records import TrainingRow
    from harness.store.retrieval import ShotIndex


class Requests:
    """Renders the requests of a task, with the examples that each prompt asks for."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._indices: dict[str, ShotIndex] = {}
        self._library: Library | None = None
        self._fixed: dict[tuple[int, str], list[Case]] = {}

    def of(self, candidate: Candidate, case: Case) -> Request:
        """Return the request of `candidate` for `case`."""
        assert candidate.prompt is not None
        prompt = self._task.prompts[candidate.prompt]
        examples = self.examples(candidate.prompt, case)
        return render(
            prompt,
            case,
            examples=examples,
            documents=self._documents(prompt, [case, *examples]),
            decoding=candidate.decoding,
        )

    def training_row(self, prompt_name: str, case: Case) -> TrainingRow:
        """Return what is trained for `case`: with the examples and documents that are served."""
        prompt = self._task.prompts[prompt_name]
        examples = self.examples(prompt_name, case)
        found = self._documents(prompt, [case, *examples])
        return training_row(prompt, case, examples=examples, documents=found)

    def _documents(self, prompt: Prompt, cases: Sequence[Case]) -> Documents:
        if not prompt.documents:
            return {}
        from harness.engine.documents import shown

        return {c.id: shown(self.library.nearest(c, prompt.documents)) for c in cases}

    @property
    def library(self) -> Library:
        """The task's documents."""
        if self._library is None:
            from harness.engine.documents import Library

            self._library = Library(self._task.passages)
        return self._library

    def retrieval(self, prompt_name: str, cases: Sequence[Case]) -> Retrieval | None:
        """Return how much of what `cases` need a prompt is filled with; None where that cannot be
        measured: it takes no documents, or no case says what it needs.
        """
        k = self._task.prompts[prompt_name].documents
        if not k:
            return None
        from harness.engine.documents import measure_retrieval

        return measure_retrieval(self.library, cases, prompt=prompt_name, k=k)

    def examples(self, prompt_name: str, case: Case) -> list[Case]:
        """Return the examples for `case`: never of its own cluster, nearest last."""
        prompt = self._task.prompts[prompt_name]
        if not prompt.shots:
            return []
        pool = [c for c in self._task.rows_for(prompt) if c.reference is not None]
        if len(pool) < prompt.shots:
            where = "train" if self._task.split("train") else "dev"
            spared = f" and without the tag {prompt.without}" if prompt.without else ""
            raise TaskError(
                f"{prompt.path}:1: asks for {prompt.shots} examples, and the {where} split has "
                f"{len(pool)} rows with a reference{spared}. Mark some cases as train."
            )
        if prompt.retrieve:
            if prompt.without not in self._indices:
                from harness.store.retrieval import ShotIndex

                self._indices[prompt.without] = ShotIndex(pool, query_text)
            near = self._indices[prompt.without].nearest(
                query_text(case),
                prompt.shots,
                exclude_clusters=frozenset({case.cluster}),
                exclude_ids=frozenset({case.id}),
            )
            return near[::-1]
        drawn = (prompt.seed, prompt.without)
        if drawn not in self._fixed:
            # by digest, so that adding a row moves few of the others
            ranked = sorted(pool, key=lambda c: digest([prompt.seed, c.id]))
            self._fixed[drawn] = ranked
        others = (
            c
            for c in self._fixed[drawn]
            if c.id != case.id and (not c.cluster or c.cluster != case.cluster)
        )
        return list(islice(others, prompt.shots))
