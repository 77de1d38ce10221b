"""`harness tune` with `[[tune.stages]]` and the real trainers of TRL, as a person types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.plugins.tuning import WORDS, single_thread
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

EVALS = """
def test_letters(reply, score):
    text = reply.text
    score(sum("a" <= c <= "z" for c in text) / len(text) if text else 0.0)
"""
SFT = "batch_size = 4\nepochs = 4\nlearning_rate = 1e-2\nrank = 4\n"
LATER = {
    "trl-dpo": SFT + 'loss = ["sigmoid", "sft"]\nloss_weights = [0.1, 1.0]\nmax_steps = 2\n',
    "trl-grpo": SFT + "group = 8\nmax_new_tokens = 6\nmax_steps = 2\n",
}


@pytest.fixture
def cli(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Cli]:
    """A task that has pairs, whose evals like letters, on a tiny model."""
    toy = Toy(tmp_path)
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.task / "task.toml").write_text(
        f"about = 'Words.'\nmodel = 'local:{base}'\ncases = 'cases.jsonl'\nprimary = 'letters'\n"
        "target = 0.9\ntarget_reason = 'Words are letters.'\n[decoding]\nmax_tokens = 6\n"
        "[tune]\nprompt = 'plain'\ncheck_every = 0\n"
    )
    toy.write_cases(
        [
            {
                "id": f"c{n}",
                "split": "train" if n < 8 else "dev",
                "inputs": {"a": n, "b": "slow"},
                "reference": WORDS[n % 3],
                "rejected": f"{n} 42",
            }
            for n in range(10)
        ]
    )
    (toy.task / "recipes").mkdir()
    (toy.task / "recipes/first.toml").write_text(SFT)
    with single_thread():
        yield Cli(toy, monkeypatch, capsys)


def weights(root: Path, digest: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    adapter = root / ".harness/artifacts" / digest[:16] / "adapter"
    return dict(load_file(adapter / "adapter_model.safetensors"))


@pytest.mark.parametrize("second", ["trl-dpo", "trl-grpo"])
def test_sft_and_then_another_are_one_command_and_one_lineage(cli: Cli, second: str) -> None:
    # so slow that the second's adapter is still, to the eye, the one that it went on from
    later = LATER[second].replace("1e-2", "1e-5")
    (cli.toy.task / "recipes/later.toml").write_text(later)
    with (cli.toy.task / "task.toml").open("a") as file:
        for tuner, recipe in (("trl-sft", "first"), (second, "later")):
            file.write(f"[[tune.stages]]\ntuner = '{tuner}'\nrecipe = '{recipe}'\n")
    said = cli("tune", "toy", "--override", "a test", "--json")
    assert said.code == 0, said.err
    taught, made = said.json["stages"]
    assert [a["name"] for a in (taught, made)] == ["tuned-1-trl-sft", "tuned"]
    assert [a["tuner"] for a in (taught, made)] == ["trl-sft", second]
    assert (taught.get("start"), made["start"]) == (None, taught["digest"])
    assert taught["base"] == made["base"]
    assert [a["recipe"].get("max_steps") for a in (taught, made)] == [None, 2]
    first, last = (weights(cli.toy.root, a["digest"]) for a in (taught, made))
    learnt = [n for n in first if "lora_B" in n]
    assert max(float(first[n].abs().max()) for n in learnt) > 1e-3  # B begins as nothing
    moved = max(float((last[n] - first[n]).abs().max()) for n in first)
    assert 0 < moved < 1e-4
    shown = cli("model", "show", "tuned", "--task", "toy")
    assert taught["digest"][:12] in shown.out, shown.out


def test_a_recipe_goes_by_name_and_says_whose_it_is(cli: Cli) -> None:
    def planned(*words: str) -> Any:
        said = cli("tune", "toy", "--plan", "--json", *words)
        assert said.code == 1, said.err  # there is no wall: it says so, and all the rest
        [one] = said.json["trainings"]
        return one["tuner"], one["recipe"]

    table = cli.toy.task / "task.toml"
    table.write_text(table.read_text().replace("[tune]", "[tune]\ntuner = 'trl-sft'"))
    settings = {"loss": ["sigmoid", "sft"], "loss_weights": [0.1, 1.0]}
    assert planned("--recipe", "trl-dpo/anchored") == ("trl-dpo", settings)
    assert planned("--recipe", "first")[0] == "trl-sft"
    own = cli.toy.task / "recipes/trl-dpo.toml"
    own.write_text("beta = 0.3\n")  # the task's own stands before the plugin's
    assert planned("--tuner", "trl-dpo", "--recipe", "trl-dpo") == ("trl-dpo", {"beta": 0.3})
    for words, why in (
        (["--recipe", "no-such"], "no recipe 'no-such': it is no file, there is no"),
        (["--tuner", "trl-sft", "--recipe", "trl-kto"], "one of the tuner 'trl-kto'"),
    ):
        refused = cli("tune", "toy", "--plan", *words)
        assert (refused.code, why in refused.err) == (2, True), refused.err
    shown = cli("plugins", "--recipe", "trl-dpo/anchored")
    assert 'loss = ["sigmoid", "sft"]' in shown.out.splitlines()
    assert json.loads(cli("plugins", "--json").out)["recipes"].count("trl-dpo/anchored") == 1
