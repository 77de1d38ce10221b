"""Splits a task or files by source and near-duplicate group. Writes nothing by itself.

Decided here: rows that have a split keep it unless all are dealt anew. A new row follows the group
that it belongs to; one that belongs to groups of two splits is left out and named, for any place
would be a leak. Rows that have a split already and leak are an error.

Memory is flat: some bytes of each row are kept, most of them in a spool.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.core.examples import Example
from harness.core.groups import links_in, roots_of
from harness.core.lints.base import Place, row_of
from harness.core.splits import NUMBERS, Bytes, counts_of, deal_many, key_of, kind_of, order_of
from harness.core.spool import Codes, Column
from harness.core.twins import FEW, NEAR, Twins, asked_code, code
from harness.core.wording import FIRST, Wording, answer_text, wording_of
from harness.engine.data.forms.cases import NEAREST
from harness.engine.data.linting import Rows
from harness.engine.data.spooling import FileSpool
from harness.engine.leaks import near_numbers
from harness.engine.tasks import Task
from harness.errors import UsageError
from harness.records import SPLITS, Split

By = Literal["tag", "answer", "none"]
NAMED = 1000
"""Rows that are left out, and groups that leak, that are named; all are counted."""
SHOWN = 100
"""Rows that are named of a group."""
MOST_STRATA = 20_000
"""Kinds of tags or answers from which on they are no kinds: all rows are one."""
STRANGE = len(SPLITS) + 1
"""The number of a split that is none of ours."""

Indices = npt.NDArray[np.uint32]
Strata = npt.NDArray[np.uint16]
Pairs = set[tuple[int, int]]
"""Rows by number, the earlier first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Which split each row has. `rows` counts rows by split, `strata` by stratum and split.
    `moved` rows had another split; `left_out_rows` would leak wherever they stood;
    `leaking_groups` have rows in several splits, `old_leaks` of them without a new row. Of both,
    the first are named in `left_out` and `leaks`. `too_many`: there were too many kinds of tags or
    answers to give each its share.
    """

    numbers: bytes = field(repr=False)
    rows: dict[str, int]
    strata: dict[str, dict[str, int]]
    groups: int
    near: int
    new: int
    moved: int
    left_out_rows: int = 0
    leaking_groups: int = 0
    old_leaks: int = 0
    too_many: bool = False
    left_out: tuple[Place, ...] = ()
    leaks: tuple[tuple[Place, ...], ...] = ()

    @property
    def splits(self) -> tuple[Split | None, ...]:
        """The split of each row; None: left out."""
        return tuple(SPLITS[n - 1] if n else None for n in self.numbers)


class Earlier:
    """The splits of an earlier deal, by the code of what is asked."""

    def __init__(self, codes: Codes, splits: Bytes) -> None:
        # of rows that ask the same, the last one's
        codes, firsts = np.unique(codes[::-1], return_index=True)
        self._codes, self._splits = codes, splits[::-1][firsts]

    def __len__(self) -> int:
        return len(self._codes)

    def of(self, asked: Codes) -> Bytes:
        """Return the numbers of the splits that rows had, 0 for none."""
        if not len(self._codes):
            return np.zeros(len(asked), dtype=np.uint8)
        at = np.minimum(np.searchsorted(self._codes, asked), len(self._codes) - 1)
        return np.where(self._codes[at] == asked, self._splits[at], 0).astype(np.uint8)


def splits_of(rows: Iterable[Example]) -> Earlier:
    """Return the splits that rows have."""
    codes, splits = Column(FileSpool()), array("B")
    for example in rows:
        if example.split in SPLITS:
            codes.append(asked_code(example))
            splits.append(NUMBERS[example.split])
    return Earlier(codes.all(), np.frombuffer(splits.tobytes(), dtype=np.uint8))


def split_rows(
    sources: Sequence[Rows],
    *,
    dev: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    anew: bool = False,
    by: By = "tag",
    near: float | None = NEAR,
    earlier: Earlier | None = None,
    missed: Callable[[Splits], Pairs] | None = None,
) -> Splits:
    """Return the split of every row of `sources`. Raises UsageError for shares that do not fit.

    `earlier` tells the splits of an earlier deal: rows that have no split of their own keep those.
    `missed` tells the near rows that a deal parts, for sketches miss some: it is dealt again then.
    """
    also: Pairs = set()
    while True:
        found = _dealt(
            sources, dev=dev, test=test, seed=seed, anew=anew, by=by, near=near, earlier=earlier,
            also=also,
        )  # fmt: skip
        more = missed(found) - also if missed is not None else set()
        if not more:
            return found
        also |= more


def missed_of(task: Task, *, near: float) -> Callable[[Splits], Pairs]:
    """Return what finds the near cases that a deal of `task` parts, every pair of them compared."""

    def missed(found: Splits) -> Pairs:
        if len(task.cases) <= FEW:
            return set()
        dealt = [(n, split) for n, split in enumerate(found.splits) if split]
        numbers = [n for n, _ in dealt]
        cases = tuple(replace(task.cases[n], split=split) for n, split in dealt)
        pairs = near_numbers(replace(task, cases=cases), least=near)
        return {(numbers[one], numbers[other]) for one, other in pairs}

    return missed


def _dealt(
    sources: Sequence[Rows],
    *,
    dev: float,
    test: float,
    seed: int,
    anew: bool,
    by: By,
    near: float | None,
    earlier: Earlier | None,
    also: Pairs,
) -> Splits:
    if dev < 0 or test < 0 or dev + test >= 1:
        raise UsageError(f"--dev {dev:g} and --test {test:g} leave nothing to train on")
    seen = _Seen(by=by, near=near, seed=seed, also=also)
    seen.look(sources)
    had = np.frombuffer(seen.own.tobytes(), dtype=np.uint8)
    kept = np.where(had == STRANGE, 0, had).astype(np.uint8)
    if earlier is not None:
        for part, asked in _parts(seen.twins.asked):
            kept[part] = np.where(kept[part] == 0, earlier.of(asked), kept[part])
    if anew:
        kept = np.zeros_like(had)
    else:
        had = kept
    groups = _groups(seen)
    names, stratum = seen.strata()
    bits = np.zeros(groups.total, dtype=np.uint8)
    is_kept = kept > 0
    np.bitwise_or.at(bits, groups.of[is_kept], np.left_shift(np.uint8(1), kept[is_kept]))
    dealt = deal_many(
        groups.order,
        groups.of,
        kind=stratum,
        kept=bits,
        shares={"dev": dev, "test": test},
        drawn=names.index("") if "" in names else None,
    )
    found = np.where(is_kept, kept, dealt[groups.of]).astype(np.uint8)
    is_old = np.ones(groups.total, dtype=np.bool_)
    is_old[groups.of[~is_kept]] = False
    was_ours = (had > 0) & (had != STRANGE)
    left_out, leaks = _named(sources, groups, found=found, kept=kept, dealt=dealt)
    return Splits(
        numbers=found.tobytes(),
        rows={s: int(np.count_nonzero(found == NUMBERS[s])) for s in SPLITS},
        strata=_counts(names, stratum, found),
        groups=groups.total,
        near=groups.near,
        new=int(np.count_nonzero(had == 0)),
        moved=int(np.count_nonzero(was_ours & (found > 0) & (had != found))),
        left_out_rows=int(np.count_nonzero(found == 0)),
        leaking_groups=int(np.count_nonzero(dealt == 0)),
        old_leaks=int(np.count_nonzero((dealt == 0) & is_old)),
        too_many=seen.names is None,
        left_out=left_out,
        leaks=leaks,
    )


class _Seen:
    """What is kept of each row."""

    def __init__(self, *, by: By, near: float | None, seed: int, also: Pairs) -> None:
        self._by, self.seed = by, seed
        self.twins = Twins(near=near, spools=FileSpool, also=also)
        self.own = array("B")
        """The number of each row's split."""
        self.clusters, self._strata = Column(FileSpool()), Column(FileSpool())
        self.names: dict[int, str] | None = {}
        """Strata by code; None where there were too many."""

    def look(self, sources: Sequence[Rows]) -> None:
        """Look at every row, and again at those that may be near another."""
        wording: Wording | None = None
        for number, example in enumerate(_examples(sources)):
            wording = wording or wording_of(islice(_examples(sources), FIRST))
            row = row_of(number, example, wording)
            self.twins.add(example, content=row.content, context=row.context)
            self.own.append(NUMBERS.get(NEAREST.get(example.split, example.split), STRANGE))
            self.clusters.append(self._of_cluster(example.cluster))
            if self.names is not None:
                text = _stratum(example, self._by)
                name = code(text)
                self._strata.append(name)
                self.names[name] = text
                if len(self.names) > MOST_STRATA:
                    self.names = None
        marks = self.twins.settle()
        if marks and wording is not None:
            for number, example in _marked(sources, marks.mask):
                self.twins.again(number, row_of(number, example, wording).content)

    def _of_cluster(self, cluster: str) -> int:
        """Return where a source's group stands in the deal: that tells sources apart, too."""
        return order_of(key_of(0, cluster), seed=self.seed) or 1 if cluster else 0

    def strata(self) -> tuple[list[str], Strata]:
        """Return the names of the strata, in order, and which one each row is of."""
        found = np.zeros(len(self.twins), dtype=np.uint16)
        if self.names is None:
            return [""], found
        names = sorted(self.names, key=self.names.__getitem__)
        codes = np.asarray(names, dtype=np.uint64)
        by_code = np.argsort(codes)
        codes = codes[by_code]
        for part, mine in _parts(self._strata):
            found[part] = by_code[np.searchsorted(codes, mine)]
        return [self.names[n] for n in names], found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """The group of each row, by number, and where each stands in the deal. `near` pairs joined."""

    of: Indices
    order: Codes
    near: int

    @property
    def total(self) -> int:
        return len(self.order)


def _groups(seen: _Seen) -> _Groups:
    asked, clusters, near = seen.twins.asked, seen.clusters, seen.twins.links()
    roots = roots_of(len(asked), chain(links_in(clusters), links_in(asked), [near]))
    is_root = roots == np.arange(len(roots), dtype=np.uint32)
    number = np.cumsum(is_root, dtype=np.uint32)
    number -= 1
    of = number[roots]
    del roots, number
    # a group stands where its first row does: whatever joins it later, it stays there
    order = np.empty(np.count_nonzero(is_root), dtype=np.uint64)
    at = 0
    for (part, sources), ask in zip(_parts(clusters), asked.parts(), strict=True):
        first = np.flatnonzero(is_root[part])
        mine = [
            stands or order_of(key_of(it, ""), seed=seen.seed)
            for stands, it in zip(sources[first].tolist(), ask[first].tolist(), strict=True)
        ]
        order[at : at + len(mine)] = mine
        at += len(mine)
    return _Groups(of=of, order=order, near=len(near[0]))


def _parts(column: Column) -> Iterator[tuple[slice, Codes]]:
    """Yield a column a part at a time, with where it is."""
    at = 0
    for part in column.parts():
        yield slice(at, at + len(part)), part
        at += len(part)


def _counts(names: Sequence[str], stratum: Strata, found: Bytes) -> dict[str, dict[str, int]]:
    """Return the rows of each stratum and split."""
    told = counts_of(stratum, found, kinds=len(names))[:, 1:].tolist()
    return {n: dict(zip(SPLITS, row, strict=True)) for n, row in zip(names, told, strict=True)
            if any(row)}  # fmt: skip


def _named(
    sources: Sequence[Rows], groups: _Groups, *, found: Bytes, kept: Bytes, dealt: Bytes
) -> tuple[tuple[Place, ...], tuple[tuple[Place, ...], ...]]:
    """Return the first rows that are left out, and the first groups that leak."""
    left_out = np.flatnonzero(found == 0)[:NAMED].tolist()
    leaking = []
    is_leaking = dealt == 0
    is_leaking[np.flatnonzero(is_leaking)[NAMED:]] = False
    members = np.flatnonzero(is_leaking[groups.of])
    members = members[np.argsort(groups.of[members], kind="stable")]
    ends = np.flatnonzero(np.diff(groups.of[members])) + 1
    for rows in np.split(members, ends) if len(members) else ():
        firsts = np.unique(kept[rows], return_index=True)[1]  # one of each split comes first
        rest = np.delete(rows, firsts)[: SHOWN - len(firsts)]
        leaking.append([*rows[np.sort(firsts)].tolist(), *rest.tolist()])
    mask = np.zeros(len(found), dtype=np.bool_)
    mask[[*left_out, *chain.from_iterable(leaking)]] = True
    places = {n: Place(e.id, e.place) for n, e in _marked(sources, mask)}
    told = tuple(
        tuple(places[n].told(SPLITS[kept[n] - 1] if kept[n] else "new") for n in rows)
        for rows in leaking
    )
    return tuple(places[n] for n in left_out), told


def _stratum(example: Example, by: By) -> str:
    if by == "tag":
        return kind_of(example.tags)
    if by == "answer":
        return (answer_text(example) or "")[:80]
    return ""


def _examples(sources: Sequence[Rows]) -> Iterator[Example]:
    return chain.from_iterable(source.open() for source in sources)


def _marked(sources: Sequence[Rows], mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Example]]:
    """Yield the rows that are marked, with their numbers; nothing is read where none is."""
    last = int(np.flatnonzero(mask)[-1]) if mask.any() else -1
    for number, example in enumerate(_examples(sources)) if last >= 0 else ():
        if mask[number]:
            yield number, example
        if number >= last:
            return


def with_splits(sources: Sequence[Rows], splits: Splits) -> Iterator[Example]:
    """Yield the rows again, each with its split; those that are left out are not."""
    for example, number in zip(_examples(sources), splits.numbers, strict=True):
        if number:
            split = SPLITS[number - 1]
            yield replace(example, split=split) if example.split != split else example
