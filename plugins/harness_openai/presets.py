"""Where a server is and what it obeys: addresses, and the entries of `presets.toml`.

Knows nothing of requests or keys.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness_http.addresses import parse_place

from harness import UsageError

FILE = Path(__file__).with_name("presets.toml")
OPENAI = "https://api.openai.com/v1"
KNOWN_TOKENS = frozenset({"", "llama.cpp", "vllm"})
KNOWN_ABILITIES = frozenset({"schema", "seed", "tools", "stop", "logprobs", "images"})
_CHAT = "/chat/completions"
_DEPLOYMENT = re.compile(r"/deployments/[^/]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server. `base` is shown to people; `chat` is what requests are posted to."""

    base: str
    chat: str
    host: str
    port: int
    is_private: bool
    is_encrypted: bool
    preset: str | None = None

    def at(self, path: str) -> str:
        """Return the address of `path` beside `chat`, as `/models`, the query kept."""
        parts = urlsplit(self.base)
        path, _, asked = path.partition("?")
        query = "&".join(filter(None, (asked, parts.query)))
        # files and batches are no part of a deployment, as Azure's older addresses name one
        root = _DEPLOYMENT.sub("", parts.path)
        return urlunsplit(parts._replace(path=root + path, query=query))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How one kind of server wants to be asked, and what it obeys; see `presets.toml`."""

    name: str
    honours: frozenset[str]
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    key_env: str = "OPENAI_API_KEY"
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    needs_key: bool = False
    token_limit: str = "max_tokens"  # noqa: S105 - of a field, and no secret
    body: Mapping[str, Any] = field(default_factory=dict)
    sampled_body: Mapping[str, Any] = field(default_factory=dict)
    min_top_logprobs: int = 0
    batch: bool = False
    batch_price: float = 1.0
    tokens: str = ""
    checked: str = ""


def parse_address(text: str) -> Address:
    """Return the address that `text` names. Raises UsageError, never repeating a credential."""
    place = parse_place(
        text,
        example="http://localhost:8000/v1",
        ending=_CHAT,
        queries=frozenset({"api-version"}),
    )
    parts = urlsplit(place.base)
    return Address(
        base=place.base,
        chat=urlunsplit(parts._replace(path=parts.path + _CHAT)),
        host=place.host,
        port=place.port,
        is_private=place.is_private,
        is_encrypted=place.is_encrypted,
        preset=place.fragment,
    )


@cache
def load_presets(path: Path = FILE) -> Mapping[str, Preset]:
    """Return the entries of `path` by name. Raises UsageError naming file and entry."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    if "default" not in tables:
        raise UsageError(f"{path}: no [default] entry")
    return {name: _preset(name, table, path) for name, table in tables.items()}


def _preset(name: str, table: object, path: Path) -> Preset:
    known = {f.name for f in dataclasses.fields(Preset)} - {"name"}
    if not isinstance(table, dict) or set(table) - known:
        wrong = sorted(set(table) - known) if isinstance(table, dict) else [repr(table)]
        raise UsageError(f"{path}: [{name}] has {wrong}; an entry may hold {sorted(known)}")
    honours = frozenset(table.get("honours", ()))
    if honours - KNOWN_ABILITIES:
        raise UsageError(
            f"{path}: [{name}] honours {sorted(honours - KNOWN_ABILITIES)}; "
            f"known are {sorted(KNOWN_ABILITIES)}"
        )
    if table.get("tokens", "") not in KNOWN_TOKENS:
        raise UsageError(
            f"{path}: [{name}] tokens = {table['tokens']!r}; known are {sorted(KNOWN_TOKENS)}"
        )
    lists = {k: tuple(v) for k, v in table.items() if k in ("hosts", "ports")}
    return Preset(**{**table, **lists, "honours": honours, "name": name})


def choose_preset(
    address: Address, *, name: str | None = None, presets: Mapping[str, Preset] | None = None
) -> Preset:
    """Return the preset called `name` (or by the address's fragment), else the first that fits.

    Raises UsageError listing the known names.
    """
    presets = load_presets() if presets is None else presets
    asked = name or address.preset
    if asked:
        if asked not in presets:
            known = ", ".join(presets)
            raise UsageError(f"no preset {asked!r} of OpenAI-compatible servers. Known: {known}.")
        return presets[asked]
    for preset in presets.values():
        if any(fnmatchcase(address.host.lower(), pattern) for pattern in preset.hosts):
            return preset
        if address.is_private and address.port in preset.ports:
            return preset
    return presets["default"]
