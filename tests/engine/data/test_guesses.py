"""Which column is what, by its name: the same for every verb, and no input is taken for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.examples import Example
from harness.engine.data.reading import open_examples
from harness.engine.data.writing import write_examples
from harness.surface.cli.init_columns import guessed_roles, open_mapped

LONG = "a message of many words that a person wrote to us, and not the name of where it is from"
VALUES: dict[str, tuple[str, ...]] = {
    "long": tuple(f"{LONG} {n}" for n in range(12)),
    "label": tuple("abc"[n % 3] for n in range(12)),
    "name": tuple(f"Okafor {n // 2}" for n in range(12)),
    "channel": tuple(("web", "mail")[n % 2] for n in range(12)),
    "number": tuple(str(n) for n in range(12)),
    "blank": ("",) * 12,
}
TABLES: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"Message": "long", "Team": "label", "Customer": "name"},
     {"Team": "reference", "Customer": "cluster"}),
    ({"Question": "long", "Right Answer": "label", "Customer-ID": "name"},
     {"Right Answer": "reference", "Customer-ID": "cluster"}),
    ({"text": "long", "team": "label", "label": "label"}, {"label": "reference"}),
    ({"text": "long", "label": "blank", "team": "label"}, {"team": "reference"}),
    ({"text": "long", "label": "blank", "lang": "label"}, {"label": "reference"}),
    ({"text": "long", "team": "blank", "route": "label"}, {"route": "reference"}),
    ({"input": "long", "route": "label", "user_id": "name"},
     {"route": "reference", "user_id": "cluster"}),
    ({"a": "number", "b": "number", "result": "number"}, {"result": "reference"}),
    ({"title": "long", "price": "number", "brand": "label"}, {"price": "reference"}),
    ({"db": "name", "query": "long", "question": "long"}, {"query": "reference"}),
    # asked as often as it answers
    ({"query": "long", "passage": "long"}, {}),
    ({"topic": "label", "style": "label"}, {}),
    # nothing would be left to ask
    ({"team": "label", "customer": "name"}, {"team": "reference"}),
    ({"team": "label", "customer": "name", "comment": "blank"}, {"team": "reference"}),
    ({"summary": "long"}, {}),
    # our own names
    ({"text": "long", "reference": "label", "customer": "name"}, {"reference": "reference"}),
    # what usually stands beside is asked where nothing else is
    ({"comment": "long", "label": "label"}, {"label": "reference"}),
    ({"comment": "long", "team": "label"}, {"team": "reference"}),
    # a text is no source, and neither is a channel
    ({"Message": "long", "Team": "label", "Customer": "long"}, {"Team": "reference"}),
    ({"document": "long", "question": "long", "label": "label"}, {"label": "reference"}),
    ({"source": "long", "target": "long", "lang": "label"}, {"target": "reference"}),
    ({"text": "long", "source": "channel", "label": "label"}, {"label": "reference"}),
    ({"text": "long", "source": "name", "label": "label"},
     {"label": "reference", "source": "cluster"}),
    ({"system": "long", "user": "long", "label": "label"}, {"label": "reference"}),
]  # fmt: skip


def table(folder: Path, columns: Mapping[str, str]) -> Path:
    rows = zip(*(VALUES[kind] for kind in columns.values()), strict=True)
    path = folder / "t.tsv"
    path.write_text("\n".join("\t".join(row) for row in [tuple(columns), *rows]) + "\n")
    return path


@pytest.mark.parametrize(("columns", "roles"), TABLES, ids=lambda one: "-".join(one))
def test_every_verb_takes_a_column_for_the_same(
    tmp_path: Path, columns: dict[str, str], roles: dict[str, str]
) -> None:
    path = table(tmp_path, columns)
    found = {c: r for c, r in guessed_roles(open_examples(path)).items() if r != "input"}
    assert found == roles
    brought, *_ = open_mapped(path, form=None, mapped={}, prompt="", is_asking=False, is_sure=True)
    for one, other in zip(open_examples(path), brought, strict=True):
        assert one.inputs
        assert (one.reference, one.cluster) == (other.reference, other.cluster)


def test_what_a_person_names_is_no_guess(tmp_path: Path) -> None:
    path = table(tmp_path, TABLES[0][0])
    reading = open_examples(path, columns={"Team": "team", "Message": "message"})
    first = next(iter(reading))
    assert (dict(first.inputs), first.reference) == (
        {"team": "a", "message": f"{LONG} 0"},
        None,
    )


def test_a_row_that_holds_its_answer_gets_none_from_a_name_that_may_be_anything(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "q", "chosen": "a", "rejected": "b", "score": 3}\n' * 2)
    assert next(iter(open_examples(path, form="columns"))).reference is None


@pytest.mark.parametrize(
    ("columns", "mapping", "header"),
    [
        ({"foo": "long", "bar": "label"}, {}, "foo\tbar\tsplit"),
        ({"topic": "label", "style": "label"}, {}, "topic\tstyle\tsplit"),
        # without the column, what was named an input would be read as the answer
        ({"foo": "long", "label": "label"}, {"foo": "foo", "label": "label"},
         "foo\tlabel\treference\tsplit"),
        ({"input": "long", "bar": "label"}, {"input": "input", "bar": "bar"},
         "input\tbar\treference\tsplit"),
        ({"prompt": "long", "completion": "label"}, {"prompt": "prompt", "completion": "c"},
         "prompt\tc\tsplit"),
    ],
)  # fmt: skip
def test_no_empty_column_of_answers_is_written_where_the_table_is_read_alike_without(
    tmp_path: Path, columns: dict[str, str], mapping: dict[str, str], header: str
) -> None:
    reading = open_examples(table(tmp_path, columns), columns=mapping)
    rows = [replace(example, split="train") for example in reading]
    out = tmp_path / "out.tsv"
    write_examples(out, rows, form="columns")
    assert out.read_text().splitlines()[0] == header
    again = list(open_examples(out))
    assert [(e.inputs, e.reference, e.split) for e in again] == [
        (e.inputs, e.reference, e.split) for e in rows
    ]


def test_a_column_that_appears_late_is_still_read_alike_where_no_answer_is_written(
    tmp_path: Path,
) -> None:
    """The first rows have no `label`: it is an input, and must not become the answer of a table."""
    rows = [Example(place="", inputs={"text": f"{n}"}, split="train") for n in range(70)]
    rows += [Example(place="", inputs={"text": "z", "label": "x"}, split="dev")]
    out = tmp_path / "out.csv"
    write_examples(out, rows, form="columns")
    assert out.read_text().splitlines()[0] == "text,label,reference,split"
    *_, last = open_examples(out)
    assert (last.inputs, last.reference) == ({"text": "z", "label": "x"}, None)


def test_where_an_input_is_named_all_else_stands_beside_under_our_own_names_too(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("question,team,reference\nq,red,a\n")
    (row,) = open_examples(path, columns={"question": "question"})
    assert (row.inputs, row.reference, row.other) == ({"question": "q"}, "a", {"team": "red"})
    (row,) = open_examples(path, columns={"team": "tags"})
    assert (row.inputs, row.tags) == ({"question": "q"}, ("red",))
