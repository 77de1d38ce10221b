"""What makers of variants and servers of artifacts are given, and give. Knows no artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.records import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantJob:
    """What a maker of variants is given: `base` is the model name after the scheme, `artifact` the
    folder of the tuned artifact. Files go to `out_dir` and nowhere else; `options` are the task's
    `[backends."SCHEME:MODEL"]`.
    """

    base: str
    artifact: Path
    out_dir: Path
    cache_dir: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantResult:
    """What a maker of variants wrote. `template_digest` is that of the chat template in it,
    `metrics` are numbers for the report, `notes` lines for a person.
    """

    template_digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeJob:
    """What a server is to be started for: the files of an artifact in `folder`, to answer as `name`
    at 127.0.0.1 and `port`. `base` is the model name after the scheme. `context` is how many tokens
    a prompt and its reply may have, None where the model's own limit holds; `slots` how many
    requests are answered at once, where the server wants to know.
    """

    name: str
    folder: Path
    base: str
    port: int
    context: int | None = None
    slots: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """How a server is started. It, or what it starts, must listen at 127.0.0.1 alone, and end when
    it is told to.

    `model` is what the server calls what it serves; `preset` the kind of server, as it stands at
    the end of a base URL; `health` answers 200 once requests are. `links` are made in the folder
    that it is started in, for servers that name a model by its path. `notes` are lines for a
    person.
    """

    argv: tuple[str, ...]
    model: str
    preset: str
    health: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


VariantMaker = Callable[[VariantJob], VariantResult]


ServerMaker = Callable[[ServeJob], ServerCommand]
