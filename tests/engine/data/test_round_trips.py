"""What a form carries comes back; what it cannot carry is named, and nothing else is lost."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from harness.core.examples import Example
from harness.engine.data.forms import registry
from harness.engine.data.forms.turns import asked
from harness.engine.data.reading import open_examples
from harness.engine.data.writing import differences, write_examples
from harness.errors import UsageError
from harness.records import Message
from tests.engine.data.test_forms import ROWS

TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n"), min_size=1, max_size=20
).filter(lambda t: t.strip() == t and t[0] not in "[{=")
WRITTEN = [form.name for form in registry.FORMS if form.write]
PLAIN = {"alpaca", "columns", "openai-evals", "promptfoo", "trl-prompt-completion", "cases"}
CHATS = {
    "cases", "columns", "openai-chat", "openai-evals", "sharegpt", "trl-prompt-completion",
}  # fmt: skip
PREFERENCES = {"cases", "columns", "openai-preference", "sharegpt", "trl-preference"}
FILES = {
    "columns": [".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".jsonl.gz", ".json.zst"]
}
META = {"id": "r1", "split": "dev", "cluster": "s1", "tags": ("a", "b")}
WITHOUT_META = {"openai-chat", "openai-preference"}


@st.composite
def dialogues(draw: st.DrawFn) -> tuple[Message, ...]:
    """A system text at most, then turns that end with the user's."""
    said = [Message(role="system", content=draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        said.append(Message(role="user", content=draw(TEXT)))
        said.append(Message(role="assistant", content=draw(TEXT)))
    return (*said, Message(role="user", content=draw(TEXT)))


def chat(messages: tuple[Message, ...], reply: str, form: str) -> Example:
    example = Example(place="x:1", messages=messages, reference=reply)
    return example if form in WITHOUT_META else replace(example, **META)


def there_and_back(example: Example, form: str, folder: Path, suffix: str = ".jsonl") -> Example:
    path = folder / f"{form}{suffix}"
    written = write_examples(path, [example], form=form, overwrite=True)
    assert written.rows == 1, written.refused
    assert not written.lost
    reading = open_examples(path, form=form)
    [found] = list(reading)
    assert reading.bad == []
    return replace(found, place=example.place)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=dialogues(), reply=TEXT)
@pytest.mark.parametrize("pair", [*itertools.permutations(sorted(CHATS), 2)], ids="-".join)
def test_a_dialogue_survives_each_pair_of_forms(
    pair: tuple[str, str], messages: tuple[Message, ...], reply: str
) -> None:
    one, other = (registry.find(name) for name in pair)
    assert one.write is not None
    assert other.write is not None
    example = Example(place="x:1", messages=messages, reference=reply)
    if "cases" in pair:
        example = replace(example, id="r1", split="dev")
        if set(pair) & WITHOUT_META:
            return  # the next test: what is lost is said
    first = parsed(one.name, one.write(example))
    assert parsed(other.name, other.write(first)) == example


def parsed(name: str, row: dict[str, object]) -> Example:
    _, plan = registry.plan_of(registry.find(name), [row], {}, container="jsonl")
    found = plan.parse(row, "x:1")
    assert found is not None
    return found


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=dialogues(), reply=TEXT, worse=TEXT)
@pytest.mark.parametrize("pair", [*itertools.permutations(sorted(PREFERENCES), 2)], ids="-".join)
def test_a_preference_survives_each_pair_of_forms(
    pair: tuple[str, str], messages: tuple[Message, ...], reply: str, worse: str
) -> None:
    one, other = (registry.find(name) for name in pair)
    assert one.write is not None
    assert other.write is not None
    assume(reply != worse)  # a task refuses such a pair, so a case file does not hold it
    if "cases" in pair and "openai-preference" in pair:
        return  # a case needs an id, which an OpenAI row cannot carry
    example = Example(place="x:1", messages=messages, reference=reply, rejected=worse)
    if "cases" in pair:
        example = replace(example, id="r1", split="dev")
    first = parsed(one.name, one.write(example))
    assert parsed(other.name, other.write(first)) == example


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(question=TEXT, reply=TEXT)
@pytest.mark.parametrize("form", sorted(PLAIN))
def test_one_question_survives_the_file(
    form: str, question: str, reply: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = {"alpaca": "instruction", "trl-prompt-completion": "prompt"}.get(form, "input")
    example = Example(place="x:1", inputs={name: question}, reference=reply, **META)
    folder = tmp_path_factory.getbasetemp()
    for suffix in FILES.get(form, [".jsonl", ".json"]):
        assert there_and_back(example, form, folder, suffix) == example


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    inputs=st.dictionaries(TEXT, TEXT | st.integers() | st.lists(TEXT) | st.none(), max_size=3),
    messages=dialogues() | st.just(()),
    reference=TEXT | st.none() | st.dictionaries(TEXT, st.integers(), max_size=2),
    rejected=TEXT | st.none(),
    is_good=st.booleans() | st.none(),
    calls=st.lists(st.fixed_dictionaries({"name": TEXT}), max_size=1),
    other=st.dictionaries(TEXT, TEXT, max_size=1),
)
@pytest.mark.parametrize("form", WRITTEN)
def test_whatever_is_lost_is_named(form: str, **parts: object) -> None:
    """Any example: it is refused with a reason, or what the report names is all that differs."""
    parts["messages"] = tuple(parts["messages"])  # type: ignore[arg-type]
    parts["calls"] = tuple(parts["calls"])  # type: ignore[arg-type]
    example = Example(place="x:1", **META, **parts)  # type: ignore[arg-type]
    chosen = registry.find(form)
    assert chosen.write
    try:
        row = chosen.write(example)
    except ValueError:
        return  # `write_examples` refuses it, with the reason
    try:
        found = parsed(form, row)
    except ValueError:
        return  # `write_examples` refuses it for the same reason
    assert bool(differences(example, found)) == (found != example)


RICH = Example(
    place="x:1", inputs={"input": "Wo ist es, 😀?"}, reference="Hier.", rejected="Dort.",
    is_good=True, provenance={"made_by": "hand"}, **META,
)  # fmt: skip
NEEDS = {
    "openai-preference": "a better and a worse reply",
    "trl-preference": "a better and a worse reply",
    "trl-kto": "a reply and a thumb",
}


@pytest.mark.parametrize("pair", [*itertools.permutations(WRITTEN, 2)], ids="-".join)
def test_between_any_two_forms_the_question_and_answer_survive_and_the_rest_is_named(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    one, other = pair
    write_examples(tmp_path / "one.jsonl", [RICH], form=one)
    [first] = list(open_examples(tmp_path / "one.jsonl", form=one))
    written = write_examples(tmp_path / "other.jsonl", [first], form=other)
    if written.refused:  # `one` has lost the worse reply or the thumb that `other` needs
        assert NEEDS[other] in written.refused[0].reason
        assert first.rejected is None or first.is_good is None
        return
    reading = open_examples(tmp_path / "other.jsonl")
    [found] = list(reading)
    assert reading.form == other
    assert asked(found)[-1].content == "Wo ist es, 😀?"
    assert found.reference == "Hier."
    given = {"id", "split"} if written.added else set()
    assert set(differences(first, replace(found, place=first.place))) <= {*written.lost, *given}


def rows_of(form: str) -> list[Example]:
    """Rows with all that a form and a data set folder carry; `split` where the form knows it."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    shape = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": shape}}
    found = []
    for number in range(7):
        said = (
            Message(role="system", content="Be brief."),
            Message(role="user", content=f"Question {number}, naïve 😀?"),
        )
        split = "" if form in WITHOUT_META else ("train", "dev", "train")[number % 3]
        example = Example(place="", messages=said, reference=f"Answer {number}.", split=split)
        if form in PREFERENCES and form != "cases":
            example = replace(example, rejected=f"No {number}.")
        elif form == "openai-chat":
            example = replace(example, tools=(tool,), calls=(call,) if number % 2 else ())
        found.append(example if form in WITHOUT_META else replace(example, id=f"r{number}"))
    return found


@pytest.mark.parametrize(
    "form",
    [
        "cases", "openai-chat", "openai-preference", "sharegpt", "trl-prompt-completion",
        "trl-preference",
    ],
)  # fmt: skip
def test_a_data_set_folder_carries_what_its_form_carries_with_a_part_for_each_split(
    form: str, tmp_path: Path
) -> None:
    examples, path = rows_of(form), tmp_path / "rows.dataset"
    written = write_examples(path, examples, form=form)
    assert (written.rows, dict(written.lost), written.refused) == (7, {}, ())
    reading = open_examples(path)
    found = [replace(e, place="") for e in reading]
    assert (reading.form, reading.bad) == (form, [])
    in_parts = sorted(examples, key=lambda e: e.split == "dev")
    assert found == (examples if form in WITHOUT_META else in_parts)
    with pytest.raises(UsageError, match="never replaced"):
        write_examples(path, examples, form=form, overwrite=True)


def test_trainers_load_a_data_set_folder_as_lists_and_objects(tmp_path: Path) -> None:
    from datasets import DatasetDict, load_from_disk

    write_examples(
        tmp_path / "d.dataset", rows_of("trl-prompt-completion"), form="trl-prompt-completion"
    )
    loaded = load_from_disk(str(tmp_path / "d.dataset"))
    assert isinstance(loaded, DatasetDict)
    assert {name: len(part) for name, part in loaded.items()} == {"train": 5, "dev": 2}
    assert loaded["dev"][0]["completion"] == [{"role": "assistant", "content": "Answer 1."}]
    assert [p.name for p in tmp_path.iterdir()] == ["d.dataset"]
    assert not list(tmp_path.rglob(".arrow"))


def test_a_column_that_no_arrow_type_holds_stops_it_and_leaves_nothing(tmp_path: Path) -> None:
    rows = [
        Example(place="", inputs={"text": f"t{i}"}, reference=answer)
        for i, answer in enumerate(["text", {"a": 1}, 5])
    ]
    with pytest.raises(UsageError, match="'reference' holds values of different kinds"):
        write_examples(tmp_path / "d.dataset", rows, form="columns")
    assert list(tmp_path.iterdir()) == []


READ_ONLY = [form.name for form in registry.FORMS if form.write is None]
TURNS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "text", "content": "Open?"}]}]',
    "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", '
    '"content": "Yes."}], "finish_reason": "stop"}]',
}
SPAN = {
    "traceId": "t", "spanId": "s", "name": "chat m",
    "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in TURNS.items()],
}  # fmt: skip
TRACE = {"resourceSpans": [{"scopeSpans": [{"spans": [SPAN]}]}]}


@pytest.mark.parametrize("other", WRITTEN)
@pytest.mark.parametrize("one", READ_ONLY)
def test_what_a_form_that_is_only_read_asks_and_answers_survives_in_each_that_is_written(
    one: str, other: str, tmp_path: Path
) -> None:
    (tmp_path / "one.jsonl").write_text(f"{json.dumps(ROWS.get(one, TRACE))}\n", encoding="utf-8")
    first = next(iter(open_examples(tmp_path / "one.jsonl", form=one)))
    written = write_examples(tmp_path / "other.jsonl", [first], form=other)
    if other in NEEDS and (first.rejected is None or other == "trl-kto"):
        assert NEEDS[other] in written.refused[0].reason
        return
    assert not written.refused
    [found] = list(open_examples(tmp_path / "other.jsonl", form=other))
    assert asked(found)[-1].content == asked(first)[-1].content
    assert found.reference == first.reference
    given = {"id", "split"} if written.added else set()
    assert set(differences(first, replace(found, place=first.place))) <= {*written.lost, *given}


def test_a_part_that_became_a_further_column_is_one_loss() -> None:
    before = Example(place="f:1", inputs={"q": "x"}, tags=("a", "b"))
    after = Example(place="f:1", inputs={"q": "x"}, other={"tags": ["a", "b"]})
    assert differences(before, after) == ["tags"]
