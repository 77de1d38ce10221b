"""Makes a task's missing prompts, as files that people can read and edit. Asks no model.

A file is written once. It is made anew only on request, and only where nobody has edited it.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.making import Facts, MadePrompt, Plan, is_as_made, prompt_text
from harness.core.prompts import front_matter
from harness.core.shapes import shape_of
from harness.core.tips import Missed, tips_from
from harness.core.tries import build_tries
from harness.core.words import count
from harness.engine.backends import LiveBackend
from harness.engine.boundary import INTERNAL, internal_ids
from harness.engine.candidates import candidate_names
from harness.engine.ladder import read_ladder, scored_cases, try_scores
from harness.engine.prompt_files import MADE
from harness.engine.tasks import Task
from harness.engine.text_files import read_text
from harness.errors import UsageError
from harness.records import Prompt, Request, digest
from harness.store.store import Store

SEEDS = ("instructions", "zero-shot", "few-shot", "dynamic-few-shot")
"""Families of written prompts that the others are made from, the first that there is."""


def seed_of(task: Task, name: str | None = None) -> Prompt | None:
    """Return the prompt that others take their words from: the named one, else one that a person
    wrote; None where there is none. Raises UsageError for an unknown name.
    """
    if name is not None:
        if name not in task.prompts:
            known = ", ".join(task.prompts) or "none"
            raise UsageError(f"--from {name}: no such prompt in {task.folder}. Known: {known}.")
        return task.prompts[name]
    written = [p for p in task.prompts.values() if not is_made(p)]
    for family in SEEDS:
        for prompt in written:
            if prompt.family == family:
                return prompt
    return written[0] if written else None


def is_made(prompt: Prompt) -> bool:
    """Tell whether a prompt's file lies in the folder of made ones."""
    return Path(prompt.path).parent.name == MADE


def facts_of(
    task: Task, live: LiveBackend, *, seed: Prompt | None, missed: Sequence[Missed] = ()
) -> Facts:
    """Return what prompts of `task` are made from. `live` is the backend of the task's model."""
    rows = [c for c in task.example_rows if c.reference is not None]
    is_train = bool(task.split("train"))
    drawn_from = "train" if is_train else "dev (other clusters)"
    internal = internal_ids(rows) if live.is_external else ()
    if internal:  # a prompt that draws them would be refused before the first byte
        drawn_from += (
            f", without {count(len(internal), 'row')} that may not leave this machine (tag "
            f"{INTERNAL}, as {internal[0]})"
        )
        rows = [c for c in rows if INTERNAL not in c.tags]
    examples = len(rows)
    if rows and not is_train:  # a case sees no row of its own cluster
        examples -= max(Counter(c.cluster or c.id for c in rows).values())
    wants = eval_wants(task)
    decoding = task.settings.decoding
    refusal = live.refuse(Request(messages=(), schema={"type": "object"}))
    settings = front_matter(read_text(Path(seed.path)), path=seed.path)[0] if seed else {}
    shape = shape_of(
        [c.reference for c in rows], [c.cluster or c.id for c in rows], is_train=is_train
    )
    return Facts(
        about=task.settings.about,
        fields=_fields(task),
        shape=shape,
        seed=seed,
        settings=settings,
        rules=tuple(dict.fromkeys(wants.values())),
        tips=tuple(tips_from(missed, wants, told=shape.words)),
        examples=examples,
        drawn_from=drawn_from,
        without=INTERNAL if internal else "",
        max_tokens=decoding.max_tokens or 256,
        has_stop=bool(decoding.stop),
        refuses_schema=refusal or "",
        has_documents=bool(task.settings.documents),
    )


def _fields(task: Task) -> dict[str, bool]:
    """Return the inputs that every case has, each with whether it is text."""
    shown = [dict(c.inputs) for c in task.cases]
    names = [n for n in shown[0] if all(n in inputs for inputs in shown)] if shown else []
    names = [n for n in names if n.isidentifier() and n not in task.settings.images]
    return {n: all(isinstance(inputs[n], str) for inputs in shown) for n in names}


def eval_wants(task: Task) -> dict[str, str]:
    """Return what each eval wants: the first line of its docstring."""
    wants = {}
    for path in sorted(task.folder.glob("eval_*.py")):
        for node in ast.walk(ast.parse(read_text(path), filename=str(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                said = (ast.get_docstring(node) or "").strip().partition("\n")[0]
                name = node.name.removeprefix("test_")
                if said and name != node.name and name in task.eval_names:
                    wants[name] = said
    return wants


def missed_on_dev(task: Task, store: Store, *, base_url: str | None = None) -> list[Missed]:
    """Return the misses of the best counted try, with the references that no tip may tell."""
    ladder = read_ladder(task, store, base_url=base_url)
    rungs = try_scores(task, ladder)
    kept = [c.cluster for c in scored_cases(task, ladder)]
    counted = [t for t in build_tries(rungs, kept) if t.is_counted] if rungs else []
    if not counted:
        return []
    best = max(counted, key=lambda t: t.estimate.mean).run_id
    run = next(r for r in ladder.runs if r.id == best)
    cases = {c.id: c for c in task.split("dev") if not internal_ids([c])}
    return [
        Missed(
            case_id=t.case_id, name=s.name, reason=s.reason, held_back=cases[t.case_id].reference
        )
        for t in run.trials
        for s in t.scores
        if t.case_id in cases and s.value is not None and s.value < 1 and t.fault is None
    ]


def counted_families(task: Task, store: Store, *, base_url: str | None = None) -> list[str]:
    """Return the family of each try that counts."""
    ladder = read_ladder(task, store, base_url=base_url)
    kept = [c.cluster for c in scored_cases(task, ladder)]
    return [t.family for t in build_tries(try_scores(task, ladder), kept) if t.is_counted]


def named_apart(task: Task, plan: Plan) -> Plan:
    """Return `plan` with other names for prompts whose names a person gave to something else."""
    taken = set(candidate_names(task)) - {p.name for p in task.prompts.values() if is_made(p)}
    return replace(
        plan,
        prompts=tuple(
            replace(p, name=f"{p.name}-made") if p.name in taken else p for p in plan.prompts
        ),
    )


def write_prompts(task: Task, prompts: Sequence[MadePrompt], *, remake: bool = False) -> list[str]:
    """Write the files of `prompts` and return the names of those that were written.

    One that exists stays as it is; with `remake` it is written anew unless a person edited it.
    """
    folder = task.folder / "prompts" / MADE
    written = []
    for prompt in prompts:
        path = folder / f"{prompt.name}.md"
        if path.exists() and not (remake and is_as_made(read_text(path))):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        settings = dict(prompt.settings)
        if prompt.schema is not None:
            # named by its content: it is never changed under a prompt that was tried
            schema = folder / f"reply-{digest(prompt.schema)[:8]}.schema.json"
            if not schema.exists():
                _write(schema, json.dumps(prompt.schema, indent=1, ensure_ascii=False) + "\n")
            settings["schema"] = schema.relative_to(task.folder).as_posix()
        text = prompt_text(replace(prompt, settings=settings))
        if path.exists() and read_text(path) == text:
            continue
        _write(path, text)
        written.append(prompt.name)
    return written


def _write(path: Path, text: str) -> None:
    half = path.with_name(f"{path.name}.half")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
