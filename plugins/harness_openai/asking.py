"""Asks the other endpoints of a server of OpenAI's API: files, and what works on them.

Knows nothing of batches and trainings.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from harness_http.answers import Answer

from harness import BackendError
from harness_openai import failures
from harness_openai.streaming import read_event
from harness_openai.tokens import CountingBackend

LOOK_AGAIN_S = 1.0
LOOKS = 120  # at a file that the server still checks
_READING = {"pending", "running", "uploading"}  # Azure checks a file before it may be used


class AskingBackend(CountingBackend):
    """An `openai:` backend whose server takes files."""

    async def _upload(self, data: bytes, *, purpose: str) -> str:
        """Hand a file in, wait until it was read, and return its id."""
        form, content_type = _form(data, purpose=purpose)
        uploaded = await self._asked("POST", "/files", form, content_type=content_type)
        file_id = text_in(uploaded, "id", base=self.address.base)
        for _ in range(LOOKS):
            if uploaded.get("status") not in _READING:
                return file_id
            await asyncio.sleep(LOOK_AGAIN_S)
            uploaded = await self._asked("GET", f"/files/{file_id}")
        raise BackendError(f"{self.address.base} still reads the file {file_id}", is_retryable=True)

    async def _file(self, file_id: object) -> bytes:
        return (await self._sent("GET", f"/files/{file_id}/content")).body

    async def _asked(
        self, method: str, path: str, body: bytes = b"", *, content_type: str | None = None
    ) -> Mapping[str, Any]:
        answer = await self._sent(method, path, body, content_type=content_type)
        found = read_event(answer.body)
        if found is None:
            raise failures.of_garbage(answer, address=self.address, key=self._key)
        return found

    async def _sent(
        self, method: str, path: str, body: bytes = b"", *, content_type: str | None = None
    ) -> Answer:
        url = self.address.at(path)
        answer = await self._exchange.client.send(method, url, body, content_type=content_type)
        if not answer.is_success:
            raise failures.of_status(answer, address=self.address, key=self._key)
        return answer


def text_in(answer: Mapping[str, Any], name: str, *, base: str) -> str:
    """Return a text that an answer must hold. Raises BackendError where it does not."""
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise BackendError(f"{base} answered without {name!r}: is it OpenAI's API?")
    return value


def _form(data: bytes, *, purpose: str) -> tuple[bytes, str]:
    """The form of a file, and its content type.

    Source: RFC 7578; the boundary, a digest of the file, stands nowhere in it.
    """
    boundary = hashlib.sha256(data).hexdigest()
    fields = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="harness.jsonl"'
        "\r\nContent-Type: application/jsonl\r\n\r\n"
    )
    form = b"".join((fields.encode(), data, f"\r\n--{boundary}--\r\n".encode()))
    return form, f"multipart/form-data; boundary={boundary}"
