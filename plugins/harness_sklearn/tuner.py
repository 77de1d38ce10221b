"""The tuner `sklearn`: TF-IDF with ridge, logistic regression or nearest neighbours. Knows no task.

It has no tokens and no base model: the task's model stays what it is, and the artifact says itself
what answers with it (`sklearn:...`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from harness import (
    PreparedRow,
    TrainProgress,
    TrainResult,
    TuneEstimate,
    TuneJob,
    UsageError,
)
from harness_sklearn.features import seen
from harness_sklearn.fitting import NAMES, chosen_kind, fit, fits_of
from harness_sklearn.model import save
from harness_sklearn.recipe import read_recipe


class Sklearn:
    """Trains a classical model on the last user turns and replies of the rows."""

    needs = "completions"
    has_tokens = False
    why_no_tokens = "a classical model has no token ids, and reads the same text at both times"

    def prepare(self, job: TuneJob) -> Sequence[PreparedRow]:
        """Return nothing: there are no token ids. Raises UsageError for what cannot be trained."""
        recipe = read_recipe(job.recipe)
        if job.start is not None:
            raise UsageError("the tuner sklearn goes on from nothing: it has no start")
        pictured = tuple(r.case_id for r in job.rows if any(m.images for m in r.messages))
        if pictured:
            raise _about("a classical model sees no images", pictured)
        called = tuple(r.case_id for r in job.rows if r.calls)
        if called:
            raise _about("a classical model answers with texts, and replies are tool calls", called)
        empty = tuple(r.case_id for r in job.rows if not seen(r.messages).strip())
        if empty:
            raise _about("rows without a text in a user turn", empty)
        chosen_kind(recipe, [r.completion for r in job.rows])
        return ()

    def steps(self, job: TuneJob, rows: Sequence[PreparedRow]) -> int:
        """Return how many fits there will be."""
        recipe = read_recipe(job.recipe)
        kind = chosen_kind(recipe, [r.completion for r in job.rows])
        return fits_of(recipe, kind, len(job.rows))

    def estimate(self, job: TuneJob, rows: Sequence[PreparedRow]) -> TuneEstimate:
        """Return what is known before it: which model, how many fits, and that it costs nothing."""
        recipe = read_recipe(job.recipe)
        kind = chosen_kind(recipe, [r.completion for r in job.rows])
        choices = len({r.completion for r in job.rows})
        return TuneEstimate(
            steps=self.steps(job, rows),
            cost_usd=0.0,
            facts=(
                f"{kind}: {NAMES[kind]} on TF-IDF of words and pieces; {choices} different replies",
                "seconds to minutes on a CPU; no GPU is used",
            ),
        )

    def train(
        self,
        job: TuneJob,
        rows: Sequence[PreparedRow],
        *,
        report: Callable[[TrainProgress], None],
    ) -> TrainResult:
        """Fit, write the model to `job.out_dir`, and return what was made."""
        del rows
        recipe = read_recipe(job.recipe)
        texts = [seen(r.messages) for r in job.rows]
        replies = [r.completion for r in job.rows]
        steps, done, began = self.steps(job, ()), 0, time.perf_counter()

        def told(**numbers: float) -> None:
            nonlocal done
            done += 1
            report(
                TrainProgress(
                    step=min(done, steps),
                    steps=steps,
                    loss=None,
                    tokens=0,
                    seconds=time.perf_counter() - began,
                    numbers=numbers,
                )
            )

        fitted = fit(texts, replies, recipe=recipe, seed=job.seed, told=told)
        save(fitted.model, job.out_dir)
        seconds = time.perf_counter() - began
        metrics = {
            **fitted.metrics,
            "rows": float(len(texts)),
            "features": float(len(fitted.model.vocabulary.names)),
        }
        told_file = {"kind": fitted.model.kind, "recipe": recipe.model_dump(), "metrics": metrics}
        (job.out_dir / "train_report.json").write_text(
            json.dumps(told_file, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
        return TrainResult(
            base_digest="",
            template_digest="",
            metrics={**metrics, "train_s": seconds},
            environment={"scikit-learn": version("scikit-learn"), "numpy": version("numpy")},
            backend=f"sklearn:{NAMES[fitted.model.kind]}",
            cost_usd=0.0,
        )


def _about(text: str, case_ids: tuple[str, ...]) -> UsageError:
    more = f" and {len(case_ids) - 5} more" if len(case_ids) > 5 else ""
    error = UsageError(f"{text}: {', '.join(case_ids[:5])}{more}")
    error.case_ids = case_ids
    return error
