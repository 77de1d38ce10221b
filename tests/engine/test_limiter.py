from __future__ import annotations

import asyncio

from harness.engine.limiter import Limiter


async def burst(limiter: Limiter, n: int, *, fails: bool) -> None:
    """Send `n` requests that are all in flight together, as far as the limiter lets them."""

    async def one() -> None:
        async with limiter:
            await asyncio.sleep(0.002)
        limiter.shrink() if fails else limiter.grow()

    await asyncio.gather(*(one() for _ in range(n)))


def test_it_starts_at_the_ceiling_and_never_exceeds_it() -> None:
    limiter = Limiter(5)
    asyncio.run(burst(limiter, 40, fails=False))
    assert limiter.peak == 5
    assert limiter.limit == 5
    assert limiter.in_flight == 0


def test_a_burst_of_refusals_halves_it_once() -> None:
    """The sixteen were sent before the first was refused: they say one thing, not sixteen."""
    limiter = Limiter(16)
    asyncio.run(burst(limiter, 16, fails=True))
    assert limiter.limit == 8


def test_a_second_round_of_refusals_halves_it_again_and_it_never_falls_below_one() -> None:
    async def rounds(limiter: Limiter) -> list[float]:
        limits = []
        for _ in range(7):
            await burst(limiter, max(1, int(limiter.limit)), fails=True)
            limits.append(limiter.limit)
        return limits

    limits = asyncio.run(rounds(Limiter(8)))
    assert limits[:2] == [4, 2]
    assert limits[-1] == 1


def test_success_grows_it_by_one_for_each_round() -> None:
    async def shrink_then_grow() -> tuple[float, float]:
        limiter = Limiter(16)
        await burst(limiter, 16, fails=True)
        low = limiter.limit
        await burst(limiter, 8, fails=False)
        return low, limiter.limit

    low, grown = asyncio.run(shrink_then_grow())
    assert low == 8
    assert 8.8 < grown < 9.2


def test_a_body_that_raises_gives_its_place_back() -> None:
    async def fail(limiter: Limiter) -> None:
        async with limiter:
            raise ValueError

    async def many() -> Limiter:
        limiter = Limiter(2)
        results = await asyncio.gather(*(fail(limiter) for _ in range(9)), return_exceptions=True)
        assert all(isinstance(r, ValueError) for r in results)
        return limiter

    assert asyncio.run(many()).in_flight == 0


def test_a_waiting_body_that_is_cancelled_takes_no_place() -> None:
    async def hold(limiter: Limiter, seconds: float) -> None:
        async with limiter:
            await asyncio.sleep(seconds)

    async def cancelled() -> Limiter:
        limiter = Limiter(1)
        holder = asyncio.create_task(hold(limiter, 0.02))
        await asyncio.sleep(0.005)
        waiter = asyncio.create_task(hold(limiter, 10))
        await asyncio.sleep(0.005)
        waiter.cancel()
        await asyncio.wait([holder, waiter])
        await asyncio.wait_for(hold(limiter, 0), timeout=1)
        return limiter

    assert asyncio.run(cancelled()).in_flight == 0


def test_those_who_wait_come_in_the_order_in_which_they_came() -> None:
    async def many(limiter: Limiter) -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            async with limiter:
                order.append(number)
                await asyncio.sleep(0)
            limiter.grow()

        await asyncio.gather(*(one(n) for n in range(200)))
        return order

    assert asyncio.run(many(Limiter(7))) == list(range(200))


def test_who_is_cancelled_with_a_place_hands_it_on() -> None:
    async def cancelled(limiter: Limiter) -> list[str]:
        came: list[str] = []

        async def one(name: str) -> None:
            async with limiter:
                came.append(name)
                await asyncio.sleep(0)

        first, second, third = (asyncio.create_task(one(name)) for name in ("a", "b", "c"))
        while not first.done():
            await asyncio.sleep(0)
        second.cancel()  # its place is given, and it has not begun
        async with asyncio.timeout(10):
            await asyncio.gather(first, second, third, return_exceptions=True)
        return came

    limiter = Limiter(1)
    assert asyncio.run(cancelled(limiter)) == ["a", "c"]
    assert limiter.in_flight == 0


def test_held_it_lets_nobody_in_and_released_it_lets_in_as_many_as_may() -> None:
    async def held(limiter: Limiter) -> tuple[int, int]:
        limiter.hold()
        some = asyncio.gather(*(burst(limiter, 1, fails=False) for _ in range(9)))
        await asyncio.sleep(0.01)
        before = limiter.peak
        limiter.release()
        await some
        return before, limiter.peak

    assert asyncio.run(held(Limiter(4))) == (0, 4)


def test_who_is_cancelled_while_it_waits_leaves_no_queue_behind() -> None:
    async def left() -> bool:
        limiter = Limiter(2)
        limiter.hold()
        waiter = asyncio.create_task(limiter.__aenter__())
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        limiter.release()
        limiter.hold()
        another = asyncio.create_task(limiter.__aenter__())
        await asyncio.sleep(0)
        another.cancel()
        await asyncio.gather(another, return_exceptions=True)
        limiter._is_held = False  # nobody released it, as where nothing is in flight
        async with asyncio.timeout(5), limiter:
            return limiter.in_flight == 1

    assert asyncio.run(left())
