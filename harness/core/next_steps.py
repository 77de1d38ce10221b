"""The cheapest thing to do next, in words. Knows what was tried and the answer; decides nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.audit import named
from harness.core.coverage import Coverage
from harness.core.measures import Measures, WallInput
from harness.core.needs import MOST_TIMES
from harness.core.planning import CLUSTERS_FOR_WALL, FIRST_LOOK, no_look
from harness.core.words import count, listed

CHEAPEST_FIRST = {
    "zero-shot": "the bare question",
    "instructions": "rules, format and edge cases in a system section",
    "few-shot": "`shots = 3` in its front matter draws examples from train",
    "dynamic-few-shot": "`shots = 3` and `retrieve = true` find the nearest examples",
    "constrained": '`schema = "FILE.json"` holds the reply to a format',
    "chain-of-thought": "let it think before the answer",
    "rag": "`documents = 3` finds passages to answer from",
    "optimised": "have a prompt rewritten by an optimiser",
}
"""Families in the order of what a try of them costs a person and a model, and how one is made."""

HAND_MADE = frozenset({"rag", "optimised"})
"""Families of which `harness ladder` makes none by itself, from a prompt and the cases alone."""

CERTIFY = (
    "certify the judge on replies that people labelled, or make an eval without a judge primary"
)


def is_elsewhere(evidence: WallInput) -> bool:
    """Tell whether the scores were made elsewhere: then no command of ours makes more of them."""
    return bool(evidence.unseen)


def start(evidence: WallInput) -> str:
    """Return how the first tries are made."""
    if is_elsewhere(evidence):
        return "Run some prompts over all cases."
    return f"Run the task's prompts over dev: harness ladder {evidence.task}."


def write_more(evidence: WallInput, coverage: Coverage) -> str:
    """Return which prompt to write next, the cheapest of what is owed first."""
    if coverage.echoed:
        model = evidence.model or "the model"
        return unlike(coverage.echoes, model=model, cases=len(evidence.tries[0].scores))
    if coverage.owed:
        owed = sorted(coverage.owed, key=lambda text: _rank(text.split(" ")[0]))
        family = owed[0].split(" ")[0]
        then = f", then {listed(owed[1:])}" if owed[1:] else ""
        made = "" if is_elsewhere(evidence) or family in HAND_MADE else _by_ladder(evidence)
        what = f"Write a prompt of {owed[0]} ({_how(evidence, family)}){made}{then}"
        return f"{what}, {_waived(evidence)}."
    if coverage.families_short:
        return f"Write a prompt of {_untried(evidence, coverage)}: a waived family does not count."
    return (
        "Write another prompt against the misses of the best one: repeats of a prompt, or of all "
        "its replies, count once."
    )


def unlike(echoes: int, *, model: str, cases: int) -> str:
    """Return what helps where prompts change no reply: more of them would not."""
    tries = "1 try gave" if echoes == 1 else f"{echoes} tries gave"
    return (
        f"{tries} the very replies of another, so that one more prompt is not the way: see that "
        f"{model} is sent what the prompts say, add cases that it answers differently when asked "
        f"differently (on these {count(cases, 'case')} it does not), or ask another"
        " model."
    )


def search_on(evidence: WallInput, coverage: Coverage, *, best: str) -> str:
    """Return what to try where a better prompt is likely enough: a new family, then a model."""
    if any(family not in {*coverage.tried, *coverage.waived} for family in _wanted(evidence)):
        untried = _untried(evidence, coverage)
        return f"Write more prompts against the misses of {best}, or one of {untried}."
    if not evidence.stronger and not is_elsewhere(evidence):
        return (
            f"Write more prompts against the misses of {best}, or see what a stronger model does "
            f"with it: harness ladder {evidence.task} --candidate {best}@SCHEME:MODEL."
        )
    return f"Write more prompts against the misses of {best}."


def rerun(evidence: WallInput, names: Sequence[str]) -> str:
    """Return what to do where replies are missing."""
    again = "" if is_elsewhere(evidence) else ": only the missing cases are asked again"
    return f"Re-run {listed(names)}{again}."


def confirm(evidence: WallInput, name: str) -> str:
    """Return how a prompt that is good enough on dev is confirmed."""
    if is_elsewhere(evidence):
        return f"Confirm {name} on cases that no prompt was written against."
    why_not = no_look(evidence.sealed_clusters, target=evidence.target, alpha=FIRST_LOOK)
    if why_not:
        return f"Add sealed cases from other sources: no look can confirm {name} yet ({why_not})."
    return f"Spend one sealed look to confirm {name}: harness wall {evidence.task} --confirm."


def _waived(evidence: WallInput) -> str:
    where = "with --waive" if is_elsewhere(evidence) else "under [waivers] in task.toml"
    return f"or waive it with a reason {where}"


def _by_ladder(evidence: WallInput) -> str:
    return f", or have it made: harness ladder {evidence.task}"


def _wanted(evidence: WallInput) -> list[str]:
    # retrieval helps where knowledge is wanted, and there alone
    wanted = [f for f in CHEAPEST_FIRST if f != "rag" or evidence.needs_knowledge]
    return [f for f in wanted if f not in evidence.refused]


def _untried(evidence: WallInput, coverage: Coverage) -> str:
    seen = {*coverage.tried, *coverage.waived}
    names = [f for f in _wanted(evidence) if f not in seen] or ["a family with a single try"]
    how = f" ({_how(evidence, names[0])})" if names[0] in CHEAPEST_FIRST else ""
    others = f", or of {listed(names[1:], joint='or')}" if names[1:] else ""
    return f"{names[0]}{how}{others}"


def _how(evidence: WallInput, family: str) -> str:
    if family == "optimised" and not is_elsewhere(evidence):
        return f"harness ladder {evidence.task} --optimise"
    return CHEAPEST_FIRST.get(family, "")


def _rank(family: str) -> int:
    order = list(CHEAPEST_FIRST)
    return order.index(family) if family in order else len(order)


# ---------------------------------------------------------------- grader and labels


def mend_control(evidence: WallInput) -> str:
    """Return what to look at where the reference answers fail."""
    cases = f": {named(evidence.control_missed)}" if evidence.control_missed else ""
    step = f"Look at the cases that the reference misses{cases}, and mend the check or the "
    command = f" (harness eval {evidence.task} --candidate reference)"
    return f"{step}reference{'' if is_elsewhere(evidence) else command}."


def mend_labels(evidence: WallInput) -> str:
    """Return which labels to correct."""
    wrong = _wrong(evidence)
    which = "the labels"
    if wrong:
        which = f"the {count(len(wrong), 'wrong label')} that the audit found ({named(wrong)})"
    return f"Correct {which}; recorded replies are scored again and the tries are kept."


def with_mending(evidence: WallInput, step: str) -> str:
    """Return a step, and before it the labels to correct where an audit found any: even where the
    target stays in reach, no reply that is right scores on them.
    """
    mend = mend_labels(evidence)
    return step if not _wrong(evidence) or step == mend else f"{mend} {step}"


def _wrong(evidence: WallInput) -> Sequence[str]:
    return evidence.audit.wrong if evidence.audit is not None else ()


def look_at_labels(evidence: WallInput) -> str:
    """Return how the labels are audited, or how an audit is finished."""
    audit = evidence.audit
    if audit is not None and audit.judged:
        return (
            f"read the {count(audit.needed, 'label')} left (harness wall {evidence.task} --audit)"
        )
    how = "" if is_elsewhere(evidence) else f" (harness wall {evidence.task} --audit)"
    audited = f"audit 30 random cases and up to 25 that every try fails{how}"
    return f"{audited}, {_waived(evidence)} (labels)"


def certify_or(steps: Sequence[str]) -> str:
    """Return steps as one sentence."""
    step = listed(steps)
    return f"{step[0].upper()}{step[1:]}."


# ---------------------------------------------------------------- more cases


def groups_needed(seen: Measures, need: int) -> int:
    """Return from how many clusters `need` cases should come."""
    return max(CLUSTERS_FOR_WALL, math.ceil(need * seen.clusters / seen.n))


def add_cases(evidence: WallInput, seen: Measures, need: int) -> str:
    """Return how many cases to add, or what to do where cases are not the way."""
    if need >= MOST_TIMES * seen.n:
        other = "" if evidence.stronger else ", or another model"
        if not seen.has_enough_clusters:
            return (
                f"Write better prompts{other}: the best is too close to the target for more cases "
                f"alone, and no wall can be shown before {CLUSTERS_FOR_WALL} sources are there."
            )
        return f"Write better prompts{other}: more cases are not the way."
    return (
        f"Add about {count(max(need - seen.n, 1), 'case')} to dev, from sources that are not there "
        "yet."
    )
