"""Rows that a scripted model makes: strict, checked, new, capped, resumable, with their origin."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import BackendConfig, hookimpl
from harness.core.near import normalised
from harness.engine.data.forms.cases import of_case
from harness.engine.data.synth import Synth, synthesise
from harness.engine.data.synth_orders import text_at, text_field, with_text
from harness.engine.data.synth_setting import Setting, Wish, prepare
from harness.engine.data.writing import write_examples
from harness.engine.fetch import Silence
from harness.errors import BackendError, UsageError
from harness.records import Case, Reply, Request
from tests.engine.small import Row, Workshop, write_rows, write_task

LABELS = ("delivery", "refund", "abuse")
EVALS = '''
LABELS = ("delivery", "refund", "abuse", "legal")

def test_label(case, reply):
    """The reply is one of the labels."""
    assert reply.text in LABELS, f"{reply.text!r} is no label"

def test_polite(case, reply):
    assert "damn" not in case.inputs["message"], "a row that nobody may be shown"
'''
SUBJECTS = ("a parcel", "two letters", "the red sofa", "my invoice", "a broken lamp", "some shoes")


def message(n: int) -> str:
    subject, place = SUBJECTS[n % 6], ("Bonn", "Graz", "Lyon", "Oslo", "Bath")[n // 6 % 5]
    return f"Hello, I wrote on day {n} from {place} about {subject} and nobody answered me"


def rows(*, train: int = 24, dev: int = 6, test: int = 6) -> list[Row]:
    found = []
    for n, split in enumerate(["train"] * train + ["dev"] * dev + ["test"] * test):
        found.append(
            {
                "id": f"c{n}",
                "split": split,
                "cluster": f"k{n}",
                "inputs": {"message": message(n)},
                "reference": LABELS[n % 2] if n % 11 else "abuse",
                "tags": ["short"] if n % 2 else ["long", "night"] if n == 4 else ["long"],
            }
        )
    return found


class Model:
    """`scripted:writer`: answers by `say`, at a price; external where its name says so."""

    def __init__(self, say: Callable[[Request, int], str], *, cost_usd: float = 0.01) -> None:
        self.say, self.cost_usd = say, cost_usd
        self.requests: list[Request] = []

    def make(self, config: BackendConfig) -> Any:
        outer = self

        class Backend:
            concurrency = 2
            honours = frozenset({"schema"})
            is_external = config.model == "outside"

            async def answer(self, request: Request) -> Reply:
                outer.requests.append(request)
                text = outer.say(request, len(outer.requests))
                return Reply(text=text, finish_reason="stop", cost_usd=outer.cost_usd)

        return Backend()

    @hookimpl
    def harness_backends(self) -> dict[str, Any]:
        return {"scripted": self.make}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    folder = write_task(tmp_path, some=rows(), about="Route a message.", primary="label")
    (folder / "eval_double.py").write_text(EVALS)
    (folder / "prompts/plain.md").write_text(
        "+++\nfamily = 'zero-shot'\n+++\n@user\n{{ message }}\n"
    )
    for name in ("terse", "shots", "near"):
        (folder / f"prompts/{name}.md").unlink()
    opened = Workshop(folder)
    yield opened
    opened.close()


def writer(shop: Workshop, say: Callable[[Request, int], str], **more: Any) -> Model:
    model = Model(say, **more)
    shop.plugins.register(model, name="scripted")
    return model


def setting(shop: Workshop, **wish: Any) -> Setting:
    return prepare(shop.task, Wish(**wish), root=shop.project.root, pool=shop.pool)


def run(shop: Workshop, **wish: Any) -> Synth:
    return synthesise(shop.task, setting(shop, **wish), store=shop.store, progress=Silence())


def answer(*pairs: tuple[str, str]) -> str:
    return json.dumps({"rows": [{"inputs": {"message": m}, "reference": r} for m, r in pairs]})


def fresh(request: Request, n: int) -> str:
    words = ("ferry", "museum", "garden", "violin", "harbour", "bakery", "library", "orchard")
    return answer(
        *(
            (
                f"The {words[(n + k) % 8]} {n * 4 + k} lost my {words[(3 * n + k) % 8]} card",
                "refund",
            )
            for k in range(4)
        )
    )


# ---------------------------------------------------------------- what passes, what does not


def test_rows_of_a_model_carry_how_they_were_made_and_load_as_cases(shop: Workshop) -> None:
    model = writer(shop, fresh)
    made = run(shop, by="self-instruct", rows=6, model="scripted:writer", seed=3)
    assert len(made.rows) == 6
    row = made.rows[0]
    assert {"made_by": "self-instruct", "model": "scripted:writer", "seed": 3}.items() <= (
        row.provenance.items()
    )
    assert row.tags[-1] == "synthetic"
    assert len(row.provenance["from"]) == 4
    assert len(row.provenance["prompt_digest"]) == 16
    shown = model.requests[0].messages[1].content
    train = {c.id: c for c in shop.task.split("train")}
    assert all(train[i].inputs["message"] in shown for i in row.provenance["from"])
    assert model.requests[0].schema is not None
    # and they can be written beside the cases, and read again with their origin
    out = shop.folder / "made.jsonl"
    write_examples(out, map(of_case, made.rows), form="cases", allow_refused=False)
    text = (shop.folder / "task.toml").read_text()
    (shop.folder / "task.toml").write_text(
        text.replace('cases = "cases.jsonl"', 'cases = ["cases.jsonl", "made.jsonl"]')
    )
    loaded = {c.id: c for c in shop.task.cases}
    assert loaded[row.id].provenance == row.provenance
    assert loaded[row.id].split == "train"


BAD = {
    "the answer is no JSON": "Sure! Here are your rows:",
    "the answer is no object of `rows`": '{"row": []}',
    "no row has the form that was asked for": '{"rows": [{"message": "x", "reference": "refund"}]}',
    "eval polite missed": answer(("the damn ferry never came to the island today", "refund")),
    "lint empty-input": answer(("   ", "refund")),
    "the same input as a train row": answer((message(0), "refund")),
    "nearly the same as a test row": answer(
        (message(32).replace("answered me", "answered us"), "refund")
    ),
    "nearly the same as a dev row": answer((message(26).upper(), "refund")),
    "lint secret": answer(
        ("my key is AKIA" + "IOSFODNN7EXAMPLE, why did you refuse it?", "refund")
    ),
}


@pytest.mark.parametrize("reason", BAD)
def test_what_is_not_good_is_refused_and_counted_by_its_reason(shop: Workshop, reason: str) -> None:
    """One bad answer among good ones: the good rows are kept, the bad one is told with a sample."""
    writer(shop, lambda request, n: BAD[reason] if n == 1 else fresh(request, n))
    made = run(shop, by="self-instruct", rows=3, model="scripted:writer")
    assert len(made.rows) == 3
    assert made.refused[reason] == 1
    assert made.samples[reason]


@pytest.mark.parametrize("fence", ["```json", "```", "```JSON"])
def test_a_row_of_another_form_is_counted_within_a_fence_too(shop: Workshop, fence: str) -> None:
    good = "the tram to the museum left without me on Tuesday"
    rows = [{"inputs": {"message": good}, "reference": "refund"}, {"message": "x"}]
    said = f"{fence}\n{json.dumps({'rows': rows})}\n```"
    writer(shop, lambda request, n: said if n == 1 else fresh(request, n))
    made = run(shop, by="self-instruct", rows=3, model="scripted:writer")
    assert good in [row.inputs["message"] for row in made.rows]
    assert made.refused["a row has not the form that was asked for"] == 1


def test_a_class_that_nobody_knows_is_not_the_form_that_was_asked_for(shop: Workshop) -> None:
    """The labels are few and shared, so a model may not invent one."""
    unknown = answer(("a wholly new question about ferries", "weather"))
    writer(shop, lambda request, n: unknown if n == 1 else fresh(request, n))
    made = run(shop, by="self-instruct", rows=2, model="scripted:writer")
    assert made.refused["no row has the form that was asked for"] == 1


def test_twins_within_what_was_made_are_one_row(shop: Workshop) -> None:
    same = "the ferry to the island left without me and my two bags on Monday"
    writer(
        shop, lambda request, n: answer((same, "refund"), (same.replace("two", "three"), "refund"))
    )
    made = run(shop, by="self-instruct", rows=5, model="scripted:writer", near=0.5)
    assert len(made.rows) == 1
    assert made.refused["nearly the same as another made row"] >= 1
    assert "two rounds in a row gave no row" in made.stopped


# ---------------------------------------------------------------- money, boundaries, terms


def test_it_stops_at_the_budget_keeps_what_was_made_and_goes_on_later(shop: Workshop) -> None:
    model = writer(shop, fresh, cost_usd=0.01)
    made = run(shop, by="self-instruct", rows=40, model="scripted:writer", max_cost_usd=0.035)
    assert "budget of $0.035 is spent" in made.stopped
    assert made.spent_usd == pytest.approx(0.01 * len(model.requests))
    assert made.spent_usd <= 0.035
    assert 0 < len(made.rows) < 40
    before = len(model.requests)
    more = run(shop, by="self-instruct", rows=40, model="scripted:writer", max_cost_usd=1.0)
    assert more.recorded == before
    assert {r.id for r in made.rows} <= {r.id for r in more.rows}
    last = len(model.requests)
    again = run(shop, by="self-instruct", rows=40, model="scripted:writer")
    assert again.rows == more.rows
    assert len(model.requests) == last


def test_internal_rows_are_not_shown_to_an_external_model(shop: Workshop) -> None:
    some = rows()
    for row in some[:20]:
        row["tags"] = ["internal"]
    write_rows(shop.folder, some)
    model = writer(shop, fresh)
    made = run(shop, by="self-instruct", rows=4, model="scripted:outside")
    secret = {r["inputs"]["message"] for r in some[:20]}
    sent = "".join(m.content for r in model.requests for m in r.messages)
    assert not any(text in sent for text in secret)
    assert "20 rows tagged internal" in made.notes[0]
    # what is made of one on this machine stays on this machine
    for row in some[:12]:
        row["tags"] = []
    write_rows(shop.folder, some)
    inside = run(shop, by="evolve", rows=20, model="scripted:writer")
    assert {"internal" in r.tags for r in inside.rows} == {True, False}
    for row in some[:24]:
        row["tags"] = ["internal"]
    write_rows(shop.folder, some)
    with pytest.raises(UsageError, match="nothing was sent"):
        run(shop, by="self-instruct", rows=4, model="scripted:outside")


def test_terms_that_forbid_training_refuse_train_rows_and_no_test_rows(shop: Workshop) -> None:
    writer(shop, fresh)
    assert "unknown here" in setting(shop, by="self-instruct", model="scripted:writer").terms
    (shop.project.root / "tunable.toml").write_text(
        '[outputs.mine]\nschemes = ["scripted"]\nmay_train = "no"\nterms = "none"\nsource = "x"\n'
    )
    with pytest.raises(UsageError, match="as training data: no"):
        run(shop, by="self-instruct", model="scripted:writer")
    made = run(shop, by="self-instruct", rows=2, model="scripted:writer", split="test")
    assert {(r.split, r.tags[-1]) for r in made.rows} == {("test", "synthetic")}
    assert set(made.rows[0].provenance["from"]) <= {c.id for c in shop.task.split("test")}


def test_a_model_that_never_answers_is_a_fault_and_makes_nothing(shop: Workshop) -> None:
    def down(request: Request, n: int) -> str:
        raise BackendError("no route to host")

    writer(shop, down)
    with pytest.raises(BackendError, match="no answer came"):
        run(shop, by="self-instruct", rows=2, model="scripted:writer")


# ---------------------------------------------------------------- the other ways


def test_documents_that_test_cases_need_are_not_told_to_train(shop: Workshop) -> None:
    (shop.folder / "docs").mkdir()
    (shop.folder / "docs/open.md").write_text("Refunds take ten days, by bank transfer.")
    (shop.folder / "docs/sealed.md").write_text("Sofas are delivered by two people on Fridays.")
    some = rows()
    some[-1]["documents"] = ["docs/sealed.md"]
    write_rows(shop.folder, some)
    text = (shop.folder / "task.toml").read_text()
    (shop.folder / "task.toml").write_text(text + 'documents = "docs/*.md"\n')
    model = writer(shop, fresh)
    made = run(shop, by="documents", rows=4, model="scripted:writer")
    sent = "".join(m.content for r in model.requests for m in r.messages)
    assert "Refunds take ten days" in sent
    assert "Sofas are delivered" not in sent
    assert made.rows[0].documents == ("docs/open.md#1",)
    assert made.rows[0].cluster == "document docs/open.md"
    assert any("1 passage left out" in note for note in made.notes)


def test_perturbed_rows_keep_their_answer_and_cluster_and_copy_no_held_out_row(
    shop: Workshop,
) -> None:
    made = run(shop, by="perturb", rows=60)
    assert len(made.rows) == 60
    train = {c.id: c for c in shop.task.split("train")}
    for row in made.rows:
        (source,) = row.provenance["from"]
        assert row.reference == train[source].reference
        assert row.cluster == train[source].cluster
        assert row.inputs != train[source].inputs
        assert row.provenance["label"] == "kept"
    held_out = {normalised(c.inputs["message"]) for c in shop.task.cases if c.split != "train"}
    assert not held_out & {normalised(r.inputs["message"]) for r in made.rows}
    assert made.requests == 0


def test_a_row_is_not_changed_in_a_way_that_it_has_nothing_for(shop: Workshop) -> None:
    many = len(shop.task.split("train"))
    made = run(shop, by="perturb", rows=many + 1, kinds=("numbers", "distractor"))
    assert {str(r.provenance["kind"]) for r in made.rows} == {"distractor"}
    assert not [reason for reason in made.refused if "numbers" in reason]
    assert made.said == many  # none was refused that was never made
    assert "`numbers` has nothing to change in any row" in made.notes
    assert not any("has nothing to change" in n for n in run(shop, by="perturb", rows=2).notes)


def test_a_cut_text_has_no_answer_until_a_person_gives_it(shop: Workshop) -> None:
    made = run(shop, by="perturb", rows=3, kinds=("truncate",))
    assert [r.reference for r in made.rows] == [None] * 3
    assert all({"synthetic", "unlabelled"} <= set(r.tags) for r in made.rows)
    assert "no answer" in made.notes[-1] or "have none" in made.notes[-1]


def test_a_paraphrase_keeps_the_answer_and_a_negation_brings_its_own(shop: Workshop) -> None:
    def say(request: Request, n: int) -> str:
        is_negation = "opposite" in request.messages[1].content
        text = f"Rain number {n} fell on the quiet {'moor' if is_negation else 'lake'} all night"
        row = {"text": text} | ({"reference": "legal"} if is_negation else {})
        return json.dumps({"rows": [row]})

    writer(shop, say)
    kept = run(shop, by="perturb", rows=3, kinds=("paraphrase",), model="scripted:writer")
    train = {c.id: c for c in shop.task.split("train")}
    assert [r.reference for r in kept.rows] == [
        train[r.provenance["from"][0]].reference for r in kept.rows
    ]
    turned = run(shop, by="perturb", rows=2, kinds=("negation",), model="scripted:writer")
    assert turned.rows == ()
    assert turned.refused["no row has the form that was asked for"] == 6  # legal is no label here
    with pytest.raises(UsageError, match="asks a model for paraphrase"):
        run(shop, by="perturb", kinds=("paraphrase",))


def test_holes_are_filled_and_no_more_is_asked_for(shop: Workshop) -> None:
    def say(request: Request, n: int) -> str:
        asked = request.messages[1].content.rpartition("There are too few rows")[2]
        label = "abuse" if "`abuse`" in asked else "refund"
        return answer(
            *(
                (f"number {n} of {k} kinds of {label} that I met in the {SUBJECTS[k]}", label)
                for k in range(4)
            )
        )

    writer(shop, say)
    made = run(shop, by="holes", model="scripted:writer", least=6)
    assert {h.name: h.have for h in made.holes} == {"night": 6, "abuse": 6}
    assert made.stopped == ""
    assert sum(r.reference == "abuse" for r in made.rows) >= 3
    assert all("night" in r.tags for r in made.rows if r.provenance["hole"] == "tag night")
    with pytest.raises(UsageError, match="no hole in train"):
        run(shop, by="holes", model="scripted:writer", least=1)


def test_the_path_of_an_image_is_no_text_to_be_changed() -> None:
    path = "pictures/a-very-long-name-of-a-file.png"
    both = Case(id="a", split="train", inputs={"image": path, "ask": "what is it?"}, reference="x")
    assert text_field([both], None) == "image"  # who does not say that it is one
    assert text_field([both], None, without=("image",)) == "ask"
    alone = replace(both, inputs={"image": path})
    with pytest.raises(UsageError, match=r"no input of the rows is text .*as a; they have image"):
        text_field([alone], None, without=("image",))


def test_a_dialogue_that_is_text_is_changed_in_what_the_user_said_last() -> None:
    said = "user: Hello\nassistant: Which city?\nuser: Bern,\nplease.\nassistant: Today?"
    inputs = {"dialogue": said, "service": "Weather"}
    assert text_at(inputs, "dialogue") == "Bern,\nplease."
    changed = with_text(inputs, "dialogue", "BERN")["dialogue"]
    assert changed == said.replace("Bern,\nplease.", "BERN")
    for text in ("Note: user: hi", "assistant: hi", "a user: b", ""):
        assert text_at({"x": text}, "x") == text
        assert with_text({"x": text}, "x", "new") == {"x": "new"}


def test_a_class_within_an_object_is_a_hole_that_is_filled_by_rows_of_that_class(
    tmp_path: Path,
) -> None:
    def row(name: str, n: int) -> dict[str, Any]:
        said = f"The {SUBJECTS[n % len(SUBJECTS)]} of {name} was number {n}"
        answered = {"label": name, "sure": True}
        return {"id": f"{name}{n}", "split": "train" if n % 4 else "dev",
                "inputs": {"message": said}, "reference": answered}  # fmt: skip

    some = [row(name, n) for name in ("refund", "delivery") for n in range(12)]
    some += [row("abuse", n) for n in range(3)]
    folder = write_task(tmp_path, some=some, primary="label")
    (folder / "eval_double.py").write_text(
        "from harness import checks\n\ndef test_label(case, reply):\n    checks.json(reply)\n"
    )
    for name in ("terse", "shots", "near"):
        (folder / f"prompts/{name}.md").write_text(
            "+++\nfamily = 'zero-shot'\n+++\n@user\n{{ message }}\n"
        )
    shop = Workshop(folder)
    asked: list[str] = []

    def say(request: Request, n: int) -> str:
        asked.append(request.messages[1].content)
        rows = [
            {"inputs": {"message": f"{SUBJECTS[n]} said {k} bad words to the {SUBJECTS[k]}"},
             "reference": {"label": "refund" if k == 3 else "abuse", "sure": False}}
            for k in range(4)
        ]  # fmt: skip
        return json.dumps({"rows": rows})

    try:
        writer(shop, say)
        made = run(shop, by="holes", kinds=("class",), model="scripted:writer", least=5)
    finally:
        shop.close()
    assert "has `abuse` as its `label`" in asked[0]
    assert [h.text for h in made.holes] == ["class label=abuse: 5 of 5"]
    assert {dict(r.reference)["label"] for r in made.rows} == {"abuse"}
    assert {r.provenance["hole"] for r in made.rows} == {"class label=abuse"}
    assert made.refused["a row has not the form that was asked for"] >= 1
