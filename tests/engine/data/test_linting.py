"""What lint holds of a set: little, whatever the set's size."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir

import pytest

from harness.core import sketch, spool, twins
from harness.core.examples import Example
from harness.core.lints.classes import COLUMNS, ClassLint
from harness.core.lints.vocabulary import HELD, VocabularyLint
from harness.core.sketch import Sketches
from harness.core.spool import Column, Held
from harness.engine.data import linting, spooling
from harness.engine.data.linting import Rows, Settings, file_rows, lint
from harness.engine.data.spooling import FileSpool
from harness.errors import StoreError
from tests.core.lints.planted import run

TWINS = Settings(only=("duplicate", "near-duplicate", "leak", "label-conflict", "duplicate-id"))


def rows(n: int) -> Rows:
    """Rows that are all different, but for one copy."""

    def each() -> Iterator[Example]:
        for i in range(n):
            k = 7 if i == n - 1 else i
            words = " ".join(f"w{k * 31 % 97}x{k} v{k * j % 101}" for j in range(1, 6))
            yield Example(place=f"f:{i + 1}", id=f"r{i}", inputs={"q": words}, reference=f"a{k}")

    return Rows(name="rows", open=each)


def peak_bytes(n: int) -> int:
    tracemalloc.start()
    [finding] = lint([rows(n)], settings=TWINS).findings
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [p.id for p in finding.rows] == ["r7", f"r{n - 1}"]
    return peak


def test_a_set_three_times_as_large_takes_some_bytes_a_row_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool, "EACH", 512)
    monkeypatch.setattr(sketch, "BATCH", 256)
    monkeypatch.setattr(twins, "FEW", 50)
    monkeypatch.setattr(linting, "FIRST", 50)
    monkeypatch.setattr(spooling, "IN_MEMORY", 4096)
    peak_bytes(300)  # what is loaded once
    small, large = peak_bytes(1_000), peak_bytes(3_000)
    assert (large - small) / 2_000 < 60, "bytes a row, of which the text alone has more"


def test_both_spools_give_back_what_was_written_in_parts_and_again() -> None:
    for one in (Held(), FileSpool()):
        column = Column(one)
        for value in range(20_000):
            column.append(value * 3)
            if value in {0, 9_000}:
                assert column.all().tolist() == [v * 3 for v in range(value + 1)]
        assert len(column) == 20_000
        assert column.all().tolist() == column.all().tolist() == [v * 3 for v in range(20_000)]


def test_a_spool_leaves_no_file_and_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(Path(gettempdir()).iterdir())
    some = FileSpool()
    some.write(bytes(1 << 20))
    mine = {p for p in set(Path(gettempdir()).iterdir()) - before if p.stat().st_size >= 1 << 20}
    assert mine == set()

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(some._file, "write", full)
    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
        some.write(b"x")


def test_candidate_pairs_are_capped_the_nearest_first_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pairs() -> tuple[list[tuple[int, int]], int]:
        some = Sketches()
        for i in range(60):
            some.add("one and the same phrase" if i % 2 else f"a{i} b{i * 7} c{i * 11} d{i}")
        context = Column(Held())
        for _ in range(60):
            context.append(5)
        found = some.candidates(context.all())
        return [(int(p) & 0xFFFFFFFF, int(p) >> 32) for p in found], some.left_out

    found, left_out = pairs()
    same = list(range(1, 60, 2))
    near = {(a, b) for i, a in enumerate(same) for b in same[i + 1 : i + 1 + sketch.PARTNERS]}
    assert (set(found), len(found), left_out) == (near, len(near), 0)
    monkeypatch.setattr(sketch, "MOST", 29)
    found, left_out = pairs()
    assert found == list(pairwise(same)), "each with the one before it"
    assert left_out == sketch.BANDS * (len(near) - 29)


def test_words_and_columns_that_are_data_do_not_pile_up() -> None:
    def words(i: int) -> str:
        return " ".join(chr(97 + i // 26**k % 26) * (k + 3) + "nkrt" for k in range(3))

    vocabulary, classes = VocabularyLint(), ClassLint()
    examples = [
        Example(
            place=f"f:{i}",
            inputs={"q": " ".join(f"{words(i)}{c}" for c in "abcdefgh") + " bngrd"},
            reference={f"user-{i}": "yes"},
        )
        for i in range(4_000)
    ]
    findings = run(examples, [vocabulary, classes])
    assert len(vocabulary._counts) <= HELD
    assert len(classes._counts) <= COLUMNS
    assert "bngrd" in next(f.message for f in findings if f.rule == "abbreviation")


ASKED: dict[str, object] = {"role": "user", "content": "Where is it?"}
SAID: dict[str, object] = {"role": "assistant", "content": "It is late."}


@pytest.mark.parametrize("worse", [[ASKED], [SAID, ASKED], [SAID, ASKED, SAID]])
@pytest.mark.parametrize("form", ["trl", "whole dialogues", "openai"])
def test_a_turn_of_the_user_in_the_worse_answer_is_told_by_name_in_every_form(
    tmp_path: Path, form: str, worse: list[object]
) -> None:
    def row(rejected: list[object]) -> dict[str, object]:
        if form == "openai":
            asked = {"messages": [ASKED]}
            return {"input": asked, "preferred_output": [SAID], "non_preferred_output": rejected}
        if form == "trl":
            return {"prompt": [ASKED], "chosen": [SAID], "rejected": rejected}
        return {"chosen": [ASKED, SAID], "rejected": [ASKED, *rejected]}

    path = tmp_path / "pairs.jsonl"
    rows = [row([{**SAID, "content": f"No, {n}."}]) for n in range(4)] + [row(worse)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    report = lint([file_rows(path, columns={})])
    found = next(f for f in report.findings if f.rule == "user-in-rejected")
    assert (found.severity, found.count) == ("error", 1)
    assert found.rows[0].place.endswith("pairs.jsonl:5")
    assert "is a turn of the user" in found.rows[0].detail
    assert (report.bad, report.unreadable_count) == (1, 0)
    assert "unreadable" not in {f.rule for f in report.findings}


def test_one_long_answer_does_not_hide_what_is_wrong_with_the_labels() -> None:
    def one(answer: str, split: str = "train") -> Example:
        return Example(place="", inputs={"q": answer}, reference=answer, split=split)

    long = "a text that somebody pasted into the column, and that goes on and on and on"
    labels = [*map(one, ["red", "blue"] * 20), one("Red"), one(long), one("violet", "test")]
    told = {"class-spelling", "unseen-class", "rare-class"}
    assert {f.rule for f in run(labels, [ClassLint()])} == told
    texts = [one(f"{n}: {long}") for n in range(9)]
    assert not run([*labels, *texts], [ClassLint()])


def test_longer_answers_hide_the_labels_by_their_share_wherever_they_stand() -> None:
    def one(answer: str) -> Example:
        return Example(place="", inputs={"q": answer}, reference=answer)

    long = [
        one(f"{n}: a text that goes on and on, and on again, and then on once more")
        for n in range(5)
    ]
    labels = [*map(one, ["red", "blue"] * 150), one("Red")]
    for rows in ([*labels, *long], [*long, *labels], [*labels[:99], *long, *labels[99:]]):
        assert {f.rule for f in run(rows, [ClassLint()])} == {"class-spelling", "rare-class"}
    for rows in ([*labels[-100:], *long], [*long, *labels[-100:]]):
        assert not run(rows, [ClassLint()])
