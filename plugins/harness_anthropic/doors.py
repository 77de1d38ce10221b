"""Where the Messages API is asked and how one is let in: Anthropic's own, or Amazon Bedrock's.

Knows nothing of what is asked. On Bedrock each request is signed (AWS Signature Version 4) by
botocore, with the credentials that the AWS tools would use; botocore sends nothing.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

from harness_http.addresses import Place, parse_place
from harness_http.keys import hide, read_key

from harness import BackendError, MissingExtra, UsageError

ANTHROPIC = "https://api.anthropic.com"
VERSION = "2023-06-01"  # the one whose parameters include temperature and top_p
BEDROCK_VERSION = "bedrock-2023-05-31"
BEDROCK = "bedrock/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One model's way in. `auth` lets requests in, and scrubs texts of what it lets them in with;
    `ready` raises UsageError where it cannot; `body` is what every request's body holds beside the
    request.
    """

    place: Place
    messages: str
    auth: Any
    ready: Callable[[], None]
    body: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    is_priced: bool = False
    advice: str = ""


def anthropic_door(
    model: str, *, base_url: str | None, version: str | None, key_env: str | None
) -> Door:
    """Return the door to Anthropic's API or a server like it. Raises UsageError."""
    place = parse_place(
        base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC,
        example=ANTHROPIC,
        ending="/messages",
    )
    base = place.base.removesuffix("/v1")
    key = read_key(key_env or "ANTHROPIC_API_KEY", header="x-api-key", prefix="")

    def ready() -> None:
        if key.is_set and not place.is_private and not place.is_encrypted:
            raise UsageError(
                f"the key in {key.name} would travel to {place.host} unencrypted. Use https, or "
                f"unset {key.name}."
            )
        if not key.is_set and (key_env or not place.is_private):
            raise UsageError(
                f"anthropic:{model} at {base} needs a key: set the environment variable {key.name}."
            )

    state = "is set, and was refused" if key.is_set else "is not set"
    return Door(
        place=place,
        messages=f"{base}/v1/messages",
        auth=key,
        ready=ready,
        body={"model": model},
        headers={"anthropic-version": version or VERSION},
        is_priced=True,
        advice=f"The key's variable {key.name} {state}.",
    )


def bedrock_door(
    model: str, *, base_url: str | None, version: str | None, region: str | None
) -> Door:
    """Return the door to a model on Amazon Bedrock. Raises MissingExtra or UsageError."""
    name = f"anthropic:{BEDROCK}{model}"
    # AWS_REGION is what Amazon's own machines set; botocore reads AWS_DEFAULT_REGION alone
    found = region or os.environ.get("AWS_REGION") or _session(name).get_config_variable("region")
    if not found:
        raise UsageError(
            f'{name} needs a region: set AWS_REGION, or region = "us-east-1" under '
            "[backends.anthropic]."
        )
    place = parse_place(
        base_url or f"https://bedrock-runtime.{found}.amazonaws.com",
        example="https://bedrock-runtime.us-east-1.amazonaws.com",
    )
    signature = Signature(name, region=found)
    return Door(
        place=place,
        messages=f"{place.base}/model/{quote(model, safe='')}/invoke",
        auth=signature,
        ready=signature.ready,
        body={"anthropic_version": version or BEDROCK_VERSION},
        advice=f"Have the AWS credentials access to this model in {found}?",
    )


class Signature:
    """Signs requests with AWS credentials, which no frame of ours holds while they are sent."""

    def __init__(self, name: str, *, region: str) -> None:
        self._name = name
        self._region = region

    def __repr__(self) -> str:
        return f"<Signature for {self._region}>"

    def ready(self) -> None:
        """Find the credentials. Raises UsageError where there are none."""
        if self._credentials is None:
            raise UsageError(
                f"{self._name} needs AWS credentials: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )

    def headers(self, method: str, url: str, body: bytes) -> Mapping[str, str]:
        """Return the signature's headers. Raises BackendError where there are no credentials."""
        signed = self._signed(method, url, body)
        names = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        return {name: signed[name] for name in names if name in signed}

    def scrub(self, text: str) -> str:
        """Return `text` without the credentials."""
        found = self._credentials.get_frozen_credentials()
        return hide([found.secret_key, found.token, found.access_key], text)

    @cached_property
    def _credentials(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return _session(self._name).get_credentials()
        except BotoCoreError as exc:  # a profile that does not exist, say
            raise UsageError(f"{self._name}: {exc}") from None

    def _signed(self, method: str, url: str, body: bytes) -> Any:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        # host and content type alone: what a proxy may change on the way is not signed
        signed = AWSRequest(
            method=method, url=url, data=body, headers={"Content-Type": "application/json"}
        )
        try:
            frozen = self._credentials.get_frozen_credentials()
            SigV4Auth(frozen, "bedrock", self._region).add_auth(signed)
        except BotoCoreError as exc:  # credentials that ran out and cannot be had anew
            raise BackendError(f"{self._name}: no AWS credentials: {exc}") from None
        return signed.headers


def _session(name: str) -> Any:
    if importlib.util.find_spec("botocore") is None:
        raise MissingExtra(name, extra="bedrock")
    import botocore.session

    # its debug log holds what is signed, and so the session token
    logging.getLogger("botocore.auth").setLevel(logging.INFO)
    return botocore.session.Session()
