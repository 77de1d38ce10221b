"""`--max-cost` against servers and functions that cost something where they need not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from harness_anthropic import backend as anthropic
from harness_apps import make_python
from harness_openai import backend as openai
from harness_openai.prices import load_prices

from harness import BackendConfig, Message, Request, UsageError
from harness.engine import spending as spending_of
from harness.engine.backends import LiveBackend, describe
from harness.engine.boundary import zone_of
from harness.engine.fetch import Ask, Outcome, fetch, was_not_asked
from harness.engine.spending import Spending
from harness.testing import temporary_store
from tests.engine.test_fetch import Told
from tests.plugins.loopback import Answer, Loopback, Seen, completion, loopback

CENT = 10_000  # tokens that cost a cent by the prices below
PRICES = """
[[price]]
host = "127.0.0.1"
model = "m"
input = 1.0
output = 1.0
as_of = 2026-11-23
source = "a test"
"""


class Meter:
    """A server whose replies cost a cent, but each tenth of them 1.6. The first is answered alone,
    the next only once 32 are open; `most` were open at once.
    """

    def __init__(self) -> None:
        self.cents = 0.0
        self.most = self._open = 0
        self._lock, self._is_full = threading.Lock(), threading.Event()

    def __call__(self, seen: Seen) -> Answer:
        number = int(seen.body["messages"][-1]["content"])
        cents = 1.6 if number % 10 == 0 else 1.0
        with self._lock:
            is_first = not self.cents
            self.cents += cents
            self._open += 1
            self.most = max(self.most, self._open)
            if self._open == 32:
                self._is_full.set()
        if not is_first:
            self._is_full.wait(2)
        time.sleep(0.01)
        with self._lock:
            self._open -= 1
        usage = {"prompt_tokens": 0, "completion_tokens": int(cents * CENT)}
        return Answer(body=completion(str(number)) | {"usage": usage})


def slow_cent() -> Answer:
    time.sleep(0.02)
    usage = {"prompt_tokens": 0, "completion_tokens": CENT}
    return Answer(body=completion("1") | {"usage": usage})


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as served:
        served.answer = Meter()
        yield served


def asked(server: Loopback, model: str = "m") -> LiveBackend:
    config = BackendConfig(model=model, base_url=server.base_url, concurrency=32)
    return describe(openai.OpenAIBackend(config), name=f"openai:{model}")


def ask(
    live: LiveBackend, n: int, folder: Path, *, cap: float, is_forecast: bool = True
) -> tuple[dict[str, Outcome], Spending, Told]:
    requests = [Request(messages=(Message(role="user", content=str(k)),)) for k in range(n)]
    asks = [
        Ask(key=live.key(r, base_url=None, repeat=0), request=r, live=live, case=f"c{k}")
        for k, r in enumerate(requests)
    ]
    spending, told = Spending(cap_usd=cap, is_forecast=is_forecast), Told()
    with temporary_store(folder) as store:
        return fetch(asks, store=store, progress=told, spending=spending), spending, told


@pytest.fixture
def priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(PRICES)
    monkeypatch.setattr(openai, "load_prices", partial(load_prices, file))


@pytest.mark.usefixtures("priced")
def test_a_server_at_home_that_has_a_price_is_held_to_the_cap_with_32_in_flight(
    server: Loopback, tmp_path: Path
) -> None:
    live = asked(server)
    found, spending, told = ask(live, 300, tmp_path, cap=1.5)
    meter = server.answer
    assert isinstance(meter, Meter)
    assert meter.most == 32
    assert spending.spent_usd == pytest.approx(meter.cents / 100)
    assert 1.48 <= spending.spent_usd <= 1.5 + 0.006  # what one reply costs more than a cent
    held = [o for o in found.values() if was_not_asked(o.fault)]
    assert len(held) == 300 - len(server.seen) > 100
    assert (told.got, sum(told.advanced.values())) == (len(server.seen), 300)
    assert zone_of(live) == "inside"  # what is sent stays here, whatever it costs


@pytest.mark.usefixtures("priced")
def test_nothing_is_sent_before_the_first_cost_is_known(server: Loopback, tmp_path: Path) -> None:
    """All 32 went out at once, and 0.20 was passed by as much again."""
    server.answer = lambda _: slow_cent()
    _, spending, _ = ask(asked(server), 40, tmp_path, cap=0.20)
    assert len(server.seen) == 20
    assert spending.spent_usd == pytest.approx(0.20)


@pytest.mark.usefixtures("priced")
def test_a_price_at_home_makes_a_forecast_and_none_is_sent_above_the_cap(
    server: Loopback, tmp_path: Path
) -> None:
    server.answer = lambda _: slow_cent()
    with pytest.raises(UsageError, match=r"the forecast is \$0\.40 "):
        ask(asked(server), 40, tmp_path, cap=0.20, is_forecast=False)
    assert len(server.seen) == 10


@pytest.mark.usefixtures("priced")
def test_a_server_that_hangs_is_asked_three_times_and_no_more(
    server: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 40 requests waited for its whole time-out, one after the other."""
    monkeypatch.setattr(spending_of, "LONG_S", 0.1)
    end = threading.Event()

    def hang(seen: Seen) -> Answer:
        end.wait(20)
        return Answer(body=completion())

    server.answer = hang
    config = BackendConfig(model="m", base_url=server.base_url, timeout_s=0.3)
    live = describe(openai.OpenAIBackend(config), name="openai:m")
    try:
        found, spending, told = ask(live, 40, tmp_path, cap=1.0, is_forecast=False)
    finally:
        end.set()
    assert len(server.seen) == 3
    assert spending.spent_usd == 0
    said = [o.fault.message for o in found.values() if o.fault]
    assert len(said) == 40
    assert sum("3 requests in a row had no reply" in one for one in said) == 37
    assert all(f"no answer from {server.base_url} within 0.3 s" in one for one in said)
    assert sum("no reply after 0.1 s" in note for note in told.notes) == 1


@pytest.mark.usefixtures("priced")
def test_a_server_at_home_without_a_price_costs_nothing(server: Loopback, tmp_path: Path) -> None:
    found, spending, _ = ask(asked(server, "other"), 60, tmp_path, cap=0.0, is_forecast=False)
    assert all(o.reply for o in found.values())
    assert spending.spent_usd == 0


def test_a_gateway_to_anthropic_at_home_costs_something_where_it_has_a_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [price, *_] = anthropic.load_prices().values()
    config = BackendConfig(model=price.model, base_url="http://127.0.0.1:9")
    assert describe(anthropic.AnthropicBackend(config), name="a:m").costs_nothing
    at_home = {("127.0.0.1", price.model): price}
    monkeypatch.setattr(anthropic, "load_prices", lambda: at_home)
    live = describe(anthropic.AnthropicBackend(config), name="a:m")
    assert (live.stays_inside, live.costs_nothing) == (True, False)


APP = """
from harness import Reply

def tells(text):
    return Reply(text=text, cost_usd=0.01)

def silent(text):
    return text

def at_home(text):
    return Reply(text=text, cost_usd=0.01)

tells.is_external = silent.is_external = True
at_home.is_external = False
"""


def function(folder: Path, name: str) -> Any:
    module = f"capped_{name}"  # a loaded module is not loaded again from another folder
    (folder / f"{module}.py").write_text(APP)
    config = BackendConfig(model=f"{module}:{name}", folder=folder)
    return describe(make_python(config), name=f"python:{module}:{name}")


@pytest.mark.parametrize("name", ["tells", "at_home"])
def test_a_function_that_tells_its_cost_is_capped(tmp_path: Path, name: str) -> None:
    found, spending, told = ask(function(tmp_path, name), 40, tmp_path, cap=0.20)
    assert spending.spent_usd == pytest.approx(0.20)
    assert sum(o.reply is None for o in found.values()) == 20
    assert told.notes == []


def test_a_function_that_tells_none_is_told_where_to_after_one_request(tmp_path: Path) -> None:
    live = function(tmp_path, "silent")
    with pytest.raises(UsageError) as caught:
        ask(live, 40, tmp_path, cap=0.20)
    said = str(caught.value)
    assert '{"text": ..., "cost_usd": ...}' in said
    assert "silent.is_external = False" in said
    assert '`costs_nothing = true` under [backends."python:capped_silent:silent"]' in said
