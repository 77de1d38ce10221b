"""`harness model variants` and `serve`: other forms are asked, judged, served and released."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from harness_transformers.backend import LocalBackend

from harness import BackendConfig, Decoding, Message, Request
from tests.plugins.test_merging import build_adapter
from tests.plugins.tiny import build_tiny_model
from tests.surface.inprocess import Cli

has_llama_cpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="pip install xllamacpp"
)
QUESTION = "{{ a }} and {{ b }}"
EVALS = """
def plain(text):  # half a letter at the end is cut by one engine and marked by another
    return "".join(c for c in text if c.isascii()).strip()

def test_right(case, reply):
    assert plain(reply.text) == plain(case.reference)
"""
# A form that really breaks the model (two bits a weight), and one with another chat template.
FORMS = """

@harness.hookimpl
def harness_variants():
    def harsh(job):
        from safetensors.torch import load_file, save_file
        from harness_transformers.merging import make_merged
        made = make_merged(job)
        path = job.out_dir / "merged" / "model.safetensors"
        rounded = {
            name: t.sign() * t.abs().mean() if t.ndim == 2 else t
            for name, t in load_file(path).items()
        }
        save_file(rounded, path, metadata={"format": "pt"})
        return made

    def otherwise(job):
        import dataclasses, shutil, tempfile
        from pathlib import Path
        from harness_transformers.gguf_export import make_gguf
        with tempfile.TemporaryDirectory() as place:
            copy = Path(shutil.copytree(job.artifact, Path(place) / "artifact"))
            template = copy / "adapter" / "chat_template.jinja"
            template.write_text(template.read_text().replace("assistant", "assistant:"))
            return make_gguf(dataclasses.replace(job, artifact=copy), form="gguf-f32")

    return {"harsh": harsh, "gguf-otherwise": otherwise}
"""


def replies(base: Path, artifact: Path, texts: list[str]) -> list[str]:
    """What the tuned model really says."""
    backend = LocalBackend(
        BackendConfig(model=str(base), artifact=artifact, options={"dtype": "float32"})
    )

    async def every() -> list[Any]:
        asked = [
            Request(messages=(Message(role="user", content=text),), decoding=Decoding(max_tokens=3))
            for text in texts
        ]
        return await asyncio.gather(*(backend.answer(one) for one in asked))

    try:
        return [one.text for one in asyncio.run(every())]
    finally:
        backend.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = build_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama", seed=3)
    return base, build_adapter(base, tmp_path_factory.mktemp("made"))


@pytest.fixture
def project(cli: Cli, models: tuple[Path, Path]) -> Cli:
    """A task whose right answers are what the tuned model says, and that model, adopted."""
    base, artifact = models
    toy = cli.toy
    path = toy.task / "task.toml"
    text = path.read_text().replace("adder:small", f"local:{base}")
    path.write_text(
        f"{text}\n[decoding]\nmax_tokens = 3\n[backends.local]\ndtype = 'float32'\n"
        "[tune]\ntuner = 'torch-lora'\nprompt = 'plain'\nname = 'sums'\n"
    )
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.task / "prompts/plain.md").write_text(f"+++\nfamily='zero-shot'\n+++\n@user\n{QUESTION}\n")
    splits = ["dev"] * 40 + ["train"] * 6 + ["test"] * 40
    said = replies(base, artifact, [f"{i} and {2 * i}" for i in range(len(splits))])
    toy.write_cases(
        [
            {"id": f"c{i}", "split": s, "inputs": {"a": i, "b": 2 * i}, "reference": said[i]}
            for i, s in enumerate(splits)
        ]
    )
    with (toy.root / "site/adder.py").open("a") as file:
        file.write(FORMS)
    done = cli(
        "model", "adopt", str(shutil.copytree(artifact, toy.root / "trained")),
        "--base", f"local:{base}", "--override", "a test of forms",
    )  # fmt: skip
    assert done.code == 0, done.err
    return cli


def test_a_broken_form_is_blocked_a_whole_one_is_as_good_and_is_released(project: Cli) -> None:
    said = project(
        "model",
        "variants",
        "sums",
        "--only",
        "harsh,merged",
        "--margin",
        ".2",
        "--no-speed",
        "--json",
    )
    assert said.code == 1, said.out + said.err
    harsh, merged = said.json["variants"]
    assert (harsh["answer"], merged["answer"]) == ("BLOCK", "SHIP")
    assert harsh["reason"].startswith("over-quantised: right lost")
    assert merged["comparison"]["delta"]["mean"] == 0
    assert merged["artifact"]["variant_of"] == said.json["baseline"]["artifact"]["digest"]
    narrow = project("model", "variants", "sums", "--only", "merged", "--no-speed")
    assert narrow.code == 3
    assert "a loss of 3 points cannot be excluded even if no case changes" in narrow.out
    good = [merged["candidate"], "--baseline", said.json["baseline"]["candidate"]]
    gate = project("gate", "toy", "--candidate", *good, "--margin", ".2", "--json")
    assert gate.code == 0, gate.out + gate.err
    verdict = gate.json["verdict"]
    assert (verdict["answer"], verdict["goal"]) == ("SHIP", "match")
    assert any("margin 20 points (--margin)" in note for note in verdict["notes"])
    other = project(
        "gate", "toy", "--candidate", *good[:1], "--baseline", "plain", "--margin", ".2"
    )
    assert other.code == 2
    assert "is no form of 'plain'" in other.err


@has_llama_cpp
def test_a_gguf_file_is_served_asked_and_gated_and_a_changed_template_is_not(project: Cli) -> None:
    said = project(
        "model", "variants", "sums", "--only", "gguf-f32,gguf-otherwise", "--margin", ".3", "--json"
    )
    assert said.code == 1, said.out + said.err
    fine, other = said.json["variants"]
    assert fine["answer"] == "SHIP", fine["reason"]
    for told in (said.json["baseline"]["footprint"], fine["footprint"]):
        assert told["tokens_per_s"] > 0
        assert told["peak_bytes"] is None or told["peak_bytes"] > 5e6
    assert "findings" not in fine["parity"]  # none
    assert other["answer"] == "BLOCK"
    assert "parity: " in other["reason"]
    assert not other["reason"].startswith("over-quantised")
    served = project("model", "serve", fine["artifact"]["digest"][:16], "--check")
    assert served.code == 0, served.out + served.err
    assert f"ready: {fine['base_url']}" in served.out  # the same place, so replies are found again
    refused = project("model", "serve", other["artifact"]["digest"][:16])
    assert refused.code == 1
    assert "ready" not in refused.out
    assert "parity fails" in refused.out


@has_llama_cpp
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_stops_the_server_that_was_ready(project: Cli) -> None:
    made = project("model", "export", "sums", "--to", "gguf", "--type", "f16", "--json")
    digest = made.json["artifact"]["digest"][:16]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "model", "serve", digest],
        cwd=project.toy.root, env=project.toy.environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        found = re.search(r"ready: (http://127\.0\.0\.1:\d+)", "".join(lines))
        assert found, "".join(lines)
        with urllib.request.urlopen(f"{found[1]}/v1/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "sums-gguf-f16"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=30) == 130, rest
        with pytest.raises(OSError):  # noqa: PT011 - refused, by any name
            urllib.request.urlopen(f"{found[1]}/v1/models", timeout=2)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_what_has_no_forms_and_what_is_no_form_is_told(project: Cli) -> None:
    wrong = project("model", "variants", "sums", "--only", "int3")
    assert wrong.code == 2
    assert "no form 'int3'. Known: " in wrong.err
    kquant = project("model", "variants", "sums", "--only", "q4_k_m")
    assert "llama-quantize IN OUT Q4_K_M" in kquant.err
    merged = project("model", "merge", "sums", "--json").json["artifact"]["digest"][:16]
    again = project("model", "variants", merged)
    assert again.code == 2
    assert "is a form already (merged)" in again.err
    server = project("model", "serve", merged, "--runtime", "llama.cpp")
    assert server.code == 2
    assert "holds no GGUF file" in server.err
