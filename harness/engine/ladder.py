"""The recorded tries of a task, read from the store as evidence. Knows no verdict.

A try is a complete run over dev of a prompt on the task's own model, asked as the task asks now.
Partial runs, other models, other servers and tuned candidates are read too and shown, and never
counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.audit import LabelAudit
from harness.core.repeats import parse_verdict
from harness.core.scoring import case_values, trial_value
from harness.core.tries import TryScores
from harness.core.usage import Usage, usage
from harness.core.wall import WallInput
from harness.core.words import count
from harness.engine.asked import (
    Elsewhere,
    ask_again,
    asked_rows,
    elsewhere,
    is_current,
    newest_rows,
)
from harness.engine.candidates import REFERENCE, resolve_candidate
from harness.engine.certificates import judges_condition
from harness.engine.eval_sources import aggregates
from harness.engine.evaluate import verdict_of
from harness.engine.leaks import refuse_leaks
from harness.engine.tasks import Task
from harness.errors import HarnessError, NotEnoughEvidence, TaskError
from harness.records import Candidate, Case, LedgerEntry, Run, digest
from harness.store.store import RunRow, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Runs in time order of their candidates, what each cost, and those that must be scored anew.

    `runs` are current: same inputs, labels and evals as the task has now, asked at the server, in
    the epoch and with the options that it has now. `moved` are those that were asked elsewhere:
    no try, and read only where a candidate is named together with its server. `stale` are the
    complete runs whose replies are recorded, but whose scores are of older labels or evals.
    """

    runs: tuple[Run, ...]
    usages: tuple[Usage, ...]
    replies_digests: tuple[str, ...]
    stale: tuple[RunRow, ...]
    versions: int
    moved: tuple[tuple[Run, Usage, Elsewhere], ...] = ()

    def complete(self, candidate: Candidate) -> Run | None:
        """Return the complete run of exactly this candidate, wherever it was asked."""
        every = (*self.runs, *(run for run, _, _ in self.moved))
        same = (r for r in every if r.is_complete and r.candidate.digest == candidate.digest)
        return next(same, None)


def read_ladder(
    task: Task, store: Store, *, split: str = "dev", base_url: str | None = None
) -> Ladder:
    """Return the recorded runs of `task`, the newest of each candidate; `base_url` is the server
    to speak of, where it is not the task's own.
    """
    asked = asked_rows(task, store, split=split)
    ordered = newest_rows(task, asked)
    current = [r for r in ordered if is_current(r, task)]
    runs = [store.run(r.id) for r in current]
    away = elsewhere(task, current, store, base_url=base_url)
    replies = [
        store.known_replies([t.reply_key for t in run.trials if t.reply_key]) for run in runs
    ]
    told = list(zip(runs, replies, strict=True))
    here = [(run, known) for run, known in told if run.id not in away]
    texts = [
        digest([[t.case_id, t.repeat, k[t.reply_key].text] for t in run.trials if t.reply_key in k])
        for run, k in here
    ]
    return Ladder(
        runs=tuple(run for run, _ in here),
        usages=tuple(usage(known.values()) for _, known in here),
        replies_digests=tuple(texts),
        moved=tuple(
            (run, usage(known.values()), away[run.id]) for run, known in told if run.id in away
        ),
        stale=tuple(
            r
            for r in ordered
            if not is_current(r, task) and r.is_complete and r.backend != REFERENCE
        ),
        versions=len({(r.labels_digest, r.evals_digest) for r in asked}),
    )


def why_not_counted(run: Run, task: Task) -> str:
    """Return why a run is no try, or an empty text."""
    if run.candidate.artifact:
        return f"tuned ({run.candidate.artifact[:8]})"
    if run.candidate.prompt is None:
        return "recorded replies" if run.candidate.backend != REFERENCE else "positive control"
    if _is_other_model(run, task):
        return f"other model: {run.candidate.backend}"
    asked = (task.settings.repeats, verdict_of(task, run.candidate))
    if (run.repeats, run.repeat_verdict) != asked:
        return f"other repeats: {run.repeats}, {run.repeat_verdict or 'mean'}"
    return "" if run.is_complete else "partial run"


def _is_other_model(run: Run, task: Task) -> bool:
    return not run.candidate.artifact and run.candidate.backend != task.settings.model


def moved_words(ladder: Ladder, task: Task) -> str:
    """Say why runs that were asked elsewhere are no tries, and how to ask anew; or nothing."""
    tries = [one for run, _, one in ladder.moved if not _is_other_model(run, task)]
    if not tries:
        return ""
    again = ask_again(task, tries)
    reasons = "; ".join(dict.fromkeys(one.reason for one in tries))
    said = f"{count(len(tries), 'run')} not asked as the task asks now ({reasons}): no try."
    return f"{said} Ask again: {again}" if again else said


def _other_models(ladder: Ladder, task: Task) -> str:
    """Name the other models that prompts were run on: one of them may be the one that was meant."""
    runs = [r for r in ladder.runs if r.candidate.prompt and _is_other_model(r, task)]
    names = ", ".join(sorted({r.candidate.backend for r in runs}))
    said = f"The prompts were run on {names}: is that the model, write it as `model` in task.toml. "
    return said if names else ""


def is_present(run: Run, task: Task) -> bool:
    """Tell whether the name of a run's candidate still stands for what was asked: its prompt was
    not edited or removed since, nor its decoding changed. A tuned one goes by its digest.
    """
    ran = run.candidate
    if ran.artifact:
        return True
    try:
        now = resolve_candidate(task, ran.name, base_url=ran.base_url, artifact_digest=str)
    except HarnessError:  # its prompt, table or file is gone
        return False
    return now.digest == ran.digest


def title_of(run: Run, task: Task) -> str:
    """Return what a run is called beside others: two texts of one prompt are two tries."""
    return run.candidate.name if is_present(run, task) else _earlier(run)


def _earlier(run: Run) -> str:
    return f"{run.candidate.name} (earlier, run {run.id[:8]})"


def scored_cases(task: Task, ladder: Ladder) -> list[Case]:
    """Return the dev cases that every complete run could score; one without a reference may be
    none.

    Unscored is not missing: such a case says nothing of any candidate, and is left out for all.
    A partial run says nothing of what it was not asked to score, as with `-k`. The reference itself
    does not count: where it has no answer, an eval may need none.
    """
    unscored = {
        case
        for run in ladder.runs
        if run.is_complete and run.candidate.backend != REFERENCE
        for case, value in case_values(run, task.settings.primary).items()
        if value is None
    }
    return [c for c in task.split("dev") if c.id not in unscored]


def refuse_without_scores(task: Task) -> None:
    """Raise TaskError where no eval scores a case: an `all` of none decides nothing."""
    if set(task.eval_names) <= set(aggregates(task.folder)):
        raise TaskError(
            f"{task.folder}: its evals ({', '.join(task.eval_names)}) give one number for all "
            "replies together, and a verdict needs one for each case. Write an eval that asks for "
            "`case` or `reply`."
        )


def try_scores(task: Task, ladder: Ladder) -> list[TryScores]:
    """Return the runs of prompts and tuned models as rungs, aligned on the scored dev cases.

    Raises NotEnoughEvidence where there are runs, and not one case that all of them could score,
    and TaskError where no eval scores a case.
    """
    refuse_without_scores(task)
    every = task.split("dev")
    cases = [c.id for c in scored_cases(task, ladder)]
    rungs: list[TryScores] = []
    if not cases and any(run.candidate.prompt for run in ladder.runs):
        raise NotEnoughEvidence(
            f"task {task.name!r}: no dev case has the score {task.settings.primary!r} in every "
            f"run: each was left unscored, as without a reference. `harness eval {task.name}` "
            "says why."
        )
    here = zip(ladder.runs, ladder.usages, ladder.replies_digests, strict=True)
    away = ((run, spent, one.reason) for run, spent, one in ladder.moved)
    asked = [(run, spent, replies, "") for run, spent, replies in here]
    for run, spent, replies, moved in (*asked, *((r, u, "", why) for r, u, why in away)):
        if run.candidate.prompt is None:
            continue
        values = case_values(run, task.settings.primary)
        note = moved or why_not_counted(run, task)
        unscored = sum(values.get(c.id, 0.0) is None for c in every)
        rungs.append(
            TryScores(
                name=_earlier(run) if moved else title_of(run, task),
                family=run.candidate.family or "zero-shot",
                scores=[_known(values.get(c)) for c in cases],
                repeats=_repeats(run, task.settings.primary, cases=cases),
                run_id=run.id,
                # what is not counted (another model or server, a tuned one) makes no try its repeat
                prompt_digest="" if note else run.candidate.prompt_digest or "",
                decoding_digest=digest(run.candidate.decoding),
                # a partial run or another model may share replies without being the same try
                replies_digest=replies if run.is_complete else "",
                is_countable=not note,
                is_within_budget=is_within_budget(task, spent),
                note=note,
                is_tuned=bool(run.candidate.artifact),
                is_other_model=_is_other_model(run, task),
                faults=sum(t.fault is not None for t in run.trials),
                unscored=unscored,
                latency_s=spent.latency_s,
                input_tokens=spent.input_tokens,
                output_tokens=spent.output_tokens,
                cost_usd=spent.cost_usd,
            )
        )
    return rungs


def wall_input(
    task: Task,
    ladder: Ladder,
    *,
    certificates: Sequence[LedgerEntry] = (),
    audit: LabelAudit | None = None,
    more_notes: Sequence[str] = (),
) -> WallInput:
    """Return what the wall gate reads. Raises NotEnoughEvidence where nothing was tried, and
    TaskError where dev cases stand in another split.

    `certificates` are the ledger's: without one, a judge's scores advise and decide nothing.
    `audit` is what people said of the labels; `more_notes` are printed with the verdict.
    """
    refuse_leaks(task, "dev")
    rungs = try_scores(task, ladder)
    moved = moved_words(ladder, task)
    if not any(r.is_countable for r in rungs):
        if moved:
            raise NotEnoughEvidence(
                f"task {task.name!r} has no complete try over dev on {task.settings.model} as it "
                f"is asked now. {moved}"
            )
        raise NotEnoughEvidence(
            f"task {task.name!r} has no complete try over dev on {task.settings.model}. "
            f"{_other_models(ladder, task)}Make some: `harness ladder {task.name}`. What these "
            f"cases could show at all is told before: `harness wall {task.name} --plan`."
        )
    control = next((r for r in ladder.runs if r.candidate.backend == REFERENCE), None)
    cases = scored_cases(task, ladder)
    values = case_values(control, task.settings.primary) if control else {}
    missed = [c.id for c in cases if (v := values.get(c.id)) is not None and v < 1]
    graded = [_known(v) for c in cases if (v := values.get(c.id, math.nan)) is not None]
    away = {run.id for run, _, _ in ladder.moved}
    others = [r for r in rungs if r.is_other_model and r.run_id not in away and _is_whole(r.scores)]
    s = task.settings
    notes = []
    if control and graded and all(v is None for v in graded):
        graded = []  # a judge was not asked, or an eval crashed: of references that says nothing
        notes.append(
            "no reference answer could be measured, so the grader was not checked: harness eval "
            f"{task.name} --candidate reference does it, or shows why"
        )
    if moved:
        notes.append(moved)
    if ladder.versions > 1:
        times = ladder.versions - 1
        often = "once" if times == 1 else f"{times} times"
        notes.append(
            f"labels or evals were edited {often} after scores were seen; "
            "recorded replies were scored anew"
        )
    if ladder.stale:
        names = ", ".join(row.candidate for row in ladder.stale)
        notes.append(
            f"left out, because the prompt or model changed before the labels or evals did, so "
            f"that they cannot be scored anew: {names}"
        )
    return WallInput(
        task=task.name,
        tries=[r for r in rungs if not (r.is_tuned or r.is_other_model)],
        stronger=others,
        target=s.target,
        clusters=[c.cluster for c in cases],
        mid=s.mid,
        profile=s.profile,
        reference_scores=graded if control and graded else None,
        waivers=s.waivers,
        needs_knowledge=s.needs_knowledge,
        sealed_clusters=len({c.cluster for c in task.split("test")}),
        model=s.model,
        inputs_digest=task.inputs_digest("dev"),
        labels_digest=task.labels_digest("dev"),
        evals_digest=task.evals_digest,
        policy_digest=task.policy_digest,
        notes=[*more_notes, *notes],
        label_ceiling=audit.ceiling if audit is not None else None,
        audit=audit,
        control_missed=missed,
        judges=judges_condition(task, ladder.runs, certificates),
        case_ids=[c.id for c in cases],
    )


def is_within_budget(task: Task, spent: Usage) -> bool:
    """Tell whether what a run took keeps the task's budgets; what is unknown does not break one.

    A case costs what one reply to it does, as at a release: asking it thrice makes it no dearer.
    """
    budget = task.settings.budgets
    too_slow = budget.p95_latency_s is not None and (
        spent.latency_p95_s is not None and spent.latency_p95_s > budget.p95_latency_s
    )
    too_dear = budget.mean_cost_usd is not None and (
        spent.cost_usd is not None and spent.cost_usd / max(spent.replies, 1) > budget.mean_cost_usd
    )
    return not too_slow and not too_dear


def _repeats(run: Run, primary: str, *, cases: Sequence[str]) -> list[list[float | None]] | None:
    """Return a score a case and repeat where the mean of several is what counts, else None."""
    if run.repeats < 2 or parse_verdict(run.repeat_verdict).kind != "mean":
        return None
    rows: dict[str, list[float | None]] = {c: [None] * run.repeats for c in cases}
    for trial in run.trials:
        if trial.case_id in rows:
            rows[trial.case_id][trial.repeat] = _known(trial_value(trial, primary))
    return list(rows.values())


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _is_whole(scores: Sequence[float | None] | object) -> bool:
    return isinstance(scores, list) and all(s is not None for s in scores)
