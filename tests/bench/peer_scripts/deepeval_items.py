"""deepeval's own pytest way: `deepeval test run`, one test a golden, as its page on CI shows it.

Source: https://deepeval.com/docs/evaluation-unit-testing-in-ci-cd, which calls the application in
the test and `assert_test` on what it said; so there is one request at a time.
"""

import os

import openai
import pytest
from deepeval import assert_test
from deepeval.dataset import EvaluationDataset, Golden
from deepeval.metrics import ExactMatchMetric
from deepeval.test_case import LLMTestCase

TOTAL = int(os.environ["BENCH_N"])
client = openai.OpenAI(base_url=os.environ["BENCH_URL"], api_key="none", max_retries=0)
dataset = EvaluationDataset(
    goldens=[
        Golden(input=f"Say this word: word{n}", expected_output=f"word{n}") for n in range(TOTAL)
    ]
)


def application(text: str) -> str:
    reply = client.chat.completions.create(
        model="stub", messages=[{"role": "user", "content": text}], temperature=0
    )
    return reply.choices[0].message.content or ""


@pytest.mark.parametrize("golden", dataset.goldens)
def test_word(golden: Golden) -> None:
    case = LLMTestCase(
        input=golden.input,
        actual_output=application(golden.input),
        expected_output=golden.expected_output,
    )
    assert_test(case, [ExactMatchMetric()])
