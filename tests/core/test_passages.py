"""Documents are cut the same way everywhere, and nothing of them is lost."""

from __future__ import annotations

import re

from hypothesis import given, strategies as st

from harness.core.passages import Passage, recall, split_passages

GUIDE = """# Returns

Goods come back within 30 days.

A receipt is needed.

## Shoes

Only unworn.

```sh
# not a heading

ship --back
```
"""


def test_paragraphs_of_one_heading_stay_together_under_it() -> None:
    found = split_passages("guide.md", GUIDE, characters=300)
    assert [p.id for p in found] == ["guide.md#1", "guide.md#2"]
    assert found[0].text == ("# Returns\n\nGoods come back within 30 days.\n\nA receipt is needed.")
    assert found[1].text.startswith("## Shoes\n\nOnly unworn.\n\n```sh\n# not a heading\n\nship")


def test_a_long_section_is_cut_between_paragraphs_and_each_piece_keeps_the_heading() -> None:
    found = split_passages("guide.md", GUIDE, characters=35)
    assert [p.text for p in found[:3]] == [
        "# Returns\n\nGoods come back within 30 days.",
        "# Returns\n\nA receipt is needed.",
        "## Shoes\n\nOnly unworn.",
    ]


def test_a_long_paragraph_is_cut_at_the_end_of_a_sentence_and_a_word_without_end_anywhere() -> None:
    text = "One sentence is here. Another one follows it. " + "x" * 70
    found = [p.text for p in split_passages("a", text, characters=40)]
    assert found == ["One sentence is here.", "Another one follows it.", "x" * 40, "x" * 30]


@given(st.text(alphabet="ab# .\n`~", max_size=300), st.integers(100, 200))
def test_every_word_of_a_document_stands_in_a_passage(text: str, characters: int) -> None:
    found = "\n".join(p.text for p in split_passages("a", text, characters=characters))
    lost = set(re.findall(r"[ab]+", text)) - set(re.findall(r"[ab]+", found))
    # a heading that has nothing under it says nothing by itself
    headings = [line for line in text.split("\n") if line.startswith("#")]
    assert not lost - set(re.findall(r"[ab]+", " ".join(headings)))


def test_recall_counts_what_was_needed_by_passage_or_by_document() -> None:
    found = [Passage(id="a.md#2", text=""), Passage(id="b.md#1", text="")]
    assert recall(found, ["a.md#2"]) == 1
    assert recall(found, ["a.md#1", "b.md"]) == 0.5
    assert recall([], ["a.md"]) == 0
