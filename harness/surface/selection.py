"""Which cases an eval run is limited to: `--only` by what was recorded, `--sample` by digest.

Knows records and evaluations; nothing of pytest, of stores, or of how a run is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from harness.core.scoring import trial_value
from harness.engine.eval_sources import aggregates
from harness.engine.evaluate import Evaluation, TrialId
from harness.errors import UsageError
from harness.records import Case, Run, Trial, digest

SALT = "sample 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The newest trials of one case, and what the eval files and the run were then."""

    trials: tuple[Trial, ...]
    evals_digest: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The cases that are run, by candidate; `aggregates` are the candidates whose evals over all
    trials run too; `notes` say what was chosen.
    """

    cases: Mapping[str, frozenset[str]]
    aggregates: frozenset[str]
    notes: tuple[str, ...] = ()

    def keeps(self, trial: TrialId) -> bool:
        """Tell whether the items of a trial (or, without a case, of an aggregate) are run."""
        if not trial.case_id:
            return trial.candidate in self.aggregates
        return trial.case_id in self.cases[trial.candidate]


def sampled(case_ids: Iterable[str], n: int) -> frozenset[str]:
    """Return `n` of the cases, ranked by the digest of their ids.

    The same for everybody; a larger sample holds every smaller one, and a new case moves at most
    one other out.
    """
    return frozenset(sorted(case_ids, key=lambda c: digest([SALT, c]))[:n])


def newest_trials(
    runs: Iterable[Run],
    case_ids: Collection[str],
    *,
    names: Collection[str] = (),
    evals_digest: str = "",
) -> dict[str, Recorded]:
    """Return what is recorded of each case in the first of `runs`, newest first, that has it.

    Trials under today's evals (`evals_digest`) that lack one of the scores `names`, or some items
    of one, stand back behind older ones: a part of the evals was run, as with `-k`, and says
    nothing of the others.
    """
    found: dict[str, Recorded] = {}
    parts: dict[str, Recorded] = {}
    every = set(names)
    for run in runs:
        by_case: dict[str, list[Trial]] = {}
        for trial in run.trials:
            if trial.case_id not in found and trial.case_id in case_ids:
                by_case.setdefault(trial.case_id, []).append(trial)
        for case_id, trials in by_case.items():
            recorded = Recorded(trials=tuple(trials), evals_digest=run.evals_digest, run_id=run.id)
            is_part = any(s.is_part for trial in trials for s in trial.scores) or (
                run.evals_digest == evals_digest
                and any(not every <= {s.name for s in trial.scores} for trial in trials)
            )
            if is_part:
                parts.setdefault(case_id, recorded)
            else:
                found[case_id] = recorded
        if len(found) == len(case_ids):
            break  # older runs are not even read
    return found | {case_id: part for case_id, part in parts.items() if case_id not in found}


def missed(known: Mapping[str, Recorded], primary: str) -> frozenset[str]:
    """Return the cases of which a trial scored below 1. One whose score a fault made missing is no
    measurement, and neither is a failure of the model: `--only faults` has them.
    """
    return frozenset(
        case_id
        for case_id, recorded in known.items()
        for trial in recorded.trials
        if (trial.fault is None or trial.fault.origin == "eval")
        and (value := trial_value(trial, primary)) is not None
        and value < 1
    )


def faulty(known: Mapping[str, Recorded]) -> frozenset[str]:
    """Return the cases of which a trial ended in a fault."""
    return frozenset(c for c, r in known.items() if any(t.fault for t in r.trials))


def changed(
    known: Mapping[str, Recorded],
    cases: Mapping[str, Case],
    *,
    repeats: int,
    evals_digest: str,
    key_of: Callable[[str, int], str | None],
) -> frozenset[str]:
    """Return the cases whose recorded trials are not what a run now would record.

    New cases and repeats, changed inputs, references and checks, changed eval files, and those
    whose request (prompt, examples, decoding, backend) is another: `key_of` a case and repeat.
    """

    def is_changed(case: Case) -> bool:
        recorded = known.get(case.id)
        if recorded is None or recorded.evals_digest != evals_digest:
            return True
        by_repeat = {t.repeat: t for t in recorded.trials}
        for repeat in range(repeats):
            trial = by_repeat.get(repeat)
            if trial is None or trial.case_digest != case.digest[:16]:
                return True
            # what came to no reply has no key to compare; `--only faults` finds it
            if trial.reply_key is not None and trial.reply_key != key_of(case.id, repeat):
                return True
        return False

    return frozenset(case.id for case in cases.values() if is_changed(case))


def select_cases(
    evaluation: Evaluation,
    *,
    only: str | None,
    sample: int | None,
    runs_of: Callable[..., Iterable[Run]] | None = None,
) -> Selection:
    """Return what `--only` and then `--sample` keep; `runs_of(candidate=...)` gives newest first.

    Raises UsageError where `only` has nothing to go by, HarnessError where a request cannot be
    made.
    """
    cases = dict.fromkeys(evaluation.candidates, frozenset(evaluation.cases))
    notes: list[str] = []
    if only:
        assert runs_of is not None
        found = {n: _chosen(only, evaluation, n, runs=runs_of(candidate=n)) for n in cases}
        unknown = [
            f"--only {only}: nothing is recorded of {name} over {evaluation.split}. Run it whole "
            f"first: `harness eval {evaluation.task.name} --candidate {shlex.quote(name)}`"
            for name, chosen in found.items()
            if chosen is None
        ]
        if len(unknown) == len(found):
            raise UsageError("\n".join(unknown))
        notes = [*unknown, *(note for chosen in found.values() if chosen for note in chosen[1:])]
        cases = {name: chosen[0] if chosen else frozenset() for name, chosen in found.items()}
    is_whole = {name: len(ids) == len(evaluation.cases) for name, ids in cases.items()}
    if sample is not None:
        few = sampled(frozenset[str]().union(*cases.values()), sample)
        cases = {name: ids & few for name, ids in cases.items()}
    # an aggregate over what was missed would say nothing of its candidate
    return Selection(
        cases=cases,
        aggregates=frozenset(name for name, whole in is_whole.items() if whole),
        notes=tuple(notes),
    )


def _chosen(
    only: str, evaluation: Evaluation, name: str, *, runs: Iterable[Run]
) -> tuple[frozenset[str], str] | None:
    """Return the cases of candidate `name` that `--only` keeps, and a line that says so."""
    task = evaluation.task
    known = newest_trials(
        runs,
        evaluation.cases.keys(),
        names=set(task.eval_names) - set(aggregates(task.folder)),
        evals_digest=task.evals_digest,
    )
    if not known:
        return None
    if only == "missed":
        picked, what = missed(known, task.settings.primary), "missed"
    elif only == "faults":
        picked, what = faulty(known), "ended in a fault"
    else:
        evals = task.evals_digest
        picked = changed(
            known,
            evaluation.cases,
            repeats=evaluation.repeats(name),
            evals_digest=evals,
            key_of=lambda case_id, repeat: evaluation.key_of(
                TrialId(candidate=name, case_id=case_id, repeat=repeat)
            ),
        )
        older = sum(r.evals_digest != evals for r in known.values())
        what = f"changed (the evals did, since {older} were scored)" if older else "changed"
    newest = next(iter(known.values())).run_id[:8]
    n = len(evaluation.cases)
    line = f"{name}: {len(picked)} of {n} cases {what}; newest run {newest}"
    if only != "changed" and len(known) < n:  # as after a run that was cut off
        line += f"; of {n - len(known)} nothing is recorded"
    return picked, line
