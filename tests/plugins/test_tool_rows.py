"""Rows whose reply is a tool call: trained as the model's own template writes it, and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import harness_transformers
import harness_trl
import pytest
from harness_transformers.encoding import encode_pair, encode_row
from harness_transformers.models import load_tokenizer

from harness import BackendError, Message, Reply, TrainingRow
from harness.engine import tune as engine
from harness.engine.tune_plan import Licence
from tests.engine.small import Workshop, write_settings, write_task
from tests.plugins.test_transformers_tools import SEARCH, WRITES_CALLS
from tests.plugins.tiny import build_tiny_model
from tests.plugins.tuning import build_trainable_model, single_thread

CALL = {"type": "function", "function": {"name": "search", "arguments": {"query": "x"}}}
TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool.function.name }};"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
EVALS = """
def test_right(case, reply):
    wanted = case.reference["tool_calls"][0]["function"]
    assert [c["function"] for c in reply.tool_calls] == [wanted]
"""
ROW = TrainingRow(
    case_id="t", messages=(Message(role="user", content="How many?"),), completion="",
    tools=(SEARCH,), calls=(CALL,),
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calls")
    folder = build_trainable_model(build_tiny_model(root / "tiny"), root / "base")
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template, tokenizer.response_template = TEMPLATE, WRITES_CALLS
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        CALL["function"],
        {"function": {"name": "search", "arguments": '{"query": "x"}'}},
    ],
    ids=["whole", "bare", "arguments as text"],
)
def test_a_call_is_learnt_as_the_template_writes_it(base: Path, call: object) -> None:
    tokenizer = load_tokenizer(base)
    learnt = [i for i in encode_row(tokenizer, replace(ROW, calls=(call,))).labels if i >= 0]
    assert tokenizer.decode(learnt) == (
        '{"name": "search", "arguments": {"query": "x"}}<|im_end|>\n'
    )


def test_a_text_is_preferred_to_no_call_of_the_better_side(base: Path) -> None:
    tokenizer = load_tokenizer(base)
    pair = encode_pair(tokenizer, replace(ROW, rejected="no idea"))
    worse = tokenizer.decode([i for i in pair.rejected_labels if i >= 0])
    assert (worse, pair.rejected_ids == pair.input_ids) == ("no idea<|im_end|>\n", False)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"function": {"arguments": {}}}, "row t: no tool call: "),
        ({"name": "search", "arguments": "{broken"}, "row t: no tool call: "),
        ("search", "row t: no tool call: "),
    ],
)
def test_what_is_no_call_is_told_with_its_row(base: Path, call: object, why: str) -> None:
    with pytest.raises(BackendError, match=why):
        encode_row(load_tokenizer(base), replace(ROW, calls=(call,)))


def test_a_template_that_writes_no_calls_is_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(BackendError, match=r"row t: its reply calls 'search'.*writes '<.im_end.>"):
        encode_row(load_tokenizer(tiny_model_dir), ROW)


def test_a_task_whose_references_are_calls_is_tuned_and_calls(base: Path, tmp_path: Path) -> None:
    said = {"tool_calls": [CALL]}
    some = [
        {"id": f"c{n}", "inputs": {"n": n}, "reference": said, "split": "train" if n < 4 else "dev"}
        for n in range(6)
    ]
    folder = write_task(tmp_path, some=some)
    (folder / "eval_double.py").write_text(EVALS)
    (folder / "tools.json").write_text(json.dumps([SEARCH]))
    (folder / "prompts/plain.md").write_text(
        '+++\ntools = "tools.json"\n+++\n@user\nFind {{ n }}.\n'
    )
    write_settings(
        folder, model=f"local:{base}", decoding={"max_tokens": 40},
        tune={"tuner": "torch-lora", "prompt": "plain", "recipe": "r.toml", "check_every": 20},
    )  # fmt: skip
    recipe = {"batch_size": 4, "epochs": 20, "learning_rate": 0.02, "dtype": "float32"}
    (folder / "r.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in recipe.items()))
    shop = Workshop(folder)
    shop.plugins.register(harness_transformers, name="transformers")
    shop.plugins.register(harness_trl, name="trl")
    try:
        with single_thread():
            # what train cases are sieved by: the reference answers with its calls
            seen: list[Reply] = []
            shop.run("reference", split="train", score=lambda _, reply: seen.append(reply))
            assert [reply.tool_calls for reply in seen] == [(CALL,)] * 4
            plans = engine.drafts(
                shop.task, plugins=shop.plugins, licence=Licence(override="a test"),
                against=lambda _: {},
            )  # fmt: skip
            assert plans[-1].rows[0].calls == (CALL,)
            artifact = engine.tune_stages(
                plans, project=shop.project, plugins=shop.plugins, pool=shop.pool,
                store=shop.store, at=shop.at,
            )[-1]  # fmt: skip
        assert (artifact.rows, artifact.curve[-1].score) == (4, 1.0)
    finally:
        shop.close()
