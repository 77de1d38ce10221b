from __future__ import annotations

from harness.core.tips import Missed, general, tips_from


def missed(reason: str, *, case: str = "c1", reference: object = "billing") -> Missed:
    return Missed(case_id=case, name="route", reason=reason, held_back=reference)


def test_a_reason_loses_what_is_special_to_its_case() -> None:
    assert general(missed("key 'limit' has 3 values too many.")) == "key … has … values too many"


def test_a_reason_that_holds_a_part_of_its_reference_is_not_used() -> None:
    assert general(missed("this ought to be billing here")) == ""
    assert general(missed("the key limit is wrong here", reference={"limit": 5})) == ""
    assert general(missed("a town in France is wanted", reference="Paris in France")) == ""


def test_words_that_the_prompt_says_anyway_give_nothing_away() -> None:
    wrong = missed("the key limit is wrong here", reference={"limit": 5})
    assert general(wrong, told='Its keys: "limit".') == "the key limit is wrong here"


def test_source_code_is_no_tip() -> None:
    assert general(missed("assert reply.text == case.reference")) == ""
    assert general(missed("x == y is what it should be")) == ""


def test_tips_tell_the_most_frequent_mistakes_and_what_the_evals_want() -> None:
    said = [
        missed("column 'a' is not one of the columns", case="c1", reference=1),
        missed("column 'b' is not one of the columns", case="c2", reference=2),
        missed("a thing that happened once only", case="c3", reference=3),
    ]
    tips = tips_from(said, {"route": "The route that a person chose."})
    assert tips == [
        "Mind this, it was often missed: The route that a person chose.",
        "A frequent mistake: column … is not one of the columns. Do not make it.",
    ]


def test_without_misses_there_are_no_tips() -> None:
    assert tips_from([], {"route": "The route."}) == []
