"""The failures of chat servers, with advice that fits them. Knows nothing of requests or retries.

What a failure means is decided in `harness_http.failures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from harness_http import failures
from harness_http.answers import Answer
from harness_http.failures import Complaint, complaint_of, read_complaint, retry_after_s
from harness_http.keys import Key

from harness import BackendError
from harness_openai.presets import Address

__all__ = [
    "Complaint",
    "complaint_of",
    "error_inside",
    "of_break",
    "of_complaint",
    "of_garbage",
    "of_status",
    "read_complaint",
    "retry_after_s",
]


def of_status(answer: Answer, *, address: Address, key: Key) -> BackendError:
    """Return the error of an answer that is not 2xx."""
    advice = _advice(answer, address=address, key=key)
    return failures.of_answer(answer, base=address.base, key=key, advice=advice)


def of_complaint(
    complaint: Complaint,
    *,
    status: int,
    address: Address,
    key: Key,
    retry_after_s: float | None = None,
    advice: str = "",
) -> BackendError:
    """Return the error of what a server said, judged by status, codes and wording."""
    return failures.of_complaint(
        complaint,
        status=status,
        base=address.base,
        key=key,
        retry_after_s=retry_after_s,
        advice=advice,
    )


def of_garbage(answer: Answer, *, address: Address, key: Key) -> BackendError:
    """Return the error of a 2xx answer that is not the JSON it should be."""
    hint = "Is the base URL right? It usually ends in /v1."
    return failures.of_garbage(
        answer, base=address.base, key=key, wanted="a chat completion", hint=hint
    )


def error_inside(payload: Mapping[str, Any]) -> tuple[int, Complaint] | None:
    """Return the status and the complaint of an error that came with HTTP 200, where one did."""
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    for holder in (payload, first):
        if isinstance(holder, Mapping) and holder.get("error"):
            error = holder["error"]
            break
    else:
        if payload.get("object") != "error":  # as vLLM once said it
            return None
        error = holder = payload
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return status, complaint_of(holder)


def of_break(reason: str, *, characters: int, address: Address, key: Key) -> BackendError:
    """Return the error of a stream that ended before the answer did, which may pass."""
    text = f"the stream from {address.base} broke off after {characters} characters: {reason}"
    return BackendError(key.scrub(text), is_retryable=True)


def _advice(answer: Answer, *, address: Address, key: Key) -> str:
    status = answer.status
    if status in (401, 403):
        state = "is set, and was refused" if key.is_set else "is not set"
        return f"The key's variable {key.name} {state}."
    if status in (404, 405):
        return (
            "Is the model's name right, and the base URL? It usually ends in /v1. "
            f"Check: curl {address.at('/models')}"
        )
    if answer.is_redirect:
        to = urljoin(address.chat, answer.headers.get("location", "?"))  # it may be a path alone
        return f"It moved to {to.removesuffix('/chat/completions')}: use that as base URL."
    return ""
