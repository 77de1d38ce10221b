"""What a person writes first: pytest, parametrised, the vendor's client, one call at a time.

With the marker of pytest-evals where PEER is pytest-evals.
"""

import os

import openai
import pytest

TOTAL = int(os.environ["BENCH_N"])
client = openai.OpenAI(base_url=os.environ["BENCH_URL"], api_key="none", max_retries=0)


def ask(n: int) -> str:
    reply = client.chat.completions.create(
        model="stub",
        messages=[{"role": "user", "content": f"Say this word: word{n}"}],
        temperature=0,
    )
    return reply.choices[0].message.content or ""


if os.environ.get("PEER") == "pytest-evals":

    @pytest.mark.eval(name="words")
    @pytest.mark.parametrize("n", range(TOTAL))
    def test_word(n: int, eval_bag: object) -> None:
        eval_bag.reply = ask(n)
        assert eval_bag.reply == f"word{n}"

else:

    @pytest.mark.parametrize("n", range(TOTAL))
    def test_word(n: int) -> None:
        assert ask(n) == f"word{n}"
