"""`harness compare`: two candidates on dev, for every pull request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.surface.cli.app import App, options
from harness.surface.cli.scores_options import (
    all_files,
    one_task,
    only_with_scores,
    scores_options,
)
from harness.surface.tables import comparison_lines
from harness.surface.words import clean


@click.command("compare")
@click.argument("task", required=False)
@scores_options("primary")
@click.option("--candidate", metavar="NAME", help="Needed for a task.")
@click.option(
    "--baseline",
    metavar="NAME|FILE.json",
    help="A candidate (default: the best recorded prompt), or a blessed file.",
)
@click.option(
    "--bless",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write the candidate's scores to this file, the baseline of pull requests.",
)
@click.option(
    "--two-by-two",
    nargs=4,
    metavar="PLAIN RAG TUNED BOTH",
    help="Four recorded candidates: what each of two factors does, and both together.",
)
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str | None,
    files: tuple[str, ...],
    scores: tuple[str, ...],
    primary: str | None,
    candidate: str | None,
    baseline: str | None,
    bless: Path | None,
    two_by_two: tuple[str, ...] | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Compare two candidates on dev, case by case; spends nothing.

    Exit 0: no shown regression (which is not to say that none is there). 1: shown to be worse.
    With a blessed file it is the check of a pull request, and writes $GITHUB_STEP_SUMMARY.
    """
    if scores:
        if bless is not None:
            raise click.UsageError("--bless goes with a task, not with --scores.")
        from harness.surface.cli.scores_path import compare_scores

        return compare_scores(
            all_files(scores, task, files),
            baseline=baseline,
            candidate=candidate,
            primary=primary,
            as_json=as_json,
        )
    only_with_scores(primary=primary)
    task = one_task(task, files)
    if two_by_two:
        return _two_by_two(store, task, two_by_two, base_url=base_url, as_json=as_json)
    from harness.core.blessed import flaky_ids
    from harness.core.release import shown_loss
    from harness.core.synth_origin import made_note
    from harness.engine.certificates import ADVICE, advised_scores
    from harness.engine.ladder import read_ladder, refuse_without_scores
    from harness.engine.release import arms_of, best_prompt
    from harness.surface.cli.blessed_path import bless_run, compare_blessed, refuse_unmeasured

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        if candidate is None:
            raise app.which_candidate(loaded)
        refuse_without_scores(loaded)
        if bless is not None or (baseline or "").endswith(".json"):
            new = app.candidate(loaded, candidate, base_url=base_url)
            if bless is not None:
                return bless_run(app, loaded, new, path=bless)
            return compare_blessed(app, loaded, new, path=Path(baseline or ""))
        ladder = read_ladder(loaded, app.store)
        name = baseline or best_prompt(loaded, ladder)
        arms = arms_of(
            loaded,
            ladder,
            baseline=app.candidate(loaded, name, base_url=base_url),
            candidate=app.candidate(loaded, candidate, base_url=base_url),
        )
        found = arms.comparison()
        refuse_unmeasured(found)
        primary = loaded.settings.primary
        certificates = app.store.ledger(task=loaded.name, kind="certificate")
        is_advice = primary in advised_scores(loaded, [arms.baseline, arms.candidate], certificates)
        lost = shown_loss(found)
        loss = None if is_advice else lost
        flaky = flaky_ids(arms.baseline, primary) | flaky_ids(arms.candidate, primary)
        app.answer(
            {
                "comparison": found,
                "is_shown_regression": loss is not None,
                "advice": lost if is_advice else None,
                "flaky": sorted(flaky),
            }
        )
        app.say(*comparison_lines(found))
        missed = found.newly_missed
        if note := made_note([c.tags for c in loaded.split("dev")], split="dev"):
            app.say(f"note: {note}")
        for what, ids in [
            ("newly missed", [c for c in missed if c not in flaky]),
            ("newly missed, and measured flaky", [c for c in missed if c in flaky]),
            ("won", found.newly_passed),
        ]:
            if ids:
                more = f" and {len(ids) - 12} more" if len(ids) > 12 else ""
                app.say(f"{what}: {', '.join(map(clean, ids[:12]))}{more}")
        if loss:
            app.say(f"a regression is shown: {clean(loss)}")
        elif lost:
            app.say(f"no alarm: {clean(lost)}, {ADVICE}")
        elif found.delta.lower > 0:
            app.say("a gain is shown on dev; a release is decided on test: harness gate")
        else:
            app.say(
                f"no regression is shown; a loss of up to {-100 * found.delta.lower:.1f} points "
                "cannot be excluded with these cases"
            )
    return 1 if loss else 0


def _two_by_two(
    store: str | None, task: str, names: Sequence[str], *, base_url: str | None, as_json: bool
) -> int:
    """Show what two factors do, from four recorded runs."""
    from harness.engine.ladder import read_ladder, refuse_without_scores
    from harness.engine.two_by_two import two_by_two
    from harness.surface.two_by_two import two_by_two_lines

    with App(store, as_json=as_json) as app:
        loaded = app.task(task)
        app.refuse_leaks(loaded, "dev")
        refuse_without_scores(loaded)
        candidates = [app.candidate(loaded, name, base_url=base_url) for name in names]
        found = two_by_two(loaded, read_ladder(loaded, app.store), candidates)
        app.answer(
            {
                "candidates": [c.name for c in candidates],
                "runs": [run.id for run in found.runs],
                "means": found.means,
                "effects": {e.name: e.estimate for e in found.effects.effects},
                "unscored": found.unscored,
            }
        )
        app.say(*two_by_two_lines(found))
    return 0
