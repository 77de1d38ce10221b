"""The folders that the bench runs in: a task of ours, no-op tests, and the peers' settings."""

from __future__ import annotations

import json
from pathlib import Path

TASK = """about = "Say a word."
model = "openai:stub"
cases = "cases.jsonl"
target = 0.9
target_reason = "A bench."
[decoding]
max_tokens = 8
"""
EVAL = "def test_word(case, reply):\n    assert reply.text == case.reference\n"
NOOP = """import pytest

@pytest.mark.parametrize("n", range({total}))
def test_noop(n):
    assert n >= 0
"""
LM_EVAL = """task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def question(n: int) -> str:
    return f"Say this word: word{n}"


def make_task(root: Path, *, total: int, wrong: bool = False) -> Path:
    """Write a task of `total` cases, whose references are all right, or all wrong."""
    folder = root / "evals" / "words"
    (folder / "prompts").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.harness]\ntasks = 'evals'\n")
    (folder / "task.toml").write_text(TASK)
    (folder / "eval_words.py").write_text(EVAL)
    (folder / "prompts" / "plain.md").write_text("@user\nSay this word: {{ word }}\n")
    rows = [
        {
            "id": f"c{n}",
            "split": "dev",
            "inputs": {"word": f"word{n}"},
            "reference": f"word{n}" + ("!" if wrong else ""),
        }
        for n in range(total)
    ]
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return root


def make_noop(root: Path, *, total: int) -> Path:
    root.mkdir(parents=True)
    (root / "test_noop.py").write_text(NOOP.format(total=total))
    return root


def make_lm_eval(root: Path, *, total: int) -> Path:
    root.mkdir(parents=True)
    rows = [{"question": question(n), "answer": f"word{n}"} for n in range(total)]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (root / "words.yaml").write_text(LM_EVAL.format(folder=root))
    return root


def make_promptfoo(root: Path, *, total: int, url: str) -> Path:
    root.mkdir(parents=True)
    config = {
        "prompts": ["Say this word: {{word}}"],
        "providers": [
            {
                "id": "openai:chat:stub",
                "config": {"apiBaseUrl": url, "apiKey": "none", "temperature": 0},
            }
        ],
        "tests": [
            {
                "vars": {"word": f"word{n}"},
                "assert": [{"type": "equals", "value": f"word{n}"}],
            }
            for n in range(total)
        ],
    }
    (root / "promptfooconfig.json").write_text(json.dumps(config))
    return root
