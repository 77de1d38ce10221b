"""The proxy on the way to a host, as the environment (or the system) names it. Sends nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from harness import UsageError


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
    try:
        text = text if "://" in text else f"http://{text}"
        proxy = urlsplit(text)
        is_known = proxy.scheme in ("http", "https") and bool(proxy.hostname) and proxy.port != 0
    except ValueError:
        is_known = False
    if not is_known:  # not shown, for it may hold a password
        raise UsageError(
            f"the environment's proxy for {parts.scheme} is not usable: http:// or https:// and a "
            f"host is. Set {parts.scheme.upper()}_PROXY, or NO_PROXY={parts.hostname}."
        )
    return text
