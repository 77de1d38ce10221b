"""pydantic-evals: URL N CLIENT; the client is the vendor's (openai) or a bare one (aiohttp)."""

import asyncio
import sys

from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EqualsExpected

url, total, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
cases = [
    Case(name=f"c{n}", inputs=f"Say this word: word{n}", expected_output=f"word{n}")
    for n in range(total)
]
dataset = Dataset(name="bench", cases=cases, evaluators=[EqualsExpected()])


async def with_openai() -> object:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)

    async def task(text: str) -> str:
        reply = await client.chat.completions.create(
            model="stub", messages=[{"role": "user", "content": text}], temperature=0
        )
        return reply.choices[0].message.content or ""

    return await dataset.evaluate(task, max_concurrency=32, progress=False)


async def with_aiohttp() -> object:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:

        async def task(text: str) -> str:
            body = {"model": "stub", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{url}/chat/completions", json=body) as answer:
                return (await answer.json())["choices"][0]["message"]["content"]

        return await dataset.evaluate(task, max_concurrency=32, progress=False)


report = asyncio.run({"openai": with_openai, "aiohttp": with_aiohttp}[kind]())
passed = sum(all(a.value for a in case.assertions.values()) for case in report.cases)
assert passed == total, passed
print(report.averages())
