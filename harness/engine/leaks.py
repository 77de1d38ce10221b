"""Training rows that stand in dev or test too, in the same words or nearly. Knows no tuner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from harness.core.near import near_pairs, normalised, plain_text
from harness.core.wording import FIRST, wording_of
from harness.engine.data.forms.cases import of_case
from harness.engine.tasks import Task
from harness.errors import TaskError
from harness.records import Case, Split

NEAR = 0.8
NOTHING: tuple[str, tuple[str, ...]] = ("", ())
"""Cases that ask nothing in words or images are alike in nothing."""
Kind = Literal["the same input", "the same input in other letters", "the same source", "near"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A training case and a held-out one that tell of each other. `similarity` is 1 for equals."""

    case: Case
    other: Case
    kind: Kind
    similarity: float = 1.0

    @property
    def text(self) -> str:
        """Both, by name and place."""
        said = {
            "the same input": "the inputs of {0!r} stand in train and at {1} ({2})",
            "the same input in other letters": "the inputs of {0!r}, but for case, spacing, "
            "punctuation or the names of pictures, stand in train and at {1} ({2})",
            "the same source": "the source {3!r} of {0!r} is in train and at {1} ({2})",
            "near": "the inputs of {0!r} are nearly those at {1} ({2}): {4:.0%} of their word "
            "sequences are the same",
        }[self.kind]
        place, cluster = self.other.line or self.other.id, self.case.cluster
        told = said.format(self.case.id, place, self.other.split, cluster, self.similarity)
        return f"{self.case.line or self.case.id}: {told}"


def leaked_inputs(task: Task) -> list[tuple[Case, Case]]:
    """Return (train case, other case) for every train input that also stands in dev or test."""
    held_out = {c.inputs_digest: c for c in task.cases if c.split != "train"}
    return [
        (case, held_out[case.inputs_digest])
        for case in task.split("train")
        if case.inputs_digest in held_out
    ]


def find_leaks(task: Task, *, near: float | None = NEAR) -> list[Leak]:
    """Return one leak at most for each training case, the plainest kind of it first.

    `near` is the Jaccard similarity of word shingles from which two inputs are nearly the same;
    None looks for no such pairs. As in `harness data lint`, inputs that recur from case to case
    (a table's columns, a passage) must be equal and do not count. Images are told apart by their
    bytes alone.
    """
    train = task.split("train")
    held_out = [c for c in task.cases if c.split != "train"]
    found = {
        case.id: Leak(case=case, other=other, kind="the same input")
        for case, other in leaked_inputs(task)
    }
    same = {words: c for c, words in zip(held_out, _asked(task, held_out), strict=True)}
    for case, words in zip(train, _asked(task, train), strict=True):
        other = same.get(words)
        if words != NOTHING and other is not None:
            kind: Kind = "the same input in other letters"
            found.setdefault(case.id, Leak(case=case, other=other, kind=kind))
    clusters = {c.cluster: c for c in held_out if c.cluster}
    for case in train:
        if case.cluster in clusters:
            leak = Leak(case=case, other=clusters[case.cluster], kind="the same source")
            found.setdefault(case.id, leak)
    if near is not None:
        of_task = wording_of(map(of_case, islice(task.cases, FIRST)))
        ours, theirs = ([of_task.parts(of_case(c)) for c in cases] for cases in (train, held_out))
        texts = [[normalised(own) for own, _ in parts] for parts in (ours, theirs)]
        for pair in near_pairs(*texts, least=near):
            case, other = train[pair.index], held_out[pair.other]
            is_beside_the_same = ours[pair.index][1] == theirs[pair.other][1]
            if is_beside_the_same and case.images == other.images:
                leak = Leak(case=case, other=other, kind="near", similarity=pair.similarity)
                found.setdefault(case.id, leak)
    return [found[c.id] for c in train if c.id in found]


def refuse_leaks(task: Task, split: Split) -> None:
    """Raise TaskError where a case of `split` is asked in the same words in another split.

    No number may rest on such a case: examples, prompts or a training have seen it. Sources that
    two splits share, and inputs that are nearly the same, stop a training (`find_leaks`); here
    they are told by `harness data lint`.
    """
    held = task.split(split)
    others = [c for c in task.cases if c.split != split]
    seen = {words: c for c, words in zip(others, _asked(task, others), strict=True)}
    pairs = [
        (case, seen[words])
        for case, words in zip(held, _asked(task, held), strict=True)
        if words != NOTHING and words in seen
    ]
    if pairs:
        case, other = pairs[0]
        raise TaskError(
            f"{case.line or case.id}: the inputs of {case.id!r} ({split}) stand in {other.split} "
            f"too, at {other.line or other.id}; {len(pairs)} such case(s), and no number can rest "
            f"on them. Remove one of each (harness data lint {task.name} lists them), or deal the "
            f"splits anew: harness data split {task.name} --all --out FILE"
        )


def _asked(task: Task, cases: Sequence[Case]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the words and the images of each case: a picture is the same under another name."""
    names = set(task.settings.images)
    return [
        (normalised(plain_text({k: v for k, v in c.inputs.items() if k not in names})), c.images)
        for c in cases
    ]
