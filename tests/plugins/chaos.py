"""A server that misbehaves at random, by a seed, and a client that is killed while it asks it."""

from __future__ import annotations

import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from harness.store.store import Store
from tests.plugins.listening import listening
from tests.plugins.loopback import completion

IN_FLIGHT = 32
UNSAVED_S = 1.5  # replies are saved every 0.2 s; a busy machine is late
FLOOD = 1_000_000
WAYS = {
    "busy": 0.06,
    "broken": 0.05,
    "html": 0.02,
    "reset": 0.05,
    "hang": 0.01,
    "cut": 0.03,
    "flood": 0.03,
}
CHILD = """
import json, sys
from harness import BackendConfig, Message, Request
from harness.engine.backends import describe
from harness.engine.fetch import Ask, Silence, fetch
from harness.store.store import Store
from harness_openai import make_backend

url, place, n, timeout_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
live = describe(
    make_backend(BackendConfig(model="m", base_url=url, timeout_s=timeout_s)), name="openai:m"
)
asks = []
for k in range(n):
    request = Request(messages=(Message(role="user", content=f"q{k}"),))
    asks.append(Ask(key=live.key(request, base_url=url, repeat=0), request=request, live=live))
with Store.open(place) as store:
    found = fetch(asks, store=store, progress=Silence(), wait=lambda n: 0.05 * n)
    print(json.dumps([
        [a.request.messages[0].content, o.reply and o.reply.text, o.fault and o.fault.message]
        for a in asks for o in [found[a.key]]
    ]))
live.threads.close()
"""


@dataclass(kw_only=True)
class Chaos:
    """What a server saw and did; `good` holds when it sent each whole answer."""

    base_url: str = ""
    seed: int = 0
    latency_s: float = 0.05
    timeout_s: float = 1.0
    seen: int = 0
    open: int = 0
    peak: int = 0
    did: Counter[str] = field(default_factory=Counter)
    good: list[tuple[float, str]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, text: str) -> tuple[str, float]:
        """What happens to this try at `text`: the same in every run of the same seed."""
        with self.lock:
            self.seen += 1
            self.tries[text] += 1
            source = random.Random(f"{self.seed} {text} {self.tries[text]}")
            way = source.choices([*WAYS, "well"], [*WAYS.values(), 1 - sum(WAYS.values())])[0]
            self.did[way] += 1
        return way, self.latency_s * source.uniform(0.5, 1.5)


def full_answer(text: str, way: str) -> str:
    return f"re: {text}" + ("x" * FLOOD if way == "flood" else "")


@contextmanager
def chaos(*, seed: int, latency_s: float, timeout_s: float) -> Iterator[Chaos]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = Chaos(seed=seed, latency_s=latency_s, timeout_s=timeout_s)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            way, pause_s = state.choose(text)
            with state.lock:
                state.open += 1
                state.peak = max(state.peak, state.open)
            try:
                over.wait(pause_s)
                self.misbehave(way, text)
            finally:
                with state.lock:
                    state.open -= 1

        def misbehave(self, way: str, text: str) -> None:
            if way == "busy":
                self.say(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "50"})
            elif way == "broken":
                self.say(500, {"error": {"message": "oops"}})
            elif way == "html":
                self.say(200, b"<html>welcome</html>", {"Content-Type": "text/html"})
            elif way == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
            elif way == "hang":
                over.wait(state.timeout_s + 1)
                self.close_connection = True
            elif way == "cut":
                data = json.dumps(completion(full_answer(text, way))).encode()
                self.head(200, len(data), {})
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            else:
                self.say(200, completion(full_answer(text, way)))
                with state.lock:
                    state.good.append((time.monotonic(), text))

        def say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.head(status, len(data), headers or {})
            self.wfile.write(data)

        def head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as address:
        state.base_url = f"{address}/v1"
        try:
            yield state
        finally:
            over.set()


def client(state: Chaos, store: Path, n: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, state.base_url, str(store), str(n), str(state.timeout_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(store: Path) -> list[tuple[str, str]]:
    """Return what was asked and what was answered of every stored reply."""
    with Store.open(store, read_only=True) as opened, opened.reading() as connection:
        rows = connection.execute(
            "SELECT requests.body, replies.body FROM replies "
            "JOIN requests ON requests.digest = replies.request_digest"
        ).fetchall()
    return [(json.loads(q)["messages"][0]["content"], json.loads(a)["text"]) for q, a in rows]


def survive(
    store: Path, *, n: int, kills_at: list[int], seed: int, latency_s: float, timeout_s: float
) -> Chaos:
    """Ask for `n` replies, be killed once the server has seen so many requests, and go on.

    Asserts that nothing is lost, doubled or asked more often than what was lost can explain.
    """
    with chaos(seed=seed, latency_s=latency_s, timeout_s=timeout_s) as state:
        lost = 0
        for limit in kills_at:
            process = client(state, store, n)
            deadline = time.monotonic() + 120
            while state.seen < limit:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, state
                time.sleep(0.005)
            process.kill()
            at = time.monotonic()
            process.communicate()
            while state.open and time.monotonic() < at + 10:  # what it left at the server
                time.sleep(0.01)
            kept = {text for text, _ in stored(store)} if store.exists() else set()
            with state.lock:
                late = [t for t, text in state.good if text not in kept and t > at - UNSAVED_S]
                gone = [text for _, text in state.good if text not in kept]
            assert len(set(gone)) - lost <= len(late) + IN_FLIGHT
            lost = len(gone)
        before = state.seen
        left = n - len(stored(store))
        process = client(state, store, n)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        outcomes = json.loads(out)
        # each request has one reply, or one fault that says what happened
        assert [q for q, _, _ in outcomes] == [f"q{k}" for k in range(n)]
        assert all((reply is None) != (fault is None) for _, reply, fault in outcomes)
        told = [fault for _, _, fault in outcomes if fault]
        assert all(
            "not a chat completion" in f or "no answer from" in f or "(4 tries)" in f for f in told
        ), told
        known = stored(store)
        assert len(known) == len({q for q, _ in known}) == n - len(told)
        assert all(a in {f"re: {q}", full_answer(q, "flood")} for q, a in known)
        assert dict(known) == {q: reply for q, reply, _ in outcomes if reply}
        # the last run asked for what was not stored, and for what went wrong once more
        bad = state.seen - len(state.good)
        assert state.seen - before <= left + bad
        assert state.seen <= n + bad + lost + len(kills_at) * IN_FLIGHT
        assert state.peak <= IN_FLIGHT + 4  # those that hang on after a kill are waited for
        return state
