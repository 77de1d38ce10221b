"""The splits of a new task: those that its rows tell, else by source. Knows no file.

What a source is, is told without asking: rows of one cluster, and rows that ask (nearly) the same.
A source's place is that of `harness data split`, so that dealing anew there moves few rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.examples import Example
from harness.core.groups import Groups
from harness.core.near import normalised
from harness.core.splits import Row, deal, key_of, kind_of, room, share_of
from harness.core.twins import Pair, Twins, asked_code
from harness.core.wording import wording_of
from harness.engine.data.forms.cases import NEAREST
from harness.errors import UsageError
from harness.records import SPLITS

ALL_DEV = 20
"""Rows below which all are dev: a share of so few would be no evidence at all."""

FEW = 100
"""Rows below which shares are held within one row: by chance alone, dev could be a handful."""


def shares(rows: int) -> tuple[float, float]:
    """Return the shares of dev and test: evidence first, 500 cases each at most.

    Below 500 rows two in five are dev and two in five test, since intervals come from cases; what
    is left is enough for examples in a prompt. Of many rows, most are left to train on.
    """
    size = min(500, max(200, rows // 10))
    share = min(0.4, size / rows)
    return share, share


def first_splits(given: Sequence[Example], *, seed: int, notes: list[str]) -> list[str]:
    """Return the split of each row: its own where the file tells, else as `harness data split`
    deals: by its source's hash, each kind of tags with its shares; rows that are added at the end
    move none. Of a few rows all kinds are within a row (and a source) of their shares.
    """
    own = [NEAREST.get(e.split.strip().lower(), e.split.strip().lower()) for e in given]
    strange = next((e for e, s in zip(given, own, strict=True) if s not in {*SPLITS, ""}), None)
    if strange is not None:
        raise UsageError(
            f"{strange.place}: the split is {strange.split!r}; known are train, dev and test. "
            "If the column says something else, map it: --map split=tags, or split=ignore"
        )
    groups = _groups(given)
    if any(own):
        if "dev" in own:
            return [s or "train" for s in own]
        notes.append("the file has no dev split: two in five of its train sources became dev")
        return [
            s if s == "test" else "dev" if share_of(group, seed=seed) < 0.4 else "train"
            for s, group in zip(own, groups, strict=True)
        ]
    if len(set(groups)) < ALL_DEV:
        notes.append(
            f"{len(set(groups))} sources are too few to hold some back: all are dev, and a release "
            "needs test cases"
        )
        return ["dev"] * len(given)
    dev, test = shares(len(given))
    is_small = len(given) < FEW
    dealt = deal(
        [
            Row(key=key, kind=kind_of(example.tags) or ("all" if is_small else ""))
            for key, example in zip(groups, given, strict=True)
        ],
        {"dev": dev, "test": test},
        seed=seed,
        room=_one_row if is_small else room,
    )
    return [split or "train" for split in dealt]


def _one_row(rows: int) -> float:
    return 1.0


def _groups(given: Sequence[Example]) -> list[str]:
    """Return the key of each row's source: rows of one cluster, and rows that ask the same or
    nearly so, are one, and stand in one split.
    """
    asked = [asked_code(e) for e in given]  # but for case, spacing and closing punctuation
    keys: dict[str, int] = {}
    groups = Groups()
    for number, example in enumerate(given):
        same = f"asked {asked[number]}"
        for key in (same, *([f"of {example.cluster}"] if example.cluster else [])):
            groups.join(keys.setdefault(key, number), number)
    for pair in _near(given):
        groups.join(pair.one, pair.other)
    first = [groups.root(number) for number in range(len(given))]
    return [key_of(asked[n], given[n].cluster) for n in first]


def _near(given: Sequence[Example]) -> list[Pair]:
    wording, twins = wording_of(given[:2000]), Twins()
    for example in given:
        content, context = wording.parts(example)
        twins.add(example, content=normalised(content), context=context)
    for number in sorted(twins.settle()):
        twins.again(number, normalised(wording.parts(given[number])[0]))
    return twins.pairs()
