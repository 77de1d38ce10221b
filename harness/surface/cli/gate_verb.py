"""`harness gate`: the release, decided once on sealed cases."""

from __future__ import annotations

import click

from harness.surface.cli.app import App, options
from harness.surface.cli.scores_options import (
    all_files,
    named_numbers,
    one_task,
    only_with_scores,
    scores_options,
)

CODES = {"SHIP": 0, "BLOCK": 1, "INSUFFICIENT_EVIDENCE": 3}


@click.command("gate")
@click.argument("task", required=False)
@scores_options("store", "primary")
@click.option(
    "--guardrail", multiple=True, metavar="METRIC=MARGIN", help="With --scores: may not lose more."
)
@click.option(
    "--min-gain",
    type=click.FloatRange(0, 1),
    help="With --scores: the least gain that is worth a release (default: .02).",
)
@click.option(
    "--must-hold", multiple=True, metavar="SLICE", help="With --scores: a slice that may not lose."
)
@click.option("--candidate", metavar="NAME", help="Default: the newest artifact of the task.")
@click.option("--baseline", metavar="NAME", help="Default: the best recorded prompt on dev.")
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="For a form of a tuned model (int8, GGUF, ...) against that model: what it may lose.",
)
@click.option(
    "--override-boundary", metavar="REASON", help="Send internal cases outside; recorded for ever."
)
@options(candidates=True)
@click.pass_obj
def command(
    store: str | None,
    task: str | None,
    files: tuple[str, ...],
    scores: tuple[str, ...],
    into: str | None,
    primary: str | None,
    guardrail: tuple[str, ...],
    min_gain: float | None,
    must_hold: tuple[str, ...],
    candidate: str | None,
    baseline: str | None,
    margin: float | None,
    override_boundary: str | None,
    base_url: str | None,
    as_json: bool,
) -> int:
    """Decide a release on the sealed test split; counts the look.

    Exit 0: SHIP. 1: BLOCK. 3: not enough evidence. The same pair judged again is the same look.
    """
    if scores:
        from harness.surface.cli.scores_path import gate_scores

        return gate_scores(
            all_files(scores, task, files),
            baseline=baseline,
            candidate=candidate,
            primary=primary,
            guardrails=named_numbers(guardrail, option="--guardrail"),
            min_gain=0.02 if min_gain is None else min_gain,
            must_hold=must_hold,
            store=into or store,
            as_json=as_json,
        )
    only_with_scores(
        store=into, primary=primary, guardrail=guardrail, min_gain=min_gain, must_hold=must_hold
    )
    from harness.surface.cli.release_path import Wish, decide

    wish = Wish(
        candidate=candidate,
        baseline=baseline,
        margin=margin,
        override_boundary=override_boundary,
        base_url=base_url,
    )
    with App(store, as_json=as_json) as app:
        verdict = decide(app, one_task(task, files), wish)
    return CODES[verdict.answer]
