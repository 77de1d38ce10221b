"""A tuned model's other forms, judged against it: is what will be served as good as what was tuned?

Knows nothing of how forms are made or asked. The error of 5 % is shared by all the forms that are
judged together, so that trying many of them does not let one slip through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.core.bounds import korn_graubard
from harness.core.release_checks import Guard, Judged, judge_condition, judge_guard, judge_primary
from harness.core.words import count, points
from harness.engine.footprint import Footprint
from harness.engine.project import Project
from harness.engine.release import Arms
from harness.engine.shelf import folder_bytes
from harness.engine.slim import clusters_for
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import (
    Artifact,
    Candidate,
    Check,
    Comparison,
    Condition,
    Estimate,
    LedgerEntry,
    ParityCheck,
    ReleaseAnswer,
)

ALPHA = 0.05
MARGIN = 0.03
"""How much of the primary score a form may lose, where nobody said."""
FORMS = ("merged", "merged-bf16", "int8", "nf4", "gguf-f16", "gguf-q8_0", "gguf-q4_0")
"""What is made and judged where nobody chose."""
_SHORT = {"bf16": "merged-bf16", "int4": "nf4", "fp32": "merged", "f32": "merged"}
OVER = "over-quantised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form, made and judged. `answer` SHIP: shown not to lose more than the margin; BLOCK:
    shown to; None: it could not be made or asked, and `reason` says why. `bytes` are its weights.
    """

    form: str
    reason: str
    answer: ReleaseAnswer | None = None
    artifact: Artifact | None = None
    candidate: str = ""
    base_url: str | None = None
    comparison: Comparison | None = None
    checks: tuple[Check, ...] = ()
    need_cases: int | None = None
    bytes: int | None = None
    footprint: Footprint | None = None
    parity: ParityCheck | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredForm:
    """What was measured of one form, as the ledger keeps it. `change` is against the artifact as it
    was tuned; None, as `answer` is, for that one itself and for what could not be made.
    """

    form: str
    reason: str = ""
    answer: ReleaseAnswer | None = None
    artifact: str | None = None
    bytes: int | None = None
    score: Estimate | None = None
    change: Estimate | None = None
    tokens_per_s: float | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredForms:
    """The forms of `artifact` that were judged together; the first is how it was tuned."""

    artifact: str
    name: str
    margin: float
    forms: tuple[MeasuredForm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The terms on which a form is released against what it was made of."""

    margin: float
    fact: Condition
    note: str


def forms_of(texts: Sequence[str], known: Mapping[str, object]) -> tuple[str, ...]:
    """Return the forms that `texts` name, by their names or short ones (`bf16`, `q8_0`), in order.

    Raises UsageError naming what can be made.
    """
    found = []
    for text in (part.strip().lower() for one in texts for part in one.split(",")):
        if not text:
            continue
        names = (text, _SHORT.get(text, text), f"gguf-{text}")
        form = next((name for name in names if name in known), None)
        if form is None:
            more = (
                ". llama.cpp makes its k-quants from an f16 file: llama-quantize IN OUT Q4_K_M"
                if "_k" in text
                else ""
            )
            raise UsageError(f"no form {text!r}. Known: {', '.join(sorted(known))}{more}")
        found.append(form)
    return tuple(dict.fromkeys(found)) or tuple(form for form in FORMS if form in known)


def what_can_be_shown(task: Task, *, margin: float, forms: int) -> str:
    """Return what dev could show at best, in words: a margin below it is never shown to hold."""
    clusters = len({c.cluster or c.id for c in task.split("dev")})
    alpha = ALPHA / forms
    _, upper = korn_graubard(0.0, 0.0, groups=clusters, alpha=alpha)
    least = float(upper[0])
    text = (
        f"{count(len(task.split('dev')), 'dev case')} from {count(clusters, 'source')}, "
        f"{count(forms, 'form')} at {100 * alpha:.2g} % each"
    )
    if least < margin:
        return text
    need = clusters_for(margin, looks=forms)
    return (
        f"{text}: a loss of {points(margin)} cannot be excluded even if no case changes, at best "
        f"one of {points(least)}. About {need} sources could, or fewer forms (--only), or a wider "
        "--margin. A shown loss still blocks"
    )


def judge_variant(
    form: str,
    arms: Arms,
    *,
    margin: float,
    forms: int,
    conditions: Sequence[Condition] = (),
) -> tuple[ReleaseAnswer, str, tuple[Check, ...], int | None]:
    """Return answer, reason, checks and how many cases would settle it, of a form against its own
    origin: not worse by `margin` in the primary score, nor by their own in the guardrails.
    """
    s = arms.task.settings
    guards = [Guard(pair=arms.pair(name), margin=m) for name, m in s.guardrails.items()]
    alpha = ALPHA / forms
    share = alpha / (1 + len(guards))
    primary = judge_primary(
        arms.pair(s.primary), alpha=alpha, block_alpha=share, min_gain=0.0, margin=margin,
        is_look=False,
    )  # fmt: skip
    judged: list[Judged] = [primary]
    judged += [
        judge_guard(guard, alpha=alpha, block_alpha=share, is_look=False) for guard in guards
    ]
    judged += [judge_condition(condition) for condition in conditions]
    by_answer: dict[ReleaseAnswer, list[Judged]] = {}
    for one in judged:
        by_answer.setdefault(one.check.answer, []).append(one)
    answer: ReleaseAnswer = "SHIP"
    if blocked := by_answer.get("BLOCK"):
        answer, told = "BLOCK", blocked
    elif waiting := by_answer.get("INSUFFICIENT_EVIDENCE"):
        answer, told = "INSUFFICIENT_EVIDENCE", waiting
    else:
        told = judged[:1]
    reason = "; ".join(one.check.text for one in told)
    # where parity is broken, what was lost may be lost by the template
    if answer == "BLOCK" and coarse(form) and all(one.check.kind != "condition" for one in told):
        reason = f"{OVER}: {reason}"
    needs = [one.need_cases for one in told if one.need_cases is not None]
    checks = tuple(one.check for one in judged)
    return answer, reason, checks, max(needs) if needs and answer != "SHIP" else None


def coarse(form: str) -> bool:
    """Return whether a form has fewer than sixteen bits a weight."""
    fine = ("merged", "gguf-f32", "gguf-f16", "gguf-bf16")
    return form not in fine and not form.startswith("merged-")


def weights_bytes(artifact: Artifact, project: Project) -> int | None:
    """Return what an artifact's weight files hold, None where the files are gone."""
    folder = project.home / artifact.folder
    if not artifact.folder or not folder.is_dir():
        return None
    files = [p for end in ("safetensors", "gguf") for p in folder.rglob(f"*.{end}")]
    return sum(p.stat().st_size for p in files) or folder_bytes(folder)


def measured(variants: Sequence[Variant], source: Artifact, *, margin: float) -> MeasuredForms:
    """Return what a report needs of `variants`, the first of which is `source` as it was tuned."""
    compared = [v.comparison for v in variants if v.comparison is not None]
    forms = []
    for v in variants:
        score = v.comparison.candidate_estimate if v.comparison else None
        if v is variants[0] and compared:
            score = compared[0].baseline_estimate
        forms.append(
            MeasuredForm(
                form=v.form,
                reason=v.reason,
                answer=v.answer,
                artifact=v.artifact.digest if v.artifact else None,
                bytes=v.bytes,
                score=score,
                change=v.comparison.delta if v.comparison else None,
                tokens_per_s=v.footprint.tokens_per_s if v.footprint else None,
                peak_bytes=v.footprint.peak_bytes if v.footprint else None,
            )
        )
    return MeasuredForms(
        artifact=source.digest, name=source.name, margin=margin, forms=tuple(forms)
    )


def variants_entry(told: MeasuredForms, *, task: str, at: str) -> LedgerEntry:
    """Return the line of the ledger that keeps what was measured."""
    said = ", ".join(f"{f.form} {f.answer or 'not made'}" for f in told.forms[1:])
    return LedgerEntry(
        kind="variants", task=task, at=at, payload=told, text=f"forms of {told.name}: {said}"
    )


def smallest(variants: Sequence[Variant]) -> Variant | None:
    """Return the smallest form that was shown to be as good."""
    good = [v for v in variants if v.answer == "SHIP" and v.bytes is not None]
    return min(good, key=lambda v: v.bytes or 0, default=None)


# ---------------------------------------------------------------- the release of one


def match_of(
    new: tuple[Candidate, Artifact | None],
    old: tuple[Candidate, Artifact | None],
    *,
    task: Task,
    project: Project,
    margin: float | None,
) -> Match | None:
    """Return the terms of a release of a form against what it was made of; None for any other pair,
    for which the task's own goal stands.

    Raises UsageError where `margin` was given and the pair is no such one.
    """
    form, origin = new[1], old[1]
    if form is None or origin is None or form.variant_of != origin.digest:
        if margin is not None:
            raise UsageError(
                f"--margin is for a form of a tuned model against that model, and {new[0].name!r} "
                f"is no form of {old[0].name!r}. The task's own goal and margin stand in task.toml"
            )
        return None
    said = "--margin" if margin is not None else "the task's"
    if margin is None:
        margin = task.settings.margin
    if margin is None:
        margin, said = MARGIN, "the default, since the task sets none"
    size = weights_bytes(form, project)
    weighs = "" if size is None else f", {size / 2**20:,.0f} MiB"
    return Match(
        margin=margin,
        fact=Condition(
            name="form", holds=True, text=f"{form.variant} of {origin.name}{weighs}, a whole model"
        ),
        note=f"a form of a tuned model against that model: goal match, margin {points(margin)} "
        f"({said})",
    )
