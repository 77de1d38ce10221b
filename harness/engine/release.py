"""What a comparison or a release is judged on, read from runs. Knows no verdict of its own.

A look is one pair of baseline and candidate, seen on sealed cases. The same pair on the same
cases is one look however often it is judged; another candidate is another look. Labels and evals
may be mended without renewing what was spent: only fresh cases renew it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from harness.core.looks import ALPHA_FIRST
from harness.core.pairs import Pair, align, compare, slice_pair
from harness.core.planning import CLUSTERS_FOR_ANY
from harness.core.release import Advantage, Budget, Guard, judge_release
from harness.core.scoring import case_values
from harness.core.words import count, points
from harness.engine.backends import BackendPool
from harness.engine.boundary import stays_inside
from harness.engine.candidates import REFERENCE
from harness.engine.ladder import Ladder, is_present, moved_words, why_not_counted
from harness.engine.tasks import Task
from harness.errors import NotEnoughEvidence, Refused, UsageError
from harness.records import (
    Candidate,
    Comparison,
    Condition,
    LedgerEntry,
    ReleaseVerdict,
    Reply,
    Run,
    Split,
)
from harness.store.store import Store

SMALLEST_SLICE = 20
SLICE_MARGIN = 0.05
GAIN_WANTED = 0.10  # for which it is told how many cases would show it
SAME_EVAL = 0.5  # a set of cases that shares more than half with an earlier one is not fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The two runs that are compared, on the same split of the same task."""

    task: Task
    baseline: Run
    candidate: Run

    def pair(self, name: str) -> Pair:
        """Return a score of both arms, aligned by case. Raises Refused, UsageError."""
        split = self.baseline.split
        columns = [
            {c: v for c, v in case_values(run, name).items() if v is not None}
            for run in (self.candidate, self.baseline)
        ]
        clusters = {c.id: c.cluster for c in self.task.split(split)}
        return align(name, columns[0], baseline=columns[1], clusters=clusters)

    def comparison(self, *, alpha: float = 0.05) -> Comparison:
        """Return the paired comparison on the primary score."""
        return compare(
            self.pair(self.task.settings.primary),
            task=self.task.name,
            split=self.baseline.split,
            baseline=self.baseline.candidate.name,
            candidate=self.candidate.candidate.name,
            baseline_run=self.baseline.id,
            candidate_run=self.candidate.id,
            alpha=alpha,
        )


def arms_of(task: Task, ladder: Ladder, *, baseline: Candidate, candidate: Candidate) -> Arms:
    """Return the recorded runs of two candidates. Raises NotEnoughEvidence naming what to run, and
    UsageError where the two are one.
    """
    not_the_same(baseline, candidate)
    runs = []
    for one in (baseline, candidate):
        run = ladder.complete(one)
        if run is None:
            raise NotEnoughEvidence(
                f"no complete, current run of {one.name!r}. "
                f"Make one: harness eval {task.name} --candidate '{one.name}'"
            )
        runs.append(run)
    return Arms(task=task, baseline=runs[0], candidate=runs[1])


def best_prompt(task: Task, ladder: Ladder) -> str:
    """Return the candidate name of the best try on dev, of those that its name still stands for.

    Raises NotEnoughEvidence.
    """
    means: dict[str, float] = {}
    for run in ladder.runs:
        if not why_not_counted(run, task) and is_present(run, task):
            values = [v for v in case_values(run, task.settings.primary).values() if v is not None]
            known = [0.0 if math.isnan(v) else v for v in values]
            means[run.candidate.name] = sum(known) / len(known) if known else 0.0
    if not means:
        moved = moved_words(ladder, task)
        raise NotEnoughEvidence(
            f"no try to compare with: run `harness ladder {task.name}`, or name a --baseline"
            + (f". {moved}" if moved else "")
        )
    return max(means, key=lambda name: means[name])


def not_the_same(baseline: Candidate, candidate: Candidate) -> None:
    """Raise UsageError where a candidate would be compared with itself."""
    if baseline.digest == candidate.digest:
        raise UsageError(
            f"{candidate.name!r} is its own baseline ({baseline.name!r}). Name another: --baseline"
        )


# ---------------------------------------------------------------- looks


def look_entry(
    task: Task, *, purpose: str, baseline: Candidate | None, candidate: Candidate, at: str
) -> LedgerEntry:
    """Return the line of the ledger that counts a look at the sealed cases."""
    against = f" against {baseline.name}" if baseline else ""
    return LedgerEntry(
        kind="look",
        task=task.name,
        at=at,
        payload={
            "purpose": purpose,
            "pair": pair_key(baseline, candidate),
            "cases": [c.inputs_digest[:12] for c in task.split("test")],
            "ids": [c.id for c in task.split("test")],
        },
        text=f"{purpose}: {candidate.name}{against} on the sealed split",
    )


def pair_key(baseline: Candidate | None, candidate: Candidate) -> str:
    """Return the identity of a look: which two candidates are seen."""
    return f"{baseline.digest[:16] if baseline else ''}|{candidate.digest[:16]}"


def looks_spent(
    task: Task, entries: Sequence[LedgerEntry], *, purposes: Sequence[str]
) -> list[str]:
    """Return the distinct looks, in order, that were recorded for the present sealed cases."""
    here = {c.inputs_digest[:12] for c in task.split("test")}
    return looks_on(here, entries, purposes=purposes)


def looks_on(
    here: set[str], entries: Sequence[LedgerEntry], *, purposes: Sequence[str]
) -> list[str]:
    """Return the distinct looks, in order, at cases of which more than half are among `here`."""
    seen: list[str] = []
    for entry in entries:
        payload = entry.payload
        there = set(payload["cases"])
        # against the smaller set: an eval that grew was seen, however much came with it
        is_same_eval = len(here & there) > SAME_EVAL * max(1, min(len(here), len(there)))
        if is_same_eval and payload["purpose"] in purposes and payload["pair"] not in seen:
            seen.append(payload["pair"])
    return seen


def refuse_changed(task: Task, entries: Sequence[LedgerEntry]) -> None:
    """Raise Refused where the input of a sealed case was changed after a look at it.

    Its score was seen, so that the change may have been chosen by it. A label may be corrected.
    """
    now = {c.id: c for c in task.split("test")}
    for entry in entries:
        seen = zip(entry.payload.get("ids", ()), entry.payload["cases"], strict=False)
        changed = [now[i] for i, mark in seen if i in now and now[i].inputs_digest[:12] != mark]
        if changed:
            first = changed[0]
            more = f" ({len(changed)} such cases)" if len(changed) > 1 else ""
            raise Refused(
                f"{first.line}: the input of the sealed case {first.id!r} changed after it was "
                f"looked at ({entry.at[:10]}){more}. What was seen cannot decide a release in "
                "another wording: undo the change, or make it a case of its own, under a new id."
            )


def refuse_too_few(task: Task) -> None:
    """Raise UsageError without sealed cases, and NotEnoughEvidence where they are so few that no
    look at them could end in SHIP: nothing is asked or spent for an answer that is known.
    """
    from harness.core.forecast import cases_for_gain

    sealed = task.split("test")
    if not sealed:
        raise UsageError(f"task {task.name!r} has no test split: a release needs sealed cases")
    clusters = len({c.cluster for c in sealed})
    if clusters >= CLUSTERS_FOR_ANY:
        return
    wanted = task.settings.margin if task.settings.goal == "match" else None
    what = f"a gain of {points(GAIN_WANTED)}" if wanted is None else f"a margin of {points(wanted)}"
    need = cases_for_gain(wanted or GAIN_WANTED, alpha=ALPHA_FIRST)
    raise NotEnoughEvidence(
        f"task {task.name!r}: test has {count(len(sealed), 'case')} in "
        f"{count(clusters, 'cluster')}, and below {CLUSTERS_FOR_ANY} nothing can be said of a "
        "release: nothing was asked, and no look is spent. Add cases to test from at least "
        f"{count(CLUSTERS_FOR_ANY - clusters, 'more source')}; to show {what} takes about {need} "
        "independent ones (80 % power)."
    )


def look_number(spent: Sequence[str], key: str) -> int:
    """Return which look, from 1, the pair `key` is."""
    return spent.index(key) + 1 if key in spent else len(spent) + 1


# ---------------------------------------------------------------- the release


def release_verdict(
    arms: Arms,
    *,
    store: Store,
    pool: BackendPool,
    look: int,
    conditions: Sequence[Condition],
    overrides: Sequence[str],
    watched: Sequence[Guard] = (),
    match: tuple[float, Condition] | None = None,
    advised: Container[str] = (),
) -> ReleaseVerdict:
    """Return the verdict on `arms` over the sealed cases; `watched` are guards of other cases, and
    `advised` scores that may not decide.

    `match` are the margin and the fact that it is for, where the candidate is a form of the
    baseline: the task's own goal does not apply then.
    Raises Refused on unequal case sets.
    """
    task, s = arms.task, arms.task.settings
    pair = arms.pair(s.primary)
    seconds = [_per_case(run, store, "latency_s") for run in (arms.candidate, arms.baseline)]
    dollars = [_per_case(run, store, "cost_usd") for run in (arms.candidate, arms.baseline)]
    clusters = pair.clusters
    budgets = []
    if s.budgets.p95_latency_s is not None:
        budgets.append(
            Budget(
                name="latency",
                values=_column(seconds[0], pair),
                limit=s.budgets.p95_latency_s,
                clusters=clusters,
                unit="s",
            )
        )
    if s.budgets.mean_cost_usd is not None:
        budgets.append(
            Budget(
                name="cost",
                values=_column(dollars[0], pair),
                limit=s.budgets.mean_cost_usd,
                quantile=None,
                clusters=clusters,
                unit="$",
            )
        )
    advantages: list[Advantage | Condition] = []
    goal, margin = (s.goal, s.margin) if match is None else ("match", match[0])
    if match is not None:
        advantages.append(match[1])
    elif s.goal == "match":
        if s.better_in == "boundary":
            advantages.append(
                stays_inside(
                    task, arms.candidate.candidate, baseline=arms.baseline.candidate, pool=pool
                )
            )
        else:
            columns = dollars if s.better_in == "cost" else seconds
            advantages.append(
                Advantage(
                    name=s.better_in or "",
                    candidate=_column(columns[0], pair),
                    baseline=_column(columns[1], pair),
                    clusters=clusters,
                )
            )
    return judge_release(
        arms.comparison(),
        primary=pair,
        guards=[
            *(Guard(pair=arms.pair(name), margin=m) for name, m in s.guardrails.items()),
            *_slices(task, pair),
            *watched,
        ],
        budgets=budgets,
        advantages=advantages,
        conditions=conditions,
        goal=goal,
        min_gain=s.min_gain,
        margin=margin,
        look=look,
        overrides=overrides,
        policy_digest=task.policy_digest,
        advised=advised,
    )


def terms_not_set(task: Task) -> list[str]:
    """Return what a release of `task` is not asked to hold: nobody set it in task.toml."""
    s = task.settings
    missing = {
        "guardrails": not s.guardrails,
        "must_hold_slices": not s.must_hold_slices,
        "budgets.p95_latency_s": s.budgets.p95_latency_s is None,
        "budgets.mean_cost_usd": s.budgets.mean_cost_usd is None,
    }
    return [name for name, is_missing in missing.items() if is_missing]


def control_condition(task: Task, ladder: Ladder, *, split: Split) -> Condition:
    """Return whether the reference answers, under the same evals, reach the target."""
    run = next((r for r in ladder.runs if r.candidate.backend == REFERENCE), None)
    values = case_values(run, task.settings.primary) if run else {}
    scored = [0.0 if math.isnan(v) else v for v in values.values() if v is not None]
    if not scored:
        return Condition(
            name="positive control",
            holds=None,
            text=f"no case of {split} has a reference, so the grader was not checked",
        )
    if all(v is None or math.isnan(v) for v in values.values()):
        return Condition(
            name="positive control",
            holds=False,
            text="no reference answer could be measured: every one ended in a fault",
        )
    mean = sum(scored) / len(scored)
    return Condition(
        name="positive control",
        holds=mean >= task.settings.target,
        text=f"reference answers score {100 * mean:.0f} % under the same evals",
    )


def _slices(task: Task, pair: Pair) -> list[Guard]:
    by_tag: dict[str, list[str]] = {}
    for case in task.split("test"):
        for tag in case.tags:
            by_tag.setdefault(tag, []).append(case.id)
    counts = Counter({tag: len(ids) for tag, ids in by_tag.items()})
    unknown = [t for t in task.settings.must_hold_slices if t not in by_tag]
    if unknown:
        known = ", ".join(sorted(by_tag)) or "none"
        raise UsageError(
            f"{task.folder / 'task.toml'}: must_hold_slices: no case of the test split is tagged "
            f"{unknown[0]!r}. Tags: {known}."
        )
    return [
        Guard(
            pair=slice_pair(pair, by_tag[tag], name=tag),
            margin=SLICE_MARGIN,
            kind="slice",
            is_must_hold=tag in task.settings.must_hold_slices,
        )
        for tag in sorted(by_tag)
        if counts[tag] >= SMALLEST_SLICE or tag in task.settings.must_hold_slices
    ]


def _per_case(run: Run, store: Store, what: str) -> dict[str, float | None]:
    """Return a figure of the replies a case, repeats averaged; None where it is unknown."""
    known: Mapping[str, Reply] = store.known_replies(
        [t.reply_key for t in run.trials if t.reply_key]
    )
    figures: dict[str, list[float]] = {}
    for trial in run.trials:
        reply = known.get(trial.reply_key or "")
        value = getattr(reply, what) if reply is not None else None
        figures.setdefault(trial.case_id, []).extend([] if value is None else [float(value)])
    return {case: sum(v) / len(v) if v else None for case, v in figures.items()}


def _column(values: Mapping[str, float | None], pair: Pair) -> list[float | None]:
    return [values.get(case_id) for case_id in pair.case_ids]
