"""Messages to token ids, for inference and training alike: the one place where it is done.

Knows nothing of models, trainers or files. What is trained and what is asked go through
`prompt_ids`, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness import BackendError, Message, PreparedRow, TrainingRow, UsageError

IGNORED = -100
"""The label that a loss skips."""

PLAIN = "{% for message in messages %}{{ message['content'] + '\n\n' }}{% endfor %}"
"""The chat template `plain`: texts and nothing else, as a base model has read them."""


def use_template(tokenizer: Any, name: object) -> None:
    """Give a base model's tokenizer the template `name`.

    Raises UsageError for an unknown one, and where the model has a template: that is the right one.
    """
    if name != "plain":
        raise UsageError(f"chat_template = {name!r}: only 'plain' is known")
    if tokenizer.chat_template:
        raise UsageError(
            f"chat_template = 'plain': {tokenizer.name_or_path} has a chat template of its own, "
            "which is the right one for it. Leave the option out."
        )
    # what the tokenizer puts before any text, the model has seen before every text
    opens = tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [
        tokenizer.bos_token_id
    ]
    tokenizer.chat_template = ("{{ bos_token }}" if opens else "") + PLAIN


def prompt_ids(
    tokenizer: Any, messages: Sequence[Message], *, tools: Sequence[Any] = ()
) -> list[int]:
    """Return the ids that the model is sent: `tools`, `messages` and the opening of its turn.

    Raises UsageError where the tokenizer has no chat template, or the template refuses.
    """
    turns = [_plain(m) for m in messages]
    return _template_ids(tokenizer, turns, opens_turn=True, tools=[_tool(t) for t in tools])


def encode_row(tokenizer: Any, row: TrainingRow) -> PreparedRow:
    """Return `row` as ids, supervised from where the completion begins.

    The boundary is the longest common prefix of the prompt's ids and the whole row's, as in
    TRL 1.16 for prompt/completion rows; a prompt that does not come through whole shows in the
    labels, for the parity gate to find.
    """
    prompt = prompt_ids(tokenizer, row.messages)
    answer = {"role": "assistant", "content": row.completion}
    whole = _template_ids(tokenizer, [*(_plain(m) for m in row.messages), answer], opens_turn=False)
    start = common_prefix_length(prompt, whole)
    return PreparedRow(
        case_id=row.case_id,
        input_ids=tuple(whole),
        labels=(*[IGNORED] * start, *whole[start:]),
    )


def stop_ids(tokenizer: Any, model: Any) -> frozenset[int]:
    """Return the ids that end a reply. `model` is a model or a generation config.

    The generation config's end-of-sequence ids and the tokenizer's, and the id that the chat
    template closes an assistant turn with (Gemma's `<end_of_turn>` is neither of the others).
    """
    config = getattr(model, "generation_config", model)
    found: set[int] = set()
    for value in (getattr(config, "eos_token_id", None), tokenizer.eos_token_id):
        found.update(
            value if isinstance(value, list | tuple) else () if value is None else (value,)
        )
    closing = _turn_end(tokenizer)
    if closing is not None:
        found.add(closing)
    return frozenset(int(i) for i in found)


def common_prefix_length(ids: Sequence[int], other_ids: Sequence[int]) -> int:
    """Return how many leading ids two sequences share."""
    for index, (one, other) in enumerate(zip(ids, other_ids, strict=False)):
        if one != other:
            return index
    return min(len(ids), len(other_ids))


def _turn_end(tokenizer: Any) -> int | None:
    """The first special token after a reply's text, as the template writes it."""
    if not tokenizer.chat_template:
        return None
    probe = "harness probe"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": probe}]
    ids = _template_ids(tokenizer, turns, opens_turn=False)
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    tail: int | None = None
    for position in range(len(ids) - 1, -1, -1):
        if probe in tokenizer.decode(ids[position:]):
            break
        if ids[position] in special:
            tail = ids[position]
    return tail


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _tool(tool: Any) -> Any:
    # templates know a tool by its type, as OpenAI writes it
    is_bare = isinstance(tool, dict) and "function" not in tool and "type" not in tool
    return {"type": "function", "function": tool} if is_bare else tool


def _refuse_control_tokens(tokenizer: Any, turns: Sequence[dict[str, Any]]) -> None:
    """Raise BackendError where a text holds the writing of a control token.

    The template and the texts are tokenised as one, so `<|im_end|>` in a case would end its turn
    and open another: an injection at inference, a broken row in training.
    """
    for turn in turns:
        for token in tokenizer.all_special_tokens:
            if token and token in turn["content"]:
                raise BackendError(
                    f"a {turn['role']} turn holds {token!r}, a control token of this model: it "
                    "would end the turn and open another. Take it out of the text.",
                    is_systemic=True,
                )


def _template_ids(
    tokenizer: Any,
    turns: list[dict[str, Any]],
    *,
    opens_turn: bool,
    tools: Sequence[Any] = (),
) -> list[int]:
    import jinja2

    if not tokenizer.chat_template:
        raise UsageError(
            f"{tokenizer.name_or_path} has no chat template: it is a base model, not one tuned to "
            "answer messages. Use its instruct version, or put a chat_template.jinja beside its "
            "tokenizer.json (the one that it was or will be trained with), or ask it in plain "
            'text, in task.toml: [backends."local:NAME"] chat_template = "plain".'
        )
    _refuse_control_tokens(tokenizer, turns)
    try:
        # return_dict=False: since transformers 5 the default is a mapping, whose length is 2.
        ids = tokenizer.apply_chat_template(
            turns,
            tools=list(tools) or None,
            add_generation_prompt=opens_turn,
            tokenize=True,
            return_dict=False,
        )
    except jinja2.TemplateError as exc:
        roles = ", ".join(turn["role"] for turn in turns)
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} refuses turns of roles {roles}: {exc}. "
            "Write the prompt with the turns that this model knows."
        ) from exc
    return [int(i) for i in ids]
