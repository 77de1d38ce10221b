"""What is asked about and how: cases, their splits, prompts. Knows no reply."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from harness.plain import Json, digest

Split = Literal["train", "dev", "test"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

FAMILIES = (
    "zero-shot",
    "instructions",
    "few-shot",
    "dynamic-few-shot",
    "chain-of-thought",
    "rag",
    "constrained",
    "optimised",
)


@lru_cache(maxsize=4096)
def _image_digest(url: str) -> str:
    """A case is identified many times in a run; its megabytes are read once."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


class _Remembers:
    """Room for what is found out once of a record, and is no part of it."""

    __slots__ = ("_inputs_digest",)
    _inputs_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(_Remembers):
    """One input with, where known, a reference answer.

    `reference` is text or a JSON value; `cluster` names the source that the case shares with
    others (the statistics draw clusters, not cases). `line` is where it stands, as `file:line`.
    `images` are `data:` URLs; `checks` are checks of its own, `{"name": ..., "arguments": {...}}`;
    `documents` name what it needs to be answered: it measures retrieval, and scores no reply.
    `also_right` are further texts that are as right as the reference: evals may read them.
    `rejected` is a worse reply than the reference: together they are a preference to train on.
    `provenance` says how a case was made, empty for one that was collected; no score reads it.
    """

    id: str
    inputs: Mapping[str, Json]
    split: Split
    reference: Json = None
    cluster: str = ""
    tags: tuple[str, ...] = ()
    line: str = ""
    images: tuple[str, ...] = ()
    checks: tuple[Json, ...] = ()
    documents: tuple[str, ...] = ()
    rejected: Json = None
    provenance: Mapping[str, Json] = field(default_factory=dict)
    also_right: tuple[str, ...] = ()

    @property
    def inputs_digest(self) -> str:
        """Identity of what the model is asked about: the inputs and images alone."""
        if not hasattr(self, "_inputs_digest"):  # asked for several times a run
            images = [_image_digest(image) for image in self.images]
            what = [dict(self.inputs), images] if images else dict(self.inputs)
            object.__setattr__(self, "_inputs_digest", digest(what))
        return self._inputs_digest

    @property
    def digest(self) -> str:
        """Identity of all that a score may depend on: inputs, right answers and own checks."""
        further = [self.also_right] if self.also_right else []
        return digest([self.inputs_digest, self.reference, self.checks, *further])

    @property
    def reference_text(self) -> str | None:
        """The reference as a reply would say it: text as it is, any other value as compact JSON."""
        return _as_reply(self.reference)

    @property
    def rejected_text(self) -> str | None:
        """The worse reply as a reply would say it."""
        return _as_reply(self.rejected)


def _as_reply(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A template with a family. `sections` are (role, Jinja source); role `examples` marks where
    example cases are laid out, each as the user section and its reference.

    `shots` examples are drawn from train: by `seed` for every case alike, or, where `retrieve`
    is true, the nearest to the case that is asked, among the rows without the tag `without` (where
    it names one). `schema` constrains the reply; `tools` are what
    the model may call, in OpenAI's shape. `documents` of the task's passages, the nearest to the
    case, fill the variable of that name. Evals see what follows the last `answer_after` of a
    reply, or what its JSON object holds at `answer_key`; `decoding` differs from the task's.
    """

    name: str
    family: str
    sections: tuple[tuple[str, str], ...]
    shots: int = 0
    retrieve: bool = False
    seed: int = 0
    schema: Json = None
    path: str = ""
    tools: tuple[Json, ...] = ()
    documents: int = 0
    answer_after: str = ""
    answer_key: str = ""
    decoding: Mapping[str, Json] = field(default_factory=dict)
    without: str = ""

    @property
    def digest(self) -> str:
        """Identity of the template: everything but its name, family and place."""
        parts = [self.sections, self.shots, self.retrieve, self.seed, self.schema]
        later: list[Json] = [self.tools] if self.tools else []  # older digests stand
        later += [{"documents": self.documents}] if self.documents else []
        answer = {"answer_after": self.answer_after, "answer_key": self.answer_key}
        later += [{k: v for k, v in answer.items() if v}] if any(answer.values()) else []
        later += [{"without": self.without}] if self.without else []
        return digest([*parts, *later])
