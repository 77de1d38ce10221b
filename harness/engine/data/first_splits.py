"""The splits of a new task: those that its rows tell, else by source. Knows no file.

What a source is, is told without asking: rows of one cluster, and rows that ask (nearly) the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.core.examples import Example
from harness.core.groups import Groups
from harness.core.near import normalised
from harness.core.twins import Pair, Twins, asked_code
from harness.core.wording import wording_of
from harness.engine.data.forms.cases import NEAREST
from harness.errors import UsageError
from harness.records import SPLITS, canonical_json

ALL_DEV = 20
"""Rows below which all are dev: a share of so few would be no evidence at all."""


def shares(rows: int) -> tuple[float, float]:
    """Return the shares of dev and test: evidence first, 500 cases each at most.

    Below 500 rows two in five are dev and two in five test, since intervals come from cases; what
    is left is enough for examples in a prompt. Of many rows, most are left to train on.
    """
    size = min(500, max(200, rows // 10))
    share = min(0.4, size / rows)
    return share, share


def first_splits(given: Sequence[Example], *, seed: int, notes: list[str]) -> list[str]:
    """Return the split of each row: its own where the file tells, else by its source's hash."""
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
            s if s == "test" else "dev" if _draw(group, seed) < 0.4 else "train"
            for s, group in zip(own, groups, strict=True)
        ]
    if len(set(groups)) < ALL_DEV:
        notes.append(
            f"{len(set(groups))} sources are too few to hold some back: all are dev, and a release "
            "needs test cases"
        )
        return ["dev"] * len(given)
    dev, test = shares(len(given))
    return [_split_of(_draw(group, seed), dev=dev, test=test) for group in groups]


def _split_of(draw: float, *, dev: float, test: float) -> str:
    return "dev" if draw < dev else "test" if draw < dev + test else "train"


def _groups(given: Sequence[Example]) -> list[str]:
    """Return the source of each row: rows of one cluster, and rows that ask the same or nearly so,
    are one, and stand in one split.
    """
    asked = [canonical_json(dict(e.inputs)) for e in given]
    keys: dict[str, int] = {}
    groups = Groups()
    for number, example in enumerate(given):
        same = f"asked {asked_code(example)}"  # but for case, spacing and closing punctuation
        for key in (same, *([f"of {example.cluster}"] if example.cluster else [])):
            groups.join(keys.setdefault(key, number), number)
    for pair in _near(given):
        groups.join(pair.one, pair.other)
    # the first row's own words name a group, so that its split stays when rows are added behind it
    roots = [groups.root(number) for number in range(len(given))]
    return [given[root].cluster or asked[root] for root in roots]


def _near(given: Sequence[Example]) -> list[Pair]:
    wording, twins = wording_of(given[:2000]), Twins()
    for example in given:
        content, context = wording.parts(example)
        twins.add(example, content=normalised(content), context=context)
    for number in sorted(twins.settle()):
        twins.again(number, normalised(wording.parts(given[number])[0]))
    return twins.pairs()


def _draw(group: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the source and the seed alone."""
    code = hashlib.sha256(f"{seed} {group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(code[:8]) / 2**64
