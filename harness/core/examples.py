"""One row of data in no format's shape: what is converted, linted, split, made and curated.

Knows no file. A format reads its rows into examples and writes them back; a case of a task and a
training row are examples too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.records import Json, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """What is asked, and what is answered.

    Asked: `inputs` by name (a table's columns, a case's inputs), or `messages`, the turns before
    the answer; `images` are `data:` URLs or paths. Answered: `reference` (text or a JSON value;
    None: nobody knows), or `calls`, tool calls as OpenAI writes them, perhaps both. `rejected` is a
    worse answer, `is_good` a thumb up or down on the reference. `place` is `file:line`, for people.

    `provenance` says how a row was made: `{"made_by": "paraphrase", "from": "c12", "model": ...}`,
    empty for one that was collected. `other` is what the row held besides, by its own names.
    `pictured` are the inputs that only name the images: under another name they ask the same.
    """

    place: str
    id: str = ""
    inputs: Mapping[str, Json] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    images: tuple[str, ...] = ()
    reference: Json = None
    calls: tuple[Json, ...] = ()
    rejected: Json = None
    is_good: bool | None = None
    tools: tuple[Json, ...] = ()
    split: str = ""
    cluster: str = ""
    tags: tuple[str, ...] = ()
    provenance: Mapping[str, Json] = field(default_factory=dict)
    other: Mapping[str, Json] = field(default_factory=dict)
    pictured: tuple[str, ...] = ()
