"""`webhook` and `pi` against a scorer on this machine: what is sent, what its answers mean, what
stays here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import harness_apps
import pytest
from harness_apps.scorers import REST_S, Scorer

from harness import BackendError, Case, Miss, Reply, UsageError, checks
from harness.checks.offline import offline
from harness.engine.case_checks import run_case_checks
from harness.engine.views import eval_case
from harness.ports.manager import Plugins
from tests.plugins.scorer import Served, scorer_listening

SECRET = "tok-S3NTINEL-0123456789"
CASE = Case(id="c1", split="dev", inputs={"question": "How many?"})
INTERNAL = Case(id="c2", split="dev", inputs={"question": "Who?"}, tags=("internal",))
OUTSIDE = "https://scorer.example.com/score"


@pytest.fixture
def served() -> Iterator[Served]:
    with scorer_listening() as one:
        yield one


@pytest.fixture(autouse=True)
def only_this_plugin() -> Iterator[None]:
    plugins = Plugins()
    plugins.register(harness_apps, name="apps")
    checks.use_plugins(plugins)
    yield
    checks.use_plugins(None)


# ---------------------------------------------------------------- webhook


def test_a_webhook_is_sent_the_reply_and_the_case_and_decides(served: Served) -> None:
    served.answer = {"pass": True, "score": 0.75, "reason": "well put"}
    held = checks.webhook(Reply(text="five"), served.url, case=CASE)
    assert (held.value, held.reason) == (0.75, "well put")
    assert served.seen == [{"output": "five", "context": {"vars": {"question": "How many?"}}}]
    assert checks.webhook("five", served.url).value == 0.75
    assert served.seen[-1] == {"output": "five", "context": {}}
    with pytest.raises(Miss, match=r"^no\.webhook: well put$") as caught:
        checks.no.webhook("five", served.url)
    assert caught.value.value == 0.25


def test_a_webhook_that_says_no_is_a_miss_with_its_reason(served: Served) -> None:
    served.answer = {"pass": False, "reason": "rude\x1b[31m"}
    with pytest.raises(Miss, match=r"^webhook: 'rude\\x1b\[31m'$") as caught:
        checks.webhook("x", served.url)
    assert caught.value.value == 0
    assert checks.no.webhook("x", served.url).value == 1
    served.answer = {"pass": False}
    with pytest.raises(Miss, match="answered false"):
        checks.webhook("x", served.url)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        ({"pass": "yes"}, 200, 'it answered no `"pass": true` or `false`'),
        ({"score": 1}, 200, "it answered no"),
        ({"pass": True, "score": 7}, 200, "no number between 0 and 1"),
        ({"pass": True, "score": True}, 200, "no number between 0 and 1"),
        ([True], 200, "JSON"),
        (b"<html>Sign in</html>", 200, "Sign in"),
        ({"error": "no such path"}, 404, "404"),
        ({"pass": True}, 503, "503"),
    ],
)
def test_any_other_answer_is_trouble_and_no_verdict(
    answer: Any, status: int, told: str, served: Served
) -> None:
    served.answer, served.status = answer, status
    for check in (checks.webhook, checks.no.webhook):
        with pytest.raises(BackendError) as caught:
            check("x", served.url)
        assert told in str(caught.value)


def test_a_webhook_is_bounded_in_time(served: Served) -> None:
    served.wait_s = 5.0
    start = time.monotonic()
    with pytest.raises(BackendError, match=r"no answer within 0\.1 s"):
        checks.webhook("x", served.url, timeout_s=0.1)
    assert time.monotonic() - start < 4.0
    for odd in (0, float("nan"), "5"):
        with pytest.raises(UsageError, match="timeout_s is a number of seconds"):
            checks.webhook("x", served.url, timeout_s=odd)


def test_nobody_listening_is_trouble() -> None:
    told = r"^webhook: cannot connect to http://127\.0\.0\.1:9/score: .* Is the server running\?\n"
    with pytest.raises(BackendError, match=told):
        checks.webhook("x", "http://127.0.0.1:9/score")


def test_who_hangs_three_times_in_a_row_is_left_alone_for_a_while(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 cases each would wait for its whole time-out."""
    served.wait_s = 0.5
    for _ in range(3):
        with pytest.raises(BackendError, match=r"no answer within 0\.1 s"):
            checks.webhook("x", served.url, timeout_s=0.1)
    served.wait_s = 0.0
    with pytest.raises(BackendError, match="3 requests in a row had no answer; no more are sent"):
        checks.webhook("x", served.url)
    assert len(served.seen) == 3
    now = time.monotonic()
    monkeypatch.setattr("harness_apps.scorers.time.monotonic", lambda: now + REST_S)
    assert checks.webhook("x", served.url)
    monkeypatch.undo()
    assert checks.webhook("x", served.url)


@pytest.mark.parametrize("check", ["webhook", "no.webhook", "pi"])
def test_offline_nobody_is_asked(
    check: str, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from a thread of an eval's own either, and before a key is looked for."""
    monkeypatch.delenv("WITHPI_API_KEY", raising=False)
    more = {"pi": ("Is it polite?",)}.get(check, ())
    url = OUTSIDE if check == "pi" else served.url
    asked = partial(checks.named(check), "x", *more, url=url, case=CASE)
    told = rf"^{check.removeprefix('no.')}: {url} is not asked \(run without --offline\)\n"
    with offline(), ThreadPoolExecutor(1) as threads:
        with pytest.raises(BackendError, match=told):
            asked()
        with pytest.raises(BackendError, match=told):
            threads.submit(asked).result()
    assert served.seen == []
    if check != "pi":
        with suppress(Miss):
            asked()
        assert len(served.seen) == 1


def test_a_webhook_within_a_running_loop(served: Served) -> None:
    async def asked() -> float:
        return float(checks.webhook("x", served.url))

    assert asyncio.run(asked()) == 1


def test_a_key_goes_from_the_environment_and_is_shown_nowhere(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORER_TOKEN", SECRET)
    served.answer = {"pass": "?", "echo": SECRET}
    with pytest.raises(BackendError) as caught:
        checks.webhook("x", served.url, header_env={"Authorization": "SCORER_TOKEN"})
    assert served.headers[-1]["Authorization"] == SECRET
    assert "S3NTINEL" not in str(caught.value)


# ---------------------------------------------------------------- what leaves this machine


def test_outside_this_machine_the_case_is_needed_and_an_internal_one_stays() -> None:
    with pytest.raises(UsageError, match=r"write checks\.webhook\(reply, \.\.\., case=case\)"):
        checks.webhook("x", OUTSIDE)
    for case in (INTERNAL, eval_case(INTERNAL)):
        with pytest.raises(UsageError, match=r"case 'c2' is tagged internal.*nothing was sent"):
            checks.webhook("x", OUTSIDE, case=case)
    with pytest.raises(UsageError, match="case 'c2' is tagged internal"):
        checks.no.webhook("x", OUTSIDE, case=INTERNAL)


def test_an_internal_case_may_be_scored_on_this_machine(served: Served) -> None:
    assert checks.webhook("x", served.url, case=INTERNAL)


def test_a_key_does_not_travel_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_TOKEN", SECRET)
    with pytest.raises(UsageError, match=r"SCORER_TOKEN would travel to .* unencrypted") as caught:
        Scorer("webhook", "http://scorer.example.com/", (("Authorization", "SCORER_TOKEN"),))
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match="environment variable NO_SUCH_TOKEN, which is not set"):
        Scorer("webhook", OUTSIDE, (("Authorization", "NO_SUCH_TOKEN"),))


def test_a_case_s_own_checks_are_given_the_case(served: Served) -> None:
    row = {"name": "webhook", "arguments": {"url": served.url}}
    several = {"name": "several", "arguments": {"checks": [{**row, "name": "no.webhook"}, row]}}
    one = Case(id="c", split="dev", inputs={"a": 1}, checks=(row, several))
    with pytest.raises(Miss, match="1 of 2 checks hold"):
        run_case_checks(one, Reply(text="x"))
    assert [body["context"] for body in served.seen] == [{"vars": {"a": 1}}] * 3
    away = Case(
        id="c",
        split="dev",
        inputs={"a": 1},
        tags=("internal",),
        line="cases.jsonl:3",
        checks=({"name": "no.webhook", "arguments": {"url": OUTSIDE}},),
    )
    with pytest.raises(UsageError, match=r"cases\.jsonl:3: checks: .*tagged internal"):
        run_case_checks(away, Reply(text="x"))


# ---------------------------------------------------------------- pi


def test_pi_is_sent_what_it_publishes_and_scores(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITHPI_API_KEY", SECRET)
    served.answer = {"total_score": 0.8, "question_scores": {"Is it polite?": 0.8}}
    held = checks.pi(Reply(text="five"), "Is it polite?", case=CASE, url=served.url)
    assert (held.value, held.reason) == (0.8, '0.800; {"Is it polite?": 0.8}')
    assert served.seen == [
        {
            "llm_input": "How many?",
            "llm_output": "five",
            "scoring_spec": [{"question": "Is it polite?"}],
        }
    ]
    assert served.headers[-1]["x-api-key"] == SECRET
    with pytest.raises(Miss, match=r"^pi: 0\.800 is under at_least=0\.9; ") as caught:
        checks.pi("five", ["Is it polite?", "Is it short?"], at_least=0.9, url=served.url)
    assert caught.value.value == 0.8
    assert len(served.seen[-1]["scoring_spec"]) == 2
    assert checks.no.pi("five", "Is it rude?", at_least=0.9, url=served.url)
    served.answer = {"total_score": "high"}
    with pytest.raises(BackendError, match="`total_score` is no number"):
        checks.pi("five", "Is it polite?", url=served.url)


def test_pi_is_outside_and_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WITHPI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="WITHPI_API_KEY, which is not set"):
        checks.pi("x", "Is it polite?", case=CASE)
    monkeypatch.setenv("WITHPI_API_KEY", SECRET)
    with pytest.raises(UsageError, match=r"api\.withpi\.ai is outside this machine"):
        checks.pi("x", "Is it polite?")
    with pytest.raises(UsageError, match="tagged internal"):
        checks.pi("x", "Is it polite?", case=INTERNAL)
    for odd in ({"question": ""}, {"question": []}, {"question": "a", "at_least": 2}):
        with pytest.raises(UsageError):
            checks.pi("x", case=CASE, **odd)
