"""How many items of a score are about one trial: an eval may have parameters of its own, and two
classes may inherit it. What cannot be an eval is refused. Knows nothing of what they score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engine.eval_names import EvalNames
from harness.engine.eval_sources import evals_in
from harness.engine.outcomes import merged
from harness.errors import TaskError
from harness.records import Score
from harness.surface.eval_outcomes import PARTS, PATTERN, score_name
from harness.surface.eval_refusals import note_unknown_fixtures
from harness.surface.eval_scores import TaskScores
from harness.surface.eval_session import SESSION
from harness.surface.eval_trials import eval_trial_of
from harness.surface.words import from_here


class EvalParts:
    """The plugin of one session that counts what there is, before any of it is left out."""

    def __init__(self, config: pytest.Config) -> None:
        self._session = config.stash[SESSION]
        self._names = EvalNames()
        self._known: set[tuple[str, str]] = set()
        self._files: set[Path] = set()
        self._begun: set[str] = set()
        self._classes: dict[str, pytest.Class] = {}
        """Those that pytest saw and did not begin with."""
        self._counts: Counter[tuple[Path, str]] = config.stash.setdefault(PARTS, Counter())

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Module | pytest.Class, name: str, obj: object
    ) -> Generator[None, Any, Any]:
        """Count the items of an eval function: as many for each of its trials. A run under `-k`,
        `--lf` or `-x` may lack some of them, and so may one whose worker died.
        """
        made = yield
        if isinstance(made, list) and made and collector.path.match(PATTERN):
            note_unknown_fixtures(made[0], obj)
            try:
                self._refuse_second(made[0], obj)
            except TaskError as exc:
                self._session.error = self._session.error or exc
                if self._session.is_watched:  # nothing will run, and our caller says why
                    return []
                raise pytest.Collector.CollectError(from_here(str(exc))) from exc
        self._files.add(collector.path)
        if type(made) is pytest.Class and made.nodeid not in self._begun:
            self._classes[made.nodeid] = made
        trial = eval_trial_of(made[0]) if isinstance(made, list) and made else None
        if trial is not None and (collector.nodeid, name) not in self._known:
            self._known.add((collector.nodeid, name))
            evaluation = trial.evaluation
            one_each = evaluation.trial_ids() if trial.id.case_id else evaluation.candidates
            key = evaluation.task.folder, score_name(made[0])
            self._counts[key] += len(made) // len(one_each)
        return made

    def _refuse_second(self, item: pytest.Item, function: object) -> None:
        trial = eval_trial_of(item)
        if trial is not None:
            self._names.add(trial.evaluation.task.folder, score_name(item), function)

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """See which classes an argument left out."""
        if isinstance(collector, pytest.Class):
            self._begun.add(collector.nodeid)
            self._classes.pop(collector.nodeid, None)

    def pytest_collection_finish(self) -> None:
        """Count what pytest did not come by, where an argument names a file or a class of a task,
        or `--lf` skips the files in which nothing failed.
        """
        folders = {folder.resolve(): folder for folder, _ in self._counts}
        for one in self._classes.values():
            folder = folders.get(one.path.parent.resolve())
            if folder is not None:
                names = filter(one.funcnamefilter, dir(one.obj))
                self._counts.update((folder, name.removeprefix("test_")) for name in names)
        seen = {path.resolve() for path in self._files}
        for folder in folders.values():
            unseen = {file for file in folder.glob(PATTERN) if file.resolve() not in seen}
            if unseen:
                self._counts.update((folder, name) for name in evals_in(folder, unseen))


def lacking_parts(seen: TaskScores) -> set[str]:
    """Return the candidates of which a score has fewer items than there are: a partial run."""
    if not seen.parts:
        return set()
    of_cases = ((trial.candidate, some) for trial, some in seen.scores.items())
    return {
        candidate
        for candidate, some in (*of_cases, *seen.aggregates.items())
        if _lacking(some, seen.parts)
    }


def joined(scores: Sequence[Score], parts: Mapping[str, int]) -> tuple[Score, ...]:
    """Return one score a name, marked where some of its items did not run."""
    few, made = _lacking(scores, parts), tuple(merged(scores))
    if not few:
        return made  # the same one for trials that passed: there may be 100,000
    return tuple(replace(s, is_part=True) if s.name in few else s for s in made)


def _lacking(scores: Sequence[Score], parts: Mapping[str, int]) -> set[str]:
    if not parts:
        return set()
    found = Counter(score.name for score in scores)  # a plugin may run an item twice
    return {name for name, many in parts.items() if 0 < found[name] < many}
