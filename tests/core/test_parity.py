"""Parity: every difference between what is trained and what is served is found, and named.

Tokens are letters here, so that any sequence of ids can be written by hand; the same checks on
real tokenizers are in tests/plugins/test_template_parity.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from harness.core.parity import IGNORED, Serving, check_parity, failures
from harness.records import Message, ParityFinding, PreparedRow, TrainingRow

BOS, STOP, USER, REPLY = "^", "$", "<", ">"


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


def row_of(content: str, completion: str, *, case_id: str = "c1") -> TrainingRow:
    message = Message(role="user", content=content)
    return TrainingRow(case_id=case_id, messages=(message,), completion=completion)


def served_ids(content: str) -> tuple[int, ...]:
    return ids_of(f"{USER}{content}{STOP}{REPLY}")


def prepared_of(row: TrainingRow, *, prompt: str | None = None, tail: str = STOP) -> PreparedRow:
    before = served_ids(row.messages[0].content) if prompt is None else ids_of(prompt)
    reply = ids_of(row.completion + tail)
    labels = (*[IGNORED] * len(before), *reply)
    return PreparedRow(case_id=row.case_id, input_ids=before + reply, labels=labels)


def serving_of(*rows: TrainingRow) -> Serving:
    return Serving(
        prompt_ids={r.case_id: served_ids(r.messages[0].content) for r in rows},
        stop_ids=frozenset(ids_of(STOP)),
        decode=decode,
        special_ids=frozenset(ids_of(BOS + USER + REPLY)),
    )


def found(
    row: TrainingRow, one: PreparedRow, *, max_length: int | None = None
) -> tuple[ParityFinding, ...]:
    return check_parity([row], [one], serving=serving_of(row), max_length=max_length)


def names(findings: Sequence[ParityFinding]) -> list[str]:
    return [f.name for f in findings]


ROW = row_of("how many", "count(x)")
letters = st.text(st.characters(codec="ascii", exclude_characters="^$<>"), min_size=1, max_size=20)


@given(letters, letters)
def test_the_right_pipeline_raises_no_alarm(content: str, completion: str) -> None:
    row = row_of(content, completion)
    assert found(row, prepared_of(row), max_length=200) == ()


@given(letters, letters, st.data())
def test_no_change_of_a_served_id_goes_unseen(
    content: str, completion: str, data: st.DataObject
) -> None:
    row = row_of(content, completion)
    served = list(served_ids(content))
    at = data.draw(st.integers(0, len(served) - 1))
    change = data.draw(st.sampled_from(["drop", "double", "other"]))
    served[at : at + 1] = {"drop": [], "double": [served[at]] * 2, "other": [served[at] + 1]}[
        change
    ]
    serving = replace(serving_of(row), prompt_ids={"c1": served})
    assert failures(check_parity([row], [prepared_of(row)], serving=serving))


@given(letters, letters, st.data())
def test_no_change_of_a_label_goes_unseen(
    content: str, completion: str, data: st.DataObject
) -> None:
    row = row_of(content, completion)
    one = prepared_of(row)
    at = data.draw(st.integers(0, len(one.labels) - 1))
    flipped = IGNORED if one.labels[at] != IGNORED else one.input_ids[at]
    labels = (*one.labels[:at], flipped, *one.labels[at + 1 :])
    assert failures(found(row, replace(one, labels=labels)))


@pytest.mark.parametrize(
    ("prompt", "tail", "name", "said"),
    [
        ("<how many$>", "", "stop-not-supervised", "no stop id follows the reply"),
        ("<how many$", STOP, "generation-prompt", "trained prompts lack the opening"),
        ("<how many$>{", STOP, "generation-prompt", "add_generation_prompt is forgotten at inf"),
        ("<sys$<how many$>", STOP, "default-system-prompt", "into the trained prompt only"),
        ("^<how many$>", STOP, "bos-on-one-side", "only the trained prompt begins with '^'"),
        ("<<how many$>", STOP, "double-bos", "begin twice with 60='<'"),
        ("<how Many$>", STOP, "normaliser", "[77='M']"),
        ("<how  many$>", STOP, "white-space", "the trained prompt has white space more"),
        ("<howmany$>", STOP, "white-space", "the served prompt has white space more"),
        ("<why many$>", STOP, "prefix-differs", "[119='w']"),
        ("<how many of$>", STOP, "prefix-differs", "3 tokens more, ' of'"),
        ("<how many$>", f"{STOP}xyz", "trained-after-stop", "supervised tokens follow"),
    ],
)
def test_a_difference_is_named_after_its_cause(
    prompt: str, tail: str, name: str, said: str
) -> None:
    findings = found(ROW, prepared_of(ROW, prompt=prompt, tail=tail))
    assert names(findings) == [name]
    assert said in findings[0].detail
    assert findings[0].severity == ("warn" if name == "trained-after-stop" else "fail")


def test_the_first_difference_shows_three_tokens_on_each_side() -> None:
    (finding,) = found(ROW, prepared_of(ROW, prompt="<how Many$>"))
    assert (
        "First difference at token 5 (prompt: 11 trained, 11 served): trained ... 111='o' "
        "119='w' 32=' ' [77='M'] 97='a' 110='n' 121='y' ...; served ... 111='o' 119='w' 32=' ' "
        "[109='m'] 97='a' 110='n' 121='y' ..."
    ) in finding.detail


def test_a_merged_seam_is_told_from_another_prompt() -> None:
    """The same text in other tokens, where prompt and reply touch."""
    row = row_of("q", "{a")
    merged = 0xE000  # one token for '>{'
    ids = (*served_ids("q")[:-1], merged, *ids_of("a$"))
    one = PreparedRow(case_id="c1", input_ids=ids, labels=(*[IGNORED] * 3, *ids[3:]))
    serving = replace(
        serving_of(row), decode=lambda i: decode(i).replace(chr(merged), f"{REPLY}{{")
    )
    findings = check_parity([row], [one], serving=serving)
    assert "seam-merge" in names(findings)
    assert "end the prompt without a space" in findings[0].detail + findings[-1].detail


def test_labels_that_begin_within_the_prompt_are_seen() -> None:
    one = prepared_of(ROW)
    assert "prompt-supervised" in names(found(ROW, replace(one, labels=one.input_ids)))


def test_a_masked_head_of_the_reply_is_seen() -> None:
    one = prepared_of(ROW)
    late = (*[IGNORED] * (len(one.labels) - 4), *one.labels[-4:])
    assert names(found(ROW, replace(one, labels=late))) == [
        "completion-differs",
        "completion-masked",
    ]


def test_a_masked_stop_id_is_told_from_a_missing_one() -> None:
    one = prepared_of(ROW)
    (finding,) = found(ROW, replace(one, labels=(*one.labels[:-1], IGNORED)))
    assert finding.name == "stop-not-supervised"
    assert "the stop id stands at token 19 with its label masked" in finding.detail


def test_a_reply_that_was_cut_is_truncated_and_nothing_else() -> None:
    one = prepared_of(ROW)
    cut = PreparedRow(case_id="c1", input_ids=one.input_ids[:15], labels=one.labels[:15])
    assert names(found(ROW, cut, max_length=15)) == ["truncated"]
    masked = PreparedRow(case_id="c1", input_ids=one.input_ids[:9], labels=one.labels[:9])
    (finding,) = found(ROW, masked, max_length=9)
    assert finding.name == "no-labels"
    assert "cut off at 9 tokens" in finding.detail
    assert names(found(ROW, one, max_length=10)) == ["over-max-length"]


def test_labels_in_pieces_or_of_other_tokens_are_seen() -> None:
    one = prepared_of(ROW)
    holed = (*one.labels[:13], IGNORED, *one.labels[14:])
    assert names(found(ROW, replace(one, labels=holed))) == ["split-labels"]
    shifted = (*one.labels[1:], IGNORED)
    assert names(found(ROW, replace(one, labels=shifted))) == ["bad-labels"]
    assert names(found(ROW, replace(one, labels=one.labels[1:]))) == ["bad-labels"]


def test_split_labels_do_not_hide_a_masked_stop_id() -> None:
    one = prepared_of(ROW)
    labels = tuple(IGNORED if token == ord(STOP) else token for token in one.input_ids)
    assert {"split-labels", "stop-not-supervised"} <= set(
        names(found(ROW, replace(one, labels=labels)))
    )


def test_control_text_in_a_case_is_an_alarm_only_where_it_becomes_a_control_token() -> None:
    row = row_of("say $ now", "ok")
    findings = found(row, prepared_of(row))
    assert names(findings) == ["special-text"]
    # Spelt in another token it is only text.
    spelt = {ord(STOP): 0xE001}
    content = tuple(spelt.get(i, i) for i in ids_of("say $ now"))
    prompt = (ord(USER), *content, ord(STOP), ord(REPLY))
    ids = (*prompt, *ids_of("ok$"))
    one = PreparedRow(case_id="c1", input_ids=ids, labels=(*[IGNORED] * len(prompt), *ids[-3:]))
    serving = replace(
        serving_of(row),
        prompt_ids={"c1": prompt},
        decode=lambda i: decode(i).replace(chr(0xE001), STOP),
    )
    assert check_parity([row], [one], serving=serving) == ()


def test_a_doubled_opening_on_both_sides_is_seen_though_the_sides_agree() -> None:
    one = prepared_of(ROW, prompt="<<how many$>")
    serving = replace(serving_of(ROW), prompt_ids={"c1": one.input_ids[:12]})
    findings = check_parity([ROW], [one], serving=serving)
    assert names(findings) == ["double-bos"]
    without_ids = replace(serving, special_ids=frozenset())
    assert names(check_parity([ROW], [one], serving=without_ids)) == ["double-bos"]


def test_a_content_that_begins_with_a_doubled_letter_is_no_alarm() -> None:
    row = row_of("oo", "x")
    one = prepared_of(row, prompt="oo>")
    serving = replace(serving_of(row), prompt_ids={"c1": ids_of("oo>")}, special_ids=frozenset())
    assert check_parity([row], [one], serving=serving) == ()


def test_many_rows_with_one_cause_are_one_finding_with_a_count() -> None:
    rows = [row_of(f"how {i}", "x", case_id=f"c{i}") for i in range(5)]
    prepared = [prepared_of(r, tail="" if i else STOP) for i, r in enumerate(rows)]
    (finding,) = check_parity(rows, prepared, serving=serving_of(*rows))
    assert finding.case_id == "c1"
    assert finding.detail.endswith("[4 of 5 rows]")


def test_lost_rows_and_rows_without_served_ids_are_counted() -> None:
    rows = [row_of("q", "x", case_id=f"c{i}") for i in range(3)]
    findings = check_parity(rows, [prepared_of(rows[0])], serving=serving_of(rows[0]))
    assert names(findings) == ["dropped-rows", "not-served"]
    assert "2 of 3 rows were lost in preparation" in findings[0].detail
    assert "c1, c2" in findings[0].detail
    stranger = check_parity(rows[:1], [prepared_of(r) for r in rows[:2]], serving=serving_of(*rows))
    assert names(stranger) == ["unknown-rows"]


def test_templates_are_compared_by_digest_where_both_are_known() -> None:
    serving = serving_of(ROW)
    known = replace(serving, template="a" * 64)

    def of(trained: str | None, side: Serving) -> list[tuple[str, str]]:
        findings = check_parity([ROW], [prepared_of(ROW)], serving=side, trained_template=trained)
        return [(f.severity, f.name) for f in findings]

    assert of("a" * 64, known) == []
    assert of("b" * 64, known) == [("fail", "template-differs")]
    assert of("b" * 64, serving) == [("warn", "template-unknown")]
    assert of(None, known) == []


def test_a_server_without_stop_ids_never_ends_a_reply() -> None:
    findings = check_parity(
        [ROW], [prepared_of(ROW)], serving=replace(serving_of(ROW), stop_ids=frozenset())
    )
    assert "no-stop-ids" in names(findings)


def test_equal_ids_with_other_pixels_are_found() -> None:
    row = row_of("which?", "red")
    one = replace(prepared_of(row), pixels="a" * 64)
    serving = serving_of(row)
    [told] = check_parity([row], [one], serving=replace(serving, pixels={"c1": "b" * 64}))
    assert (told.severity, told.name) == ("fail", "pixels-differ")
    assert "trained aaaaaaaaaaaa, served bbbbbbbbbbbb" in told.detail
    assert check_parity([row], [one], serving=replace(serving, pixels={"c1": "a" * 64})) == ()
    assert check_parity([row], [one], serving=serving) == ()  # a runtime that tells no pixels


def test_a_call_must_stand_in_what_is_learnt_however_it_is_written() -> None:
    row = replace(row_of("find it", ""), calls=({"function": {"name": "search"}},))
    for reply, expected in (("[search]", []), ("[look]", ["call-differs"])):
        one = prepared_of(replace(row, completion=reply))
        assert names(found(row, one)) == expected
