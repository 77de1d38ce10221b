"""Makes new rows for a task: from its rows, from its documents, for its holes. Knows no terminal.

Answers come through the engine's own fetch, so they are recorded, capped and asked once: the same
command goes on where it stopped. What comes out passed the task's evals and copies no row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from harness.core.synth_holes import Hole, belongs
from harness.core.synth_origin import UNLABELLED
from harness.core.synth_perturb import PERTURBATIONS, perturbed
from harness.core.synth_prompts import Order
from harness.core.words import count, listed
from harness.engine.boundary import INTERNAL
from harness.engine.data import synth_orders as orders_of
from harness.engine.data.sieve import Sieve, Tally, sample_of
from harness.engine.data.synth_orders import Origin
from harness.engine.data.synth_setting import Setting
from harness.engine.fetch import Ask, Outcome, Progress, fetch, was_not_asked
from harness.engine.plain_evals import PlainEvals
from harness.engine.spending import Spending
from harness.engine.tasks import Task
from harness.errors import BackendError, UsageError
from harness.records import Case, digest
from harness.store.store import Store

SPARE = 4
"""So many times the requests that would do are sent at most: answers that fail are asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synth:
    """What was made. `refused` counts what was not taken, by reason, with `samples`; `stopped` says
    why there are fewer rows than were asked for; `notes` is what a person should know.
    """

    rows: tuple[Case, ...]
    refused: Mapping[str, int]
    samples: Mapping[str, Sequence[str]]
    said: int
    requests: int = 0
    recorded: int = 0
    spent_usd: float | None = 0.0
    stopped: str = ""
    holes: tuple[Hole, ...] = ()
    notes: tuple[str, ...] = ()


def synthesise(task: Task, setting: Setting, *, store: Store, progress: Progress) -> Synth:
    """Return the rows that were made, each of which passed. Raises UsageError, and BackendError
    where no answer came at all. KeyboardInterrupt passes through; what was answered is kept.
    """
    wish, tally = setting.wish, Tally()
    notes = list(setting.notes)
    is_variant = wish.by == "perturb"
    with PlainEvals(task) as evals:
        if not evals.scored:
            notes.append("no eval of the task works outside pytest: no row was checked by them")
        elif evals.left_out:
            notes.append(
                f"checked by {listed(evals.scored)}; not by {listed(list(evals.left_out))}, which "
                "need pytest or a model"
            )
        sieve = Sieve(task, tally=tally, near=wish.near, evals=evals, variants=is_variant)
        made: list[Case] = []
        if is_variant:
            made += _perturb(setting, sieve, tally, notes)
        making = _Making(task=task, setting=setting, store=store, progress=progress, tally=tally)
        if setting.live is not None:
            making.run(sieve, made)
    stopped = making.stopped
    if not stopped and len(made) < wish.rows and wish.by == "perturb" and setting.live is None:
        stopped = "every row was changed in every way that was asked for"
    unlabelled = sum(UNLABELLED in c.tags for c in made)
    if unlabelled:
        notes.append(
            f"{count(unlabelled, 'row')} tagged `{UNLABELLED}`: the change may have changed the "
            "answer, so they have none until a person gives it"
        )
    return Synth(
        rows=tuple(made),
        refused=dict(tally.counts.most_common()),
        samples=tally.samples,
        said=len(made) + sum(tally.counts.values()),
        requests=making.requests,
        recorded=making.recorded,
        spent_usd=making.spent_usd,
        stopped=stopped,
        holes=tuple(_filled(setting.holes, made)),
        notes=tuple(notes),
    )


# ---------------------------------------------------------------- without a model


def _perturb(setting: Setting, sieve: Sieve, tally: Tally, notes: list[str]) -> list[Case]:
    """Return rows changed without a model: every row in every way that changes it, in an order of
    the seed's.
    """
    wish, name = setting.wish, setting.field_name
    pairs = [(c, k) for c in setting.seeds for k in setting.kinds if k in PERTURBATIONS]
    pairs.sort(key=lambda p: digest([wish.seed, p[0].id, p[1]]))
    share = (
        1.0
        if setting.live is None
        else len(set(setting.kinds) & set(PERTURBATIONS)) / len(setting.kinds)
    )  # the others are left to the model
    most = max(1, round(wish.rows * share)) if pairs else 0
    made: list[Case] = []
    changed = (_changed(case, kind, name, seed=wish.seed) for case, kind in pairs)
    rest = (row for row in changed if row is not None)
    able: set[str] = set()
    while len(made) < most and (some := list(islice(rest, max(64, most)))):
        able |= {str(row.provenance["kind"]) for row in some}
        made += sieve.sift(some, most=most - len(made))
    tally.counts.pop(MORE, None)  # nobody paid for these
    if len(made) < most:  # each was tried
        idle = sorted({kind for _, kind in pairs} - able)
        notes += [f"`{kind}` has nothing to change in any row" for kind in idle]
    return made


MORE = "more than were asked for"


def _changed(case: Case, kind: str, name: str, *, seed: int) -> Case | None:
    """Return a row changed; None where it holds nothing that this changes."""
    text = orders_of.text_at(case.inputs, name)
    own = int(digest([seed, case.id, kind])[:12], 16)
    made = None if text is None else perturbed(text, kind, seed=own)
    if made is None:
        return None
    keeps = PERTURBATIONS[kind].keeps_label
    said = {"made_by": "perturb", "kind": kind, "from": [case.id], "field": name, "seed": seed}
    return orders_of.variant(
        case,
        orders_of.with_text(case.inputs, name, made),
        reference=case.reference if keeps else None,
        keeps_label=keeps,
        made=said | {"label": "kept" if keeps else "unknown"},
    )


# ---------------------------------------------------------------- with a model


@dataclass(slots=True, kw_only=True)
class _Making:
    """Asks round by round until there are enough rows, or nothing more is to be had."""

    task: Task
    setting: Setting
    store: Store
    progress: Progress
    tally: Tally
    requests: int = 0
    recorded: int = 0
    spent_usd: float | None = 0.0
    stopped: str = ""
    spending: Spending | None = None
    _faults: list[str] = field(default_factory=list)
    _answers: int = 0

    def run(self, sieve: Sieve, made: list[Case]) -> None:
        """Add rows to `made`."""
        wish, orders = self.setting.wish, enumerate(self.setting.orders())
        if wish.max_cost_usd is not None:
            # it stops at the cap, and what was made until then is kept: no forecast is needed
            self.spending = Spending(cap_usd=wish.max_cost_usd, is_forecast=True)
        each = max(1, min(4, math.ceil(wish.rows / 4)))
        left = SPARE * math.ceil(wish.rows / 2) + 8
        poor = 0
        while len(made) < wish.rows and left > 0 and not self.stopped:
            wanted = math.ceil((wish.rows - len(made)) / each * 1.25)
            batch = [o for o in islice(orders, min(left, wanted)) if self._is_open(o[1], made)]
            left -= wanted
            if not batch:
                if self.setting.holes and not any(h.have < h.want for h in self._holes(made)):
                    return
                continue
            rows = self._ask(batch)
            most = wish.rows - len(made)
            fresh = (
                self._fitting(sieve.sift(rows), made)[:most]
                if self.setting.holes
                else (sieve.sift(rows, most=most))
            )
            made += fresh
            poor = 0 if fresh else poor + 1
            if poor == 2:
                self.stopped = "two rounds in a row gave no row that could be taken"
        if len(made) < wish.rows and not self.stopped:
            self.stopped = f"after {count(self.requests, 'request')} too few rows passed"
        if not self._answers and self._faults:
            raise BackendError(f"no answer came: {self._faults[0]}")

    def _holes(self, made: Sequence[Case]) -> list[Hole]:
        return _filled(self.setting.holes, made)

    def _fitting(self, rows: Sequence[Case], made: Sequence[Case]) -> list[Case]:
        """Return the rows that a hole still lacks: what fills one twice leaves another open."""
        kept: list[Case] = []
        for row in rows:
            mine = [h for h in self._holes([*made, *kept]) if belongs(row, h)]
            if any(h.have < h.want for h in mine):
                kept.append(row)
            else:
                self.tally.add("its hole is full", sample_of(row))
        return kept

    def _is_open(self, order: Order, made: Sequence[Case]) -> bool:
        """Tell whether an order's hole still lacks rows; others always do."""
        if order.hole is None:
            return True
        return order.hole.have + sum(belongs(c, order.hole) for c in made) < order.hole.want

    def _ask(self, batch: Sequence[tuple[int, Order]]) -> list[Case]:
        wish, live = self.setting.wish, self.setting.live
        assert live is not None
        asks: dict[str, tuple[Ask, Order]] = {}
        for number, order in batch:
            request = self.setting.request(order, number=number)
            refusal = live.refuse(request)
            if refusal:
                raise UsageError(f"--model {live.name}: {refusal}")
            key = live.key(
                request,
                base_url=wish.base_url or self.task.settings.base_url,
                repeat=number,
                epoch=self.task.settings.epoch or None,
            )
            internal = tuple(c.id for c in order.seeds if INTERNAL in c.tags)
            ask = Ask(
                key=key, request=request, live=live, internal=internal, who="synth", case=key,
                task=self.task.name,
            )  # fmt: skip
            asks[key] = (ask, order)
        outcomes = fetch(
            [ask for ask, _ in asks.values()],
            store=self.store,
            progress=self.progress,
            spending=self.spending,
        )
        rows: list[Case] = []
        for key, (_, order) in asks.items():
            rows += self._read(outcomes[key], order)
        return rows

    def _read(self, outcome: Outcome, order: Order) -> list[Case]:
        if outcome.reply is None:
            fault = outcome.fault.message if outcome.fault else "no reply"
            if was_not_asked(outcome.fault):
                self.stopped = f"the budget of ${self.setting.wish.max_cost_usd:g} is spent"
            else:
                self._faults.append(fault)
                self.tally.add("no answer came", fault)
            return []
        self._answers += 1
        self.requests += 1
        self.recorded += outcome.is_cached
        self._pay(outcome)
        found = orders_of.read_answer(outcome.reply, order=order, facts=self.setting.facts)
        if isinstance(found, str):
            self.tally.add(found, outcome.reply.text[:200])
            return []
        lost = orders_of.rows_said(outcome.reply) - len(found)
        for _ in range(lost):
            self.tally.add("a row has not the form that was asked for", outcome.reply.text[:200])
        wish = self.setting.wish
        assert self.setting.live is not None
        origin = Origin(
            by=wish.by, split=wish.split, model=outcome.reply.model or self.setting.live.name,
            seed=wish.seed, request=outcome.key,
        )  # fmt: skip
        facts = self.setting.facts
        return [orders_of.case_of(r, order=order, facts=facts, origin=origin) for r in found]

    def _pay(self, outcome: Outcome) -> None:
        if outcome.is_cached or self.spent_usd is None or outcome.reply is None:
            return
        assert self.setting.live is not None
        cost = outcome.reply.cost_usd
        if cost is None and not self.setting.live.costs_nothing:
            self.spent_usd = None
        else:
            self.spent_usd += cost or 0.0


def _filled(holes: Iterable[Hole], made: Sequence[Case]) -> list[Hole]:
    found = []
    for hole in holes:
        more = sum(belongs(c, hole) for c in made)
        found.append(replace(hole, have=hole.have + more))
    return found


def origins(cases: Iterable[Case], *, key: str = "made_by") -> Mapping[str, int]:
    """Return how many cases were made in which way; `collected` are those that were not made."""
    return Counter(str(c.provenance.get(key, "collected")) for c in cases)
