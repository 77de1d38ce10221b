"""The check `similar`. Knows nothing of how a text becomes a vector."""

from __future__ import annotations

from harness import CheckResult, Miss, Reply, UsageError
from harness_embeddings.model import LONGEST_TOKENS, encoder

_SHOWN = 80


def compare(reply: Reply | str, expected: str | list[str], *, at_least: float) -> CheckResult:
    """Return the result of `similar`, or raise its Miss."""
    if not isinstance(reply, Reply | str):
        raise UsageError(f"similar: takes a Reply or a str first, not {type(reply).__name__}")
    text = reply.text if isinstance(reply, Reply) else reply
    wanted = [expected] if isinstance(expected, str) else list(expected)
    if not wanted or not all(isinstance(w, str) and w.strip() for w in wanted):
        raise UsageError("similar: expected is a text, or several, none of them empty")
    if not 0.0 <= at_least <= 1.0:
        raise UsageError(f"similar: at_least is a share between 0 and 1, not {at_least!r}")
    if not text.strip():
        raise Miss("similar: the reply is empty")
    (said, is_whole), *others = encoder().embed([text, *wanted])
    cosines = [float(said @ other) for other, _ in others]
    best = max(range(len(cosines)), key=cosines.__getitem__)
    value = min(1.0, max(0.0, cosines[best]))
    reason = f"expected {_show(wanted[best])}, got {_show(text)}"
    if not is_whole or not others[best][1]:
        reason += f" (only the first {LONGEST_TOKENS} tokens are compared)"
    if value < at_least - 1e-6:
        raise Miss(f"similar: {value:.3f} is under at_least={at_least:g}; {reason}", value=value)
    return CheckResult(name="similar", value=value, reason=f"{value:.3f}; {reason}")


def _show(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …")
