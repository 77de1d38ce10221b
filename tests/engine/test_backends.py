from __future__ import annotations

import asyncio
import math
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from harness import hookimpl
from harness.engine.backends import BackendPool, LiveBackend, describe
from harness.errors import BackendError, MissingExtra, UsageError
from harness.ports.manager import Plugins, PluginWarning
from harness.records import Candidate, Decoding, Message, Reply, Request
from harness.testing import ScriptedBackend

ASK = Request(messages=(Message(role="user", content="hello"),))


def live(answer: Any, **attributes: Any) -> LiveBackend:
    kind = type("Stranger", (), {"answer": staticmethod(answer), **attributes})
    return describe(kind(), name="odd:one")


def said(backend: LiveBackend) -> BackendError:
    with pytest.raises(BackendError) as caught:
        asyncio.run(backend.answer(ASK))
    return caught.value


# ---------------------------------------------------------------- one answer


def test_a_plain_def_an_async_def_and_a_def_that_returns_an_awaitable_all_answer() -> None:
    async def later(request: Request) -> Reply:
        return Reply(text=request.messages[-1].content)

    for answer in (later, lambda r: Reply(text=r.messages[-1].content), lambda r: later(r)):
        assert asyncio.run(live(answer).answer(ASK)).text == "hello"


def test_a_plain_def_runs_beside_the_event_loop() -> None:
    names = []

    def answer(request: Request) -> Reply:
        names.append(threading.current_thread() is threading.main_thread())
        return Reply(text="")

    asyncio.run(live(answer).answer(ASK))
    assert names == [False]


def test_threads_are_used_again() -> None:
    idents = set()

    def answer(request: Request) -> Reply:
        idents.add(threading.get_ident())
        return Reply(text="")

    async def five_in_turn() -> None:
        backend = live(answer)
        for _ in range(5):
            await backend.answer(ASK)

    asyncio.run(five_in_turn())
    assert len(idents) == 1


def test_a_plain_def_sees_the_context_of_who_asks_and_keeps_what_it_sets_to_itself() -> None:
    """mlflow#24702: a ContextVar was lost in the inner pool, and with it the trace."""
    trace: ContextVar[str] = ContextVar("trace", default="lost")
    seen = []

    def answer(request: Request) -> Reply:
        seen.append(trace.get())
        trace.set("left behind")
        return Reply(text="")

    async def three_in_turn() -> None:
        backend = live(answer)
        for _ in range(3):
            await backend.answer(ASK)

    trace.set("mine")
    asyncio.run(three_in_turn())
    assert seen == ["mine"] * 3
    assert trace.get() == "mine"


@pytest.mark.parametrize("error", [KeyError("boom"), SystemExit("boom"), TimeoutError("boom")])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_strangers_exception_names_the_backend_and_what_it_was(
    error: BaseException, is_async: bool
) -> None:
    """A TimeoutError of the backend's own is not our time-out."""

    def plain(request: Request) -> Reply:
        raise error

    async def later(request: Request) -> Reply:
        raise error

    found = said(live(later if is_async else plain, timeout_s=5))
    assert "odd:one" in str(found)
    assert type(error).__name__ in str(found)
    assert "boom" in str(found)
    assert not found.is_systemic
    assert not found.is_retryable


def test_a_plain_def_that_exhausts_an_iterator_is_an_error_and_no_hang() -> None:
    """No future may hold a StopIteration: the reply would be waited for until the time-out."""

    def answer(request: Request) -> Reply:
        return next(iter([]))

    assert "StopIteration" in str(said(live(answer, timeout_s=5)))


def test_a_backend_error_passes_through_as_it_is() -> None:
    error = BackendError("busy", is_retryable=True, retry_after_s=3)

    async def answer(request: Request) -> Reply:
        raise error

    assert said(live(answer)) is error


@pytest.mark.parametrize("is_async", [True, False])
def test_a_reply_that_never_comes_is_given_up_and_holds_nobody_up(is_async: bool) -> None:
    """Neither the loop's end nor the process's waits for a call that hangs."""
    release = threading.Event()

    def plain(request: Request) -> Reply:
        release.wait(30)
        return Reply(text="late")

    async def later(request: Request) -> Reply:
        await asyncio.sleep(30)
        return Reply(text="late")

    begun = time.monotonic()
    found = said(live(later if is_async else plain, timeout_s=0.05))
    spent = time.monotonic() - begun
    release.set()
    assert "no reply within 0.05 s" in str(found)
    assert found.is_systemic
    assert spent < 5


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("text", "answered a str, not a Reply"),
        (None, "answered a NoneType, not a Reply"),
        (Reply(text=None), "text is None, not a text"),  # type: ignore[arg-type]
        (Reply(text=b"x"), "text is b'x', not a text"),  # type: ignore[arg-type]
        (Reply(text="x", latency_s=math.nan), "latency_s is nan, no amount"),
        (Reply(text="x", tool_calls=({"a": object()},)), "not JSON"),
        (Reply(text="x", tool_calls="f"), "tool_calls are no objects"),  # type: ignore[arg-type]
        (Reply(text="x", tool_calls=None), "tool_calls are no objects"),  # type: ignore[arg-type]
        (Reply(text="x", spans=("search",)), "spans are no objects"),
        (Reply(text="x", spans=({"name": "a", "at": {1}},)), "the reply is not JSON"),
        (Reply(text="x", output_tokens=10**400), "no amount"),
        (Reply(text="x", input_tokens="five"), "input_tokens is 'five'"),  # type: ignore[arg-type]
        (Reply(text="x", latency_s="fast"), "latency_s is 'fast'"),  # type: ignore[arg-type]
        (Reply(text="x", cost_usd=-1.0), "cost_usd is -1.0, no amount"),
    ],
)
def test_what_could_not_be_stored_and_read_again_is_an_error_of_the_backend(
    given: Any, why: str
) -> None:
    assert why in str(said(live(lambda request: given)))


def test_half_a_surrogate_pair_is_an_answer() -> None:
    assert asyncio.run(live(lambda r: Reply(text="\ud800")).answer(ASK)).text == "\ud800"


# ---------------------------------------------------------------- what it declares


def test_what_a_backend_does_not_honour_is_refused_by_name() -> None:
    backend = describe(ScriptedBackend([], honours={"stop"}), name="s:m")
    drawn = Decoding(temperature=0.7, seed=1)
    assert backend.refuse(ASK) is None
    assert backend.refuse(Request(messages=(), decoding=Decoding(stop=("x",)))) is None
    assert "schema" in str(backend.refuse(Request(messages=(), schema={"type": "object"})))
    assert "tools" in str(backend.refuse(Request(messages=(), tools=({"name": "t"},))))
    assert "seed" in str(backend.refuse(Request(messages=(), decoding=drawn)))


def test_a_seed_is_refused_of_a_greedy_reply_too() -> None:
    """A server may draw at temperature 0, too: who asks for a seed gets one, or is told."""
    backend = describe(ScriptedBackend([], honours=()), name="s:m")
    assert "seed" in str(backend.refuse(Request(messages=(), decoding=Decoding(seed=1))))


@pytest.mark.parametrize("concurrency", [0, -1, "many", None, 2.5])
def test_a_concurrency_that_is_no_positive_number_is_an_error(concurrency: Any) -> None:
    with pytest.raises(BackendError, match="odd:one: `concurrency` is"):
        live(lambda r: None, concurrency=concurrency)


def test_the_key_covers_everything_that_can_change_an_answer() -> None:
    plain = describe(ScriptedBackend([], identity={"weights": "1"}), name="s:m")
    heavier = describe(ScriptedBackend([], identity={"weights": "2"}), name="s:m")
    tuned = describe(ScriptedBackend([]), name="s:m", artifact="abc")
    warm = Request(messages=ASK.messages, decoding=Decoding(temperature=0.5))
    keys = [
        plain.key(ASK, base_url=None, repeat=0),
        plain.key(ASK, base_url="http://x", repeat=0),
        plain.key(ASK, base_url=None, repeat=1),
        plain.key(warm, base_url=None, repeat=0),
        heavier.key(ASK, base_url=None, repeat=0),
        tuned.key(ASK, base_url=None, repeat=0),
    ]
    assert len(set(keys)) == len(keys)
    assert plain.key(ASK, base_url=None, repeat=0) == keys[0]


# ---------------------------------------------------------------- the pool


class Offers:
    """A plugin whose factories are given."""

    def __init__(self, **factories: Any) -> None:
        self.factories = factories

    @hookimpl
    def harness_backends(self) -> dict[str, Any]:
        return self.factories


def pool_of(**factories: Any) -> BackendPool:
    plugins = Plugins()
    plugins.register(Offers(**factories), name="offers")
    return BackendPool(plugins, artifact_folder=lambda digest: Path("shelf") / digest)


def test_a_backend_is_made_once_for_each_model_artifact_and_place() -> None:
    made = []

    def make(config: Any) -> ScriptedBackend:
        made.append(config)
        return ScriptedBackend([])

    pool = pool_of(s=make)
    for _ in range(2):
        pool.get(Candidate(name="a", backend="s:m", prompt="one"))
        pool.get(Candidate(name="b", backend="s:m", artifact="abc"))
        pool.get(Candidate(name="c", backend="s:m", base_url="http://x"))
    assert [(c.model, c.base_url, c.artifact) for c in made] == [
        ("m", None, None),
        ("m", None, Path("shelf/abc")),
        ("m", "http://x", None),
    ]


def test_a_persons_time_out_and_concurrency_hold_for_any_backend_and_are_no_identity() -> None:
    """The backend is not told of them as options, which it may refuse; it may read them."""
    made = []

    def make(config: Any) -> ScriptedBackend:
        made.append(config)
        return ScriptedBackend([], concurrency=4)

    wishes = {"timeout_s": 2.5, "concurrency": 7, "dtype": "float32"}
    plain = Candidate(name="a", backend="s:m", options={"dtype": "float32"})
    quick = Candidate(name="b", backend="s:m", options=wishes)
    pool = pool_of(s=make)
    before, after = pool.get(plain), pool.get(quick)
    assert (before.concurrency, before.timeout_s) == (4, 600.0)
    assert (after.concurrency, after.timeout_s) == (7, 2.5)
    assert made[1].options == {"dtype": "float32"}
    assert (made[1].timeout_s, made[1].concurrency) == (2.5, 7)
    assert plain.digest == quick.digest
    assert before.key(ASK, base_url=None, repeat=0) == after.key(ASK, base_url=None, repeat=0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout_s", 0),
        ("timeout_s", -1.0),
        ("timeout_s", "long"),
        ("timeout_s", math.nan),
        ("timeout_s", True),
        ("concurrency", 0),
        ("concurrency", 2.5),
    ],
)
def test_a_wish_that_is_no_positive_number_is_a_usage_error(option: str, value: Any) -> None:
    pool = pool_of(s=lambda config: ScriptedBackend([]))
    with pytest.raises(UsageError, match=f"s:m: option {option} = "):
        pool.get(Candidate(name="a", backend="s:m", options={option: value}))


def test_the_pool_closes_what_it_made_once() -> None:
    backend = ScriptedBackend([])
    pool = pool_of(s=lambda config: backend)
    pool.get(Candidate(name="a", backend="s:m"))
    pool.close()
    assert backend.is_closed
    pool.close()


def test_a_backend_that_cannot_be_closed_holds_up_no_other() -> None:
    class Stuck(ScriptedBackend):
        def close(self) -> None:
            raise OSError("the socket is gone")

    last = ScriptedBackend([])
    pool = pool_of(s=lambda config: Stuck([]), t=lambda config: last)
    for scheme in ("s", "t"):
        pool.get(Candidate(name="a", backend=f"{scheme}:m"))
    with pytest.warns(PluginWarning, match="s:m could not be closed: OSError: the socket is gone"):
        pool.close()
    assert last.is_closed


def test_an_unknown_scheme_names_the_known_ones_and_the_command_that_lists_them() -> None:
    with pytest.raises(UsageError, match=r"no backend 'zz'\. Known: s\. Run `harness plugins`"):
        pool_of(s=ScriptedBackend).get(Candidate(name="a", backend="zz:m"))


def test_a_scheme_without_a_model_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no model after 's':"):
        pool_of(s=ScriptedBackend).get(Candidate(name="a", backend="s"))


def test_what_a_factory_raises_on_purpose_passes_and_any_other_exception_is_named() -> None:
    def lacks(config: Any) -> Any:
        raise MissingExtra("local:", extra="local")

    def breaks(config: Any) -> Any:
        raise TypeError("boom")

    pool = pool_of(lacks=lacks, breaks=breaks)
    with pytest.raises(MissingExtra, match=r"pip install 'tuning-harness\[local\]'"):
        pool.get(Candidate(name="a", backend="lacks:m"))
    with pytest.raises(BackendError, match="breaks:m cannot be made: TypeError: boom"):
        pool.get(Candidate(name="a", backend="breaks:m"))
