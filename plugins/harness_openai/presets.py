"""Where a server is and what it obeys: addresses, and the entries of `presets.toml`.

Knows nothing of requests or keys.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx

from harness import UsageError

FILE = Path(__file__).with_name("presets.toml")
OPENAI = "https://api.openai.com/v1"
KNOWN_ABILITIES = frozenset({"schema", "seed", "tools", "stop", "logprobs"})
_CHAT = "/chat/completions"
# names without a dot or with one of these endings are given out by a private network
_PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


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
    checked: str = ""


def parse_address(text: str) -> Address:
    """Return the address that `text` names. Raises UsageError, never repeating a credential."""
    parts = urlsplit(text.strip())
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise UsageError(f"the base URL has no usable host or port: {exc}") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"the base URL of {host} holds a user name or password, and would be recorded with it. "
            "Put the key into the environment variable that presets.toml names."
        )
    if parts.scheme not in ("http", "https") or not host:
        shown = "(not shown, for it holds an @)" if "@" in text else repr(text)
        raise UsageError(
            f"base URL {shown}: expected http:// or https:// and a host, "
            "as in http://localhost:8000/v1"
        )
    if {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - {"api-version"}:
        raise UsageError(
            f"the base URL of {host} has a query; only api-version may stand there, because the "
            "address is recorded. Put a key into the environment."
        )
    try:
        httpx.URL(scheme=parts.scheme, host=host, path="/")
    except httpx.InvalidURL as exc:
        raise UsageError(f"base URL {text!r}: {exc}") from exc
    path = parts.path.rstrip("/").removesuffix(_CHAT).rstrip("/")
    return Address(
        base=urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")),
        chat=urlunsplit((parts.scheme, parts.netloc, path + _CHAT, parts.query, "")),
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        is_private=is_private(host),
        is_encrypted=parts.scheme == "https",
        preset=parts.fragment or None,
    )


def is_private(host: str) -> bool:
    """Return whether `host` is this machine or its private network. Asks no name server."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)


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
