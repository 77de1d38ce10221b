"""The proxy on the way to a host, as the environment (or the system) names it. Sends nothing."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from harness import UsageError


def proxy_of(url: str) -> URL | None:
    """Return the proxy for `url`, None where there is none. Raises UsageError for an unusable one.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, as curl reads them. aiohttp's own
    reading takes passwords from a netrc file too, in place of the key.
    """
    parts, found = urlsplit(url), getproxies()
    text = found.get(parts.scheme) or found.get("all")
    if not text or proxy_bypass(parts.netloc):
        return None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        is_known = proxy.scheme in ("http", "https") and bool(proxy.host)
    except ValueError:
        is_known = False
    if not is_known:  # not shown, for it may hold a password
        raise UsageError(
            f"the environment's proxy for {parts.scheme} is not usable: http:// or https:// and a "
            f"host is. Set {parts.scheme.upper()}_PROXY, or NO_PROXY={parts.hostname}."
        )
    return proxy
