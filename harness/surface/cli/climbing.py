"""`harness ladder TASK`: makes and runs the tries that are lacking, round by round.

Knows nothing of how prompts are worded (`harness.core.making`) or files written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click

from harness.core.coverage import echoed_words, judge_coverage, profile_named
from harness.core.making import MadePrompt, Plan, choose, plan_prompts
from harness.core.money import usd
from harness.core.next_steps import unlike
from harness.core.tries import TryScores, echoed_families, identity_of, repeats_of
from harness.core.words import count, listed
from harness.engine.backends import LiveBackend
from harness.engine.candidates import REFERENCE, backend_options
from harness.engine.certificates import deciding_scores
from harness.engine.evaluate import Evaluation, cases_of
from harness.engine.ladder import read_ladder
from harness.engine.making import (
    counted_families,
    facts_of,
    is_made,
    missed_on_dev,
    named_apart,
    seed_of,
    write_prompts,
)
from harness.engine.requests import Requests
from harness.engine.tasks import Task
from harness.records import FAMILIES, Candidate
from harness.surface.cli.app import App

ROUNDS = 4
"""So often tries are added where some turn out to be the same, or tips can be drawn."""
MOST_COUNTED = 20_000
"""Up to so many requests it is found out, one by one, which are new."""
CHARACTERS_A_TOKEN = 4

_OPTIONS = (
    click.option(
        "--from", "seed", metavar="PROMPT", help="The prompt that the made ones take words from."
    ),
    click.option(
        "--only-files", is_flag=True, help="Run the prompts that people wrote; make none."
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be made and asked; do neither."),
    click.option(
        "--remake", is_flag=True, help="Make prompts anew that nobody edited since they were made."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """What a person wants of the ladder."""

    seed: str | None = None
    only_files: bool = False
    dry_run: bool = False
    remake: bool = False


@dataclass(slots=True, kw_only=True)
class Climbed:
    """How far it came: the task with its new prompts, and what was left out with the reasons."""

    task: Task
    made: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    spent_usd: float = 0.0


def climb_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one `climb: Climb`."""

    @wraps(command)
    def wrapped(
        *arguments: Any,
        seed: str | None,
        only_files: bool,
        dry_run: bool,
        remake: bool,
        **others: Any,
    ) -> Any:
        if only_files and (seed or remake):
            raise click.UsageError("--only-files makes no prompt: leave out --from and --remake")
        wish = Climb(seed=seed, only_files=only_files, dry_run=dry_run, remake=remake)
        return command(*arguments, climb=wish, **others)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def plan_of(app: App, task: Task, *, wish: Climb, base_url: str | None) -> Plan:
    """Return what can be made for `task`, with tips from the misses that are recorded."""
    facts = facts_of(
        task,
        _model(app, task, base_url=base_url),
        seed=seed_of(task, wish.seed),
        missed=missed_on_dev(task, app.store, base_url=base_url),
    )
    return named_apart(task, plan_prompts(facts))


def _model(app: App, task: Task, *, base_url: str | None) -> LiveBackend:
    s = task.settings
    model = Candidate(
        name="model",
        backend=s.model,
        base_url=base_url or s.base_url,
        options=backend_options(task, s.model),
    )
    return app.pool.get(model, folder=task.folder)


def refuse_unknown(app: App, task: Task, more: Sequence[str], *, base_url: str | None) -> None:
    """Raise what stands in the way of a climb, before a word is said of what it could show."""
    for name in more:
        one = app.candidate(task, name, base_url=base_url)
        if one.prompt is not None:
            app.pool.get(one, folder=task.folder)
    _model(app, task, base_url=base_url)


def to_make(
    app: App, task: Task, *, wish: Climb, base_url: str | None, have: Sequence[str], reserve: int
) -> tuple[list[MadePrompt], Mapping[str, str]]:
    """Return the prompts that are lacking, and why others cannot be had. `have` is the family of
    each try that there is.
    """
    s = task.settings
    plan = plan_of(app, task, wish=wish, base_url=base_url)
    chosen = choose(
        plan,
        have=have,
        profile=profile_named(s.profile),
        waived=s.waivers,
        taken=tuple(task.prompts),
        reserve=reserve,
    )
    waived = {f: f"waived: {why}" for f, why in s.waivers.items() if f in ASKED}
    return chosen, {**plan.left_out, **waived}


ASKED = frozenset(FAMILIES) - {"optimised"}


def climb_now(
    app: App,
    task: Task,
    more: Sequence[str],
    *,
    wish: Climb,
    base_url: str | None,
    max_cost_usd: float | None,
) -> Climbed:
    """Make what is lacking and run it, until enough tries count or no other can be made.

    `more` are candidates that are run too. Raises what stopped it; what was answered is kept.
    """
    from harness.surface.run_evals import completed, run_evals

    done = Climbed(task=task)
    if not wish.only_files:
        _make_first(app, done, wish=wish, base_url=base_url)
    seen: set[str] = set()
    for _ in range(ROUNDS):
        names = asked_names(app, done.task, more, wish=wish, base_url=base_url, done=done)
        new = [n for n in names if n not in seen]
        if not new:
            break
        seen |= set(new)
        app.say(*_made_lines(done))
        app.say(*new_lines(app, done.task, new, base_url=base_url))
        left = None if max_cost_usd is None else max(0.0, max_cost_usd - done.spent_usd)
        run = run_evals(
            done.task,
            new,
            store=app.project.store,
            base_url=base_url,
            extra=[] if left is None else [f"--max-cost={left}"],
        )
        done.spent_usd += completed(run, deciding=deciding_scores(done.task)).spent_usd
        if wish.only_files:
            break
        done.made = []
        # now it is known which tries count, and what their misses say
        have = counted_families(done.task, app.store, base_url=base_url)
        _make(app, done, wish=wish, base_url=base_url, have=have, reserve=0)
    return done


def _make_first(app: App, done: Climbed, *, wish: Climb, base_url: str | None) -> None:
    task = done.task
    if wish.remake:
        plan = plan_of(app, task, wish=wish, base_url=base_url)
        there = [p for p in plan.prompts if p.name in task.prompts]
        done.made += write_prompts(task, there, remake=True)
    names = asked_names(app, task, (), wish=wish, base_url=base_url, done=done)
    have = [task.prompts[n].family for n in names if n in task.prompts]
    # one place is kept for the tips that the misses of the first round will give
    _make(app, done, wish=wish, base_url=base_url, have=have, reserve=1)


def _make(
    app: App,
    done: Climbed,
    *,
    wish: Climb,
    base_url: str | None,
    have: Sequence[str],
    reserve: int,
) -> None:
    chosen, why_not = to_make(
        app, done.task, wish=wish, base_url=base_url, have=have, reserve=reserve
    )
    done.left_out |= why_not
    done.made += write_prompts(done.task, chosen)
    if done.made:
        done.task = app.task(str(done.task.folder))


def asked_names(
    app: App,
    task: Task,
    more: Sequence[str],
    *,
    wish: Climb,
    base_url: str | None,
    done: Climbed,
) -> list[str]:
    """Return the candidates whose requests their backends honour; why not is kept in `done`."""
    prompts = [p.name for p in task.prompts.values() if not (wish.only_files and is_made(p))]
    names = [REFERENCE]
    for name in dict.fromkeys([*prompts, *more]):
        candidate = app.candidate(task, name, base_url=base_url)
        refusal = why_not_asked(app, task, candidate)
        if refusal:
            done.left_out[name] = refusal
        else:
            names.append(name)
    return list(dict.fromkeys(names))


def why_not_asked(app: App, task: Task, candidate: Candidate) -> str | None:
    """Return what its backend would ignore of a candidate's requests, or None."""
    if candidate.prompt is None:
        return None
    request = Requests(task).of(candidate, cases_of(task, "dev")[0])
    return app.pool.get(candidate, folder=task.folder).refuse(request)


def dry_run(
    app: App, task: Task, more: Sequence[str], *, wish: Climb, base_url: str | None
) -> dict[str, Any]:
    """Say what would be made and asked, and return it; nothing is written or asked."""
    done = Climbed(task=task)
    names = asked_names(app, task, more, wish=wish, base_url=base_url, done=done)
    have = [task.prompts[n].family for n in names if n in task.prompts]
    chosen: list[MadePrompt] = []
    if not wish.only_files:
        chosen, why_not = to_make(app, task, wish=wish, base_url=base_url, have=have, reserve=1)
        done.left_out |= why_not
    app.say(f"There already: {listed(names)}.", "Would be made in prompts/made:")
    app.say(*([f"  {p.name} ({p.family}): {p.note}" for p in chosen] or ["  nothing"]))
    if chosen:
        app.say("  and, where the first misses give any, `tips`")
    app.say(*not_made_lines(done.left_out))
    cases = len(task.split("dev")) * task.settings.repeats
    app.say(*new_lines(app, task, names, base_url=base_url))
    app.say(
        f"Each prompt that is made adds {count(cases, 'request')}. Nothing was written or asked."
    )
    return {
        "there": names,
        "would_make": [{"name": p.name, "family": p.family, "note": p.note} for p in chosen],
        "not_made": done.left_out,
    }


def not_made_lines(left_out: Mapping[str, str]) -> list[str]:
    """Return why some prompts were not made, or not asked."""
    return [f"left out: {name}: {why}" for name, why in left_out.items()]


def new_lines(app: App, task: Task, names: Sequence[str], *, base_url: str | None) -> list[str]:
    """Return what will be asked: new requests, their tokens, and their cost where it is known."""
    candidates = [app.candidate(task, name, base_url=base_url) for name in names]
    evaluation = Evaluation(task, candidates, split="dev", pool=app.pool)
    trials = evaluation.trial_ids()
    if len(trials) > MOST_COUNTED:
        return [f"up to {len(trials):,} requests; those that are recorded are not sent again"]
    asks = {ask.key: ask for ask in evaluation.asks(trials).values()}
    known = app.store.known_replies(list(asks))
    new = [ask.request for key, ask in asks.items() if key not in known]
    head = f"{count(len(new), 'new request')}, {len(asks) - len(new)} recorded"
    if not new:
        return [head]
    characters = sum(len(m.content) for request in new for m in request.messages)
    most = sum(request.decoding.max_tokens for request in new)
    head += f"; about {characters // CHARACTERS_A_TOKEN:,} tokens in, {most:,} out at most"
    spent = [
        (u.cost_usd, u.replies)
        for run, u in zip(*_recorded(app, task), strict=True)
        if run.candidate.backend == task.settings.model and u.cost_usd is not None and u.replies
    ]
    if spent:
        each = sum(cost for cost, _ in spent) / sum(n for _, n in spent)
        if each > 0:
            head += f"; about {usd(each * len(new))}, at what the recorded ones cost"
    return [head]


def _recorded(app: App, task: Task) -> tuple[Sequence[Any], Sequence[Any]]:
    ladder = read_ladder(task, app.store)
    return ladder.runs, ladder.usages


def _made_lines(done: Climbed) -> list[str]:
    lines = []
    if done.made:
        made = f"made {count(len(done.made), 'prompt')} in prompts/made: {listed(done.made)}"
        lines.append(made)
    return [*lines, *not_made_lines(done.left_out)]


def owed_lines(task: Task, rungs: Sequence[TryScores]) -> list[str]:
    """Return what a wall verdict will want beyond the tries that count."""
    s, repeats = task.settings, repeats_of([identity_of(rung) for rung in rungs])
    counted = zip(rungs, repeats, strict=True)
    coverage = judge_coverage(
        [rung.family for rung, again in counted if rung.is_countable and again is None],
        profile_named(s.profile),
        waivers=s.waivers,
        needs_knowledge=s.needs_knowledge,
        echoes=echoed_families(rungs, repeats),
    )
    lines = []
    if coverage.tries_short:
        lines.append(f"{count(coverage.tries_short, 'more try')} needed for a wall verdict")
    for family in coverage.owed:
        hint = "write a prompt of that family"
        if family.startswith("optimised"):
            hint = f"harness ladder {task.name} --optimise"
        reason = family.partition(" ")[0]
        lines.append(f'not tried: {family}: {hint}, or waive it: [waivers] {reason} = "why"')
    if coverage.echoed:
        cases = len(rungs[0].scores)
        lines.append(echoed_words(coverage.echoed))
        lines.append(unlike(coverage.echoes, model=s.model, cases=cases))
    return lines
