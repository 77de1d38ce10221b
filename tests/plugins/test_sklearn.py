"""The classical tuner and its backend: what it learns, how it is kept, how it is told apart."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_sklearn.backend import SklearnBackend
from harness_sklearn.features import Shape, learn_vocabulary
from harness_sklearn.fitting import fit
from harness_sklearn.recipe import read_recipe
from harness_sklearn.replies import kind_of
from harness_sklearn.tuner import Sklearn

from harness import BackendConfig, Message, Request, TrainingRow, TrainProgress, TuneJob, UsageError
from tests.plugins.routing import cases, routed
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

PROMPT = "Route this message of a guest.\n\nMessage: {}\nAnswer in JSON."


def request(text: str) -> Request:
    system = Message(role="system", content="You route messages.")
    return Request(messages=(system, Message(role="user", content=PROMPT.format(text))))


def rows(pairs: Sequence[tuple[str, str]]) -> tuple[TrainingRow, ...]:
    return tuple(
        TrainingRow(case_id=f"r{i}", messages=request(text).messages, completion=reply)
        for i, (text, reply) in enumerate(pairs)
    )


def trained(
    folder: Path, pairs: Sequence[tuple[str, str]], **recipe: Any
) -> tuple[SklearnBackend, Any]:
    """Train as the engine would, and load what was made from its files alone."""
    out = folder / "out"
    out.mkdir()
    job = TuneJob(base="any", rows=rows(pairs), recipe=recipe, out_dir=out)
    told: list[TrainProgress] = []
    tuner = Sklearn()
    assert tuner.prepare(job) == ()
    result = tuner.train(job, (), report=told.append)
    assert [t.step for t in told] == list(range(1, tuner.steps(job, ()) + 1))
    assert {(t.loss, t.tokens) for t in told} == {(None, 0)}  # it has neither
    if len(told) > 1:
        assert [list(t.numbers) for t in told[-2:]] == [["held_out_error"], ["own_error"]]
    moved = folder / "moved"
    shutil.copytree(out, moved)
    model = (result.backend or "").partition(":")[2]
    return SklearnBackend(BackendConfig(model=model, artifact=moved)), result


def right(backend: SklearnBackend, pairs: Sequence[tuple[str, str]]) -> float:
    return sum(backend.answer(request(t)).text == r for t, r in pairs) / len(pairs)


def routes(number: int, seed: int) -> list[tuple[str, str]]:
    return [(t, json.dumps(r, separators=(",", ":"))) for t, r in routed(number, seed=seed)]


def test_it_learns_routes_of_unseen_messages_far_beyond_the_commonest_answer(
    tmp_path: Path,
) -> None:
    pairs = routes(330, seed=1)
    backend, result = trained(tmp_path, pairs[:230])
    unseen = pairs[230:]
    commonest = max(sum(r == reply for _, r in unseen) for _, reply in unseen) / len(unseen)
    assert right(backend, unseen) > 0.85 > commonest + 0.4
    assert result.backend == "sklearn:logistic"
    # what it promised of rows that it had not seen, from its training rows alone
    assert abs(result.metrics["held_out_right"] - right(backend, unseen)) < 0.12
    reply = backend.answer(request(unseen[0][0]))
    assert reply.cost_usd == 0
    assert (reply.latency_s or 0) > 0


def test_the_files_hold_no_pickle_and_answer_exactly_as_what_was_fitted(tmp_path: Path) -> None:
    pairs = routes(120, seed=2)
    backend, _ = trained(tmp_path, pairs)
    texts = [PROMPT.format(t) for t, _ in pairs]
    fitted = fit(
        texts, [r for _, r in pairs], recipe=read_recipe({}), seed=0, told=lambda **_: None
    )
    for text, _ in routes(80, seed=3):
        assert backend.answer(request(text)).text == fitted.model.answer(PROMPT.format(text))
    files = sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert files == ["model.json", "model.safetensors", "train_report.json"]


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        trained(tmp_path / name, routes(60, seed=4))
        files = sorted((tmp_path / name / "out").rglob("*"))
        found.append([p.read_bytes() for p in files if p.is_file()])
    assert found[0] == found[1]


def test_our_features_are_those_of_scikit_learn() -> None:
    """The reader is our own; the numbers are the library's."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [t for t, _ in routed(40)]
    ours = learn_vocabulary(
        texts, shape=Shape(words=2, characters=(0, 0)), least=1, most_share=1.0, most=10**6
    )
    theirs = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+")
    table = theirs.fit_transform(texts).toarray()
    assert sorted(n.removeprefix("w ") for n in ours.names) == sorted(theirs.vocabulary_)
    places = [theirs.vocabulary_[n.removeprefix("w ")] for n in ours.names]
    for row, text in enumerate(texts):
        columns, values = ours.row(text)
        dense = np.zeros(len(ours.names))
        dense[columns] = values
        np.testing.assert_allclose(dense, table[row][places], atol=1e-12)


def test_numbers_over_magnitudes_are_learnt_by_their_logarithm_and_written_alike(
    tmp_path: Path,
) -> None:
    draw = random.Random(5)
    worth = {"ring": 900.0, "watch": 4000.0, "mug": 6.0, "book": 12.0, "lamp": 45.0}
    pairs = []
    for _ in range(200):
        thing, state = draw.choice(sorted(worth)), draw.choice(["new", "old", "worn"])
        value = worth[thing] * {"new": 1.0, "old": 0.5, "worn": 0.2}[state]
        pairs.append((f"a {state} {thing}", f"{value * math.exp(draw.gauss(0, 0.05)):.2f}"))
    backend, result = trained(tmp_path, pairs)
    assert (result.backend, result.metrics["is_log"]) == ("sklearn:ridge", 1)
    assert result.metrics["held_out_r2"] > 0.9
    said = backend.answer(request("a new ring")).text
    assert said == f"{float(said):.2f}"
    assert abs(math.log(float(said) / 900)) < 0.25


def test_lists_of_labels_are_learnt_one_label_at_a_time(tmp_path: Path) -> None:
    draw = random.Random(6)
    signs = {"fever": "hot and shivering", "cough": "barking at night", "rash": "red spots on arms"}
    pairs = []
    for _ in range(150):
        chosen = [name for name in signs if draw.random() < 0.5]
        words = [signs[name] for name in chosen] + draw.sample(["tired", "two days", "a child"], 2)
        draw.shuffle(words)
        pairs.append(("; ".join(words), json.dumps(sorted(chosen), separators=(",", ":"))))
    backend, result = trained(tmp_path, pairs[:110])
    assert result.backend == "sklearn:logistic-lists"

    def as_set(text: str) -> frozenset[str]:
        return frozenset(json.loads(text))

    unseen = pairs[110:]
    agree = [as_set(backend.answer(request(t)).text) == as_set(r) for t, r in unseen]
    assert sum(agree) / len(agree) > 0.9
    assert backend.answer(request("tired; two days")).text == "[]"


def test_any_text_is_answered_by_the_nearest_row_and_an_unknown_one_by_the_commonest(
    tmp_path: Path,
) -> None:
    pairs = [
        ("where is my parcel", "Look at the tracking page."),
        ("i want my money back", "Ask for a refund."),
        ("cancel the order", "Press cancel."),
        ("stop my order now", "Press cancel."),
    ]
    backend, result = trained(tmp_path, pairs)
    assert result.backend == "sklearn:nearest"
    assert backend.answer(request("my parcel, where is it?")).text == "Look at the tracking page."
    alone = Request(messages=(Message(role="user", content="zzz 99"),))
    assert backend.answer(alone).text == "Press cancel."


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ([str(n) for n in range(40)], "numbers"),
        ([str(n % 5) for n in range(40)], "classes"),
        (['["a"]', '["b","a"]', "[]"], "labels"),
        ([f"text {n}" for n in range(40)], "nearest"),
        (['{"a":1}', '{"a":2}'] * 5, "classes"),
    ],
)
def test_the_kind_is_told_by_the_replies(replies: list[str], kind: str) -> None:
    assert kind_of(replies) == kind


@pytest.mark.parametrize(
    ("recipe", "replies", "said"),
    [
        ({"kind": "numbers"}, ["1", "two"], "'two' is not a number alone"),
        ({"kind": "labels"}, ["[1]", "[]"], "not a JSON list of texts"),
        ({"kind": "classes"}, ["yes", "yes"], "constant:TEXT"),
        ({"depth": 3}, ["a", "b"], "Known keys: kind, c, alpha"),
        ({"characters": [5, 2]}, ["a", "b"], "the shorter first"),
        ({"kind": "classes"}, ["a"], "one row is too few"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_it_is_tried(
    recipe: dict[str, Any], replies: list[str], said: str, tmp_path: Path
) -> None:
    pairs = [(f"text {n}", reply) for n, reply in enumerate(replies)]
    job = TuneJob(base="any", rows=rows(pairs), recipe=recipe, out_dir=tmp_path)
    with pytest.raises(UsageError, match=said.replace("[", r"\[").replace("(", r"\(")):
        Sklearn().prepare(job)


def test_replies_that_are_calls_are_refused_by_name(tmp_path: Path) -> None:
    """Their text is empty, or not all that the reply is."""
    some = list(rows([("where", "there"), ("when", "now")]))
    some[1] = replace(some[1], completion="", calls=({"name": "clock", "arguments": {}},))
    job = TuneJob(base="any", rows=tuple(some), recipe={}, out_dir=tmp_path)
    with pytest.raises(UsageError, match="answers with texts, and replies are tool") as refused:
        Sklearn().prepare(job)
    assert refused.value.case_ids == (some[1].case_id,)


def test_a_model_file_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    backend, _ = trained(tmp_path, routes(40, seed=7))
    names = tmp_path / "moved/classical/model.json"
    plain = json.loads(names.read_text())
    names.write_text(json.dumps({**plain, "features": plain["features"][1:]}))
    with pytest.raises(UsageError, match="its parts do not fit each other"):
        SklearnBackend(BackendConfig(model="logistic", artifact=tmp_path / "moved"))
    with pytest.raises(UsageError, match="harness tune TASK --tuner sklearn"):
        SklearnBackend(BackendConfig(model="logistic"))
    assert backend.answer(request("hi")).text  # what was loaded stays


EVALS = """
import json

def test_right(case, reply):
    assert json.loads(reply.text) == case.reference
"""


def test_it_is_a_candidate_like_any_other_tuned_compared_gated_and_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path)
    (toy.root / "site/adder.py").write_text(
        "import harness\n\n"
        "class Model:\n"
        "    is_external = False\n"
        "    def __init__(self, config):\n        pass\n"
        "    def answer(self, request):\n"
        '        return harness.Reply(text=\'{"intent":null,"route":"human"}\', latency_s=0.1)\n\n'
        "@harness.hookimpl\ndef harness_backends():\n    return {'adder': Model}\n"
    )
    for name in ("plain.md", "shots.md"):
        (toy.task / "prompts" / name).unlink()
    (toy.task / "prompts/route.md").write_text(
        "+++\nfamily = 'zero-shot'\n+++\n@user\n{{ message }}\n"
    )
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.task / "task.toml").write_text(
        'about = "Route."\nmodel = "adder:small"\ncases = "cases.jsonl"\ntarget = 0.6\n'
        'target_reason = "Enough of them."\nnear = 1.0\n'
        '[tune]\ntuner = "sklearn"\nprompt = "route"\n'
    )
    toy.write_cases(cases([("train", 200), ("dev", 60), ("test", 100)]))
    cli = Cli(toy, monkeypatch, capsys)
    planned = cli("tune", "toy", "--plan", "--override", "a classical baseline")
    assert planned.code == 0
    assert "classes: logistic" in planned.out
    assert "parity is not checked" in planned.out
    tuned = cli("tune", "toy", "--override", "a classical baseline costs nothing")
    assert tuned.code == 0
    assert "answered by sklearn:logistic" in tuned.out
    assert cli("eval", "toy", "--candidate", "route", "--candidate", "tuned").code == 0
    assert cli("eval", "toy", "--candidate", "route@adder:small+tuned").code == 0
    wrong = cli("eval", "toy", "--candidate", "route@openai:x+tuned")
    assert wrong.code == 2
    assert "answered by sklearn:logistic" in wrong.err
    compared = cli("compare", "toy", "--candidate", "tuned", "--baseline", "route")
    assert compared.code == 0
    gated = cli("gate", "toy", "--baseline", "route")
    assert gated.code == 0
    assert "no token ids" in gated.out
    assert "off-task: not asked" in gated.out
    advised = cli("advise", "toy")
    assert "USE_CLASSICAL" in advised.out
