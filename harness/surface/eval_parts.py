"""How many items of a score are about one trial: an eval may have parameters of its own, and two
classes an eval of one name. Knows nothing of what they score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records import Score
from harness.surface.eval_outcomes import PARTS, score_name
from harness.surface.eval_scores import TaskScores
from harness.surface.eval_trials import eval_trial_of


class EvalParts:
    """The plugin of one session that counts what there is, before any of it is left out."""

    def __init__(self, config: pytest.Config) -> None:
        self._known: set[tuple[str, str]] = set()
        self._counts: Counter[tuple[Path, str]] = config.stash.setdefault(PARTS, Counter())

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Module | pytest.Class, name: str
    ) -> Iterator[Any]:
        """Count the items of an eval function: as many for each of its trials. A run under `-k`,
        `--lf` or `-x` may lack some of them, and so may one whose worker died.
        """
        made = yield
        trial = eval_trial_of(made[0]) if isinstance(made, list) and made else None
        if trial is not None and (collector.nodeid, name) not in self._known:
            self._known.add((collector.nodeid, name))
            evaluation = trial.evaluation
            one_each = evaluation.trial_ids() if trial.id.case_id else evaluation.candidates
            key = evaluation.task.folder, score_name(made[0])
            self._counts[key] += len(made) // len(one_each)
        return made


def lacking_parts(seen: TaskScores) -> set[str]:
    """Return the candidates of which a score has fewer items than there are: a partial run."""
    if not seen.parts:
        return set()
    of_cases = ((trial.candidate, some) for trial, some in seen.scores.items())
    return {
        candidate
        for candidate, some in (*of_cases, *seen.aggregates.items())
        if _lacks(some, seen.parts)
    }


def _lacks(scores: Sequence[Score], parts: Mapping[str, int]) -> bool:
    found = Counter(score.name for score in scores)  # a plugin may run an item twice
    return any(0 < found[name] < many for name, many in parts.items())
