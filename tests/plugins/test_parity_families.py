"""Parity over six families of tokenizers: no false alarm, and every planted mismatch by its name.

The mismatches are those that ruined tunes elsewhere; each is made on real ids, on one side alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from harness_transformers.encoding import (
    encode_pair,
    encode_prompt,
    encode_row,
    prompt_ids,
    stop_ids,
    use_kwargs,
)
from harness_transformers.models import template_digest

from harness.core.parity import IGNORED, Serving, check_parity
from harness.records import Message, ParityFinding, PreparedRow, TrainingRow
from tests.plugins.families import FAMILIES, GEMMA, LLAMA3, make_tokenizer
from tests.plugins.tiny import CHATML

TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look it up", "parameters": {"type": "object"}},
}
TURNS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "slow requests?"),),
    (("system", "Answer as JSON."), ("user", "how many?")),
    (("user", "first"), ("assistant", "one"), ("user", "then")),
    (("system", "Grüße ☃"), ("user", "naïve café, 数え")),
    (("user", "<b>html</b> & 'quotes' {{ not jinja }}\ttab"),),
    (("user", "a  b\n\n\nc"),),
)
REPLIES = ('{"calculation":"COUNT"}', "12", "two", "ünï ☃ 🎉", "yes, twice\nover", "c")
tokenizer_of = cache(make_tokenizer)


def rows_of(name: str) -> list[TrainingRow]:
    """The cases that every family is given; a template without a system turn has none."""
    no_system = name == "unigram"
    return [
        TrainingRow(
            case_id=f"c{i}",
            messages=tuple(
                Message(role=role, content=text)  # type: ignore[arg-type] # literals above
                for role, text in turns
                if not (no_system and role == "system")
            ),
            completion=REPLIES[i],
        )
        for i, turns in enumerate(TURNS)
    ]


def serving_of(tokenizer: Any, rows: Sequence[TrainingRow], **changes: Any) -> Serving:
    from transformers import GenerationConfig

    config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    told = Serving(
        prompt_ids={r.case_id: prompt_ids(tokenizer, r.messages, tools=r.tools) for r in rows},
        stop_ids=stop_ids(tokenizer, config),
        decode=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False)),
        special_ids=frozenset(tokenizer.all_special_ids),
        template=template_digest(tokenizer),
        template_text=tokenizer.chat_template,
        pad_id=tokenizer.pad_token_id,
    )
    return replace(told, **changes)


def rendered(tokenizer: Any, row: TrainingRow, **options: Any) -> list[int]:
    """What a server sends that renders in a way of its own."""
    turns = [{"role": m.role, "content": m.content} for m in row.messages]
    settings = {"add_generation_prompt": True, "tools": list(row.tools) or None}
    settings |= {"enable_thinking": False} | options
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **settings)
    return [int(i) for i in ids]


def served_by(
    name: str, send: Callable[[Any, TrainingRow], list[int]], rows: Sequence[TrainingRow]
) -> tuple[ParityFinding, ...]:
    """Train as the house does, serve as `send` does, and compare."""
    tokenizer = tokenizer_of(name)
    ids = {r.case_id: send(tokenizer, r) for r in rows}
    return check_parity(
        rows,
        [encode_row(tokenizer, r) for r in rows],
        serving=serving_of(tokenizer, rows, prompt_ids=ids),
    )


def names(findings: Sequence[ParityFinding]) -> list[str]:
    return [f.name for f in findings]


# ---------------------------------------------------------------- no false alarm


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("is_remote", [False, True], ids=["here", "a server"])
def test_what_is_trained_and_served_alike_raises_no_alarm(name: str, is_remote: bool) -> None:
    tokenizer, rows = tokenizer_of(name), rows_of(name)
    findings = check_parity(
        rows,
        [encode_row(tokenizer, r) for r in rows],
        serving=serving_of(tokenizer, rows, is_remote=is_remote),
        trained_template=template_digest(tokenizer),
        max_length=512,
    )
    assert findings == ()


@pytest.mark.parametrize("name", FAMILIES)
def test_preferences_and_prompts_raise_no_alarm_either(name: str) -> None:
    tokenizer = tokenizer_of(name)
    rows = [replace(r, rejected="no, not at all") for r in rows_of(name)]
    serving = serving_of(tokenizer, rows)
    assert check_parity(rows, [encode_pair(tokenizer, r) for r in rows], serving=serving) == ()
    bare = [replace(r, rejected=None) for r in rows]
    for some in (bare, [replace(r, completion="") for r in bare]):
        prepared = [encode_prompt(tokenizer, r) for r in some]
        assert check_parity(some, prepared, serving=serving) == ()


def test_a_reply_with_white_space_that_a_template_trims_is_told_and_stops_nothing() -> None:
    tokenizer = tokenizer_of("gemma")
    row = replace(rows_of("gemma")[0], completion="tail \n")
    [found] = check_parity(
        [row], [encode_row(tokenizer, row)], serving=serving_of(tokenizer, [row])
    )
    assert (found.severity, found.name) == ("warn", "completion-trimmed")


# ---------------------------------------------------------------- planted, on the prompt


def with_template(template: str, **options: Any) -> Callable[[Any, TrainingRow], list[int]]:
    return lambda tokenizer, row: rendered(tokenizer, row, chat_template=template, **options)


def twice(tokenizer: Any, row: TrainingRow) -> list[int]:
    """Rendered as text, and cut up by a tokenizer that puts its own beginning before it."""
    return [tokenizer.bos_token_id, *rendered(tokenizer, row)]


def spelt_out(tokenizer: Any, row: TrainingRow) -> list[int]:
    """A server whose tokenizer lost its added tokens."""
    text = tokenizer.decode(rendered(tokenizer, row))
    return [int(i) for i in tokenizer.encode(text, split_special_tokens=True)]


def cut_by_letters(tokenizer: Any, row: TrainingRow) -> list[int]:
    """The same words and control tokens, and other merges: a vocabulary that was trimmed."""
    ids = rendered(tokenizer, row)
    specials = set(tokenizer.all_special_ids)
    found: list[int] = []
    for i in ids:
        piece = tokenizer.convert_ids_to_tokens(i)
        letters = tokenizer.convert_tokens_to_ids(list(piece)) if i not in specials else [i]
        found += letters
    return found


def lowered(tokenizer: Any, row: TrainingRow) -> list[int]:
    """A normaliser that the trained tokenizer has not."""
    said = tuple(replace(m, content=m.content.upper()) for m in row.messages)
    return rendered(tokenizer, replace(row, messages=said))


SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
DEFAULT = "{% if messages[0].role != 'system' %}" + SYSTEM + "{% endif %}" + CHATML
DATED = LLAMA3.replace("{{ bos_token }}", "{{ bos_token }}Today: {{ strftime_now('%d %b %Y') }}\n")
NEXT = DATED.replace("strftime_now('%d %b %Y')", "'04 Jul 2031'")
UNTRIMMED = GEMMA.replace(" | trim", "")
MARKLESS = CHATML.replace("<|im_end|>", "")


@pytest.mark.parametrize(
    ("family", "send", "name", "said"),
    [
        ("chatml", with_template(CHATML, add_generation_prompt=False), "generation-prompt",
         "add_generation_prompt is forgotten at inference"),
        ("gemma", with_template(GEMMA, add_generation_prompt=False), "generation-prompt",
         "<start_of_turn>model"),
        ("chatml", with_template(DEFAULT), "default-system-prompt", "into the served prompt only"),
        ("gemma", twice, "double-bos", "begin twice with 3='<bos>'"),
        ("llama3", twice, "double-bos", "begin twice with 0='<|begin_of_text|>'"),
        ("llama2", with_template(FAMILIES["llama2"].template.replace("{{ bos_token }}", "")),
         "bos-on-one-side", "only the trained prompt begins with '<s>'"),
        ("thinking", with_template(FAMILIES["thinking"].template, enable_thinking=True),
         "thinking", "enable_thinking"),
        ("chatml", spelt_out, "special-split", "spelt out in ordinary ones in the served prompt"),
        ("chatml", cut_by_letters, "other-tokens", "cut into other tokens"),
        ("chatml", lowered, "normaliser", "have different normalisers"),
        ("chatml", with_template(MARKLESS), "specials-differ", "'<|im_end|>'"),
        ("llama3", with_template(NEXT), "date-in-template", "Today: 04 Jul 2031"),
        ("unigram", with_template(FAMILIES["chatml"].template), "prefix-differs", ""),
    ],
)  # fmt: skip
def test_a_mismatch_of_the_prompt_is_caught_and_named(
    family: str, send: Callable[..., Any], name: str, said: str
) -> None:
    rows = rows_of(family)[:1]
    findings = served_by(family, send, rows)
    assert name in names(findings), findings
    found = next(f for f in findings if f.name == name)
    assert found.severity == "fail"
    assert said in found.detail
    assert "First difference at token" in found.detail or name == "double-bos"


def test_white_space_that_one_side_trims_is_caught() -> None:
    row = replace(rows_of("gemma")[0], messages=(Message(role="user", content="list errors \n"),))
    [found] = served_by("gemma", with_template(UNTRIMMED), [row])
    assert found.name == "white-space"
    assert "the served prompt has white space more" in found.detail


def test_a_template_that_prints_the_day_is_flagged_and_its_drift_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = make_tokenizer("llama3", template=DATED)
    rows = rows_of("llama3")
    prepared = [encode_row(tokenizer, r) for r in rows]
    today = check_parity(rows, prepared, serving=serving_of(tokenizer, rows))
    assert [(f.severity, f.name) for f in today] == [("warn", "date-in-template")]
    later = {r.case_id: rendered(tokenizer, r, chat_template=NEXT) for r in rows}
    found = check_parity(rows, prepared, serving=serving_of(tokenizer, rows, prompt_ids=later))
    failed = next(f for f in found if f.severity == "fail")
    assert failed.name == "date-in-template"
    assert str(dt.datetime.now(dt.UTC).year) in failed.detail
    assert "04 Jul 2031" in failed.detail


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda tools: None, "tools-lost"),
        (lambda tools: [tools[0]["function"]], "tool-rendering"),
    ],
)
def test_tools_that_are_left_out_or_written_otherwise_are_caught(
    change: Callable[..., Any], name: str
) -> None:
    rows = [replace(rows_of("thinking")[0], tools=(TOOL,))]
    assert served_by("thinking", lambda t, r: rendered(t, r), rows) == ()
    [found] = served_by("thinking", lambda t, r: rendered(t, r, tools=change(list(r.tools))), rows)
    assert found.name == name


def test_a_merge_over_the_seam_is_caught() -> None:
    """`A: ` and `{"a` are one token where they touch, which they never do when served."""
    tokenizer = tokenizer_of("chatml")
    row = TrainingRow(
        case_id="c1",
        messages=(Message(role="user", content="Answer as JSON: "),),
        completion='{"calculation": 1}',
    )
    bare = "{% for m in messages %}{{ m.content }}{% endfor %}"
    prompt = rendered(tokenizer, row, chat_template=bare)
    whole = [*tokenizer.encode(row.messages[0].content + row.completion), tokenizer.eos_token_id]
    start = next(i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b)
    one = PreparedRow(
        case_id="c1", input_ids=tuple(whole), labels=(*[IGNORED] * start, *whole[start:])
    )
    found = check_parity(
        [row], [one], serving=serving_of(tokenizer, [row], prompt_ids={"c1": prompt})
    )
    assert "seam-merge" in names(found)


# ---------------------------------------------------------------- planted, on the labels


def relabelled(
    name: str, labels: Callable[[Any, PreparedRow], Sequence[int]]
) -> tuple[ParityFinding, ...]:
    tokenizer, rows = tokenizer_of(name), rows_of(name)[:3]
    prepared = []
    for row in rows:
        one = encode_row(tokenizer, row)
        prepared.append(replace(one, labels=tuple(labels(tokenizer, one))))
    return check_parity(rows, prepared, serving=serving_of(tokenizer, rows))


def without_pad(tokenizer: Any, one: PreparedRow) -> list[int]:
    """As the stock collator labels: every token but the padding id."""
    return [IGNORED if i == tokenizer.pad_token_id else i for i in one.input_ids]


def without_turn_end(tokenizer: Any, one: PreparedRow) -> list[int]:
    """As where only the tokenizer's own end of text is known, and the turn's end is masked."""
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    return [
        IGNORED if i == end else label for i, label in zip(one.input_ids, one.labels, strict=True)
    ]


def test_padding_that_is_the_end_of_a_turn_is_named_as_the_cause() -> None:
    found = relabelled("chatml", without_pad)
    assert {"stop-not-supervised", "prompt-supervised"} <= set(names(found))
    stop = next(f for f in found if f.name == "stop-not-supervised")
    assert "it is the padding id too, which a stock collator masks" in stop.detail


def test_an_end_of_turn_that_is_not_the_end_of_text_must_be_learnt() -> None:
    found = next(
        f for f in relabelled("gemma", without_turn_end) if f.name == "stop-not-supervised"
    )
    assert "<end_of_turn>" in found.detail
    assert "served replies end at" in found.detail


def test_labels_that_are_masked_shifted_or_cover_everything_are_caught() -> None:
    masked = relabelled("llama3", lambda _, one: [IGNORED] * len(one.input_ids))
    assert names(masked) == ["no-labels"]
    shifted = relabelled("llama3", lambda _, one: [*one.labels[1:], IGNORED])
    assert names(shifted) == ["bad-labels"]
    whole = relabelled("llama3", lambda _, one: one.input_ids)
    assert "prompt-supervised" in names(whole)


def test_the_worse_side_of_a_preference_is_held_to_the_same_rules() -> None:
    tokenizer = tokenizer_of("chatml")
    rows = [replace(r, rejected="never") for r in rows_of("chatml")]
    good = [encode_pair(tokenizer, r) for r in rows]
    serving = serving_of(tokenizer, rows)
    cut = [
        replace(p, rejected_ids=p.rejected_ids[:-2], rejected_labels=p.rejected_labels[:-2])
        for p in good
    ]
    [found] = check_parity(rows, cut, serving=serving)
    assert found.name == "stop-not-supervised"
    assert found.detail.startswith("rejected reply: ")
    same = [replace(p, rejected_ids=p.input_ids, rejected_labels=p.labels) for p in good]
    assert "equal-sides" in names(check_parity(rows, same, serving=serving))


def test_control_text_in_a_case_is_caught_in_what_others_prepared() -> None:
    tokenizer = tokenizer_of("llama3")
    row = replace(rows_of("llama3")[0], messages=(Message(role="user", content="a<|eot_id|>b"),))
    served = rendered(tokenizer, row)
    reply = tokenizer.encode(f"{row.completion}<|eot_id|>")
    one = PreparedRow(
        case_id=row.case_id,
        input_ids=(*served, *reply),
        labels=(*[IGNORED] * len(served), *reply),
    )
    harmless = serving_of(tokenizer, [])
    found = check_parity([row], [one], serving=replace(harmless, prompt_ids={"c0": served}))
    assert names(found) == ["special-text"]


def test_a_template_that_thinks_by_itself_is_told_with_the_switch_that_stops_it() -> None:
    tokenizer = make_tokenizer("thinking")
    use_kwargs(tokenizer, {"enable_thinking": True})
    rows = rows_of("thinking")
    prepared = [encode_row(tokenizer, r) for r in rows]
    [found] = check_parity(rows, prepared, serving=serving_of(tokenizer, rows))
    assert (found.severity, found.name) == ("warn", "thinking-supervised")
    assert "chat_template_kwargs = { enable_thinking = false }" in found.detail
