"""The proxy on the way to a host, as the environment (or the system) names it. Sends nothing."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from harness import UsageError
from harness_http.addresses import wire_host


def proxy_of(url: str) -> str | None:
    """Return the proxy for `url`, None where there is none. Raises UsageError for an unusable one.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not; libcurl itself
    reads no `HTTP_PROXY` in capitals and nothing of the system's own settings.
    """
    from urllib.request import getproxies, proxy_bypass  # takes time, and few hosts are public

    parts, found = urlsplit(url), getproxies()
    text = found.get(parts.scheme) or found.get("all")
    if not text or proxy_bypass(parts.netloc):
        return None
    proxy = _as_libcurl_reads_it(text if "://" in text else f"http://{text}")
    if proxy is None:
        del text, found  # they may hold a password, and --showlocals prints this frame
        raise UsageError(
            f"the environment's proxy for {parts.scheme} is not usable: http:// or https:// and a "
            f"host is. Set {parts.scheme.upper()}_PROXY, or NO_PROXY={parts.hostname}."
        )
    return proxy


def _as_libcurl_reads_it(text: str) -> str | None:
    """Return the proxy with any sign in its name and password encoded, None for what is none."""
    try:
        parts = urlsplit(text)
        host, port = wire_host(parts.hostname or ""), parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or port == 0:
        return None
    who, at, _ = parts.netloc.rpartition("@")
    who = ":".join(quote_from_bytes(unquote_to_bytes(name), safe="") for name in who.split(":", 1))
    place = f"[{host}]" if ":" in host else host
    port = port or (443 if parts.scheme == "https" else 80)  # libcurl's own is 1080
    return f"{parts.scheme}://{who}{at}{place}:{port}"
