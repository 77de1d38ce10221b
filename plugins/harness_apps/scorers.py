"""The checks `webhook` and `pi`: a scorer behind HTTP says whether a reply is good. Knows no eval.

What leaves this machine is decided here: an address outside it needs the case, and a case tagged
`internal` is never sent there, and with `--offline` nothing is. A scorer that does not answer, or
answers something else, is trouble, and neither a pass nor a miss, negated or not.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from harness_http import failures
from harness_http.addresses import Place, parse_place
from harness_http.answers import Answer
from harness_http.client import JSON, Client
from harness_http.keys import Keys, read_key

from harness import BackendError, Case, CheckResult, Miss, Reply, UsageError, refuse_offline

INTERNAL = "internal"
"""The tag of a case that may not leave this machine."""
PI_KEY = "WITHPI_API_KEY"
EXAMPLE = "http://localhost:8080/score"
LARGEST = 1_000_000
"""Bytes of an answer that are read as JSON."""
UNANSWERED = 3
REST_S = 60.0
"""After so many requests in a row without an answer, nobody is asked for so long."""
_SHOWN = 300


class Scorer:
    """One address that scores. Safe to use from several threads, and where a loop is running."""

    def __init__(self, name: str, url: str, keys: tuple[tuple[str, str], ...]) -> None:
        self.name = name
        self._place = _place(url)
        self._unanswered, self._rests_until = 0, 0.0
        for header, variable in keys:
            if not os.environ.get(variable, "").strip() and not self._place.is_private:
                raise UsageError(
                    f"{name}: the header {header} comes from the environment variable {variable}, "
                    "which is not set."
                )
        if keys and not (self._place.is_private or self._place.is_encrypted):
            raise UsageError(
                f"{name}: what is in {', '.join(v for _, v in keys)} would travel to "
                f"{self._place.host} unencrypted. Use https."
            )
        self._secret = Keys([read_key(v, header=h, prefix="") for h, v in keys])
        # each call bounds its own time; this only ends what nobody waits for any more
        self._client = Client(
            self._place, auth=self._secret, timeout_s=600.0, headers={"Accept": JSON}
        )

    def may_have(self, case: Case | None) -> None:
        """Raise UsageError where the case may not be sent to this address, or nobody knows."""
        if self._place.is_private:
            return
        if case is None:
            raise UsageError(
                f"{self.name}: {self._place.host} is outside this machine, and the check must know "
                f"that the case may leave it: write checks.{self.name}(reply, ..., case=case)."
            )
        if INTERNAL in case.tags:
            raise UsageError(
                f"{self.name}: case {case.id!r} is tagged internal, and {self._place.host} is "
                "outside this machine: nothing was sent. Use a scorer on this machine, or remove "
                "the tag if the case may leave it."
            )

    def ask(self, body: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        """Return the object that is answered to `body`. Raises BackendError.

        Who let a few requests in a row wait in vain is left alone for a while: each costs a run
        its whole `timeout_s`.
        """
        if self._unanswered >= UNANSWERED and time.monotonic() < self._rests_until:
            raise self._trouble(f"{UNANSWERED} requests in a row had no answer; no more are sent")
        sent = json.dumps(body).encode()
        future = asyncio.run_coroutine_threadsafe(self._send(sent, timeout_s), _loop())
        came = future.result()
        outcome = self._read(came) if isinstance(came, Answer) else came
        if isinstance(outcome, BackendError):
            # from here: the frames that read it may hold an echoed key
            raise BackendError(f"{self.name}: {outcome}")
        return outcome

    def trouble(self, said: str, answer: Mapping[str, Any]) -> BackendError:
        """Return the error of an answer that is none."""
        shown = self._secret.scrub(json.dumps(answer, ensure_ascii=False))
        return self._trouble(f"{said}: {_plain(shown)}")

    async def _send(self, body: bytes, timeout_s: float) -> Answer | BackendError:
        try:
            async with asyncio.timeout(timeout_s):
                came = await self._client.send("POST", self._place.base, body)
        except TimeoutError:
            self._unanswered += 1
            self._rests_until = time.monotonic() + REST_S
            return BackendError(f"{self._place.base}: no answer within {timeout_s:g} s")
        except BackendError as exc:
            return exc.with_traceback(None)
        self._unanswered = 0
        return came

    def _read(self, came: Answer) -> Mapping[str, Any] | BackendError:
        base = self._place.base
        if not came.is_success:
            return failures.of_answer(came, base=base, key=self._secret)
        try:
            answer = json.loads(came.body) if len(came.body) <= LARGEST else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, Mapping):
            hint = "A scorer answers one JSON object."
            return failures.of_garbage(came, base=base, key=self._secret, wanted="JSON", hint=hint)
        return answer

    def _trouble(self, said: str) -> BackendError:
        return BackendError(f"{self.name}: {self._place.base}: {said}")


def scorer(name: str, url: object, keys: tuple[tuple[str, str], ...]) -> Scorer:
    """Return the scorer at `url`; the values of `keys` are environment variables.

    Raises UsageError for what is no address, and BackendError in a run with `--offline`.
    """
    if not isinstance(url, str):
        raise UsageError(f"{name}: url is a text, as {EXAMPLE}, not {url!r}")
    refuse_offline(f"{name}: {_place(url).base}")
    return _kept(name, url, keys)


def _place(url: str) -> Place:
    return parse_place(url, example=EXAMPLE)


@lru_cache(maxsize=64)
def _kept(name: str, url: str, keys: tuple[tuple[str, str], ...]) -> Scorer:
    return Scorer(name, url, keys)


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop that sends, in a thread of its own: a check may be called within another."""
    loop = asyncio.SelectorEventLoop()  # libcurl needs one that watches sockets
    thread = threading.Thread(target=_serve, args=(loop,), name="harness-scorers", daemon=True)
    thread.start()

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2.0)

    atexit.register(end)
    return loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())  # closes what the clients keep open
        loop.close()


# ---------------------------------------------------------------- the checks


def ask_webhook(
    reply: Reply | str,
    url: str,
    *,
    case: Case | None,
    header_env: Mapping[str, str] | None,
    timeout_s: float,
) -> CheckResult:
    """Return the result of `webhook`, or raise its Miss."""
    found = scorer("webhook", url, tuple(sorted((header_env or {}).items())))
    found.may_have(case)
    context = {"vars": dict(case.inputs)} if case is not None else {}
    body = {"output": _text(reply, "webhook"), "context": context}
    answer = found.ask(body, timeout_s=_seconds(timeout_s, "webhook"))
    holds, score = answer.get("pass"), answer.get("score")
    if not isinstance(holds, bool):
        raise found.trouble('it answered no `"pass": true` or `false`', answer)
    if score is not None and _share(score) is None:
        raise found.trouble("its score is no number between 0 and 1", answer)
    value = float(holds) if score is None else float(score)
    reason = _plain(str(answer.get("reason") or f"{url} answered {'true' if holds else 'false'}"))
    if not holds:
        raise Miss(f"webhook: {reason}", value=value)
    return CheckResult(name="webhook", value=value, reason=reason)


def ask_pi(
    reply: Reply | str,
    question: str | list[str],
    *,
    case: Case | None,
    at_least: float,
    url: str,
    timeout_s: float,
) -> CheckResult:
    """Return the result of `pi`, or raise its Miss."""
    questions = [question] if isinstance(question, str) else list(question)
    if not questions or not all(isinstance(q, str) and q.strip() for q in questions):
        raise UsageError("pi: question is a text, or several, none of them empty")
    if _share(at_least) is None:
        raise UsageError(f"pi: at_least is a share between 0 and 1, not {at_least!r}")
    found = scorer("pi", url, (("x-api-key", PI_KEY),))
    found.may_have(case)
    body = {
        "llm_input": _asked(case),
        "llm_output": _text(reply, "pi"),
        "scoring_spec": [{"question": one} for one in questions],
    }
    answer = found.ask(body, timeout_s=_seconds(timeout_s, "pi"))
    value = _share(answer.get("total_score"))
    if value is None:
        raise found.trouble("its `total_score` is no number between 0 and 1", answer)
    parts = answer.get("question_scores")
    told = _plain(json.dumps(parts, ensure_ascii=False)) if parts else _plain(questions[0])
    if value < at_least - 1e-9:
        raise Miss(f"pi: {value:.3f} is under at_least={at_least:g}; {told}", value=value)
    return CheckResult(name="pi", value=value, reason=f"{value:.3f}; {told}")


def _asked(case: Case | None) -> str:
    """Return what a case asks: its one text, or its inputs as JSON."""
    inputs = dict(case.inputs) if case is not None else {}
    values = list(inputs.values())
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return json.dumps(inputs, ensure_ascii=False) if inputs else ""


def _text(reply: Reply | str, name: str) -> str:
    if not isinstance(reply, Reply | str):
        raise UsageError(f"{name}: takes a Reply or a str first, not {type(reply).__name__}")
    return reply.text if isinstance(reply, Reply) else reply


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"{name}: timeout_s is a number of seconds above 0, not {value!r}")
    return float(value)


def _share(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None  # type: ignore[operator, arg-type]


def _plain(text: str) -> str:
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
    return text if text.isprintable() else repr(text)
