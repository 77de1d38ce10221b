"""Where a server is, from an address that people write. Knows no API, and asks no name server."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from harness import UsageError

# names without a dot or with one of these endings are given out by a private network
_PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_PLAIN_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*\.)?[a-z][a-z0-9-]*|127\.0\.0\.1|::1")
_NUMBERS = re.compile(r"[0-9.]+|[0-9a-f:.]*:.*")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server's address. `base` is what may be shown and recorded: it holds no credential and no
    fragment, which is kept apart.
    """

    base: str
    host: str
    port: int
    is_private: bool
    is_encrypted: bool
    fragment: str | None = None


def parse_place(
    text: str, *, example: str, ending: str = "", queries: frozenset[str] = frozenset()
) -> Place:
    """Return the place that `text` names, a path that ends in `ending` cut off.

    Raises UsageError, never repeating a credential, where the address holds one, is no http
    address, or has a query other than `queries`.
    """
    parts = urlsplit(text.strip())
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise UsageError(f"the base URL has no usable host or port: {exc}") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"the base URL of {host} holds a user name or password, and would be recorded with it. "
            "Put the key into an environment variable."
        )
    if parts.scheme not in ("http", "https") or not host:
        shown = "(not shown, for it holds an @)" if "@" in text else repr(text)
        raise UsageError(
            f"base URL {shown}: expected http:// or https:// and a host, as in {example}"
        )
    if {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - queries:
        allowed = f"only {', '.join(sorted(queries))} may stand" if queries else "none may stand"
        raise UsageError(
            f"the base URL of {host} has a query; {allowed} there, because the address is "
            "recorded. Put a key into the environment."
        )
    try:
        known = wire_host(host)
    except ValueError as exc:
        raise UsageError(f"base URL {text!r}: {exc}") from exc
    path = parts.path.rstrip("/").removesuffix(ending).rstrip("/")
    return Place(
        base=urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")),
        host=host,
        port=port or (443 if parts.scheme == "https" else 80),
        is_private=is_private(known),
        is_encrypted=parts.scheme == "https",
        fragment=parts.fragment or None,
    )


def wire_host(host: str) -> str:
    """Return `host` as the net writes it. Raises ValueError for what is no host."""
    if _PLAIN_HOST.fullmatch(host):
        return host
    if _NUMBERS.fullmatch(host):
        ipaddress.ip_address(host)
        return host
    if not host.isascii():
        import idna

        host = idna.encode(host, uts46=True).decode()
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host name")
    return host


def is_private(host: str) -> bool:
    """Return whether `host` is this machine or its private network. Asks no name server."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_ENDINGS)
