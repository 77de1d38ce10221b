"""What the wall says to people. Knows the numbers and the answer; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core import next_steps
from harness.core.audit import named
from harness.core.bounds import at_worst, mean_bounds
from harness.core.condition_words import more_tries, next_tries, sure
from harness.core.coverage import Coverage, echoed_words, owed_words
from harness.core.measures import Measures, WallInput
from harness.core.needs import MOST_TIMES
from harness.core.planning import CLUSTERS_FOR_WALL
from harness.core.tries import TryScores
from harness.core.words import chance, count, listed, percent, points
from harness.records import Condition, Estimate, Try, WallAnswer

Said = tuple[str, str]
"""A reason and the next step."""


@dataclass(frozen=True, slots=True)
class Saying:
    """An answer with its words."""

    answer: WallAnswer
    reason: str
    next_step: str
    need_cases: int | None = None
    best: str | None = None


# ---------------------------------------------------------------- answers


def nothing_tried(evidence: WallInput, coverage: Coverage) -> Said:
    """No complete run yet."""
    return (
        "No wall yet: no complete run over dev is recorded. " + _owed(coverage),
        next_steps.start(evidence),
    )


def rerun(evidence: WallInput, names: Sequence[str], share: float) -> Said:
    """Too much is missing."""
    return (
        (
            f"Up to {percent(share)} of the cases have no answer in {listed(names)}, through "
            "trouble of the infrastructure; at most 2 % may be missing."
        ),
        next_steps.rerun(evidence, names),
    )


def too_few_clusters(seen: Measures) -> Said:
    """Fewer than ten clusters tell nothing."""
    return (
        (
            f"{count(seen.n, 'case')} in {count(seen.clusters, 'cluster')}: below 10 clusters "
            f"nothing can be said, and a wall needs {CLUSTERS_FOR_WALL}."
        ),
        f"Add cases from at least {CLUSTERS_FOR_WALL - seen.clusters} more sources.",
    )


def confirmed(evidence: WallInput, name: str, shown: Estimate) -> Said:
    """A look at sealed cases held."""
    return (
        (
            f"Prompt {name} scores {percent(shown.mean)} on {count(shown.n, 'case')} that it was "
            f"never tuned on; we are {sure(shown.alpha)} that its true score is at least "
            f"{percent(shown.lower)} (target {percent(evidence.target)}). "
            "Fine-tuning is not needed."
        ),
        f"Release {name}.",
    )


def unconfirmed(evidence: WallInput, name: str, shown: Estimate) -> Said:
    """The dev scores are high enough for the best of all planned tries."""
    return (
        (
            f"{name} scores {percent(shown.mean)} on {count(shown.n, 'case')}; allowing for "
            f"{max(evidence.planned, len(evidence.tries))} tries we are {sure(evidence.alpha)} "
            f"that its true score is at least {percent(shown.lower)} "
            f"(target {percent(evidence.target)}). "
            "Unconfirmed: these are the cases that prompts are written against. Fine-tuning is not "
            "needed."
        ),
        next_steps.confirm(evidence, name),
    )


def fix_data(evidence: WallInput, seen: Measures, holds: Mapping[str, bool | None]) -> Said:
    """Grader or labels stand in the way."""
    target = percent(evidence.target)
    if holds["positive control"] is False:
        return (
            (
                f"The reference answers themselves score only {percent(seen.control or 0.0)} under "
                f"this grader (target {target}): the grader or the references are broken, and no "
                "prompt can be judged by them."
            ),
            next_steps.mend_control(evidence),
        )
    ceiling = evidence.label_ceiling
    at_most = percent(ceiling.upper) if ceiling is not None else "less"
    return (
        (
            f"The audit finds too many wrong labels{_which(evidence)}: at most {at_most} can be "
            f"right, so the target of {target} is out of reach for any model."
        ),
        next_steps.mend_labels(evidence),
    )


def _owed(coverage: Coverage) -> str:
    parts = []
    if coverage.owed:
        parts.append(f"S{owed_words(coverage.owed)[1:]}.")
    if coverage.echoed:
        parts.append(f"T{echoed_words(coverage.echoed)[1:]}.")
    if coverage.families_short:
        parts.append(f"{count(coverage.families_short, 'more family')} needed.")
    if coverage.tries_short:
        parts.append(f"{count(coverage.tries_short, 'more distinct try')} needed.")
    return " ".join(parts)


def _which(evidence: WallInput) -> str:
    audit = evidence.audit
    return f" ({named(audit.wrong)})" if audit is not None and audit.wrong else ""


def uncovered(evidence: WallInput, seen: Measures, coverage: Coverage) -> Said:
    """Too few tries, or families."""
    parts = ["No wall yet.", _owed(coverage)]
    if seen.climbing:
        parts.append(_pace(evidence, seen))
    if not seen.has_enough_clusters:
        parts.append(
            "On these cases no wall can be declared whatever is tried: "
            f"{CLUSTERS_FOR_WALL} clusters are needed, none with over 20 % of the cases."
        )
    if seen.upper >= evidence.target:
        parts.append(f"{seen.upper_name} may be at the target: up to {percent(seen.upper)}.")
    return " ".join(parts), next_steps.write_more(evidence, coverage)


def beyond_settling(evidence: WallInput, seen: Measures, need: int) -> Said:
    """No further try can end it on these cases."""
    why = (
        f"{seen.upper_name} may already be at {percent(evidence.target)} (up to "
        f"{percent(seen.upper)})"
        if seen.has_enough_clusters
        else f"{count(seen.clusters, 'cluster')} are too few for a wall"
    )
    return (
        f"No number of further tries can settle it on these {count(seen.n, 'case')}: {why}, and "
        f"even a perfect prompt could not be shown to reach {percent(evidence.target)}. "
        + _settling(seen, need),
        next_steps.add_cases(evidence, seen, need),
    )


def wall(
    evidence: WallInput, seen: Measures, coverage: Coverage, counted: Sequence[TryScores]
) -> Said:
    """Every condition holds."""
    target = percent(evidence.target)
    best = counted[seen.best].name
    parts = [
        (
            f"You tried {count(len(counted), 'prompt')}"
            + (f" from {count(len(coverage.tried), 'family')}" if coverage.is_checked else "")
            + f" on {count(seen.n, 'case')}."
        ),
        (
            f"The best is very likely below {target} (at most {percent(seen.upper)}, "
            f"{sure(evidence.alpha)})."
        ),
        (
            "Scores have stopped rising, and the chance that "
            f"{next_tries(seen.horizon)} reaches {target} is {chance(seen.reach or 0.0)}."
        ),
        f"The eval could have seen a gain of {points(seen.resolution or 0.0)}.",
    ]
    if coverage.waived:  # the reasons stand with the condition and in the verdict's waivers
        parts.append(f"Not tried, by waiver: {listed(list(coverage.waived))}.")
    costly = [
        name
        for name, is_in_budget, shown in _stronger(evidence, alpha=seen.each_alpha)
        if not is_in_budget and shown.lower >= evidence.target
    ]
    if costly:
        parts.append(f"The wall is one of cost: {listed(costly)} reaches it outside the budget.")
    has_labels = evidence.label_ceiling is not None or "labels" in evidence.waivers
    unread = [
        name
        for name, is_unread in [
            ("families", not coverage.is_checked),
            ("the grader", "positive control" in evidence.unseen and seen.control is None),
            ("the labels", "labels" in evidence.unseen and not has_labels),
        ]
        if is_unread
    ]
    if unread:
        parts.append(f"Not checked: {listed(unread)}; a broken grader looks the same.")
    if evidence.profile == "quick":
        parts.append("Profile quick: this speaks for the next try only.")
    parts.append(
        "This does not rule out a new idea or another model. Fine-tuning may start; it will be "
        f"judged on the same eval against prompt {best}."
    )
    tune = "Tune" if next_steps.is_elsewhere(evidence) else f"Tune (harness tune {evidence.task})"
    return " ".join(parts), f"{tune}, then compare with {best} and gate."


def unchecked(evidence: WallInput, holds: Mapping[str, bool | None]) -> Said:
    """The scores say wall, but grader or labels were not looked at."""
    missing = []
    steps = []
    if holds["positive control"] is None:
        missing.append("the reference answers were not graded by the same grader")
        steps.append(f"run the candidate `reference` on {evidence.task or 'the task'}")
    if holds["labels"] is None:
        is_begun = evidence.audit is not None and evidence.audit.judged > 0
        state = "not yet all read" if is_begun else "neither audited nor waived"
        missing.append(f"the labels were {state}")
        steps.append(next_steps.look_at_labels(evidence))
    if evidence.judges is not None and evidence.judges.holds is not True:
        missing.append(evidence.judges.text)
        steps.append(next_steps.CERTIFY)
    has_grader = holds["positive control"] is True and len(missing) == 1
    alike = (
        "a wrong label looks" if has_grader and holds["labels"] is None else "a broken grader looks"
    )
    return (
        f"The scores look like a wall, but {listed(missing)}: {alike} the same.",
        next_steps.certify_or(steps),
    )


def uncertified(shipping: Saying, judges: Condition) -> Said:
    """A prompt looks good enough to a judge that nobody checked."""
    return (
        f"{shipping.best} looks good enough, but {judges.text}.",
        next_steps.certify_or([next_steps.CERTIFY]),
    )


def _pace(evidence: WallInput, seen: Measures) -> str:
    slope = seen.line.slope if seen.line is not None else 0.0
    return (
        f"Your last {seen.window} tries gain about {points(slope)} each; at that pace "
        f"{more_tries(evidence, seen)} more may reach the target."
    )


def climbing(evidence: WallInput, seen: Measures) -> Said:
    """Scores still rise."""
    ahead = f"{next_tries(seen.horizon)} reaches {percent(evidence.target)}"
    return (
        f"No wall yet. {_pace(evidence, seen)} Chance that {ahead}: {chance(seen.reach or 0.0)}.",
        "Go on in the direction of the last tries: read what the last one still misses.",
    )


def searching(evidence: WallInput, seen: Measures, coverage: Coverage, best: str) -> Said:
    """A better prompt is likely enough; more cases would not rule it out."""
    ahead = f"{next_tries(seen.horizon)} reaches {percent(evidence.target)}"
    return (
        (
            f"No wall yet. The best try scores {percent(seen.best_mean)}. Chance that {ahead}: "
            f"{chance(seen.reach or 0.0)}; with endless cases it would still be "
            f"{chance(seen.endless_reach or 0.0)}, so the search is the limit, not the number of "
            "cases."
        ),
        next_steps.search_on(evidence, coverage, best=best),
    )


def insufficient(evidence: WallInput, seen: Measures, best: str, need: int) -> Said:
    """The cases cannot tell."""
    solved = at_worst(evidence_scores(evidence, best), missing=0.0)
    shown = mean_bounds(solved, evidence.clusters, alpha=evidence.alpha)
    span = f"{percent(seen.best_mean)} ({percent(shown.lower)} to {percent(seen.upper)})"
    if not seen.has_enough_clusters:
        why = (
            f"A wall needs {CLUSTERS_FOR_WALL} clusters, none with over 20 % of the cases; here "
            f"are {seen.clusters}, the largest with {percent(seen.largest_share, digits=0)}."
        )
    elif seen.upper >= evidence.target:
        why = "That is compatible with both a wall and success."
    elif seen.resolution is not None and seen.resolution > seen.limit:
        why = (
            f"That is below {percent(evidence.target)}, but these cases could only have seen a "
            f"gain of {points(seen.resolution)} ({points(seen.limit)} or less needed)."
        )
    else:
        why = (
            f"That is below {percent(evidence.target)}, but with so few cases the chance that "
            f"{next_tries(seen.horizon)} reaches it may still be {chance(seen.reach or 0.0)}."
        )
    return (
        f"Best prompt {best}: {span}. {why} {_settling(seen, need)}",
        next_steps.add_cases(evidence, seen, need),
    )


def evidence_scores(evidence: WallInput, name: str) -> object:
    """Return the scores of the first try of that name."""
    return next(rung.scores for rung in evidence.tries if rung.name == name)


def _settling(seen: Measures, need: int) -> str:
    if need >= MOST_TIMES * seen.n:
        return f"Even {MOST_TIMES} times as many cases may not settle it: too close to the target."
    groups = count(next_steps.groups_needed(seen, need), "cluster")
    return f"About {count(need, 'case')} in all, from at least {groups}, would settle it."


# ---------------------------------------------------------------- notes


def _stronger(evidence: WallInput, *, alpha: float) -> list[tuple[str, bool, Estimate]]:
    return [
        (
            rung.name,
            rung.is_within_budget,
            mean_bounds(at_worst(rung.scores, missing=0.0), evidence.clusters, alpha=alpha),
        )
        for rung in evidence.stronger
    ]


def notes(evidence: WallInput, seen: Measures | None, rungs: Sequence[Try]) -> tuple[str, ...]:
    """Return what must be printed beside the verdict."""
    found = []
    families = listed(sorted({r.family for r in rungs if r.is_counted and r.family}))
    kinds = f"of the families {families}" if families else "of the same kinds"
    if seen is not None:
        found.append(
            f"Speaks for {next_tries(seen.horizon)} {kinds}"
            + (f" on {evidence.model}" if evidence.model else "")
            + "; untried families, other models and cleverer writers are not covered."
        )
        found += _beyond_one_prompt(evidence, seen)
    uncounted = [rung for rung in rungs if not rung.is_counted]
    if uncounted:
        each = [f"{r.candidate} ({r.note or 'not counted'})" for r in uncounted]
        found.append(f"Shown, never counted: {named(each, most=3)}.")  # the table has them all
    missing = sum(rung.missing for rung in rungs if rung.is_counted)
    if missing:
        found.append(
            f"{count(missing, 'missing score')}: taken as solved for a wall, as failed for a ship."
        )
    if seen is not None:
        found += _other_models(evidence)
    return (*found, *evidence.notes)


def _other_models(evidence: WallInput) -> list[str]:
    """One line for each model that no prompt brings to the target, not one for each prompt."""
    highest: dict[str, tuple[float, str]] = {}
    for name, _, shown in _stronger(evidence, alpha=evidence.alpha):
        model = name.partition("@")[2] or name
        highest[model] = max(highest.get(model, (0.0, name)), (shown.upper, name))
    return [
        f"The model {model} stays below the target too (at most {percent(upper)}"
        + (f", with {name.partition('@')[0]}" if "@" in name else "")
        + "): look at labels, grader and knowledge."
        for model, (upper, name) in highest.items()
        if upper < evidence.target
    ]


def _beyond_one_prompt(evidence: WallInput, seen: Measures) -> list[str]:
    """What all tries together reach, and what none of them does. Reported, never decisive."""
    ceiling, unsolved = seen.ceiling, len(seen.unsolved)
    reach = f"at most {percent(ceiling.at_most)} (one repeat: biased up; never decisive)"
    if ceiling.at_least is not None:
        reach = (
            f"{percent(ceiling.at_least)} to {percent(ceiling.at_most)} (cross-fit over "
            f"{ceiling.repeats} repeats; never decisive)"
        )
    found = [f"Picking the best prompt for each case would reach {reach}."]
    if unsolved:
        names = [evidence.case_ids[row] for row in seen.unsolved] if evidence.case_ids else []
        which = f" ({named(names)})" if names else ""
        found.append(
            f"No try solves {count(unsolved, 'case')} of {seen.n}{which}: mislabelled, in need of "
            "knowledge, or of a form that tuning can teach."
        )
    return found
