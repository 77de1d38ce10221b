"""`harness model variants`: a tuned model's other forms, made, asked on dev, and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click
from tabulate import tabulate

from harness.errors import BackendError, UsageError
from harness.records import Artifact, Comparison, Request
from harness.surface.cli.app import App, now, options
from harness.surface.cli.model_shelf import found_artifact
from harness.surface.verdicts import ANSWERS
from harness.surface.words import clean, interval, points

if TYPE_CHECKING:
    from harness.engine.footprint import Footprint
    from harness.engine.serving import Served
    from harness.engine.tasks import Task
    from harness.engine.variants import Variant

CODES = {"SHIP": 0, "BLOCK": 1, "INSUFFICIENT_EVIDENCE": 3}
MEBIBYTE = 2**20


@click.command("variants")
@click.argument("artifact")
@click.option(
    "--only", multiple=True, metavar="FORM,...", help="Forms to make, as int8,nf4,bf16,q8_0."
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.03,
    show_default=True,
    help="How much of the primary score a form may lose.",
)
@click.option("--no-speed", is_flag=True, help="Score only: measure neither speed nor memory.")
@click.option("--task", metavar="NAME", help="The task, where several have such an artifact.")
@options()
@click.pass_obj
def variants_command(
    store: str | None,
    artifact: str,
    only: tuple[str, ...],
    margin: float,
    no_speed: bool,
    task: str | None,
    as_json: bool,
) -> int:
    """Make other forms of it, and score each.

    Each form (merged, bf16, int8, nf4, GGUF) is an artifact of its own, asked on dev and compared
    with the artifact as it was tuned. Exit 0: each is shown not to lose more than the margin. 1:
    one is shown to. 3: these cases cannot show it, or one that --only names could not be made.
    Sealed cases are not looked at.
    """
    from harness.engine.variants import (
        forms_of,
        measured,
        smallest,
        variants_entry,
        what_can_be_shown,
    )

    with App(store, as_json=as_json) as app:
        source = found_artifact(app, app.store, artifact, task=task)
        loaded = app.task(source.task)
        app.refuse_leaks(loaded, "dev")
        baseline = _baseline(loaded, source)
        known = app.plugins.table("harness_variants")
        forms = forms_of(only, known)
        app.say(what_can_be_shown(loaded, margin=margin, forms=len(forms)), "")
        judge = _Judge(
            app=app,
            task=loaded,
            source=source,
            baseline=baseline,
            margin=margin,
            forms=forms,
            with_speed=not no_speed,
        )
        first = judge.origin()
        found = [judge.one(form) for form in forms]
        best = smallest(found)
        told = measured([first, *found], source, margin=margin)
        app.store.record(variants_entry(told, task=loaded.name, at=now()))
        app.answer({"baseline": first, "margin": margin, "variants": found})
        app.say(*variant_lines([first, *found], margin=margin))
        app.say(*_next(best, baseline, loaded, margin))
        answers = [v.answer for v in found if v.answer is not None]
        if not answers:
            return app.fail(UsageError(f"no form could be made: {found[0].reason}"))
        codes = [CODES[a] for a in answers]
        if only and len(answers) < len(found):  # of what was asked for, some was not shown
            codes.append(CODES["INSUFFICIENT_EVIDENCE"])
        return max(codes, key=lambda code: (code == 1, code))


def _baseline(task: Task, source: Artifact) -> str:
    """Return the candidate that every form is compared with. Raises UsageError."""
    if source.variant_of is not None:
        raise UsageError(
            f"{source.name!r} is a form already ({source.variant}). Name what it was made of: "
            f"{source.variant_of[:16]}"
        )
    if not source.prompt or source.prompt not in task.prompts:
        from harness.engine.parity_check import prompt_is_gone

        raise UsageError(prompt_is_gone(source, task))
    if not task.split("dev"):
        raise UsageError(f"task {task.name!r} has no dev case to score a form on")
    return f"{source.prompt}@{source.base}+{source.digest[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Makes, asks and judges one form after the other, so that one model is in memory."""

    app: App
    task: Task
    source: Artifact
    baseline: str
    margin: float
    forms: Sequence[str]
    with_speed: bool

    def origin(self) -> Variant:
        """Ask the artifact as it was tuned."""
        from harness.engine.gate import not_a_pilot
        from harness.engine.variants import Variant, weights_bytes

        candidate = self.app.candidate(self.task, self.baseline)
        not_a_pilot(candidate, self.source)
        self._run(self.baseline)
        return Variant(
            form="as tuned",
            reason="",
            artifact=self.source,
            candidate=self.baseline,
            bytes=weights_bytes(self.source, self.app.project),
            footprint=self._footprint(self.baseline, self.source),
        )

    def one(self, form: str) -> Variant:
        """Make and judge one form; what cannot be made is a row that says why."""
        from harness.engine.exporting import make_variant
        from harness.engine.variants import Variant
        from harness.surface.cli.model_shelf import task_options

        app = self.app
        app.say(f"{form} ...")
        try:
            made = make_variant(
                self.source,
                form,
                project=app.project,
                plugins=app.plugins,
                store=app.store,
                at=now,
                options=task_options(app, self.source),
            )
        except (UsageError, BackendError) as exc:
            return Variant(form=form, reason=str(exc))
        try:
            found = self._asked(form, made.artifact)
        except UsageError as exc:  # nobody here serves it
            return Variant(form=form, artifact=made.artifact, reason=str(exc))
        return replace(found, notes=(*made.notes, *found.notes))

    def _asked(self, form: str, made: Artifact) -> Variant:
        from harness.engine.serving import runtime_for, serving

        if not form.startswith("gguf-"):
            name = f"{self.source.prompt}@{self.source.base}+{made.digest[:16]}"
            self._run(name)
            return replace(self._judged(form, made, name), footprint=self._footprint(name, made))
        with serving(
            made,
            runtime=runtime_for(made, self.app.project),
            project=self.app.project,
            plugins=self.app.plugins,
            context=self._context(),
            slots=2,
        ) as served:
            return self._served(form, made, served)

    def _served(self, form: str, made: Artifact, served: Served) -> Variant:
        from harness.engine.footprint import Footprint, speed
        from harness.engine.parity_check import check_artifact, parity_condition

        app = self.app
        name = f"{self.source.prompt}@openai:{served.model}+{made.digest[:16]}"
        candidate = app.candidate(self.task, name, base_url=served.url)
        parity = check_artifact(
            self.task,
            candidate,
            made,
            store=app.store,
            pool=app.pool,
            plugins=app.plugins,
            project=app.project,
            with_logits=False,  # that weights are coarser is what the evals measure
        )
        self._run(name, base_url=served.url)
        found = self._judged(
            form, made, name, base_url=served.url, conditions=[parity_condition(parity)]
        )
        told = None
        if self.with_speed:
            live = app.pool.get(candidate, folder=self.task.folder)
            told = Footprint(
                tokens_per_s=speed(live, self._requests(name, served.url)),
                peak_bytes=served.peak_bytes,
            )
        return replace(found, footprint=told, parity=parity)

    def _judged(
        self,
        form: str,
        made: Artifact,
        name: str,
        *,
        base_url: str | None = None,
        conditions: Sequence[object] = (),
    ) -> Variant:
        from harness.engine.ladder import read_ladder
        from harness.engine.release import arms_of
        from harness.engine.variants import ALPHA, Variant, judge_variant, weights_bytes

        arms = arms_of(
            self.task,
            read_ladder(self.task, self.app.store),
            baseline=self.app.candidate(self.task, self.baseline),
            candidate=self.app.candidate(self.task, name, base_url=base_url),
        )
        answer, reason, checks, need = judge_variant(
            form,
            arms,
            margin=self.margin,
            forms=len(self.forms),
            conditions=conditions,  # type: ignore[arg-type]
        )
        return Variant(
            form=form,
            reason=reason,
            answer=answer,
            artifact=made,
            candidate=name,
            base_url=base_url,
            comparison=arms.comparison(alpha=ALPHA / len(self.forms)),
            checks=checks,
            need_cases=need,
            bytes=weights_bytes(made, self.app.project),
        )

    def _run(self, name: str, *, base_url: str | None = None) -> None:
        from harness.surface.run_evals import completed, run_evals

        completed(
            run_evals(
                self.task, [name], store=self.app.project.store, split="dev", base_url=base_url
            )
        )

    def _requests(self, name: str, base_url: str | None = None) -> list[Request]:
        """A few requests from end to end of dev."""
        from harness.engine.footprint import ASKED
        from harness.engine.requests import Requests

        candidate = self.app.candidate(self.task, name, base_url=base_url)
        cases = self.task.split("dev")
        some = cases[:: max(1, len(cases) // (ASKED + 1))][: ASKED + 1]
        requests = Requests(self.task)
        return [requests.of(candidate, case) for case in some]

    def _footprint(self, name: str, artifact: Artifact) -> Footprint | None:
        from harness.engine.footprint import footprint

        if not self.with_speed:
            return None
        return footprint(
            self.app.candidate(self.task, name),
            self._requests(name),
            folder=self.task.folder,
            artifact=self.app.project.home / artifact.folder,
            disabled_plugins=self.app.project.disabled_plugins,
        )

    def _context(self) -> int | None:
        """How many tokens the longest dev prompt and its reply have, with room to spare."""
        from harness.engine.requests import Requests
        from harness.ports.backends import ShowsTokens

        candidate = self.app.candidate(self.task, self.baseline)
        backend = self.app.pool.get(candidate, folder=self.task.folder).backend
        if not isinstance(backend, ShowsTokens):
            return None
        requests = Requests(self.task)
        asked = [requests.of(candidate, case) for case in self.task.split("dev")]
        most = max(len(backend.token_ids(r)) + r.decoding.max_tokens for r in asked)
        return 512 * math.ceil(1.5 * most / 512)


# ---------------------------------------------------------------- shown


def variant_lines(variants: Sequence[Variant], *, margin: float) -> list[str]:
    """Return the table of forms, and each verdict's reason below it."""
    rows = []
    for v in variants:
        score, change = _scores(v, variants)
        told = v.footprint
        rows.append(
            [
                v.form,
                v.artifact.digest[:16] if v.artifact else "–",
                _mebibytes(v.bytes),
                score,
                change,
                f"{told.tokens_per_s:.1f}" if told and told.tokens_per_s else "–",
                _mebibytes(told.peak_bytes if told else None),
                v.answer or ("" if v.form == "as tuned" else "not made"),
            ]
        )
    heads = ["form", "artifact", "weights MiB", "score", "change", "tokens/s", "peak MiB", ""]
    lines = ["", *tabulate(rows, headers=heads, disable_numparse=True).split("\n"), ""]
    for v in variants[1:]:
        mark = ANSWERS[v.answer] if v.answer else "–"
        lines.append(f"  {mark} {v.form}: {clean(v.reason)}")
        lines += [f"      {clean(note)}" for note in v.notes]
    whys = {v.footprint.why for v in variants if v.footprint and v.footprint.why}
    lines += [f"  not measured: {clean(why)}" for why in sorted(whys)]
    closing = (
        f"not worse by more than {100 * margin:g} points on dev; sealed cases were not looked at. "
        "tokens/s: one request at a time, on this machine now; peak: the process that holds it"
    )
    return [*lines, "", closing]


def _scores(variant: Variant, variants: Sequence[Variant]) -> tuple[str, str]:
    if variant.comparison is not None:
        return interval(variant.comparison.candidate_estimate), points(variant.comparison.delta)
    known: list[Comparison] = [v.comparison for v in variants if v.comparison is not None]
    if variant.form == "as tuned" and known:
        return interval(known[0].baseline_estimate), ""
    return "–", ""


def _mebibytes(count: int | None) -> str:
    return "–" if count is None else f"{count / MEBIBYTE:,.0f}"


def _next(best: Variant | None, baseline: str, task: Task, margin: float) -> list[str]:
    if best is None:
        return ["no form is shown to be as good; serve it as it was tuned, or add dev cases"]
    where = f" --base-url '{best.base_url}'" if best.base_url else ""
    serve = (
        [f"serve it first, at the same place: harness model serve {best.artifact.digest[:16]}"]
        if best.base_url and best.artifact
        else []
    )
    gate = (
        f"harness gate {task.name} --candidate '{best.candidate}' --baseline '{baseline}' "
        f"--margin {margin:g}{where}"
    )
    return [
        f"the smallest that is as good: {best.form}. Release it on sealed cases:",
        *serve,
        gate,
    ]
