"""`anthropic:bedrock/MODEL` against a server that checks every signature with botocore itself.

Bedrock was never asked: what is checked is that the request is whole and signed as AWS wants it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from harness_anthropic import make_backend

from harness import BackendConfig, BackendError, Message, MissingExtra, Reply, Request, UsageError
from harness.ports.backends import AnswersBatches
from tests.plugins.loopback_anthropic import Answer, Loopback, Seen, loopback, message

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ACCESS, SECRET, TOKEN = "AKIAS3NTINELACCESSKEY", "s3ntinel/secret+key=0123456789", "t0ken/abc+def=="
REQUEST = Request(messages=(Message(role="user", content="How many? ✓"),))


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def signed_again(seen: Seen, *, base_url: str) -> str:
    """The signature of what arrived, by botocore, at the time that the request gives itself."""

    headers = {name.lower(): value for name, value in seen.headers.items()}
    again = AWSRequest(
        method=seen.method,
        url=base_url + seen.path,
        data=seen.raw,
        headers={"Content-Type": headers["content-type"]},
    )
    again.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(ACCESS, SECRET, TOKEN), "bedrock", "eu-central-1")
    again.headers["X-Amz-Date"] = headers["x-amz-date"]
    again.headers["X-Amz-Security-Token"] = TOKEN
    canonical = signer.canonical_request(again)
    signature = signer.signature(signer.string_to_sign(again, canonical), again)
    names = signer.signed_headers(signer.headers_to_sign(again))
    return (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(again)}, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Answers like Bedrock: 403 to whoever is not signed."""
    with loopback() as served:

        def answered(seen: Seen) -> Answer:
            headers = {name.lower(): value for name, value in seen.headers.items()}
            if headers.get("authorization") != signed_again(seen, base_url=served.base_url):
                return Answer(status=403, body={"message": "The request signature does not match"})
            return Answer(body=message({"type": "text", "text": "five"}))

        served.answer = answered
        yield served


def backend(server: Loopback, **options: Any) -> Any:
    options = {"region": "eu-central-1", **options}
    return make_backend(
        BackendConfig(model=f"bedrock/{MODEL}", base_url=server.base_url, options=options)
    )


def ask(asked: Any) -> Reply:
    reply: Reply = asyncio.run(asked.answer(REQUEST))
    return reply


def test_a_request_to_bedrock_is_signed_and_names_the_model_in_its_path(server: Loopback) -> None:
    asked = backend(server)
    assert ask(asked).text == "five"
    [seen] = server.seen
    assert seen.path == f"/model/{quote(MODEL, safe='')}/invoke"
    assert seen.body["anthropic_version"] == "bedrock-2023-05-31"
    assert "model" not in seen.body
    assert ask(asked).cost_usd is None
    assert not isinstance(asked, AnswersBatches)


def test_the_server_of_this_test_refuses_another_secret(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that cannot fail checks nothing."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(BackendError, match=r"HTTP 403.*signature.*access to this model"):
        ask(backend(server))


def test_credentials_that_a_server_echoes_are_in_no_message(server: Loopback) -> None:
    said = f"{ACCESS} with {SECRET} and {quote(TOKEN, safe='')}"
    server.answer = lambda _: Answer(status=400, body={"message": said})
    with pytest.raises(BackendError) as caught:
        ask(backend(server))
    assert not any(secret in str(caught.value) for secret in (ACCESS, SECRET, TOKEN[:8]))


@pytest.mark.parametrize(
    ("status", "text", "is_retryable", "is_systemic"),
    [
        (429, "Too many tokens, please wait", True, False),
        (503, "try again", True, False),
        (400, "Input is too long for requested model.", False, True),
        (400, "Malformed input request", False, False),
        (403, "You don't have access", False, False),
    ],
)
def test_what_bedrock_says_is_told_apart(
    server: Loopback, status: int, text: str, is_retryable: bool, is_systemic: bool
) -> None:
    server.answer = lambda _: Answer(status=status, body={"message": text})
    with pytest.raises(BackendError, match=text) as caught:
        ask(backend(server))
    assert (caught.value.is_retryable, caught.value.is_systemic) == (is_retryable, is_systemic)


def test_a_region_and_credentials_are_asked_for(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="needs a region"):
        backend(server, region=None)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    found = make_backend(BackendConfig(model=f"bedrock/{MODEL}"))
    assert "bedrock-runtime.us-west-2.amazonaws.com" in repr(found)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(UsageError, match="needs AWS credentials"):
        backend(server).ready()


def test_without_botocore_the_extra_is_named(
    server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "botocore" else find(n, *a)
    )
    with pytest.raises(MissingExtra, match=r"tuning-harness\[bedrock\]"):
        backend(server, region=None)
