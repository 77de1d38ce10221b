"""What rows would be made from, and what a model would be asked. Asks nothing itself.

Knows no answer: `synth` sends the orders, and lets through what passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.core.synth_holes import LEAST, Hole, Labels, belongs, find_holes, labels_of
from harness.core.synth_origin import SYNTHETIC
from harness.core.synth_perturb import PERTURBATIONS
from harness.core.synth_prompts import (
    REWRITES,
    Facts,
    Kind,
    Order,
    facts_of,
    order_messages,
    row_schema,
)
from harness.core.words import count, listed
from harness.engine.backends import BackendPool, LiveBackend
from harness.engine.boundary import INTERNAL
from harness.engine.candidates import backend_options
from harness.engine.data import synth_orders as orders_of
from harness.engine.leaks import NEAR
from harness.engine.making import eval_wants
from harness.engine.providers import outputs_words, read_table, refuse_forbidden
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import SPLITS, Candidate, Case, Decoding, Json, Request, Split

By = Literal["self-instruct", "evolve", "documents", "perturb", "holes"]
KINDS: Mapping[By, tuple[str, ...]] = {
    "self-instruct": ("self-instruct",),
    "evolve": ("deepen", "widen"),
    "documents": ("documents",),
    "perturb": (*PERTURBATIONS, *REWRITES),
    "holes": ("tag", "class"),
}
ROWS = 50
MOST_ROWS = 200
"""What is made where a person did not say how much."""
FEWEST, MOST_TOKENS = 384, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants made.

    `kinds` are those of `by` (default: all that keep the answer, or make one); `split` is where
    rows go, and where their seeds come from; `rows` of 0: what the holes lack, else 50; `model` is
    SCHEME:MODEL, None where none is asked; `least` cases fill a hole; `near` of 0 looks for no
    near copies.
    """

    by: By
    rows: int = 0
    kinds: tuple[str, ...] = ()
    split: Split = "train"
    model: str | None = None
    base_url: str | None = None
    max_cost_usd: float | None = None
    seed: int = 0
    field: str | None = None
    near: float = NEAR
    least: int = LEAST


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What rows would be made from. `orders` never ends; without a model it is empty. `first` are
    the messages of the first order, and `terms` says whether a model's outputs may train another.
    """

    wish: Wish
    seeds: tuple[Case, ...]
    facts: Facts
    kinds: tuple[str, ...]
    holes: tuple[Hole, ...] = ()
    passages: tuple[tuple[str, str], ...] = ()
    live: LiveBackend | None = None
    field_name: str = ""
    terms: str = ""
    notes: tuple[str, ...] = ()

    def orders(self) -> Iterator[Order]:
        """Yield what the model is asked, from the seed alone."""
        seed, kinds = self.wish.seed, [k for k in self.kinds if k not in PERTURBATIONS]
        if self.wish.by == "self-instruct":
            return orders_of.self_instruct(self.seeds, seed=seed)
        if self.wish.by == "documents":
            return orders_of.from_documents(self.passages, self.seeds, seed=seed)
        if self.wish.by == "holes":
            return orders_of.for_holes(self.holes, self.seeds, seed=seed)
        named: list[Kind] = kinds  # type: ignore[assignment]
        return orders_of.from_each(self.seeds, named, seed=seed, name=self.field_name)

    def request(self, order: Order, *, number: int) -> Request:
        """Return what is sent for an order; drawn, since the next answer should be another one."""
        assert self.live is not None
        honours = self.live.honours
        schema = row_schema(self.facts, order.kind, hole=order.hole, most=order.n)
        return Request(
            messages=order_messages(self.facts, order),
            decoding=Decoding(
                temperature=1.0,
                max_tokens=self._tokens(order),
                seed=self.wish.seed + number if "seed" in honours else None,
            ),
            schema=schema if "schema" in honours else None,
        )

    def _tokens(self, order: Order) -> int:
        """Return room for the rows: the longest of the seeds, at two and a half characters each."""
        longest = max((len(orders_of.digestible(c)) for c in self.seeds), default=400)
        return min(MOST_TOKENS, max(FEWEST, int(order.n * longest / 2.5) + 64))


def prepare(task: Task, wish: Wish, *, root: Path, pool: BackendPool) -> Setting:
    """Return what would be made from what. Asks nothing.

    Raises UsageError where it cannot be: no seeds, no documents, no model, terms that forbid it.
    """
    kinds = _kinds(wish)
    asked = [k for k in kinds if k not in PERTURBATIONS]
    needs_model = bool(asked)
    if needs_model and wish.model is None:
        raise UsageError(
            f"--by {wish.by} asks a model for {listed(asked)}: --model SCHEME:MODEL. The task's "
            f"own is {task.settings.model}."
        )
    notes: list[str] = []
    rows = [c for c in task.split(wish.split) if SYNTHETIC not in c.tags]
    seeds = [c for c in rows if c.reference is not None]
    if not seeds:
        counts = ", ".join(f"{s} {len(task.split(s))}" for s in SPLITS)
        raise UsageError(
            f"task {task.name!r} has no collected row with a reference in {wish.split} to make "
            f"others from (rows: {counts})"
        )
    live, terms = None, ""
    if needs_model:
        assert wish.model is not None
        live = _live(task, wish, pool)
        terms = _terms(wish, root)
        if live.is_external and any(INTERNAL in c.tags for c in seeds):
            inside = [c for c in seeds if INTERNAL in c.tags]
            seeds = [c for c in seeds if INTERNAL not in c.tags]
            told = f"{count(len(inside), 'row')} tagged {INTERNAL} (as {inside[0].id})"
            if not seeds:
                raise UsageError(
                    f"every row of {wish.split} is tagged {INTERNAL}, and {live.name} is an "
                    "external backend: nothing was sent. Use a model on this machine."
                )
            notes.append(f"{told} not shown to {live.name}: it is an external backend")
    passages = _passages(task, wish, notes) if wish.by == "documents" else ()
    name = ""
    if any(k in PERTURBATIONS or k in REWRITES for k in kinds):
        name = orders_of.text_field(seeds, wish.field, without=task.settings.images)
    labels = labels_of(task.cases, shown={"train", "dev", wish.split})
    holes = _holes(task, wish, seeds, kinds, labels=labels) if wish.by == "holes" else ()
    lacking = min(MOST_ROWS, sum(h.want - h.have for h in holes))
    wish = replace(wish, rows=wish.rows or lacking or ROWS)
    facts = facts_of(
        seeds,
        about=task.settings.about,
        rules=tuple(dict.fromkeys(eval_wants(task).values())),
        more_classes=_named_classes(task),
        labels=labels.get("", ()),
        without=task.settings.images,
    )
    if needs_model and not facts.fields:
        raise UsageError("the inputs are images alone: a model's words cannot make more of them")
    if wish.split != "train":
        notes.append(
            f"made rows in {wish.split} are tagged `{SYNTHETIC}`: read their slice beside that of "
            "the collected ones, and let no release rest on them alone"
        )
    return Setting(
        wish=wish, seeds=tuple(seeds), facts=facts, kinds=kinds, holes=holes, passages=passages,
        live=live, field_name=name, terms=terms, notes=tuple(notes),
    )  # fmt: skip


def _kinds(wish: Wish) -> tuple[str, ...]:
    known = KINDS[wish.by]
    for kind in wish.kinds:
        if kind not in known:
            raise UsageError(f"--kind {kind}: --by {wish.by} has {listed(known)}")
    if wish.kinds:
        return tuple(dict.fromkeys(wish.kinds))
    if wish.by != "perturb":
        return known
    # an answer that may have changed is lost: such changes are made where they are named
    kept = [p.name for p in PERTURBATIONS.values() if p.keeps_label]
    return (*kept, *(k for k, keeps in REWRITES.items() if keeps and wish.model))


def _live(task: Task, wish: Wish, pool: BackendPool) -> LiveBackend:
    assert wish.model is not None
    if ":" not in wish.model:
        raise UsageError(f"--model {wish.model!r} is not SCHEME:MODEL, as in openai:gpt-x")
    asked = Candidate(
        name="synth",
        backend=wish.model,
        base_url=wish.base_url or task.settings.base_url,
        options=backend_options(task, wish.model),
    )
    return pool.get(asked, folder=task.folder)


def _terms(wish: Wish, root: Path) -> str:
    """Return what is known of the terms of a model's outputs. Raises UsageError where they forbid
    to train on them.
    """
    assert wish.model is not None
    table = read_table(root)
    if wish.split == "train":
        refuse_forbidden(table, wish.model)
    return outputs_words(table, wish.model)


def _passages(task: Task, wish: Wish, notes: list[str]) -> tuple[tuple[str, str], ...]:
    if not task.settings.documents:
        raise UsageError(
            f"{task.folder / 'task.toml'}: no `documents`, so there is nothing to make rows from. "
            'Add: documents = "docs/*.md"'
        )
    # what another split's cases rest on would be told to this one
    taken = {
        d.rpartition("#")[0] or d for c in task.cases if c.split != wish.split for d in c.documents
    }
    found = [(p.id, p.text) for p in task.passages if p.document not in taken]
    if len(found) < len(task.passages):
        notes.append(
            f"{count(len(task.passages) - len(found), 'passage')} left out: cases of another split "
            "need their documents"
        )
    if not found:
        raise UsageError("every document is needed by cases of another split: nothing was asked")
    return tuple(found)


def _named_classes(task: Task) -> tuple[str, ...]:
    """Return the answers that a prompt's schema allows, seen or not."""
    found: dict[str, None] = {}
    for prompt in task.prompts.values():
        schema = prompt.schema
        if not isinstance(schema, dict) or not prompt.answer_key:
            continue
        inner = schema.get("properties", {}).get(prompt.answer_key, {})
        found |= dict.fromkeys(v for v in inner.get("enum", ()) if isinstance(v, str))
    return tuple(found)


def _holes(
    task: Task, wish: Wish, seeds: Sequence[Case], kinds: Sequence[str], *, labels: Labels
) -> tuple[Hole, ...]:
    cases = task.split(wish.split)
    named = _named_classes(task)
    found = find_holes(cases, known=named, labels=labels, least=wish.least)
    holes = tuple(h for h in found if h.kind in kinds)
    # a slice is known by its rows alone: of one that may not be shown nothing can be made
    able = tuple(h for h in holes if h.kind == "class" or any(belongs(c, h) for c in seeds))
    if not able and not find_holes(cases, known=named, labels=labels, least=len(cases) + 1):
        raise UsageError(
            f"no hole can be found in {wish.split}: no case has a tag, and the answers are no "
            "labels (short texts that come back four times on average)"
        )
    if not able:
        raise UsageError(
            f"no hole in {wish.split}: every tag and class has {wish.least} cases or more. "
            "--least N sets what is enough."
        )
    return able


def facts_json(setting: Setting) -> dict[str, Json]:
    """Return a setting as plain JSON: what would be done."""
    return {
        "by": setting.wish.by,
        "kinds": list(setting.kinds),
        "seeds": len(setting.seeds),
        "model": setting.wish.model,
        "holes": [h.text for h in setting.holes],
        "passages": len(setting.passages),
        "field": setting.field_name or None,
        "terms": setting.terms or None,
        "notes": list(setting.notes),
    }
