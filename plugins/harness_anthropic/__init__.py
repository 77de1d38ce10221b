"""The `anthropic:` backend: Anthropic's Messages API, natively and on Bedrock. Knows no task.

`anthropic:MODEL` asks `--base-url`, else `ANTHROPIC_BASE_URL`, else api.anthropic.com, with the
key in `ANTHROPIC_API_KEY`. `anthropic:bedrock/MODEL` asks Amazon Bedrock, signed with the AWS
credentials of this machine (extra `bedrock`). What each model obeys is written in `models.toml`.
No hosted API was seen by these tests: a server on this machine stands in for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness import BackendConfig, hookimpl

if TYPE_CHECKING:
    from harness_anthropic.backend import AnthropicBackend


def make_backend(config: BackendConfig) -> AnthropicBackend:
    """Return the backend of `config`. Raises UsageError for a bad address, option or key."""
    from harness_anthropic.backend import AnthropicBackend, BatchingBackend

    is_bedrock = config.model.startswith("bedrock/")
    return AnthropicBackend(config) if is_bedrock else BatchingBackend(config)


@hookimpl
def harness_backends() -> Mapping[str, object]:
    """Own the scheme `anthropic`."""
    return {"anthropic": make_backend}
