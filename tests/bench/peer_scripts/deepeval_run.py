"""deepeval: URL N WAY. Its three ways to have 32 requests in flight, with its own ExactMatch.

`iterator`: an application under `EvaluationDataset.evals_iterator`, as its page on end-to-end
evaluation of an async application shows it. `metric`: `evaluate()` of a metric that asks, as its
judges do. `prefetched`: `evaluate()` of replies that its user fetched before, with the vendor's
client and an own limit; deepeval asks nothing there, so this flatters it.
"""

import asyncio
import os
import sys
from typing import Any

os.environ |= {"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "DEEPEVAL_DISABLE_PROGRESS_BAR": "1", "CI": "1"}
url, total, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]

import openai  # noqa: E402
from deepeval import evaluate  # noqa: E402
from deepeval.dataset import EvaluationDataset, Golden  # noqa: E402
from deepeval.evaluate.configs import AsyncConfig, CacheConfig, DisplayConfig  # noqa: E402
from deepeval.metrics import BaseMetric, ExactMatchMetric  # noqa: E402
from deepeval.test_case import LLMTestCase  # noqa: E402
from deepeval.tracing import observe, update_current_trace  # noqa: E402

QUIET = {
    "async_config": AsyncConfig(max_concurrent=32),
    "display_config": DisplayConfig(show_indicator=False, print_results=False),
    "cache_config": CacheConfig(write_cache=False),
}
numbers = range(total)
client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)


def question(n: int) -> str:
    return f"Say this word: word{n}"


async def ask(text: str) -> str:
    reply = await client.chat.completions.create(
        model="stub", messages=[{"role": "user", "content": text}], temperature=0
    )
    return reply.choices[0].message.content or ""


class Asks(BaseMetric):
    """ExactMatch on what the model says now."""

    threshold = 1.0
    async_mode = True

    async def a_measure(self, case: LLMTestCase, *_: Any, **__: Any) -> float:
        self.score = float(await ask(case.input) == case.expected_output)
        self.success = self.score >= self.threshold
        return self.score

    def measure(self, case: LLMTestCase, *_: Any, **__: Any) -> float:
        raise NotImplementedError

    def is_successful(self) -> bool:
        return bool(self.success)

    @property
    def __name__(self) -> str:
        return "Asks"


@observe()
async def application(golden: Golden) -> None:
    text = await ask(golden.input)
    update_current_trace(input=golden.input, output=text, expected_output=golden.expected_output)


async def fetched() -> list[str]:
    gate = asyncio.Semaphore(32)

    async def one(n: int) -> str:
        async with gate:
            return await ask(question(n))

    return await asyncio.gather(*(one(n) for n in numbers))


if way == "iterator":
    dataset = EvaluationDataset(
        goldens=[Golden(input=question(n), expected_output=f"word{n}") for n in numbers]
    )
    for golden in dataset.evals_iterator(metrics=[ExactMatchMetric()], **QUIET):
        dataset.evaluate(asyncio.create_task(application(golden)))
else:
    texts = asyncio.run(fetched()) if way == "prefetched" else [""] * total
    cases = [
        LLMTestCase(input=question(n), actual_output=text, expected_output=f"word{n}")
        for n, text in enumerate(texts)
    ]
    metric = ExactMatchMetric() if way == "prefetched" else Asks()
    assert all(r.success for r in evaluate(cases, [metric], **QUIET).test_results)
