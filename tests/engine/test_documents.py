"""Documents of a task: found by words, part of a prompt's identity, trained as they are served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.candidates import resolve_candidate
from harness.engine.requests import Requests
from harness.engine.tasks import Task, load_task
from harness.errors import TaskError
from tests.engine.small import write_rows, write_task

RAG = """+++
family = 'rag'
documents = 2
+++
@system
{% for d in documents %}
[{{ d.id }}] {{ d.text }}
{% endfor %}
@user
{{ question }}
"""
TOPICS = ["apples", "bread", "cheese", "dates"]


def row(n: int, split: str, **more: Any) -> dict[str, Any]:
    topic = TOPICS[n % len(TOPICS)]
    inputs = {"question": f"How are {topic} kept?", "n": n}
    plain = {"id": f"c{n}", "split": split, "inputs": inputs, "reference": topic}
    return plain | {"cluster": f"k{n}"} | more


def write(root: Path, *rows: dict[str, Any], **settings: Any) -> Path:
    settings = {"documents": ["docs/*.md", "faq.jsonl"]} | settings
    folder = write_task(root, **settings)
    (folder / "docs").mkdir()
    for topic in TOPICS[:3]:
        (folder / f"docs/{topic}.md").write_text(f"# {topic}\n\nKeep {topic} in a cool place.\n")
    faq = {"id": "dates", "text": "Keep dates dry."}
    (folder / "faq.jsonl").write_text(json.dumps(faq) + "\n")
    (folder / "prompts/rag-2.md").write_text(RAG)
    write_rows(folder, rows or [row(n, "dev" if n % 2 else "train") for n in range(8)])
    return folder


def ask(task: Task, case_id: str) -> list[str]:
    candidate = resolve_candidate(task, "rag-2", artifact_digest=str)
    case = next(c for c in task.cases if c.id == case_id)
    return [m.content for m in Requests(task).of(candidate, case).messages]


def test_a_prompt_is_filled_with_the_passages_nearest_to_the_case(tmp_path: Path) -> None:
    task = load_task(write(tmp_path))
    assert [p.id for p in task.passages] == [
        "docs/apples.md#1", "docs/bread.md#1", "docs/cheese.md#1", "dates#1",
    ]  # fmt: skip
    system, user = ask(task, "c3")
    assert system.startswith("[dates#1] Keep dates dry.")
    assert user == "How are dates kept?"


def test_what_is_trained_holds_the_documents_that_are_served(tmp_path: Path) -> None:
    task = load_task(write(tmp_path))
    requests = Requests(task)
    candidate = resolve_candidate(task, "rag-2", artifact_digest=str)
    for case in task.split("train"):
        trained = requests.training_row("rag-2", case)
        assert trained.messages == Requests(task).of(candidate, case).messages
        assert f"Keep {case.reference}" in trained.messages[0].content


def test_an_edited_document_makes_another_candidate_of_prompts_that_search_it(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path)

    def digests() -> list[str | None]:
        task = load_task(folder)
        return [
            resolve_candidate(task, name, artifact_digest=str).prompt_digest
            for name in ("rag-2", "plain")
        ]

    before = digests()
    (folder / "docs/bread.md").write_text("# bread\n\nFreeze it.\n")
    after = digests()
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_retrieval_is_measured_without_a_model(tmp_path: Path) -> None:
    rows = [
        row(0, "dev", documents=["docs/apples.md#1"]),
        row(1, "dev", documents=["docs/bread.md", "dates"]),
        row(2, "dev"),
    ]
    task = load_task(write(tmp_path, *rows))
    found = Requests(task).retrieval("rag-2", task.split("dev"))
    assert found is not None
    # "kept" is no stem of "keep": one passage alone shares a word with each question
    assert found.recalls == (1.0, 0.5)
    assert found.clusters == ("k0", "k1")
    assert (found.k, found.unsaid) == (2, 1)
    assert Requests(task).retrieval("plain", task.split("dev")) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"documents": ["nowhere/*.md"]}, r"task.toml: documents: no file matches 'nowhere/\*.md'"),
        ({"documents": []}, r"rag-2.md:1: asks for 2 documents, and task.toml names none"),
        ({"documents": ["/etc/*.md"]}, r"task.toml: documents: '/etc/\*.md': Non-relative"),
    ],
)
def test_documents_that_are_not_there_are_told(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = write(tmp_path, **change)
    with pytest.raises(TaskError, match=says):
        load_task(folder)


def test_a_case_that_needs_an_unknown_passage_is_told_with_its_line(tmp_path: Path) -> None:
    folder = write(tmp_path, row(0, "dev"), row(1, "dev", documents=["docs/bread.md#7"]))
    says = r"cases.jsonl:2: documents: no document or passage 'docs/bread.md#7' .* docs/bread.md#1"
    with pytest.raises(TaskError, match=says):
        load_task(folder)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "dates"}', "faq.jsonl:1: a line of documents"),
        ('{"id": "dates", "text": "a"}\n{"id": "dates", "text": "b"}', "faq.jsonl:2: a second"),
    ],
)
def test_a_broken_row_of_documents_is_told_with_its_line(
    tmp_path: Path, line: str, says: str
) -> None:
    folder = write(tmp_path)
    (folder / "faq.jsonl").write_text(line + "\n")
    with pytest.raises(TaskError, match=says):
        load_task(folder)


def test_a_field_of_a_case_is_never_shadowed_by_what_was_found(tmp_path: Path) -> None:
    mine = row(1, "dev")
    mine["inputs"]["documents"] = "mine"
    task = load_task(write(tmp_path, mine))
    with pytest.raises(TaskError, match="'c1' has a field `documents` of its own"):
        ask(task, "c1")
