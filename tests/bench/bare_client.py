"""The floor: 1,000 requests, 32 in flight, with a bare client and nothing else.

Run as `python bare_client.py URL N [httpx|aiohttp|libcurl]`. Prints the seconds of the requests
alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time


def body(n: int) -> bytes:
    text = f"Say this word: word{n}"
    return json.dumps(
        {"model": "stub", "messages": [{"role": "user", "content": text}], "temperature": 0}
    ).encode()


async def with_httpx(url: str, total: int) -> None:
    import httpx

    async def worker(numbers: list[int]) -> None:
        # one client a connection: httpx's own pool costs more than the requests do
        async with httpx.AsyncClient(trust_env=False) as client:
            for n in numbers:
                answer = await client.post(
                    url, content=body(n), headers={"content-type": "application/json"}
                )
                assert answer.json()["choices"][0]["message"]["content"] == f"word{n}"

    await asyncio.gather(*(worker(list(range(k, total, 32))) for k in range(32)))


async def with_aiohttp(url: str, total: int) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

        async def one(n: int) -> None:
            headers = {"content-type": "application/json"}
            async with session.post(url, data=body(n), headers=headers) as answer:
                payload = await answer.json()
            assert payload["choices"][0]["message"]["content"] == f"word{n}"

        await asyncio.gather(*(one(n) for n in range(total)))


async def with_libcurl(url: str, total: int) -> None:
    import pycurl

    async with pycurl.AsyncCurlMulti() as multi:

        async def worker(numbers: range) -> None:
            handle = pycurl.Curl()
            handle.setopt(pycurl.URL, url)
            handle.setopt(pycurl.HTTPHEADER, ["content-type: application/json"])
            for n in numbers:
                pieces: list[bytes] = []
                handle.setopt(pycurl.POSTFIELDS, body(n))
                handle.setopt(pycurl.WRITEFUNCTION, pieces.append)
                await multi.perform(handle)
                payload = json.loads(b"".join(pieces))
                assert payload["choices"][0]["message"]["content"] == f"word{n}"

        await asyncio.gather(*(worker(range(k, total, 32)) for k in range(32)))


CLIENTS = {"httpx": with_httpx, "aiohttp": with_aiohttp, "libcurl": with_libcurl}

if __name__ == "__main__":
    run = CLIENTS[sys.argv[3]]
    start = time.perf_counter()
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
    print(f"{time.perf_counter() - start:.4f}")
