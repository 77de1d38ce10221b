"""Messages to ids: inference, training rows, and what TRL makes of the same rows."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from harness_transformers.encoding import (
    IGNORED,
    common_prefix_length,
    encode_row,
    prompt_ids,
    stop_ids,
    use_template,
)
from harness_transformers.models import load_generation_config, load_tokenizer
from hypothesis import given, settings, strategies as st

from harness import Message, TrainingRow, UsageError

ROWS = [
    TrainingRow(
        case_id="short",
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="How many?"),
        ),
        completion='{"limit": 10}',
    ),
    TrainingRow(
        case_id="shots",
        messages=(
            Message(role="system", content="Ü ☃"),
            Message(role="user", content="a"),
            Message(role="assistant", content="b"),
            Message(role="user", content="trailing newline\n"),
        ),
        completion="  leading space, and\nlines",
    ),
    TrainingRow(
        case_id="no-system",
        messages=(Message(role="user", content="list errors "),),
        completion="42",
    ),
]


def test_a_prompt_ends_with_the_opening_of_the_models_turn(tiny_model_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    ids = prompt_ids(tokenizer, [Message(role="user", content="How many?")])
    assert all(isinstance(i, int) for i in ids)
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_base_model_is_refused_or_asked_in_plain_text_where_somebody_says_so(
    tiny_model_dir: Path,
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    with pytest.raises(UsageError, match="has a chat template of its own"):
        use_template(tokenizer, "plain")
    tokenizer.chat_template = None
    turns = [Message(role="system", content="Be brief."), Message(role="user", content="How many?")]
    with pytest.raises(UsageError, match=r"no chat template.*chat_template = .plain"):
        prompt_ids(tokenizer, turns)
    with pytest.raises(UsageError, match="only 'plain' is known"):
        use_template(tokenizer, "chatml")
    use_template(tokenizer, "plain")
    assert tokenizer.decode(prompt_ids(tokenizer, turns)) == "Be brief.\n\nHow many?\n\n"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.case_id)
def test_a_training_row_begins_with_exactly_the_prompt_of_inference(
    tiny_model_dir: Path, row: TrainingRow
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    prepared = encode_row(tokenizer, row)
    prompt = prompt_ids(tokenizer, row.messages)
    first = next(i for i, label in enumerate(prepared.labels) if label != IGNORED)
    assert list(prepared.input_ids[:first]) == prompt
    assert prepared.labels[first:] == prepared.input_ids[first:]
    assert tokenizer.decode(prepared.labels[first:]) == f"{row.completion}<|im_end|>\n"


@pytest.mark.parametrize("fixture", ["tiny_model_dir", "smollm2_dir"])
def test_rows_are_what_trl_prepares_for_prompt_and_completion(
    fixture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The tuner that trains with TRL and the one that does not must see the same labels."""
    folder: Path = request.getfixturevalue(fixture)
    tokenizer = load_tokenizer(folder)
    theirs = _prepared_by_trl(tokenizer, folder, tmp_path)
    ours = [encode_row(tokenizer, row) for row in ROWS]
    assert [(list(r.input_ids), list(r.labels)) for r in ours] == theirs


def _prepared_by_trl(
    tokenizer: object, folder: Path, out: Path
) -> list[tuple[list[int], list[int]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside trl, datasets and accelerate
        from datasets import Dataset, disable_progress_bars
        from trl import SFTConfig, SFTTrainer

        disable_progress_bars()
        logging.getLogger("trl").setLevel(logging.ERROR)

        def plain(message: Message) -> dict[str, str]:
            return {"role": message.role, "content": message.content}

        rows = [
            {
                "prompt": [plain(m) for m in row.messages],
                "completion": [{"role": "assistant", "content": row.completion}],
            }
            for row in ROWS
        ]
        from transformers import AutoModelForCausalLM

        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True),
            args=SFTConfig(
                output_dir=str(out),
                max_length=256,
                completion_only_loss=True,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                dataloader_pin_memory=False,
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        return [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]


def test_a_template_that_changes_the_prompt_shows_in_the_labels(tiny_model_dir: Path) -> None:
    """A thinking template opens the turn with text that the full rendering lacks."""
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif"
    )
    prompt = prompt_ids(tokenizer, ROWS[0].messages)
    labels = encode_row(tokenizer, ROWS[0]).labels
    assert sum(label == IGNORED for label in labels) < len(prompt)


def test_a_base_model_without_a_template_says_what_to_do(tiny_model_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match=r"no chat template.*instruct version"):
        prompt_ids(tokenizer, ROWS[0].messages)


def test_a_template_that_refuses_a_role_is_an_error_that_names_the_roles(
    tiny_model_dir: Path,
) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    tokenizer.chat_template = "{{ raise_exception('no system turn here') }}"
    with pytest.raises(UsageError, match="roles system, user: no system turn here"):
        prompt_ids(tokenizer, ROWS[0].messages)


def test_stops_are_those_of_the_generation_config_the_tokenizer_and_the_template(
    tiny_model_dir: Path,
) -> None:
    """Gemma's turns end with an id that its tokenizer does not call the end of sequence."""
    tokenizer = load_tokenizer(tiny_model_dir)
    config = load_generation_config(tiny_model_dir)
    assert stop_ids(tokenizer, config) == {2}
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    turn_end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<end_of_turn>")
    config.eos_token_id = [2, 0]
    assert stop_ids(tokenizer, config) == {0, 2, turn_end}


@settings(deadline=None)
@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_the_common_prefix_is_common_and_as_long_as_can_be(a: list[int], b: list[int]) -> None:
    n = common_prefix_length(a, b)
    assert a[:n] == b[:n]
    assert n in (len(a), len(b)) or a[n] != b[n]
