"""`harness ladder TASK --models`: which prompts are asked of which models. Knows no table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.core.words import listed
from harness.engine.evaluate import cases_of
from harness.engine.model_ladder import candidate_name, model_rungs, models_named
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.ports.backends import ShowsTokens
from harness.surface.cli.app import App


def climb_models(
    app: App,
    task: Task,
    text: str,
    *,
    base_url: str | None,
    extra: Sequence[str] = (),
    is_shown_only: bool = False,
) -> dict[str, object]:
    """Ask every prompt of every model of the list `text`, where its backend takes it, and show the
    table. Returns it for `--json`. Raises UsageError before anything is sent.
    """
    from harness.engine.ladder import read_ladder
    from harness.surface.model_table import model_table
    from harness.surface.run_evals import completed, run_evals

    models = models_named(text, task)
    left_out: list[dict[str, str]] = []
    if not is_shown_only:
        names = list(_asked(app, task, models, base_url=base_url, left_out=left_out))
        reasons: dict[str, list[str]] = {}  # a model without a template refuses every prompt alike
        for one in left_out:
            reasons.setdefault(one["reason"], []).append(one["candidate"])
        for reason, refused in reasons.items():
            app.say(f"left out: {listed(refused)}: {reason}")
        if names:
            store = app.project.store
            completed(run_evals(task, names, store=store, base_url=base_url, extra=extra))
    rungs = model_rungs(task, read_ladder(task, app.store), models)
    app.say("", *model_table(rungs, target=task.settings.target))
    return {"models": rungs, "left_out": left_out}


def _asked(
    app: App,
    task: Task,
    models: Sequence[str],
    *,
    base_url: str | None,
    left_out: list[dict[str, str]],
) -> Iterator[str]:
    """Yield the candidates that can be asked; the others go to `left_out`, each with its reason."""
    requests, first = Requests(task), cases_of(task, "dev")[0]
    for model in models:
        for prompt in task.prompts:
            name = candidate_name(prompt, model, own=task.settings.model)
            candidate = app.candidate(task, name, base_url=base_url)
            live = app.pool.get(candidate, folder=task.folder)  # an unknown model is an error
            request = requests.of(candidate, first)
            reason = live.refuse(request)
            if reason is None and isinstance(live.backend, ShowsTokens):
                try:  # a base model without a chat template knows no turns
                    live.backend.token_ids(request)
                except UsageError as exc:
                    reason = str(exc)
            if reason is None:
                yield name
            else:
                left_out.append({"candidate": name, "reason": reason})
