"""Drives a prompt optimiser: what it may see, ask and spend, and the files of what it made.

Knows nothing of how prompts are searched for: an optimiser comes through ports. It is never given
a test case, and whatever it makes is run again, as any other try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.making import MadePrompt, prompt_text
from harness.core.optimised import marks_of, named_sections, rewritten
from harness.core.prompts import front_matter, parse_prompt
from harness.core.scoring import case_values
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import internal_ids, stay_inside
from harness.engine.candidates import backend_options, resolve_candidate
from harness.engine.fetch import Ask, Progress
from harness.engine.ladder import read_ladder, why_not_counted
from harness.engine.optimise_desk import Desk, reflection_request
from harness.engine.plain_evals import PlainEvals
from harness.engine.prompt_files import MADE
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.engine.text_files import read_text
from harness.errors import BackendError, HarnessError, TaskError, UsageError, words_of
from harness.ports.manager import Plugins
from harness.ports.optimisers import OptimisedPrompt, OptimiseJob, Optimizer
from harness.records import Candidate, Case, LedgerEntry, Prompt
from harness.store.store import Store

MAX_CALLS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiseWish:
    """What a person asked for. `reflect` is SCHEME:MODEL (default: the task's model); `override`
    is the reason why internal cases may be shown to an external reflection model.
    """

    optimiser: str = "gepa"
    seed_prompt: str | None = None
    reflect: str | None = None
    max_calls: int = MAX_CALLS
    max_cost_usd: float | None = None
    seed: int = 0
    override: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What came of it: the names of the prompts made, best first, and what it took."""

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    seed_prompt: str
    calls: int
    reflections: int
    spent_usd: float = 0.0
    notes: tuple[str, ...] = ()


def optimise(
    task: Task,
    wish: OptimiseWish,
    *,
    plugins: Plugins,
    pool: BackendPool,
    store: Store,
    progress: Progress,
    at: Callable[[], str],
    base_url: str | None = None,
) -> Optimised:
    """Have an optimiser rewrite a prompt of `task`, and write what it made to `prompts/made/`.

    Nothing is written before it is done: a stop at any moment leaves no file, and what was answered
    is in the store, so that the same command goes on. Raises UsageError before the first request
    where an internal case would leave this machine.
    """
    if wish.max_calls < 1:
        raise UsageError(f"--max-calls {wish.max_calls}: give a number of calls, 1 or more")
    optimiser = plugins.owner("harness_optimizers", wish.optimiser)()
    seed = seed_prompt(task, store, name=wish.seed_prompt)
    train, dev, dropped = shown_cases(task)
    reflector = _reflector(task, wish.reflect, pool=pool, base_url=base_url)
    notes = [f"{dropped} cases have the inputs of a test case: not shown"] if dropped else []
    notes += _stay_inside(
        task, seed, [*train, *dev], reflector, wish=wish, pool=pool, store=store, at=at,
        base_url=base_url,
    )  # fmt: skip
    spending = None if wish.max_cost_usd is None else Spending(cap_usd=wish.max_cost_usd)
    if spending is not None:
        live = reflector.live
        spending.refuse_unpriced([Ask(key="", request=reflection_request("", live), live=live)])
    with PlainEvals(task) as evals:
        notes += _blind_spots(task, evals)
        for note in notes:
            progress.note(note)
        desk = Desk(
            task=task,
            seed_prompt=seed,
            name=wish.optimiser,
            cases={c.id: c for c in [*train, *dev]},
            evals=evals,
            reflector=reflector.live,
            reflector_url=reflector.candidate.base_url,
            pool=pool,
            store=store,
            progress=progress,
            spending=spending,
            max_calls=wish.max_calls,
            seed=wish.seed,
            base_url=base_url,
        )
        job = OptimiseJob(
            about=task.settings.about,
            sections=named_sections(seed),
            marks=marks_of(seed),
            train=train,
            dev=dev,
            ask=desk.ask,
            reflect=desk.reflect,
            calls_left=desk.calls_left,
            note=progress.note,
            max_calls=wish.max_calls,
            seed=wish.seed,
        )
        found = _found(optimiser, job, name=wish.optimiser)
    took = (
        f"made by {wish.optimiser} (seed {wish.seed}) from {seed.name}: {desk.calls} calls of "
        f"{task.settings.model}, {desk.reflections} reflections by {reflector.live.name}"
    )
    written = [_write(task, seed, one, optimiser=wish.optimiser, took=took) for one in found]
    unique = list(dict.fromkeys(written))
    return Optimised(
        names=tuple(path.stem for path in unique),
        paths=tuple(unique),
        seed_prompt=seed.name,
        calls=desk.calls,
        reflections=desk.reflections,
        spent_usd=0.0 if spending is None else spending.spent_usd,
        notes=tuple(notes),
    )


# ---------------------------------------------------------------- what it begins with


def seed_prompt(task: Task, store: Store, *, name: str | None = None) -> Prompt:
    """Return the prompt to begin with: the named one, else the best recorded try that no machine
    optimised, else the first file. Raises UsageError where there is none.
    """
    if name is not None:
        if name not in task.prompts:
            raise UsageError(f"no prompt {name!r}. Known: {', '.join(task.prompts) or 'none'}.")
        return task.prompts[name]
    known = {n: p for n, p in task.prompts.items() if p.family != "optimised"}
    if not known:
        raise UsageError(f"task {task.name!r} has no prompt to begin with: write one in prompts/")
    best, mean = next(iter(known.values())), -1.0
    for run in read_ladder(task, store).runs:
        prompt = known.get(run.candidate.prompt or "")
        if prompt is None or why_not_counted(run, task):
            continue
        now = resolve_candidate(task, prompt.name, artifact_digest=str)
        values = [v for v in case_values(run, task.settings.primary).values() if v is not None]
        if now.prompt_digest == run.candidate.prompt_digest and values:
            score = sum(values) / len(values)  # NaN where a reply is missing: never the best
            if score > mean:
                best, mean = prompt, score
    return best


def shown_cases(task: Task) -> tuple[tuple[Case, ...], tuple[Case, ...], int]:
    """Return the train and dev cases that an optimiser may see, and how many it may not: those
    whose inputs a test case has too.
    """
    sealed = {c.inputs_digest for c in task.split("test")}
    train = tuple(c for c in task.split("train") if c.inputs_digest not in sealed)
    dev = tuple(c for c in task.split("dev") if c.inputs_digest not in sealed)
    dropped = len(task.split("train")) + len(task.split("dev")) - len(train) - len(dev)
    return train, dev, dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reflector:
    candidate: Candidate
    live: LiveBackend


def _reflector(
    task: Task, name: str | None, *, pool: BackendPool, base_url: str | None
) -> _Reflector:
    backend = name or task.settings.model
    if ":" not in backend:
        raise UsageError(f"--reflect {backend!r} is not SCHEME:MODEL, as in openai:gpt-x")
    is_own = backend == task.settings.model  # another model does not answer at the task's address
    candidate = Candidate(
        name="reflection",
        backend=backend,
        base_url=(base_url or task.settings.base_url) if is_own else None,
        options=backend_options(task, backend),
    )
    live = pool.get(candidate, folder=task.folder)
    refusal = live.refuse(reflection_request("", live))
    if refusal:
        raise UsageError(f"--reflect {backend}: {refusal}")
    return _Reflector(candidate=candidate, live=live)


def _stay_inside(
    task: Task,
    seed: Prompt,
    cases: Sequence[Case],
    reflector: _Reflector,
    *,
    wish: OptimiseWish,
    pool: BackendPool,
    store: Store,
    at: Callable[[], str],
    base_url: str | None,
) -> list[str]:
    """Raise UsageError where an internal case would leave this machine. Which cases an optimiser
    shows to the reflection model is its own affair, so that every case that it has counts.
    """
    internal = internal_ids(cases)
    candidate = resolve_candidate(task, seed.name, base_url=base_url, artifact_digest=str)
    live = pool.get(candidate, folder=task.folder)
    stay_inside([Ask(key="", request=reflection_request("", live), live=live, internal=internal)])
    if not (internal and reflector.live.is_external):
        return []
    if not wish.override:
        raise UsageError(
            f"case {internal[0]!r} is tagged internal, and the reflection model "
            f"{reflector.live.name} is an external backend: nothing was sent. Use one on this "
            "machine (--reflect SCHEME:MODEL), remove the tag if the case may leave it, or say why "
            "it may be shown: --override-boundary 'REASON'; it is recorded."
        )
    text = f"{len(internal)} internal cases may be shown to {reflector.live.name}: {wish.override}"
    payload = {"optimiser": wish.optimiser, "reflect": reflector.live.name, "cases": internal}
    store.record(
        LedgerEntry(
            kind="override",
            task=task.name,
            at=at(),
            payload=payload | {"reason": wish.override},
            text=text,
        )
    )
    return [text]


def _blind_spots(task: Task, evals: PlainEvals) -> list[str]:
    """Return which scores the optimiser will not see. Raises UsageError where the primary one is
    among them.
    """
    primary = task.settings.primary
    known = {*evals.names, *task.builtin_names} - set(task.settings.judges)
    left_out = evals.left_out | dict.fromkeys(sorted(task.settings.judges), "a judge")
    if primary in left_out or not known:
        why = left_out.get(primary) or "; ".join(f"{k}: {v}" for k, v in left_out.items())
        raise UsageError(
            f"an optimiser scores replies outside pytest, and {primary!r} cannot be had there "
            f"({why}). Write an eval that asks for nothing but `case`, `reply` and `score`."
        )
    if primary != "all" or not left_out:
        return []
    return [f"the optimiser does not see {', '.join(left_out)}; the tries are scored in full"]


# ---------------------------------------------------------------- what comes of it


def _found(optimiser: Optimizer, job: OptimiseJob, *, name: str) -> Sequence[OptimisedPrompt]:
    try:
        found = optimiser.optimise(job)
    except HarnessError:
        raise
    except Exception as exc:  # border: a stranger's optimiser can raise anything
        raise BackendError(f"optimiser {name}: {type(exc).__name__}: {words_of(exc)}") from exc
    for one in found:
        if not isinstance(one, OptimisedPrompt):
            kind = type(one).__name__
            raise BackendError(f"optimiser {name} returned a {kind}, not an OptimisedPrompt")
    return found


def _write(task: Task, seed: Prompt, one: OptimisedPrompt, *, optimiser: str, took: str) -> Path:
    """Write one prompt's file, and return it. A file that holds this very prompt already is taken
    as it is; another one is never overwritten.
    """
    folder = task.folder / "prompts" / MADE
    first = f"optimised-{optimiser}"
    try:
        prompt = rewritten(seed, one.sections, name=first)
    except TaskError as exc:
        raise BackendError(f"optimiser {optimiser} returned a broken prompt: {exc}") from exc
    name, number = first, 1
    while (path := folder / f"{name}.md").exists() or name in task.prompts:
        if path.exists() and _holds(path, prompt):
            return path
        number += 1
        name = f"{first}-{number}"
    settings, _, _ = front_matter(read_text(Path(seed.path)), path=seed.path)
    note = f"{took}; {one.note}" if one.note else took
    text = prompt_text(
        MadePrompt(
            name=name,
            family=prompt.family,
            sections=prompt.sections,
            note=note.encode("utf-8", "replace").decode(),
            settings={k: v for k, v in settings.items() if k not in ("family", "note", "made")},
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    return path


def _holds(path: Path, prompt: Prompt) -> bool:
    there = parse_prompt(
        read_text(path), name=path.stem, path=str(path), schema=prompt.schema, tools=prompt.tools
    )
    return there.digest == prompt.digest
