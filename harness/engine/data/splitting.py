"""Splits a task or files by source and near-duplicate group. Writes nothing by itself.

Decided here: rows that have a split keep it unless all are dealt anew. A new row follows the group
that it belongs to; one that belongs to groups of two splits is left out and named, for any place
would be a leak. Rows that have a split already and leak are an error.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Literal

from harness.core.examples import Example
from harness.core.groups import Groups
from harness.core.lints.base import Place, row_of
from harness.core.splits import Group, deal, key_of
from harness.core.twins import NEAR, Twins, asked_code, code, repeated
from harness.core.wording import FIRST, Wording, answer_text, wording_of
from harness.engine.data.linting import Rows
from harness.errors import UsageError
from harness.records import SPLITS, Split

By = Literal["tag", "answer", "none"]
NAMED = 1000
_NONE: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Which split each row has, by number; None: left out. `rows` counts rows by split,
    `strata` by stratum and split. `moved` rows had another split; `left_out` would leak wherever
    they stood; `leaks` are groups whose rows stand in several splits already.
    """

    splits: tuple[Split | None, ...] = field(repr=False)
    rows: dict[str, int]
    strata: dict[str, dict[str, int]]
    groups: int
    near: int
    new: int
    moved: int
    left_out: tuple[Place, ...] = ()
    leaks: tuple[tuple[Place, ...], ...] = ()


def split_rows(
    sources: Sequence[Rows],
    *,
    dev: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    anew: bool = False,
    by: By = "tag",
    near: float | None = NEAR,
    earlier: Mapping[int, str] = _NONE,
) -> Splits:
    """Return the split of every row of `sources`. Raises UsageError for shares that do not fit.

    `earlier` tells the splits of an earlier deal, by the code of what is asked: rows that have no
    split of their own keep those.
    """
    if dev < 0 or test < 0 or dev + test >= 1:
        raise UsageError(f"--dev {dev:g} and --test {test:g} leave nothing to train on")
    twins = Twins(near=near)
    joined = Groups()
    places: list[Place] = []
    kept: list[str] = []
    strata: list[str] = []
    keys: list[int] = []
    clusters: list[str] = []
    sources_seen: dict[int, int] = {}
    wording: Wording | None = None
    for number, example in _numbered(sources):
        wording = wording or wording_of(islice(_examples(sources), FIRST))
        row = row_of(number, example, wording)
        asked = twins.add(example, content=row.content, context=row.context)
        places.append(row.place)
        own = example.split if example.split in SPLITS else earlier.get(asked, "")
        kept.append("" if anew else own)
        strata.append(_stratum(example, by))
        keys.append(asked)
        clusters.append(example.cluster)
        if example.cluster:
            first = sources_seen.setdefault(code(example.cluster), number)
            joined.join(first, number)
    again = twins.settle()
    for group in repeated(twins.asked):
        for other in group[1:]:
            joined.join(int(group[0]), int(other))
    if again and wording is not None:
        for number, example in _numbered(sources):
            if number in again:
                twins.again(number, row_of(number, example, wording).content)
    pairs = twins.pairs()
    for pair in pairs:
        joined.join(pair.one, pair.other)
    members: dict[int, list[int]] = defaultdict(list)
    for number in range(len(places)):
        members[joined.root(number)].append(number)
    ordered = [members[root] for root in sorted(members)]
    dealt = deal(
        [_group(m, keys, clusters, strata=strata, kept=kept) for m in ordered],
        {"dev": dev, "test": test},
        seed=seed,
    )
    return _splits(ordered, dealt, places=places, kept=kept, strata=strata, near=len(pairs),
                   before=[e.split for e in _examples(sources)] if anew else kept)  # fmt: skip


def splits_of(rows: Iterable[Example]) -> dict[int, str]:
    """Return the splits that rows have, by the code of what they ask."""
    return {asked_code(e): e.split for e in rows if e.split in SPLITS}


def _group(
    members: Sequence[int],
    keys: Sequence[int],
    clusters: Sequence[str],
    *,
    strata: Sequence[str],
    kept: Sequence[str],
) -> Group:
    """Return a group; its stratum is that of most of its rows."""
    return Group(
        key=key_of([keys[n] for n in members], [c for n in members if (c := clusters[n])]),
        rows=len(members),
        stratum=min(Counter(strata[n] for n in members).most_common(), key=lambda x: (-x[1], x[0]))[
            0
        ],
        kept=frozenset(kept[n] for n in members if kept[n]),
    )


def _splits(
    ordered: Sequence[Sequence[int]],
    dealt: Sequence[Split | None],
    *,
    places: Sequence[Place],
    kept: Sequence[str],
    strata: Sequence[str],
    near: int,
    before: Sequence[str],
) -> Splits:
    found: list[Split | None] = [None] * len(places)
    left_out: list[Place] = []
    leaks: list[tuple[Place, ...]] = []
    for members, split in zip(ordered, dealt, strict=True):
        for number in members:
            own = next((s for s in SPLITS if s == kept[number]), None)
            found[number] = own or split
            if found[number] is None:
                left_out.append(places[number])
        if split is None:
            leaks.append(tuple(places[n].told(kept[n] or "new") for n in members))
    counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    for number, one in enumerate(found):
        if one is not None:
            counts[strata[number]][one] += 1
    return Splits(
        splits=tuple(found),
        rows={s: sum(one == s for one in found) for s in SPLITS},
        strata=dict(sorted(counts.items())),
        groups=len(ordered),
        near=near,
        new=sum(not one for one in before),
        moved=sum(
            b in SPLITS and a is not None and a != b for a, b in zip(found, before, strict=True)
        ),
        left_out=tuple(left_out),
        leaks=tuple(leaks[:NAMED]),
    )


def _stratum(example: Example, by: By) -> str:
    if by == "tag":
        return ", ".join(sorted(example.tags))
    if by == "answer":
        return (answer_text(example) or "")[:80]
    return ""


def _examples(sources: Sequence[Rows]) -> Iterator[Example]:
    return chain.from_iterable(source.open() for source in sources)


def _numbered(sources: Sequence[Rows]) -> Iterator[tuple[int, Example]]:
    return enumerate(_examples(sources))


def with_splits(sources: Sequence[Rows], splits: Splits) -> Iterator[Example]:
    """Yield the rows again, each with its split; those that are left out are not."""
    for number, example in _numbered(sources):
        split = splits.splits[number]
        if split is not None:
            yield replace(example, split=split) if example.split != split else example
