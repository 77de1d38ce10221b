from __future__ import annotations

import re

from harness.checks.peers import PROMPTFOO
from harness.checks.registry import HOMES

# promptfoo's own list of assertion types, and the three special ones
THEIRS = """
agent-rubric answer-relevance bleu classifier contains contains-all contains-any contains-html
contains-json contains-sql contains-xml context-faithfulness context-recall context-relevance
conversation-relevance cost equals factuality finish-reason g-eval gleu guardrails icontains
icontains-all icontains-any is-html is-json is-refusal is-sql is-valid-function-call
is-valid-openai-function-call is-valid-openai-tools-call is-xml javascript latency levenshtein
llm-rubric pi meteor model-graded-closedqa model-graded-factuality moderation perplexity
perplexity-score python regex rouge-n ruby similar similar:cosine similar:dot similar:euclidean
starts-with tool-call-f1 skill-used trajectory:goal-success trajectory:tool-args-match
trajectory:step-count trajectory:tool-sequence trajectory:tool-used trace-error-spans
trace-span-count trace-span-duration search-rubric webhook word-count select-best human max-score
assert-set
"""


def test_every_assertion_of_promptfoo_has_an_answer() -> None:
    assert sorted(PROMPTFOO) == sorted(THEIRS.split())


def test_every_check_that_an_answer_names_is_there() -> None:
    named = {n for text in PROMPTFOO.values() for n in re.findall(r"`checks\.(?:no\.)?(\w+)", text)}
    assert named - set(HOMES) == {"classifier", "pi", "similar", "webhook"}  # of plugins
    assert len(named) > 25
