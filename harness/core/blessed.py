"""A blessed baseline: one run's scores in a small file that people commit. Knows no disk.

It holds no text: ids, digests and numbers, one case a line, sorted, so that a diff shows what a
new blessing changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.flaky import FlakyCase, flakiness
from harness.core.pairs import Pair, align
from harness.core.scoring import case_values
from harness.core.usage import Usage
from harness.errors import UsageError
from harness.records import Json, Run, Split

FORMAT = "tuning-harness blessed 1"
USAGE = ("input_tokens", "output_tokens", "latency_s", "latency_p95_s", "cost_usd")
_KEYS = ("format", "task", "split", "primary", "candidate", "digest", "run", "evals", "repeats")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlessedCase:
    """What a case scored (None: unscored, NaN: missing), and what it was then. `passed` of `of`
    repeats passed, where it is flaky.
    """

    digest: str
    score: float | None
    passed: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blessed:
    """A candidate's run over a split. `usage` has means a reply: tokens, seconds, dollars."""

    task: str
    split: Split
    primary: str
    candidate: str
    digest: str
    run: str
    evals: str
    repeats: str
    cases: Mapping[str, BlessedCase]
    usage: Mapping[str, float] = field(default_factory=dict)


def bless(run: Run, *, primary: str, usage: Usage) -> Blessed:
    """Return the blessed form of a run. Raises UsageError where it is partial."""
    if not run.is_complete:
        raise UsageError(f"run {run.id[:8]} is partial: only a complete one can be blessed")
    flaky = {one.case_id: one for one in _flaky(run, primary)}
    digests = {t.case_id: t.case_digest or "" for t in run.trials}
    cases = {
        case: BlessedCase(
            digest=digests[case],
            score=value,
            passed=flaky[case].passed if case in flaky else 0,
            of=flaky[case].of if case in flaky else 0,
        )
        for case, value in case_values(run, primary).items()
    }
    return Blessed(
        task=run.task,
        split=run.split,
        primary=primary,
        candidate=run.candidate.name,
        digest=run.candidate.digest[:16],
        run=run.id,
        evals=run.evals_digest[:16],
        repeats=f"{run.repeats} {run.repeat_verdict or 'mean'}",
        cases=cases,
        usage=usage_a_reply(usage),
    )


def usage_a_reply(usage: Usage) -> dict[str, float]:
    """Return what is known of what a reply costs; dollars a reply, not of the whole run."""
    known = {name: getattr(usage, name) for name in USAGE}
    if usage.cost_usd is not None:
        known["cost_usd"] = usage.cost_usd / max(usage.replies, 1)
    return {name: float(value) for name, value in known.items() if value is not None}


def _flaky(run: Run, primary: str) -> tuple[FlakyCase, ...]:
    found = flakiness(run, primary)
    return found.flaky if found is not None else ()


def flaky_ids(run: Run, primary: str) -> set[str]:
    """Return the cases of `run` that both passed and missed."""
    return {one.case_id for one in _flaky(run, primary)}


# ---------------------------------------------------------------- the file


def to_text(blessed: Blessed) -> str:
    """Return the text of the file: one key and one case a line, cases sorted by id."""
    head: dict[str, Json] = {"format": FORMAT}
    head |= {name: getattr(blessed, name) for name in _KEYS[1:]}
    head["usage"] = {k: float(f"{v:.6g}") for k, v in sorted(blessed.usage.items())}
    lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}," for k, v in head.items()]
    rows = [
        f"  {json.dumps(case, ensure_ascii=False)}: {json.dumps(_row(one))}"
        for case, one in sorted(blessed.cases.items())
    ]
    return "\n".join(["{", *lines, ' "cases": {', ",\n".join(rows), " }", "}"]) + "\n"


def _row(one: BlessedCase) -> list[Json]:
    score = "missing" if one.score is not None and math.isnan(one.score) else one.score
    return [one.digest, score, *([f"{one.passed} of {one.of}"] if one.of else [])]


def from_text(text: str, *, place: str) -> Blessed:
    """Return what the text of a file holds. Raises UsageError naming `place`."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{place}: not a blessed baseline: not JSON ({exc})") from exc
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise UsageError(
            f"{place}: not a blessed baseline (its format is not {FORMAT!r}). Make one: "
            "harness compare TASK --candidate NAME --bless FILE"
        )
    try:
        cases = {str(case): _case(row) for case, row in plain["cases"].items()}
        usage = {str(k): float(v) for k, v in plain.get("usage", {}).items()}
        return Blessed(**{k: plain[k] for k in _KEYS[1:]}, cases=cases, usage=usage)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise UsageError(f"{place}: a damaged blessed baseline: {exc!r}. Bless again.") from exc


def _case(row: list[Json]) -> BlessedCase:
    digest, score, *flaky = row
    passed, _, of = str(flaky[0]).partition(" of ") if flaky else ("0", "", "0")
    value = math.nan if score == "missing" else None if score is None else float(score)
    if value is not None and not math.isnan(value) and not 0 <= value <= 1:
        raise ValueError(f"score {value} is not in [0, 1]")
    return BlessedCase(digest=str(digest), score=value, passed=int(passed), of=int(of))


# ---------------------------------------------------------------- the comparison


def why_stale(blessed: Blessed, run: Run, *, primary: str) -> str | None:
    """Return what makes the scores of the file and of `run` two different things, or None."""
    here = {
        "task": (blessed.task, run.task),
        "split": (blessed.split, run.split),
        "primary score": (blessed.primary, primary),
        "evals": (blessed.evals, run.evals_digest[:16]),
        "repeats": (blessed.repeats, f"{run.repeats} {run.repeat_verdict or 'mean'}"),
    }
    for what, (then, now) in here.items():
        if then != now:
            return f"the {what} changed: blessed with {then}, now {now}"
    return None


def changed_cases(blessed: Blessed, run: Run) -> list[str]:
    """Return the cases of the file that are gone, or that were another case then."""
    now = {t.case_id: t.case_digest or "" for t in run.trials}
    return sorted(c for c, one in blessed.cases.items() if now.get(c) != one.digest)


def pair_with(blessed: Blessed, run: Run, *, primary: str, clusters: Mapping[str, str]) -> Pair:
    """Return both arms on the cases that are still what they were when blessed.

    Raises Refused where less than 95 % of them are, and UsageError where none was scored.
    """
    gone = set(changed_cases(blessed, run))
    mine = {c: v for c, v in case_values(run, primary).items() if v is not None and c not in gone}
    theirs: dict[str, float | None] = {}
    for case in [*mine, *blessed.cases]:  # in the order of the run, not of the file
        one = blessed.cases.get(case)
        if one is not None and one.score is not None:
            # a changed case stays in the count that the overlap is taken of, under another name
            theirs[f"{case} as blessed" if case in gone else case] = one.score
    return align(primary, mine, baseline=theirs, clusters=clusters)
