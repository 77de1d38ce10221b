"""Messages to token ids, for inference and training alike: the one place where it is done.

Knows nothing of models, trainers or files. What is trained and what is asked go through
`prompt_ids`, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness import BackendError, Message, PreparedRow, TrainingRow, UsageError
from harness_transformers.tool_calls import as_call
from harness_transformers.vision import Eyes, Seen, eyes_of, pixel_digest

IGNORED = -100
"""The label that a loss skips."""

PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if loop.last and message['role'] == 'assistant' and not add_generation_prompt %}"
    "{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
)
"""The chat template `plain`: texts and nothing else, as a base model has read them. A reply that is
learnt ends with the end of a text, or the model would never learn to stop."""


def use_template(tokenizer: Any, name: object) -> None:
    """Give a base model's tokenizer the template `name`: `plain`, or a Jinja template's own text.

    Raises UsageError for anything else, and where the model has another template: that is the
    right one. A tokenizer that has this one already (an artifact's) is left as it is.
    """
    if name == "plain":
        # what the tokenizer puts before any text, the model has seen before every text
        opens = tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [
            tokenizer.bos_token_id
        ]
        wanted, named = ("{{ bos_token }}" if opens else "") + PLAIN, "'plain'"
    elif isinstance(name, str) and ("{{" in name or "{%" in name):
        wanted, named = name, "a text"
    else:
        raise UsageError(
            f"chat_template = {name!r}: only 'plain' is known, or the text of a Jinja template"
        )
    if tokenizer.chat_template and tokenizer.chat_template != wanted:
        raise UsageError(
            f"chat_template = {named}: {tokenizer.name_or_path} has a chat template of its own, "
            "which is the right one for it. Leave the option out."
        )
    tokenizer.chat_template = wanted


_KWARGS = "harness_template_kwargs"


def use_kwargs(tokenizer: Any, kwargs: object) -> None:
    """Have every prompt and row rendered with `kwargs`, as `{"enable_thinking": False}`.

    Raises UsageError where it is no table.
    """
    if kwargs is None:
        return
    if not isinstance(kwargs, Mapping):
        raise UsageError(
            f"chat_template_kwargs = {kwargs!r}: a table, as {{ enable_thinking = false }}"
        )
    setattr(tokenizer, _KWARGS, dict(kwargs))


def prompt_ids(
    tokenizer: Any, messages: Sequence[Message], *, tools: Sequence[Any] = ()
) -> list[int]:
    """Return the ids that the model is sent: `tools`, `messages` and the opening of its turn.

    Raises UsageError where the tokenizer has no chat template, the template refuses, or the model
    sees no images; BackendError where there is no message, or an image cannot be opened.
    """
    return list(prompt_seen(tokenizer, messages, tools=tools).ids)


def prompt_seen(tokenizer: Any, messages: Sequence[Message], *, tools: Sequence[Any] = ()) -> Seen:
    """Return the ids of `prompt_ids`, and the tensors that the messages' images become."""
    if not messages:
        raise BackendError("a request without messages: there is nothing to answer")
    turns = [_plain(m) for m in messages]
    return _rendered(tokenizer, turns, opens_turn=True, tools=[_tool(t) for t in tools])


def row_seen(tokenizer: Any, row: TrainingRow) -> Seen:
    """Return a whole row, the completion included, as the model takes it."""
    reply: dict[str, Any] = {"role": "assistant", "content": row.completion}
    if row.calls:
        reply["tool_calls"] = [as_call(call) for call in row.calls]
    turns = [*(_plain(m) for m in row.messages), reply]
    return _rendered(tokenizer, turns, opens_turn=False, tools=[_tool(t) for t in row.tools])


def encode_row(tokenizer: Any, row: TrainingRow) -> PreparedRow:
    """Return `row` as ids, supervised from where the completion begins.

    The boundary is the longest common prefix of the prompt's ids and the whole row's, as in
    TRL 1.16 for prompt/completion rows; a prompt that does not come through whole shows in the
    labels, for the parity gate to find. Calls are written by the chat template, as the model writes
    them. Raises BackendError where it does not write them.
    """
    try:
        prompt = prompt_ids(tokenizer, row.messages, tools=row.tools)
        seen = row_seen(tokenizer, row)
    except BackendError as exc:
        if not row.calls and not any(m.images for m in row.messages):
            raise
        told = BackendError(f"row {row.case_id}: {exc}")
        told.case_ids = (row.case_id,)
        raise told from exc
    whole = seen.ids
    start = common_prefix_length(prompt, whole)
    _check_calls(tokenizer, row, whole[start:])
    return PreparedRow(
        case_id=row.case_id,
        input_ids=whole,
        labels=(*[IGNORED] * start, *whole[start:]),
        pixels=pixel_digest(seen.tensors),
    )


def _check_calls(tokenizer: Any, row: TrainingRow, ids: Sequence[int]) -> None:
    """A template that writes no calls would teach the model to say nothing."""
    text = str(tokenizer.decode(list(ids))) if row.calls else ""
    names = [as_call(call)["function"]["name"] for call in row.calls]
    unwritten = [name for name in names if name not in text]
    if unwritten:
        error = BackendError(
            f"row {row.case_id}: its reply calls {unwritten[0]!r}, and the chat template of "
            f"{tokenizer.name_or_path} writes {text[:80]!r} for it. Write the call as text in the "
            "reference, as the model should write it, or use a model whose template knows calls."
        )
        error.case_ids = (row.case_id,)
        raise error


def encode_pair(tokenizer: Any, row: TrainingRow) -> PreparedRow:
    """Return a preference as ids: the chosen reply, and the rejected one after the same prompt.

    Both are supervised from where either of them parts from the prompt, as in TRL 1.16, so that
    what precedes is the same in both. Raises BackendError where the two come out as the same ids.
    """
    chosen = encode_row(tokenizer, row)
    rejected = replace(row, completion=row.rejected or "", calls=(), rejected=None)
    worse = encode_row(tokenizer, rejected)
    if chosen.input_ids == worse.input_ids:
        raise BackendError(
            f"row {row.case_id}: the chosen and the rejected reply become the same tokens, so "
            "neither is better. Correct the case, or leave it out."
        )
    start = min(_first_label(chosen), _first_label(worse))
    return PreparedRow(
        case_id=row.case_id,
        input_ids=chosen.input_ids,
        labels=(*[IGNORED] * start, *chosen.input_ids[start:]),
        rejected_ids=worse.input_ids,
        rejected_labels=(*[IGNORED] * start, *worse.input_ids[start:]),
    )


def encode_prompt(tokenizer: Any, row: TrainingRow) -> PreparedRow:
    """Return a row's prompt as ids, nothing of it supervised: what a reply is drawn for."""
    ids = tuple(prompt_ids(tokenizer, row.messages, tools=row.tools))
    return PreparedRow(case_id=row.case_id, input_ids=ids, labels=(IGNORED,) * len(ids))


def _first_label(row: PreparedRow) -> int:
    return next((i for i, label in enumerate(row.labels) if label != IGNORED), len(row.labels))


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
    if message.images:
        plain["images"] = message.images
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
    eyes = eyes_of(tokenizer)
    tokens = {*tokenizer.all_special_tokens, *(eyes.marks if eyes else ())}
    for turn in turns:
        for token in sorted(tokens):
            if token and token in turn["content"]:
                raise BackendError(
                    f"a {turn['role']} turn holds {token!r}, a control token of this model: it "
                    "would end the turn and open another. Take it out of the text.",
                    is_systemic=True,
                )


def _template_ids(tokenizer: Any, turns: list[dict[str, Any]], *, opens_turn: bool) -> list[int]:
    return list(_rendered(tokenizer, turns, opens_turn=opens_turn).ids)


def _in_parts(turn: Mapping[str, Any], eyes: Eyes) -> dict[str, Any]:
    """A turn as a template of a model that sees reads it: its text, then its images."""
    plain = {key: value for key, value in turn.items() if key != "images"}
    images = turn.get("images", ())
    if images or (eyes.wants_parts and plain["content"]):
        text = [{"type": "text", "text": plain["content"]}] if plain["content"] else []
        plain["content"] = [*text, *({"type": "image"} for _ in images)]
    return plain


def _rendered(
    tokenizer: Any,
    turns: list[dict[str, Any]],
    *,
    opens_turn: bool,
    tools: Sequence[Any] = (),
) -> Seen:
    import jinja2

    if not tokenizer.chat_template:
        raise UsageError(
            f"{tokenizer.name_or_path} has no chat template: it is a base model, not one tuned to "
            "answer messages. Use its instruct version, or put a chat_template.jinja beside its "
            "tokenizer.json (the one that it was or will be trained with), or ask it in plain "
            'text, in task.toml: [backends."local:NAME"] chat_template = "plain".'
        )
    _refuse_control_tokens(tokenizer, turns)
    eyes, images = eyes_of(tokenizer), [i for turn in turns for i in turn.get("images", ())]
    if eyes is not None:
        turns = [_in_parts(turn, eyes) for turn in turns]
    elif images:
        raise UsageError(
            f"{tokenizer.name_or_path} sees no images, and {len(images)} were given: it is a model "
            "of text. Name a vision-language model (its folder holds preprocessor_config.json or "
            "processor_config.json), or take `images` out of task.toml."
        )
    try:
        # return_dict=False: since transformers 5 the default is a mapping, whose length is 2.
        made = tokenizer.apply_chat_template(
            turns,
            tools=list(tools) or None,
            add_generation_prompt=opens_turn,
            tokenize=not images,
            return_dict=False,
            **getattr(tokenizer, _KWARGS, {}),
        )
    except jinja2.TemplateError as exc:
        roles = ", ".join(turn["role"] for turn in turns)
        raise UsageError(
            f"the chat template of {tokenizer.name_or_path} refuses turns of roles {roles}: {exc}. "
            "Write the prompt with the turns that this model knows."
        ) from exc
    if eyes is not None and images:
        return eyes.look(str(made), images)
    return Seen(ids=tuple(int(i) for i in made), tensors={})
