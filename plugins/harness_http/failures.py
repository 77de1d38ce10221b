"""What went wrong, in words that say what to do. Knows nothing of requests or retries.

Whether an error is worth another try, and whether it is an answer of the system under test (a
context overflow, a filtered prompt), is decided here; the engine acts on it.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from harness import BackendError
from harness_http.answers import Answer
from harness_http.keys import Scrubs

if TYPE_CHECKING:
    from harness_http.transfers import TransferError

LONGEST = 300  # characters of a server's message
HUNG_UP = "the server hung up without an answer"
FIRST = 80  # characters of an answer that is no JSON
_LOOKED_AT = 8_000  # characters of a page in which its words are looked for
_MARKUP = re.compile(r"<(script|style)\b.*?</\1|<!--.*?-->|<[^<>]*>", re.IGNORECASE | re.DOTALL)
_PASSING = {408, 409, 425, 429}
_TOO_MUCH = {429, 529}  # 529: Anthropic's overloaded_error

# 429s that no waiting cures: https://platform.openai.com/docs/guides/error-codes
_MONEY = {
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "enforced_spend_limit_reached",
}
# Anthropic says it in words, with HTTP 400: https://platform.claude.com/docs/en/api/errors
_MONEY_WORDS = re.compile(
    r"reached your specified (workspace )?API usage limits|credit balance is too low", re.IGNORECASE
)
_OVERFLOW_CODES = {
    "context_length_exceeded",
    "exceed_context_size_error",
    "string_above_max_length",
}
# OpenAI, vLLM (two wordings), llama.cpp, Gemini, LM Studio; Anthropic, Bedrock
_OVERFLOW = re.compile(
    r"maximum context length|maximum model length|available context size|context size exceeded"
    r"|input token count .{0,80}exceeds|greater than the context length|context window"
    r"|prompt is too long|input is too long",
    re.IGNORECASE,
)
_FILTER_CODES = {
    "content_filter",
    "content_policy_violation",
    "invalid_prompt",
    "responsibleaipolicyviolation",
    "moderation_blocked",
}
_FILTER = re.compile(r"content (management )?policy|content[ _]filter|was flagged", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """What a server said: its message, and every code that it gave, in lower case."""

    message: str
    codes: frozenset[str] = frozenset()


def of_answer(answer: Answer, *, base: str, key: Scrubs, advice: str = "") -> BackendError:
    """Return the error of an answer that is not 2xx."""
    if not advice and answer.is_redirect:
        # followed, it would carry the key to another host
        advice = f"It moved to {answer.headers.get('location', '?')}: use that address."
    return of_complaint(
        read_complaint(answer),
        status=answer.status,
        base=base,
        key=key,
        retry_after_s=retry_after_s(answer.headers, now=datetime.now(UTC)),
        advice=advice,
    )


def of_complaint(
    complaint: Complaint,
    *,
    status: int,
    base: str,
    key: Scrubs,
    retry_after_s: float | None = None,
    advice: str = "",
) -> BackendError:
    """Return the error of what a server said, judged by status, codes and wording."""
    codes, message = complaint.codes, complaint.message
    is_overflow = status != 429 and bool(codes & _OVERFLOW_CODES or _OVERFLOW.search(message))
    is_filtered = status in (400, 403, 422) and bool(
        codes & _FILTER_CODES or _FILTER.search(message)
    )
    is_broke = status == 402 or bool(codes & _MONEY or _MONEY_WORDS.search(message))
    is_systemic = is_overflow or is_filtered
    if is_broke:
        advice = "Waiting does not help: check the account's credit and limits."
    text = f"HTTP {status} from {base}: {trim(key.scrub(message))}".rstrip()
    if advice:
        stop = "" if text.endswith((".", "?", "!", ":")) else "."
        text = f"{text}{stop} {key.scrub(advice)}"
    return BackendError(
        text,
        is_retryable=not is_systemic and not is_broke and (status in _PASSING or status >= 500),
        retry_after_s=retry_after_s,
        is_systemic=is_systemic,
        is_overload=status in _TOO_MUCH or (status == 503 and retry_after_s is not None),
    )


def of_connection(
    exc: TransferError | ValueError,
    *,
    base: str,
    key: Scrubs,
    timeout_s: float,
    check: str = "",
    is_proxied: bool = False,
) -> BackendError:
    """Return the error of a request that got no answer. `check` says how to find out more.

    ValueError: a header or an address that cannot be sent.
    """
    import pycurl

    from harness_http.transfers import LONGEST_ANSWER, SilenceError

    reason = key.scrub(trim(str(exc))) or type(exc).__name__
    if isinstance(exc, ValueError):  # another try is as bad
        return BackendError(f"the request to {base} cannot be sent: {reason}")
    if isinstance(exc, SilenceError):
        # it took the request and gave no answer: that is its answer, as with the engine's clock
        return BackendError(f"no answer from {base} within {timeout_s:g} s", is_systemic=True)
    if exc.code in (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE):
        text = f"{base}: its certificate is not trusted ({reason}). Set SSL_CERT_FILE."
        return BackendError(text)
    if exc.code == pycurl.E_WRITE_ERROR:
        return BackendError(f"{base} answered with more than {LONGEST_ANSWER:,} bytes; it was left")
    if exc.code == pycurl.E_BAD_CONTENT_ENCODING:
        text = f"{base} packed its answer in a way that cannot be read ({reason})."
        return BackendError(f"{text} Let it send the answer unpacked, without Content-Encoding.")
    if exc.tunnel_status >= 300:
        status = exc.tunnel_status
        text = f"the proxy before {base} answered HTTP {status}"
        return BackendError(text, is_retryable=status in _PASSING or status >= 500)
    if exc.code == pycurl.E_OPERATION_TIMEDOUT:  # no time but the connection's is libcurl's
        text = f"cannot connect to {base}: no answer. Is the server up? {check}"
    elif exc.code == pycurl.E_COULDNT_RESOLVE_PROXY or (
        exc.code == pycurl.E_COULDNT_CONNECT and is_proxied
    ):
        text = f"cannot connect to the proxy before {base}: {_why(exc)}. HTTPS_PROXY names it."
    elif exc.code in (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_CONNECT):
        text = f"cannot connect to {base}: {_why(exc)}. Is the server running? {check}"
    elif exc.code == pycurl.E_SSL_CONNECT_ERROR:
        text = f"cannot connect to {base}: {reason}. Does it speak https? {check}"
    else:
        is_gone = exc.code in (pycurl.E_SEND_FAIL_REWIND, pycurl.E_GOT_NOTHING)
        text = f"the connection to {base} was lost: {HUNG_UP if is_gone else reason}"
    return BackendError(text.rstrip(), is_retryable=True)


def _why(exc: TransferError) -> str:
    """Return the system's words, or libcurl's: these name no more than the host."""
    if exc.os_error:
        return os.strerror(exc.os_error)
    try:
        socket.socket().close()
    except OSError as problem:  # too many are open, of which libcurl says nothing
        return problem.strerror or str(exc)
    return str(exc)


def of_garbage(answer: Answer, *, base: str, key: Scrubs, wanted: str, hint: str) -> BackendError:
    """Return the error of a 2xx answer that is not `wanted`."""
    kind = answer.headers.get("content-type", "no content type")
    first = key.scrub(_first_of(answer, kind))
    text = f"{base} answered HTTP {answer.status} with {kind}, not {wanted}"
    if "json" in kind:  # announced well and cut short: a lost connection, which may pass
        return BackendError(f"{text}: {first!r}", is_retryable=True)
    return BackendError(f"{text}: {first!r}. {hint}")


def read_complaint(answer: Answer) -> Complaint:
    """Return what the server said, from any of the shapes in use."""
    try:
        payload = json.loads(answer.body)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "no content type")
        return Complaint(message=f"({kind}) {_first_of(answer, kind)}")
    return complaint_of(payload)


def _first_of(answer: Answer, kind: str) -> str:
    """Return how an answer begins; of a long page its words, for it begins like any other."""
    text = answer.text
    if "html" in kind and len(text) > FIRST:
        import html  # its table of characters is long

        text = html.unescape(_MARKUP.sub(" ", text[:_LOOKED_AT])).strip() or text
    return trim(text, FIRST)


def complaint_of(payload: Any) -> Complaint:
    """Return the complaint in a JSON answer, in any of the shapes in use."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, Mapping):
        return Complaint(message=trim(json.dumps(payload)))
    error = payload.get("error", payload.get("detail", payload))
    if not isinstance(error, Mapping):
        return Complaint(message=error if isinstance(error, str) else json.dumps(error))
    codes = {error.get("code"), error.get("type"), error.get("status")}
    for name, inner in (("code", error.get("innererror")), ("error_code", error.get("details"))):
        codes.add(inner.get(name) if isinstance(inner, Mapping) else None)
    message = error.get("message")
    return Complaint(
        message=message if isinstance(message, str) and message else json.dumps(error),
        codes=frozenset(code.lower() for code in codes if isinstance(code, str)),
    )


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return the wait that the server asks for, in seconds from `now`, or None.

    Source: RFC 9110 section 10.2.3 (seconds or a date); `retry-after-ms` is Azure's and OpenAI's.
    """
    in_ms = _number(headers.get("retry-after-ms"))
    if in_ms is not None:
        return in_ms / 1000
    text = headers.get("retry-after", "").strip()
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def trim(text: str, length: int = LONGEST) -> str:
    """Return `text` on one line of at most `length` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
