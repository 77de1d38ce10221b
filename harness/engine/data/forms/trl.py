"""TRL's rows: prompt and completion, preferences, KTO; plain text or conversational.

Source: https://huggingface.co/docs/trl/dataset_formats. A conversational prompt without an answer
turn is a list of messages; a preference without `prompt` has it in both replies (implicit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.core.examples import Example
from harness.engine.data.forms.base import (
    Form,
    Object,
    asked_text,
    kind_of,
    meta_of,
    no_user_turn,
    text_of,
    with_meta,
)
from harness.engine.data.forms.chat import tools_of
from harness.engine.data.forms.turns import (
    EXTRAS,
    WORSE_CALLS,
    answer,
    asked,
    asked_and_answered,
    plain_turns,
    turns,
    worse_of,
    worse_turn,
)
from harness.records import Json, Message

NAMES = frozenset({"prompt", "completion", "chosen", "rejected", "label", "tools"})


def _is_chat(value: Json) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith('[{"'))


def _said(value: Json, key: str) -> tuple[tuple[Message, ...], dict[str, Json]]:
    if not _is_chat(value):
        raise ValueError(f"`{key}` must be text or a list of messages, not {kind_of(value)}")
    return turns(value, key=key)


def _one(value: Json, key: str) -> Message:
    """Return the one turn of an answer."""
    said, _ = _said(value, key)
    if key == "rejected":
        no_user_turn(said, key)
    if len(said) != 1 or said[0].role != "assistant":
        raise ValueError(f"`{key}` must hold one assistant message")
    return said[0]


def _question(row: Object) -> tuple[dict[str, Any], tuple[Message, ...], dict[str, Json]]:
    """Return the fields of a plain prompt, or the turns of a conversational one."""
    prompt = row.get("prompt")
    if isinstance(prompt, str) and not _is_chat(prompt):
        return {"inputs": {"prompt": prompt}}, (), {}
    said, extras = _said(prompt, "prompt")
    return {}, said, extras


def parse_completion(row: Object, place: str) -> Example:
    """Return a prompt and what follows it. Raises ValueError."""
    return Example(place=place, **_completed(row, frozenset({"prompt", "completion", "tools"})))


def _completed(row: Object, known: frozenset[str]) -> dict[str, Any]:
    if "completion" not in row:
        raise ValueError("there is no `completion`")
    given, said, extras = _question(row)
    if said:
        reply, more = _said(row["completion"], "completion")
        extras |= {str(len(said) + int(k)): v for k, v in more.items()}
        given = asked_and_answered((*said, *reply))
    elif row["completion"] is not None:
        if not isinstance(row["completion"], str):
            raise ValueError(f"`completion` must be text, not {kind_of(row['completion'])}")
        given["reference"] = row["completion"]
    return given | _rest(row, known, extras)


def _rest(row: Object, known: frozenset[str], extras: dict[str, Json]) -> dict[str, Any]:
    meta: dict[str, Any] = meta_of(row, known)
    if extras:
        meta["other"] = {**meta.get("other", {}), EXTRAS: extras}
    return meta | tools_of(row)


def parse_kto(row: Object, place: str) -> Example:
    """Return a reply with a thumb up or down. Raises ValueError."""
    label = row.get("label")
    if isinstance(label, str) and label.lower() in {"true", "false"}:
        label = label.lower() == "true"
    if not isinstance(label, bool):
        raise ValueError(f"`label` must be true or false, not {kind_of(label)}")
    known = frozenset({"prompt", "completion", "label", "tools"})
    return Example(place=place, is_good=label, **_completed(row, known))


def parse_preference(row: Object, place: str) -> Example:
    """Return a prompt with a better and a worse reply. Raises ValueError."""
    known = frozenset({"prompt", "chosen", "rejected", "tools"})
    better, worse = row.get("chosen"), row.get("rejected")
    for key in ("chosen", "rejected"):
        if key not in row:
            raise ValueError(f"there is no `{key}`")
    if "prompt" not in row:
        return _implicit(row, place, known)
    given, said, extras = _question(row)
    if given and _is_chat(better) and _is_chat(worse):
        return _whole_dialogues(row, place, known)
    if said:
        given = asked_and_answered((*said, _one(better, "chosen")))
        given |= worse_of(_one(worse, "rejected"))
    else:
        for key, value in (("chosen", better), ("rejected", worse)):
            if not isinstance(value, str):
                raise ValueError(f"`{key}` must be text as the prompt is, not {kind_of(value)}")
        given |= {"reference": better, "rejected": worse}
    return _made(place, given, _rest(row, known, extras))


def _made(place: str, given: dict[str, Any], rest: dict[str, Any]) -> Example:
    """Return an example; what its worse reply calls stands beside its further keys."""
    other = {**rest.pop("other", {}), **given.pop("other", {})}
    return Example(place=place, **given, **rest, other=other)


def _whole_dialogues(row: Object, place: str, known: frozenset[str]) -> Example:
    """Return a preference of dialogues that a text goes with: it stands in them, or before them."""
    example = _implicit(row, place, known)
    prompt = Message(role="user", content=row["prompt"])
    if not example.messages:
        return replace(example, messages=(prompt,))
    if prompt.content not in {m.content for m in example.messages}:
        raise ValueError("`prompt` is a text that is no turn of `chosen` and `rejected`")
    return example


def _implicit(row: Object, place: str, known: frozenset[str]) -> Example:
    """Return a preference whose prompt stands in both replies: what they begin with alike."""
    better, worse = row["chosen"], row["rejected"]
    if not (_is_chat(better) and _is_chat(worse)):
        raise ValueError("there is no `prompt`, and the two replies are no dialogues that hold it")
    first, extras = _said(better, "chosen")
    second, _ = _said(worse, "rejected")
    if first and second[: len(first) - 1] == first[:-1]:
        no_user_turn(second, "rejected", after=len(first) - 1)
    if not first or first[:-1] != second[:-1] or len(first) != len(second):
        raise ValueError("`chosen` and `rejected` differ before their last turn: no common prompt")
    if not (first[-1].role == second[-1].role == "assistant"):
        raise ValueError("`chosen` and `rejected` must end with an assistant turn")
    given = asked_and_answered(first)
    rest = _rest(row, known, extras)
    return _made(place, given | worse_of(second[-1]), rest)


# ---------------------------------------------------------------- writing


def _plain_or_chat(example: Example) -> tuple[Json, bool]:
    """Return the prompt, and whether it is conversational: only text is plain."""
    is_text = not example.messages and not example.images and not example.calls
    if is_text and not example.tools:
        return asked_text(example), False
    return plain_turns(asked(example), example.other.get(EXTRAS)), True


def _reply(value: Json, *, is_chat: bool) -> Json:
    text = text_of(value)
    return [{"role": "assistant", "content": text}] if is_chat else text


def _good(example: Example) -> Json:
    """Return the good answer; of tool calls alone the text is empty. 0 and [] are answers."""
    return "" if example.reference is None else example.reference


def _row(example: Example, replies: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    prompt, is_chat = _plain_or_chat(example)
    row: dict[str, Json] = {"prompt": prompt}
    for key, value in replies:
        row[key] = _reply(value, is_chat=is_chat)
    if is_chat and example.calls:
        both = plain_turns((*asked(example), *answer(example)), example.other.get(EXTRAS))
        row[replies[0][0]] = both[-1:]
    if example.tools:
        row["tools"] = list(example.tools)
    return row


def _finished(row: dict[str, Json], example: Example) -> dict[str, Json]:
    if any(k in NAMES for k in example.other):
        raise ValueError("it holds further keys with names that TRL uses")
    row = with_meta(row, example)
    for key in (EXTRAS, WORSE_CALLS):
        row.pop(key, None)
    return row


def write_completion(example: Example) -> dict[str, Json]:
    """Return a row with prompt and completion. Raises ValueError without an answer."""
    if not answer(example):
        raise ValueError("there is no answer to learn (no reference)")
    return _finished(_row(example, [("completion", _good(example))]), example)


def write_preference(example: Example) -> dict[str, Json]:
    """Return a row with prompt, chosen and rejected. Raises ValueError without both replies."""
    if example.rejected is None or not answer(example):
        raise ValueError("a preference needs a better and a worse reply (reference, rejected)")
    replies = [("chosen", _good(example)), ("rejected", example.rejected)]
    row = _row(example, replies)
    if isinstance(row["rejected"], list):
        row["rejected"] = [worse_turn(example)]
    return _finished(row, example)


def write_kto(example: Example) -> dict[str, Json]:
    """Return a row with prompt, completion and label. Raises ValueError without a thumb."""
    if example.is_good is None or not answer(example):
        raise ValueError("KTO needs a reply and a thumb (reference, is_good)")
    row = _row(example, [("completion", _good(example))])
    return _finished(row | {"label": example.is_good}, example)


def _marks_of_a_pair(row: Object) -> float:
    """Tell how sure a row makes us: two texts without a prompt are no row of TRL's that we read."""
    if not {"chosen", "rejected"} <= row.keys() or {"instruction", "conversations"} & row.keys():
        return 0.0
    return 0.97 if "prompt" in row or _is_chat(row["chosen"]) else 0.5


CARRIES = (
    "one input or messages, images, tools, reference, calls, id, split, cluster, tags, "
    "provenance, further keys"
)

PROMPT_COMPLETION = Form(
    name="trl-prompt-completion",
    about="`prompt` and `completion`, text or messages, for TRL's SFTTrainer",
    carries=CARRIES,
    parse=parse_completion,
    marks=lambda row: (
        0.95 if {"prompt", "completion"} <= row.keys() and "label" not in row else 0.0
    ),
    why="rows have `prompt` and `completion`",
    write=write_completion,
    aliases=("prompt-completion",),
)
PREFERENCE = Form(
    name="trl-preference",
    about="`prompt`, `chosen`, `rejected`, text or messages, for TRL's DPOTrainer",
    carries=f"{CARRIES}, rejected",
    parse=parse_preference,
    marks=_marks_of_a_pair,
    why="rows have `chosen` and `rejected`",
    write=write_preference,
    aliases=("dpo", "preference"),
)
KTO = Form(
    name="trl-kto",
    about="`prompt`, `completion`, `label` (true or false), for TRL's KTOTrainer",
    carries=f"{CARRIES}, thumbs",
    parse=parse_kto,
    marks=lambda row: (
        0.96
        if {"prompt", "completion", "label"} <= row.keys()
        and (isinstance(row["label"], bool) or str(row["label"]).lower() in {"true", "false"})
        else 0.0
    ),
    why="rows have `prompt`, `completion` and a `label` that is true or false",
    write=write_kto,
    aliases=("kto",),
)
