"""A chat server that answers after a fixed time, and knows how many requests it held at once.

Run as `python server.py PORT SECONDS`; `GET /stats` tells and resets `{"served", "peak"}`. It is
a protocol of its own and no framework, so that it takes little of the machine it measures. What it
will say is made while the time runs, and it waits by `select`, which knows microseconds: with
epoll each answer came up to a millisecond late.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import sys


class Chat(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    seconds = 0.02
    in_flight = 0
    peak = 0
    served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            mark = head.find(b"content-length:")
            length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            if head.startswith(b"get /stats"):
                self.write({"served": Chat.served, "peak": Chat.peak})
                Chat.served = Chat.peak = 0
            elif head.startswith(b"get"):
                self.write({"object": "list", "data": [{"id": "stub", "object": "model"}]})
            else:
                Chat.in_flight += 1
                Chat.peak = max(Chat.peak, Chat.in_flight)
                loop = asyncio.get_running_loop()
                when = loop.time() + Chat.seconds
                loop.call_at(when, self.answer, answer_to(body))

    def answer(self, data: bytes) -> None:
        Chat.in_flight -= 1
        Chat.served += 1
        self.transport.write(data)

    def write(self, value: object) -> None:
        self.transport.write(to_http(value))


def answer_to(body: bytes) -> bytes:
    asked = json.loads(body)
    question = asked["messages"][-1]["content"]
    if not isinstance(question, str):
        question = question[-1]["text"]
    message = {"role": "assistant", "content": question.strip().rsplit(" ", 1)[-1]}
    return to_http(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": asked.get("model", "stub"),
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
        }
    )


def to_http(value: object) -> bytes:
    data = json.dumps(value).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


async def serve(port: int, seconds: float) -> None:
    Chat.seconds = seconds
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", port, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2])))
