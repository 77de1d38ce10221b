"""The engine without pytest: URL N FOLDER. Prints the seconds of the fetch alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import harness.engine.sending  # noqa: F401 - the fetch imports it; the client is timed, this not
from harness.engine.backends import describe
from harness.engine.fetch import Ask, Silence, fetch
from harness.ports.backends import BackendConfig
from harness.ports.manager import Plugins
from harness.records import Message, Request
from harness.store.store import Store

url, total, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
make = Plugins().load().owner("harness_backends", "openai")
live = describe(make(BackendConfig(model="stub", base_url=url)), name="openai:stub")
asks = []
for n in range(total):
    request = Request(messages=(Message(role="user", content=f"Say this word: word{n}"),))
    asks.append(Ask(key=live.key(request, base_url=url, repeat=0), request=request, live=live))
with Store.open(folder / "engine.db") as store:
    start = time.perf_counter()
    outcomes = fetch(asks, store=store, progress=Silence())
    print(f"{time.perf_counter() - start:.4f}")
    assert all(o.reply is not None for o in outcomes.values())
