"""What promptfoo's assertions are called here. Knows names alone.

Source: promptfoo's documentation, "Assertions and metrics", as of 2026.
"""

from __future__ import annotations

_JUDGE = "a judge: `[judges.NAME]` in task.toml"
_CODE = "an eval function is Python already"

PROMPTFOO: dict[str, str] = {
    "agent-rubric": _JUDGE,
    "answer-relevance": _JUDGE,
    "assert-set": "`checks.several` (weights, a threshold); several evals, `primary` names "
    "one or `all`",
    "bleu": "`checks.bleu`",
    "classifier": "`checks.classifier` (extra `local`) with a model on this machine",
    "contains": "`checks.contains`",
    "contains-all": "`checks.contains_all`",
    "contains-any": "`checks.contains_any`",
    "contains-html": "`checks.contains_html`",
    "contains-json": "`checks.contains_json`, or `checks.json_schema` with `within=True`",
    "contains-sql": "`checks.contains_sql`",
    "contains-xml": "`checks.contains_xml`",
    "context-faithfulness": _JUDGE,
    "context-recall": _JUDGE,
    "context-relevance": _JUDGE,
    "conversation-relevance": _JUDGE,
    "cost": "`checks.cost`",
    "equals": "`checks.equals` (texts), `checks.json_equal` (values)",
    "factuality": _JUDGE,
    "finish-reason": "`checks.finish_reason`",
    "g-eval": 'a judge: `[judges.NAME]` with `kind = "g-eval"`',
    "gleu": "`checks.gleu`",
    "guardrails": "`checks.finish_reason` with `content_filter`, `checks.refusal`",
    "human": "`--scores FILE` judges the scores that people gave ([scores](scores.md)); "
    "`harness wall TASK --audit` asks a person about labels",
    "icontains": '`checks.contains` with `normalise=("case",)`',
    "icontains-all": '`checks.contains_all` with `normalise=("case",)`',
    "icontains-any": '`checks.contains_any` with `normalise=("case",)`',
    "is-html": "`checks.html`",
    "is-json": "`checks.json`, `checks.json_schema`",
    "is-refusal": "`checks.refusal`",
    "is-sql": "`checks.sql`",
    "is-valid-function-call": "`checks.valid_tool_calls`",
    "is-valid-openai-function-call": "`checks.valid_tool_calls`",
    "is-valid-openai-tools-call": "`checks.valid_tool_calls`",
    "is-xml": "`checks.xml`",
    "javascript": _CODE,
    "latency": "`checks.latency`; `checks.first_token` for the first token",
    "levenshtein": "`checks.edit_distance`",
    "llm-rubric": _JUDGE,
    "max-score": "`harness ladder` ranks candidates",
    "meteor": "not offered: it needs WordNet, a download; chrF is the nearest",
    "model-graded-closedqa": _JUDGE,
    "model-graded-factuality": _JUDGE,
    "moderation": "`checks.no.classifier` (extra `local`) with a moderation model on this machine, "
    "or " + _JUDGE,
    "perplexity": "`checks.perplexity`",
    "perplexity-score": "`checks.perplexity`",
    "pi": "`checks.pi`, Pi's hosted scorer; or " + _JUDGE + ", on a model that you choose",
    "python": _CODE,
    "regex": "`checks.regex`",
    "rouge-n": "`checks.rouge_n`, `checks.rouge_l`",
    "ruby": _CODE,
    "search-rubric": "a judge on a model that searches ([judges](judges.md)); its scores are of "
    "the day on which it was asked",
    "select-best": 'a judge: `[judges.NAME]` with `kind = "pairwise"`',
    "similar": "`checks.similar` (extra `embeddings`)",
    "similar:cosine": "`checks.similar` (extra `embeddings`)",
    "similar:dot": "`checks.similar` (vectors have length 1: the same number)",
    "similar:euclidean": "`checks.similar` (vectors have length 1: the same order)",
    "skill-used": "`checks.tool_used`",
    "starts-with": "`checks.starts_with`",
    "tool-call-f1": "`checks.tool_f1`",
    "trace-error-spans": "`checks.span_errors`",
    "trace-span-count": "`checks.span_count`; of a model's own calls `checks.tool_used`, "
    "`checks.step_count`",
    "trace-span-duration": "`checks.span_duration`; of the whole reply `checks.latency`",
    "trajectory:goal-success": _JUDGE,
    "trajectory:step-count": "`checks.step_count`",
    "trajectory:tool-args-match": "`checks.tool_call` with `arguments` (`allow_extra` for a part)",
    "trajectory:tool-sequence": "`checks.tool_sequence`",
    "trajectory:tool-used": "`checks.tool_used`",
    "webhook": "`checks.webhook`",
    "word-count": "`checks.length`",
}
