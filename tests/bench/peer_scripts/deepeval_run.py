"""deepeval: URL N. `evaluate()` with its own ExactMatch.

Replies are fetched first, because its metrics score given outputs; so this flatters it.
"""

import asyncio
import os
import sys

os.environ |= {"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "DEEPEVAL_DISABLE_PROGRESS_BAR": "1", "CI": "1"}
url, total = sys.argv[1], int(sys.argv[2])

import openai  # noqa: E402
from deepeval import evaluate  # noqa: E402
from deepeval.evaluate.configs import AsyncConfig, CacheConfig, DisplayConfig  # noqa: E402
from deepeval.metrics import ExactMatchMetric  # noqa: E402
from deepeval.test_case import LLMTestCase  # noqa: E402


async def fetch() -> list[str]:
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    gate = asyncio.Semaphore(32)

    async def one(n: int) -> str:
        async with gate:
            reply = await client.chat.completions.create(
                model="stub",
                messages=[{"role": "user", "content": f"Say this word: word{n}"}],
                temperature=0,
            )
        return reply.choices[0].message.content or ""

    return await asyncio.gather(*(one(n) for n in range(total)))


texts = asyncio.run(fetch())
cases = [
    LLMTestCase(input=f"Say this word: word{n}", actual_output=text, expected_output=f"word{n}")
    for n, text in enumerate(texts)
]
result = evaluate(
    cases,
    [ExactMatchMetric()],
    async_config=AsyncConfig(max_concurrent=32),
    display_config=DisplayConfig(show_indicator=False, print_results=False),
    cache_config=CacheConfig(write_cache=False),
)
assert all(r.success for r in result.test_results)
