"""A coroutine that blocks costs its own request, and no other."""

from __future__ import annotations

import asyncio
import inspect
import pdb
import signal
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from harness.engine import lanes, pulse
from harness.engine.backends import describe
from harness.engine.fetch import Ask
from harness.engine.pulse import CURE, Pulse
from harness.records import Reply, Request
from harness.store.store import Store
from harness.testing import temporary_store
from tests.engine.test_fetch import Told, ask_for, asks

LIMIT_S = 0.3
FOREVER_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything ten times as fast."""
    monkeypatch.setattr(pulse, "TICK_S", 0.025)
    monkeypatch.setattr(pulse, "HELD_S", 0.1)
    monkeypatch.setattr(pulse, "FIRST_S", 0.5)


Answer = Callable[[str], Awaitable[str]]


def backend(answer: Answer, n: int, *, name: str, first: int = 0, **said: Any) -> list[Ask]:
    class Odd:
        timeout_s = LIMIT_S
        concurrency = 4

        async def answer(self, request: Request) -> Reply:
            began = time.perf_counter()
            text = await answer(request.messages[-1].content)
            return Reply(text=text, latency_s=time.perf_counter() - began)

    for key, value in said.items():
        setattr(Odd, key, value)
    return asks(describe(Odd(), name=name), n, first=first)


async def waits(text: str) -> str:
    await asyncio.sleep(0.05)
    return text


def line_of(function: Callable[..., Any], code: str) -> int:
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if code in line)


def here(line: int) -> str:
    return f"{Path(__file__).relative_to(Path.cwd())}:{line}"


@pytest.mark.parametrize("is_asleep", [True, False])
def test_who_blocks_for_ever_fails_in_time_and_the_others_are_answered(
    store: Store, is_asleep: bool
) -> None:
    async def blocks(text: str) -> str:
        if text == "q2" and is_asleep:
            time.sleep(FOREVER_S)
        while text == "q2":
            pass
        return text

    bad = backend(blocks, 5, name="bad:m")
    others = backend(waits, 12, name="good:m", timeout_s=0.2)
    begun = time.monotonic()
    found = ask_for(store, [*others, *bad])
    assert time.monotonic() - begun < 5
    fault = found[bad[2].key].fault
    line = line_of(blocks, "time.sleep" if is_asleep else "pass")
    assert fault is not None
    assert fault.message.startswith(f"bad:m: no reply within {LIMIT_S:g} s: its `async def` blocks")
    assert here(line).split(":")[0] in fault.message
    assert fault.message.endswith(CURE)
    if is_asleep:
        assert f" at {here(line)};" in fault.message
    assert not fault.is_missing, "it is the application that does not answer"
    rest = [a for a in [*bad, *others] if a is not bad[2]]
    assert all(found[a.key].reply for a in rest), "though their own limit is over by then"
    assert len(store.known_replies([a.key for a in rest])) == len(rest)


def test_the_place_is_the_coroutine_s_line_and_the_one_that_it_called(store: Store) -> None:
    def search() -> None:
        time.sleep(FOREVER_S)

    async def inner(text: str) -> str:
        search()
        return text

    async def blocks(text: str) -> str:
        return await inner(text)

    [ask] = backend(blocks, 1, name="bad:m")
    fault = ask_for(store, [ask])[ask.key].fault
    lines = here(line_of(inner, "search()")), line_of(search, "time.sleep")
    assert fault is not None
    assert f" blocks at {lines[0]} (line {lines[1]}); " in fault.message


def test_neither_a_try_again_nor_a_task_of_its_own_keeps_it_from_ending(store: Store) -> None:
    async def insists(text: str) -> str:
        while True:
            try:
                time.sleep(FOREVER_S)
            except Exception:  # noqa: BLE001 - as people write it
                continue

    async def apart(text: str) -> str:
        async def sleeps() -> str:
            time.sleep(FOREVER_S)
            return text

        return (await asyncio.gather(waits(text), sleeps()))[0]

    some = [*backend(insists, 1, name="bad:m"), *backend(apart, 1, name="worse:m")]
    found = ask_for(store, some)
    faults = [found[ask.key].fault for ask in some]
    assert all(f and f.message.endswith(CURE) for f in faults), faults


def test_one_that_blocks_now_and_then_is_named_where_it_is_late(store: Store) -> None:
    async def lingers(text: str) -> str:
        time.sleep(0.2)
        await asyncio.sleep(FOREVER_S)
        return text

    [ask] = backend(lingers, 1, name="bad:m")
    fault = ask_for(store, [ask])[ask.key].fault
    assert fault is not None
    assert f"blocks at {here(line_of(lingers, 'time.sleep'))}; " in fault.message


def test_a_backend_that_never_answers_is_down_after_three(store: Store) -> None:
    """Each costs all others its whole limit: they would wait for a thousand of them."""
    came: list[str] = []

    async def blocks(text: str) -> str:
        came.append(text)
        time.sleep(FOREVER_S)
        return text

    some, told = backend(blocks, 40, name="bad:m"), Told()
    others = backend(waits, 12, name="good:m", timeout_s=0.2)
    found = ask_for(store, [*some, *others], told)
    assert came == ["q0", "q1", "q2"]
    faults = [found[ask.key].fault for ask in some]
    assert [f.is_missing for f in faults if f] == [False] * 3 + [True] * 37
    assert all(found[ask.key].reply for ask in others)
    assert "bad:m is down: bad:m: no reply within" in told.notes[-1]


def test_between_two_that_block_the_others_have_their_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "REST_S", 0.3)
    came: list[float] = []

    async def blocks(text: str) -> str:
        if text != "q0":
            time.sleep(FOREVER_S)
        return text

    async def tells(text: str) -> str:
        answered = await waits(text)
        came.append(time.monotonic())
        return answered

    begun = time.monotonic()
    bad = backend(blocks, 5, name="bad:m")
    ask_for(store, [*bad, *backend(tells, 6, name="good:m", concurrency=3)])
    assert max(came) - begun < 2.5 * LIMIT_S + 0.4 < time.monotonic() - begun


# ---------------------------------------------------------------- told early


def test_a_habit_is_told_once_and_what_a_first_call_loads_is_none(store: Store) -> None:
    async def blocks(text: str) -> str:
        time.sleep(0.2)
        return text

    def notes(n: int, *, first: int) -> list[str]:
        told = Told()
        some = asks(live, n, first=first)
        assert all(o.reply for o in ask_for(store, some, told).values())
        return told.notes

    live = backend(blocks, 1, name="slow:m")[0].live
    assert notes(1, first=0) == []
    place = here(line_of(blocks, "time.sleep"))
    assert notes(3, first=1) == [f"slow:m holds up all other requests at {place}: {CURE}"]
    assert notes(3, first=4) == []


def test_the_first_that_blocks_for_long_is_told_while_it_does(store: Store) -> None:
    told, heard = Told(), []

    async def blocks(text: str) -> str:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            heard.append(len(told.notes))
        return text

    ask_for(store, backend(blocks, 1, name="slow:m", timeout_s=9), told)
    assert (heard[0], heard[-1]) == (0, 1)


def test_who_waited_meanwhile_has_no_latency(store: Store) -> None:
    async def blocks(text: str) -> str:
        time.sleep(0.2)
        return text

    held = backend(waits, 2, name="good:m", only_waits=True)
    found = ask_for(store, [*held, *backend(blocks, 1, name="slow:m")])
    latencies = [found[ask.key].reply.latency_s for ask in held]  # type: ignore[union-attr]
    assert latencies == [None, None], "nobody knows when the reply came"
    own = [o.reply for o in found.values() if o.key not in {ask.key for ask in held}]
    assert [r.latency_s >= 0.2 for r in own if r and r.latency_s] == [True]


# ---------------------------------------------------------------- whose alarm it is


def test_who_is_asked_while_a_commit_waits_is_not_late_for_it(store: Store) -> None:
    """It waits for a lock within C, where no alarm rings, for longer than anybody may take."""
    other = sqlite3.connect(store.path, check_same_thread=False, isolation_level=None)

    async def answer(text: str) -> str:
        if text.endswith("0"):
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(3 * LIMIT_S, other.execute, ("ROLLBACK",)).start()
        else:
            await asyncio.sleep(LIMIT_S / 2)
        return text

    with closing(other):
        found = ask_for(store, backend(answer, 4, name="odd:it"))
    assert [o.fault for o in found.values()] == [None] * 4


def test_one_ctrl_c_ends_it(store: Store) -> None:
    """asyncio keeps the first one until the loop turns, which it does not."""
    main = threading.main_thread().ident or 0

    async def blocks(text: str) -> str:
        if text == "q4":
            threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
        if text > "q3":
            time.sleep(FOREVER_S)
        return text

    some = backend(blocks, 9, name="bad:m", timeout_s=FOREVER_S, concurrency=8)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_for(store, some)
    assert time.monotonic() - begun < 5
    assert set(store.known_replies([ask.key for ask in some])) == {ask.key for ask in some[:4]}


def test_the_alarm_is_given_back_as_it_was_and_taken_from_nobody(store: Store) -> None:
    rung: list[int] = []

    def mine(number: int, frame: object) -> None:
        rung.append(number)

    def handlers() -> list[object]:
        seen: list[object] = []

        async def looks(text: str) -> str:
            seen.append(signal.getsignal(signal.SIGALRM))
            return text

        ask_for(store, backend(looks, 1, name="s:m", first=len(rung) + 7), None)
        return [*seen, signal.getsignal(signal.SIGALRM)]

    before = signal.signal(signal.SIGALRM, mine)
    try:
        during, after = handlers()
        assert isinstance(getattr(during, "__self__", None), Pulse)
        assert after is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while not rung:
            time.sleep(0.01)
        signal.setitimer(signal.ITIMER_REAL, 30.0)
        assert handlers() == [mine, mine]
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 25
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_who_looks_into_it_with_a_debugger_has_all_the_time(store: Store) -> None:
    class Person(StringIO):
        def readline(self, *_: Any) -> str:
            time.sleep(1.0)
            return "c\n"

    async def debugged(text: str) -> str:
        pdb.Pdb(stdin=Person(), stdout=StringIO(), nosigint=True).set_trace()
        return text

    told = Told()
    some = [*backend(debugged, 1, name="s:m"), *backend(waits, 1, name="good:m", timeout_s=0.2)]
    assert all(o.reply for o in ask_for(store, some, told).values())
    assert told.notes == []


def test_beside_the_main_thread_all_is_asked_without_an_alarm(tmp_path: Path) -> None:
    found: list[Any] = []

    def work() -> None:
        with temporary_store(tmp_path) as opened:
            found.extend(ask_for(opened, backend(waits, 3, name="s:m")).values())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len([o for o in found if o.reply]) == 3
