"""A text classifier as a check: its numbers are transformers' own, its weights part of a score."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness_classifiers
import pytest
from harness_classifiers.model import classifier_of

from harness import Miss, MissingExtra, Reply, UsageError, checks
from harness.checks.registry import identity_of
from harness.engine.tasks import load_task
from harness.ports.manager import Plugins
from tests.engine.small import write_task
from tests.plugins.tiny import LABELS, build_tiny_classifier

SAID = "The capital of France is Paris."
LONG = " ".join(["the capital of france is"] * 20)


@pytest.fixture(autouse=True)
def only_this_plugin() -> Iterator[None]:
    plugins = Plugins()
    plugins.register(harness_classifiers, name="classifiers")
    checks.use_plugins(plugins)
    yield
    checks.use_plugins(None)


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_tiny_classifier(tmp_path_factory.mktemp("models") / "tone"))


def edited(folder: str, into: Path, **config: Any) -> str:
    shutil.copytree(folder, into)
    path = into / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return str(into)


def shares(folder: str, text: str, **how: Any) -> dict[str, float]:
    """What transformers' own pipeline says."""
    from transformers import pipeline

    ask = pipeline("text-classification", model=folder, device="cpu")
    return {row["label"]: row["score"] for row in ask(text, top_k=None, **how)}


@pytest.mark.parametrize(
    ("family", "problem", "labels"),
    [
        ("bert", None, LABELS),
        ("roberta", "single_label_classification", LABELS),
        ("bert", "multi_label_classification", ("toxic", "threat")),
        ("roberta", None, ("toxic",)),
    ],
)
def test_it_scores_as_the_pipeline_of_transformers_does(
    family: str, problem: str | None, labels: tuple[str, ...], tmp_path: Path
) -> None:
    made = build_tiny_classifier(tmp_path, labels=labels, family=family, problem=problem)
    expected = shares(str(made), SAID)
    assert set(expected) == set(labels)
    for label, share in expected.items():
        found = checks.classifier(Reply(text=SAID), label, model=str(made), at_least=0)
        assert found.value == pytest.approx(share, abs=1e-6)
    cut = shares(str(made), LONG, truncation=True, max_length=32)
    found = checks.classifier(LONG, labels[0], model=str(made), at_least=0)
    assert found.value == pytest.approx(cut[labels[0]], abs=1e-6)
    assert found.reason.endswith("(only the first 32 of 102 tokens were read)")


def test_a_miss_tells_every_label_and_can_be_negated(tone: str) -> None:
    expected = shares(tone, SAID)
    ranked = sorted(expected, key=lambda label: -expected[label])
    told = ", ".join(f"{label} {expected[label]:.3f}" for label in ranked)
    last = ranked[-1]
    with pytest.raises(Miss) as excinfo:
        checks.classifier(SAID, last.upper(), model=tone, at_least=0.99)
    assert str(excinfo.value) == (
        f"classifier: {last} {expected[last]:.3f} is under at_least=0.99 (all: {told}); "
        f"got '{SAID}'"
    )
    assert excinfo.value.value == pytest.approx(expected[last], abs=1e-6)
    negated = checks.no.classifier(SAID, last, model=tone, at_least=0.99)
    assert negated.value == pytest.approx(1 - expected[last], abs=1e-6)
    either = checks.run("classifier", SAID, {"label": list(LABELS), "model": tone, "at_least": 0})
    assert either.value == pytest.approx(expected[ranked[0]], abs=1e-6)


def test_the_model_is_loaded_once_and_a_text_is_read_once(tone: str) -> None:
    before = classifier_of(tone).classified
    for label in LABELS:
        checks.classifier("asked for three labels", label, model=tone, at_least=0)
    assert classifier_of(tone).classified == before + 1
    checks.classifier("another", "neutral", model=tone, at_least=0)
    assert classifier_of(tone).classified == before + 2


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("a" * 1_000_000, "only the first 1,024 of 1,000,000 characters were read"),
        ("word " * 200_000, "only the first 32 of more than 207 tokens were read"),
        ("\ud800" * 20, ""),
        ("\x00 x", ""),
    ],
    ids=range(4),
)
def test_hostile_texts_end_soon_and_say_what_was_read(text: str, cut: str, tone: str) -> None:
    classifier_of(tone)
    before = time.process_time()
    found = checks.classifier(text, "neutral", model=tone, at_least=0)
    assert time.process_time() - before < 2
    str(found.reason).encode()
    assert found.reason.endswith(f"({cut})") if cut else "were read" not in found.reason


def test_wrong_arguments_are_said_and_an_empty_reply_is_a_miss(tone: str) -> None:
    for arguments in (
        {"label": "neutral", "model": tone, "at_least": 2},
        {"label": [], "model": tone},
        {"label": "neutral", "model": ""},
        {"label": 3, "model": tone},
    ):
        with pytest.raises(UsageError, match=r"^classifier: "):
            checks.run("classifier", "x", arguments)
    with pytest.raises(UsageError, match=r"no label 'calm'. It has: negative, neutral, positive"):
        checks.classifier("x", "calm", model=tone)
    with pytest.raises(Miss, match="the reply is empty"):
        checks.classifier(" ", "neutral", model=tone)


def test_what_is_no_classifier_of_this_machine_is_refused_with_the_way_out(
    tone: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no model 'org/tone-1\.5' on this machine.* Run: hf "):
        checks.classifier("x", "neutral", model="org/tone-1.5")
    with pytest.raises(
        UsageError, match=r"no model '/no/such' on this machine: neither .* unasked\.\n"
    ):
        checks.classifier("x", "neutral", model="/no/such")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match=r"it lacks config\.json, tokenizer\.json, \*\.safetens"):
        checks.classifier("x", "neutral", model=str(tmp_path / "bare"))
    other = edited(tone, tmp_path / "other", architectures=["BertForMaskedLM"])
    with pytest.raises(UsageError, match="is no text classifier"):
        checks.classifier("x", "neutral", model=other)
    number = edited(tone, tmp_path / "number", problem_type="regression")
    with pytest.raises(UsageError, match="no probabilities"):
        checks.classifier("x", "neutral", model=number)
    code = edited(tone, tmp_path / "code", auto_map={"AutoModel": "theirs.Model"})
    with pytest.raises(UsageError, match="wants to run Python code of its own"):
        checks.classifier("x", "neutral", model=code)
    pickled = Path(edited(tone, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickles, which are never opened"):
        checks.classifier("x", "neutral", model=str(pickled))


def test_a_head_that_was_never_trained_is_refused(tone: str, tmp_path: Path) -> None:
    """transformers would fill it with random numbers, and score."""
    from transformers import AutoModel

    made = tmp_path / "headless"
    shutil.copytree(tone, made)
    AutoModel.from_pretrained(tone).save_pretrained(str(made))
    path = made / "config.json"
    named = {"architectures": ["BertForSequenceClassification"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    with pytest.raises(UsageError, match=r"its weights lack classifier\.bias.*not a trained"):
        checks.classifier("x", "neutral", model=str(made))


@pytest.mark.parametrize(
    ("file", "text"),
    [("tokenizer.json", "{"), ("tokenizer.json", "{}"), ("model.safetensors", "no weights")],
)
def test_a_file_that_is_odd_is_told_with_its_folder(
    file: str, text: str, tone: str, tmp_path: Path
) -> None:
    made = edited(tone, tmp_path / "odd")
    (tmp_path / "odd" / file).write_text(text)
    with pytest.raises(UsageError, match=r"^classifier: .*odd cannot be loaded: \w"):
        checks.classifier("x", "neutral", model=made)


def test_what_is_broken_is_loaded_once_until_it_is_mended(
    tone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial of a run asks anew."""
    from transformers import AutoModelForSequenceClassification as Family

    tries = []
    load = Family.from_pretrained
    monkeypatch.setattr(Family, "from_pretrained", lambda *a, **k: tries.append(a) or load(*a, **k))
    made = edited(tone, tmp_path / "odd")
    weights = tmp_path / "odd" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    told = set()
    for text in ("one", "two", "three"):
        with pytest.raises(UsageError, match=r"odd cannot be loaded: \w") as caught:
            checks.classifier(text, "neutral", model=made)
        told.add(str(caught.value))
    assert (len(tries), len(told)) == (1, 1)
    weights.write_bytes(whole)
    assert checks.classifier("one", "neutral", model=made, at_least=0)
    assert len(tries) == 2


def test_a_model_that_gives_no_number_is_a_fault_and_not_a_pass(tone: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = tmp_path / "broken"
    shutil.copytree(tone, made)
    state = load_file(made / "model.safetensors")
    state["classifier.bias"][:] = float("nan")
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="gives no number"):
        checks.classifier("x", "neutral", model=str(made), at_least=0)


def test_a_name_is_found_in_the_cache_of_hugging_face(
    tone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    home = tmp_path / "models--org--tone"
    shutil.copytree(tone, home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = checks.classifier(SAID, "neutral", model="org/tone", at_least=0)
    assert found.value == pytest.approx(shares(tone, SAID)["neutral"], abs=1e-6)


def test_an_absent_library_names_the_extra(tone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else there(name, *a)
    )
    monkeypatch.chdir(tone)  # nothing loaded before stands for it
    with pytest.raises(MissingExtra, match=r"pip install 'tuning-harness\[local\]'"):
        checks.classifier("x", "neutral", model=tone)


def test_the_weights_that_are_named_are_part_of_what_scores(tone: str, tmp_path: Path) -> None:
    other = str(build_tiny_classifier(tmp_path / "other", seed=1))
    plain = identity_of("classifier")
    one = identity_of("classifier", texts=lambda: {tone, "x", "", "~nobody/x", "a" * 5000})
    assert one != plain
    assert one != identity_of("classifier", texts=lambda: {other})
    assert one == identity_of("classifier", texts=lambda: {tone, str(tmp_path), "org/unknown"})
    assert identity_of("contains") is None


EVALS = {
    "as a text": "from harness import checks\n"
    "def test_right(case, reply):\n    checks.classifier(reply, 'neutral', model={model!r})\n",
    "as a constant": "from harness.checks import classifier\nMODEL = {model!r}\n"
    "def test_right(case, reply):\n    classifier(reply, 'neutral', model=MODEL)\n",
    "by another name": "from harness import checks as c\n"
    "def test_right(case, reply):\n    c.no.classifier(reply, 'neutral', model={model!r})\n",
    "as a value": "from harness import checks\nours = checks\n"
    "def test_right(case, reply):\n    ours.classifier(reply, 'neutral', model={model!r})\n",
    "by its name": "from harness.checks.registry import named\n"
    "def test_right(case, reply):\n    named('classifier')(reply, 'neutral', model={model!r})\n",
    "in a file beside": "from asked import tone\ndef test_right(case, reply):\n    tone(reply)\n",
}


@pytest.mark.parametrize("how", EVALS)
def test_other_weights_in_the_same_place_are_another_eval(
    how: str, tone: str, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tone, model)
    folder = write_task(tmp_path)
    (folder / "eval_double.py").write_text(EVALS[how].format(model=str(model)))
    (tmp_path / "asked.py").write_text(
        f"from harness import checks\ndef tone(reply):\n"
        f"    checks.classifier(reply, 'neutral', model={str(model)!r})\n"
    )
    before = load_task(folder).evals_digest
    assert load_task(folder).evals_digest == before
    shutil.rmtree(model)
    build_tiny_classifier(model, seed=1)
    assert load_task(folder).evals_digest != before


def test_the_weights_that_a_case_names_are_part_of_it_too(tone: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tone, model)
    folder = write_task(tmp_path)
    rows = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    asked = {"name": "classifier", "arguments": {"label": "neutral", "model": str(model)}}
    rows[0]["checks"] = [{"name": "several", "arguments": {"checks": [asked]}}]
    (folder / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = load_task(folder).evals_digest
    shutil.rmtree(model)
    build_tiny_classifier(model, seed=1)
    assert load_task(folder).evals_digest != before
