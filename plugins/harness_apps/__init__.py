"""Whole applications as candidates: `http:NAME` and `python:MODULE:FUNCTION`. Knows no model.

What is measured is the application as it stands, retrieval, tools and all; the prompt of the
candidate is only its input. An application can score, too: the checks `webhook` and `pi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness import BackendConfig, hookimpl

if TYPE_CHECKING:
    from harness import Case, CheckResult, Reply
    from harness_apps.endpoint import HttpBackend


def make_http(config: BackendConfig) -> HttpBackend:
    """Return the backend of an endpoint. Raises UsageError for a bad option."""
    from harness_apps.endpoint import HttpBackend

    return HttpBackend(config)


def make_python(config: BackendConfig) -> object:
    """Return the backend of a callable. Raises UsageError where it cannot be had."""
    from harness_apps.function import make_backend

    return make_backend(config)


# a module of the task's own folder is another one for another task
make_python.by_folder = True  # type: ignore[attr-defined]


@hookimpl
def harness_backends() -> Mapping[str, object]:
    """Own the schemes `http` and `python`."""
    return {"http": make_http, "python": make_python}


PI = "https://api.withpi.ai/v1/scoring_system/score"


def webhook(
    reply: Reply | str,
    url: str,
    *,
    case: Case | None = None,
    header_env: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> CheckResult:
    """Hold where a scorer of yours says so: `url` is sent `{"output": TEXT, "context": {"vars":
    INPUTS}}` by POST, and answers `{"pass": true, "score": 0.9, "reason": "..."}`; the score (0 to
    1) and the reason may lack.

    An address outside this machine's network needs `case=case`, and a case tagged `internal` is
    not sent there. `header_env` names the environment variables that headers come from, as
    `{"Authorization": "MY_TOKEN"}`. What answers otherwise, or not within `timeout_s`, is trouble,
    and neither a pass nor a miss: `harness eval` keeps the replies and the other scores, and ends
    with exit code 4. Each run asks anew, so that with `--offline` there is no score; a scorer that
    became another one keeps its address, so raise a number in it (`/score/v2`) where scores shall
    not be compared.
    """
    from harness_apps.scorers import ask_webhook

    return ask_webhook(reply, url, case=case, header_env=header_env, timeout_s=timeout_s)


def pi(
    reply: Reply | str,
    question: str | list[str],
    *,
    case: Case | None = None,
    at_least: float = 0.5,
    url: str = PI,
    timeout_s: float = 30.0,
) -> CheckResult:
    """Score how well the reply meets `question`, or several, by Pi's scorer, a hosted service: it
    is sent the reply, the case's inputs and the questions, and needs `case=case` and a key in
    `WITHPI_API_KEY`. A case tagged `internal` is not sent, and with `--offline` nothing is. A
    service that is down is trouble, as of `webhook`. Written by its published form; the service
    itself was not seen by our tests. Calibrate `at_least` on labelled replies.
    """
    from harness_apps.scorers import ask_pi

    return ask_pi(reply, question, case=case, at_least=at_least, url=url, timeout_s=timeout_s)


# a case's own checks are given the case, too
webhook.takes_case = True  # type: ignore[attr-defined]
pi.takes_case = True  # type: ignore[attr-defined]


@hookimpl
def harness_checks() -> Mapping[str, Any]:
    """Offer the checks `webhook` and `pi`."""
    return {"webhook": webhook, "pi": pi}
