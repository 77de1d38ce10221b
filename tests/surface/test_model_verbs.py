"""`harness model`: what was tuned elsewhere is adopted, merged, exported, shown, looked after."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store import schema
from harness.store.store import Store
from tests.plugins.test_merging import build_adapter, make as make_form, serving
from tests.plugins.tiny import build_tiny_model
from tests.store.test_opening import migrations_of, older_store
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

AXOLOTL = """\
base_model: someone/tiny-llama   # where it came from
learning_rate: 0.0002
num_epochs: 3
seed: 11
hf_use_auth_token: true
wandb_api_key: abc123
datasets:
  - path: rows.jsonl
    type: chat_template
flash_attention: false
"""
STATE = {"global_step": 12, "epoch": 3.0, "log_history": [{"loss": 1.5}, {"loss": 0.25}]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama", seed=3)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What axolotl would leave: an adapter at the top, and much that is not of it."""
    made = build_adapter(base, tmp_path_factory.mktemp("made"))
    folder = made.parent / "outputs"
    shutil.move(made / "adapter", folder)
    (folder / "harness-base.json").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/tiny-llama"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "axolotl_config.yml").write_text(AXOLOTL)
    (folder / "trainer_state.json").write_text(json.dumps(STATE))
    (folder / "README.md").write_text(
        "# outputs\n### Framework versions\n\n- PEFT 0.14.0\n- Transformers 4.48.1\n"
    )
    for name in ("training_args.bin", "optimizer.pt", "checkpoint-4/optimizer.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x80\x04.")
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "elsewhere"))


@pytest.fixture
def project(cli: Cli, base: Path) -> Callable[..., Cli]:
    """The toy task, whose model is the tiny one on this machine."""

    def of(**tune: str) -> Cli:
        table = "".join(f"{k} = {v!r}\n" for k, v in tune.items())
        with (cli.toy.task / "task.toml").open("a") as file:
            file.write("max_tokens = 4\n[tune]\ntuner = 'torch-lora'\n" + table if tune else "")
        path = cli.toy.task / "task.toml"
        path.write_text(path.read_text().replace("adder:small", f"local:{base}"))
        text = re.sub(r"^max_tokens.*\n", "", path.read_text(), flags=re.M)
        path.write_text(text.replace("[tune]", "[decoding]\nmax_tokens = 4\n[tune]"))
        return cli

    return of


def adopt(cli: Cli, folder: Path, base: Path, *more: str) -> Any:
    said = cli("model", "adopt", str(folder), "--base", f"local:{base}", "--json", *more)
    assert said.code == 0, said.out + said.err
    return said.json["artifact"]


def store_of(toy: Toy) -> Store:
    return Store.open(toy.root / ".harness" / "harness.db")


def replies(toy: Toy) -> int:
    with store_of(toy) as store, store.reading() as connection:
        return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])


def shelf(toy: Toy) -> list[str]:
    home = toy.root / ".harness"
    return sorted(
        p.relative_to(home).as_posix() for p in [*home.glob("artifacts/*"), *home.glob(".making-*")]
    )


# ---------------------------------------------------------------- adopt


def test_what_axolotl_made_is_adopted_with_its_facts_and_scored_like_our_own(
    project: Callable[..., Cli], copy: Path, base: Path
) -> None:
    cli = project(prompt="plain", name="sums")
    rows = cli.toy.root / "rows.jsonl"
    rows.write_text('{"input_ids": [1]}\n\n{"input_ids": [2]}\n')
    said = cli("model", "adopt", str(copy), "--base", f"local:{base}", "--trained-on", str(rows))
    assert said.code == 0, said.err
    for part in (
        "made by axolotl",
        "no wall: trained by axolotl before it was adopted (in spite of this:",
        "left out: README.md, axolotl_config.yml, checkpoint-4/optimizer.pt, optimizer.pt",
        f"--candidate plain@local:{base}+",
    ):
        assert part in said.out
    with store_of(cli.toy) as store:
        a = store.artifact("sums", task="toy")
        assert [e.kind for e in store.ledger()] == ["adopt", "override"]
    assert (a.origin, a.tuner, a.rows, a.seed, a.prompt) == ("axolotl", "axolotl", 2, 11, "plain")
    assert a.recipe["learning_rate"] == 0.0002
    assert a.recipe["r"] == 4
    assert not {"wandb_api_key", "hf_use_auth_token", "datasets", "type"} & set(a.recipe)
    assert a.metrics == {"steps": 12.0, "epochs": 3.0, "loss": 0.25}
    assert a.environment == {"peft": "0.14.0", "transformers": "4.48.1"}
    assert len(a.base_digest) == len(a.template_digest) == len(a.data_digest) == 64
    folder = cli.toy.root / ".harness" / a.folder
    names = {p.name for p in folder.rglob("*") if p.is_file()}
    assert {"adapter_model.safetensors", "tokenizer.json", "harness-base.json"} <= names
    assert not {n for n in names if n.endswith((".bin", ".pt", ".yml", ".md"))}

    cli.toy.seal()  # a gate asks for ten sources
    assert cli("eval", "toy", "--candidate", "sums").code == 0
    shown = cli("model", "show", "sums")
    for part in ("adopted from axolotl", "2 rows", "no wall", "run ", "dev, 12 cases"):
        assert part in shown.out.replace("licence       trained", "no wall trained"), part
    assert cli("model", "verify", "sums").code == 0
    gate = cli("gate", "toy", "--candidate", "sums", "--baseline", "plain")
    assert gate.code in (1, 3), gate.err
    assert "trained by axolotl before it was adopted" in gate.out
    assert "tuned with prompt plain, served with plain" in gate.out


def test_adopting_twice_is_one_artifact_and_an_unknown_prompt_is_said(
    project: Callable[..., Cli], copy: Path, base: Path
) -> None:
    cli = project()
    one = adopt(cli, copy, base, "--name", "a")
    (copy / "optimizer.pt").write_bytes(b"other")
    two = adopt(cli, copy, base, "--name", "a")
    assert one["digest"] == two["digest"]
    assert shelf(cli.toy) == [one["folder"]]
    for note in ("axolotl_config.yml", "README.md"):
        (copy / note).unlink()
    notes = cli("model", "adopt", str(copy), "--base", f"local:{base}", "--name", "b").out
    shown = cli("model", "show", "b").out
    assert re.search(r"made by +another program, which is not named; adopted", shown), shown
    assert re.search(r"seed +unknown", shown)
    assert re.search(r"parity +not compared when it was adopted; ask: harness model par", shown)
    assert "with which prompt it was trained is not known" in notes
    assert "leaks into dev and test cannot be ruled out" in notes


def zip_file(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def half_copied(folder: Path) -> Path:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def pickled(folder: Path) -> Path:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return folder


def with_code(folder: Path) -> Path:
    path = folder / "tokenizer_config.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | {"auto_map": {"AutoTokenizer": "evil.py"}}))
    return folder


def without_weights(folder: Path) -> Path:
    (folder / "adapter_model.safetensors").unlink()
    return folder


def another_base(folder: Path) -> Path:
    path = folder / "adapter_config.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps(held | {"base_model_name_or_path": "someone/large-llama"}))
    return folder


def another_size(folder: Path) -> Path:
    """The same name, another width."""
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    held = load_file(path)
    key = next(k for k in held if "q_proj.lora_A" in k)
    held[key] = held[key].repeat(1, 3)
    save_file(held, path)
    return folder


def checkpoints(folder: Path) -> Path:
    goal = folder.with_name("run")
    shutil.copytree(folder, goal / "checkpoint-9")
    shutil.copytree(folder, goal / "checkpoint-10")
    return goal


def broken_json(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text('{"r": 4,')
    return folder


def missing(folder: Path) -> Path:
    return folder / "nothing"


@pytest.mark.parametrize(
    "case",
    [
        (zip_file, 2, "is a file: unpack it"),
        (half_copied, 2, r"adapter_model\.safetensors is not a whole safetensors file"),
        (pickled, 1, r"adapter_model\.bin.* may be a pickle"),
        (with_code, 1, "has auto_map"),
        (without_weights, 2, "holds no weights|lacks adapter_model"),
        (another_base, 2, "tuned on 'someone/large-llama', not on"),
        (another_size, 2, "does not fit .* It was tuned on another base"),
        (checkpoints, 2, r"holds checkpoints \(checkpoint-9, checkpoint-10\).*as .*checkpoint-10"),
        (broken_json, 2, "cannot be read as JSON"),
        (missing, 2, "does not exist"),
    ],
    ids=lambda case: case[0].__name__,
)
def test_what_cannot_be_trusted_is_refused_and_nothing_is_left(
    project: Callable[..., Cli], copy: Path, base: Path, case: tuple[Any, int, str]
) -> None:
    spoil, code, says = case
    cli = project()
    said = cli("model", "adopt", str(spoil(copy)), "--base", f"local:{base}")
    assert said.code == code, said.err
    assert re.search(says, said.err), said.err
    assert ".making-" not in said.err  # a copy, which is gone when it is read
    assert shelf(cli.toy) == []
    with store_of(cli.toy) as store:
        assert store.artifacts() == []
        assert store.ledger() == []


def test_a_base_that_is_only_served_is_taken_by_name_and_said_so(
    project: Callable[..., Cli], copy: Path
) -> None:
    cli = project()
    said = cli("model", "adopt", str(copy), "--base", "openai:someone/tiny-llama")
    assert said.code == 0
    assert "whether it is the adapter's base (someone/tiny-llama) was not checked" in said.out
    assert "@openai:SERVED_NAME+" in said.out
    [name] = shelf(cli.toy)
    merged = cli("model", "merge", name.rpartition("/")[2])
    assert merged.code == 2
    assert "--base local:FOLDER" in merged.err


def test_a_folder_is_scored_by_path_and_known_by_its_content(
    project: Callable[..., Cli], copy: Path, base: Path
) -> None:
    cli = project(prompt="plain", name="sums")
    named = f"plain@local:{base}+{copy}"
    first = cli("eval", "toy", "--candidate", named)
    assert first.code == 0, first.out + first.err
    assert "how it was trained is not known" in first.out + first.err
    [folder] = shelf(cli.toy)
    with store_of(cli.toy) as store:
        [run], [made] = store.runs(), store.artifacts()
        assert (run.artifact, made.origin, made.prompt) == (made.digest, "a path", "")
        assert made.folder == folder
        assert [e.text for e in store.ledger(kind="adopt")] == [
            f"elsewhere-by-path {made.digest[:8]}, named by its path: its lineage is unknown"
        ]
    assert replies(cli.toy) == 12
    assert cli("eval", "toy", "--candidate", named).code == 0
    assert replies(cli.toy) == 12
    shown = cli("model", "show", "elsewhere-by-path").out
    assert "nobody knows: a folder was named by its path" in shown
    assert "who trained it, on what and with which prompt is unknown" in shown  # the gate's too
    forms = cli("model", "variants", "elsewhere-by-path")
    assert forms.code == 2
    assert "was trained is not known: adopt it again and say" in forms.err

    # adopted with what is known, the same files have a lineage, by their path too
    adopt(cli, copy, base, "--prompt", "plain")
    before = replies(cli.toy)
    assert cli("eval", "toy", "--candidate", named).code == 0
    with store_of(cli.toy) as store:
        assert [a.name for a in store.artifacts()] == ["elsewhere-by-path", "sums"]
    assert replies(cli.toy) == before
    by_shelf = f"plain@local:{base}+{cli.toy.root}/.harness/{folder}"
    assert cli("eval", "toy", "--candidate", by_shelf).code == 0
    assert shelf(cli.toy) == [folder]

    # a file that changed is another artifact, and asks anew
    config = json.loads((copy / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    (copy / "adapter_config.json").write_text(json.dumps(config))
    assert cli("eval", "toy", "--candidate", named).code == 0
    with store_of(cli.toy) as store:
        assert len({r.artifact for r in store.runs()}) == 2
    assert replies(cli.toy) == before + 12
    assert len(shelf(cli.toy)) == 2


def test_what_a_path_may_not_hold_is_refused_and_nothing_is_left(
    project: Callable[..., Cli], copy: Path, base: Path, tmp_path: Path
) -> None:
    cli = project()

    def refused(place: Path | str, by: str = f"local:{base}") -> str:
        said = cli("eval", "toy", "--candidate", f"plain@{by}+{place}")
        assert said.code in (1, 2), said.out
        assert shelf(cli.toy) == []
        return str(said.out + said.err)

    assert "does not exist" in refused("./nowhere")
    served = refused(copy, by="openai:x")
    assert f"harness model adopt {copy} --base openai:x --task toy" in served
    other = build_tiny_model(tmp_path / "other", seed=4)
    (copy / "harness-base.json").write_text('{"base": "tiny", "base_digest": "0"}')
    assert "was tuned on 'tiny'" in refused(copy, by=f"local:{other}")
    (copy / "harness-base.json").unlink()
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    assert "pickle" in refused(copy)


def test_rows_that_hold_a_case_of_dev_refuse_the_adoption_and_leave_nothing(
    project: Callable[..., Cli], copy: Path, base: Path
) -> None:
    cli = project(prompt="plain", name="sums")
    rows = cli.toy.root / "rows.jsonl"
    command = ["model", "adopt", str(copy), "--base", f"local:{base}", "--trained-on", str(rows)]

    def write(*texts: str) -> None:
        said = [
            [{"role": "user", "content": t}, {"role": "assistant", "content": "9"}] for t in texts
        ]
        rows.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in said))

    write("90 + 1 =", "3 + 6 =")
    leaked = cli(*command)
    assert leaked.code == 2
    assert re.search(
        r"rows\.jsonl:2: the inputs of .* \(train\) stand in dev too, at .*:4; 1 such", leaked.err
    )
    assert "It was trained on them" in leaked.err
    assert shelf(cli.toy) == []
    write("90 + 1 =", "91 + 6 =")
    clean = cli(*command)
    assert clean.code == 0, clean.err
    assert "2 rows compared with the 18 cases of dev and test: none stands in both" in clean.out


# ---------------------------------------------------------------- merge and export


def test_a_merge_is_an_artifact_of_its_own_with_the_same_lineage_and_the_same_replies(
    project: Callable[..., Cli], copy: Path, base: Path
) -> None:
    cli = project(prompt="plain", name="sums")
    source = adopt(cli, copy, base)
    merged = cli("model", "merge", "sums", "--json").json["artifact"]
    assert (merged["variant_of"], merged["variant"]) == (source["digest"], "merged")
    assert merged["name"] == "sums-merged"
    same = ("base", "base_digest", "template_digest", "prompt_digest", "recipe", "override")
    assert {k: merged[k] for k in same} == {k: source[k] for k in same}
    again = cli("model", "merge", "sums", "--json").json
    assert (again["artifact"]["digest"], again["is_new"]) == (merged["digest"], False)
    for name in ("sums", f"plain@local:{base}+sums-merged"):
        assert cli("eval", "toy", "--candidate", name).code == 0
    with store_of(cli.toy) as store:
        runs = [store.run(r.id) for r in store.runs(split="dev") if r.artifact]
        texts = [
            [
                store.known_replies([t.reply_key])[t.reply_key].text
                for t in run.trials
                if t.reply_key
            ]
            for run in runs
        ]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 12
    assert "its forms" in cli("model", "show", "sums").out
    diff = cli("model", "diff", "sums", "sums-merged").out
    assert re.search(r"variant +– +merged", diff)
    assert "recipe" not in diff
    assert "score on dev" in diff
    assert cli("model", "verify").code == 0


def test_an_export_lies_where_it_was_wanted_with_a_manifest_that_tells_its_files(
    project: Callable[..., Cli], copy: Path, base: Path, tmp_path: Path
) -> None:
    from hashlib import sha256

    cli = project(prompt="plain", name="sums")
    adopt(cli, copy, base)
    out = tmp_path / "there"
    said = cli("model", "export", "sums", "--to", "gguf", "--out", str(out))
    assert said.code == 0, said.err
    assert "llama-server -m" in said.out
    assert re.search(r"--candidate plain@openai:sums-gguf-q8_0\+\w+ --base-url http", said.out)
    told = json.loads((out / "fingerprint.json").read_text())
    file = out / "gguf" / "model-q8_0.gguf"
    assert told["files"] == {"gguf/model-q8_0.gguf": sha256(file.read_bytes()).hexdigest()}
    assert (told["name"], told["variant"]) == ("sums-gguf-q8_0", "gguf-q8_0")
    assert {"base_digest", "data_digest", "template_digest", "stop_ids"} <= set(told)
    again = cli("model", "export", "sums", "--to", "gguf", "--out", str(out))
    assert again.code == 2
    assert "not empty" in again.err
    twice = cli("model", "export", "sums-gguf-q8_0", "--to", "gguf", "--type", "q4_0")
    assert twice.code == 2
    assert "rounded already" in twice.err
    k_quant = cli("model", "export", "sums", "--to", "gguf", "--type", "q4_k_m")
    assert k_quant.code == 2
    assert "llama-quantize IN OUT Q4_K_M" in k_quant.err
    local = cli("eval", "toy", "--candidate", f"plain@local:{base}+sums-gguf-q8_0")
    assert "llama.cpp's server reads" in local.out + local.err
    half = cli("model", "export", "sums", "--to", "safetensors", "--type", "bf16", "--json")
    assert half.json["artifact"]["variant"] == "merged-bf16"
    assert cli("model", "verify").code == 0


# ---------------------------------------------------------------- looking after


def test_an_older_store_is_upgraded_by_looking_as_by_any_verb(cli: Cli) -> None:
    path = cli.toy.root / ".harness" / "harness.db"
    path.parent.mkdir()
    older_store(path, stop_before=schema.NAMES[-1])
    said = cli("model", "list")
    assert (said.code, said.err) == (0, "")
    assert "no artifacts yet" in said.out
    assert migrations_of(path) == list(schema.NAMES)
    assert migrations_of(path.with_name(f"harness.db.before-{schema.NAMES[-1]}"))


def test_to_look_makes_no_store(cli: Cli) -> None:
    assert cli("model", "list").code == 0
    assert cli("model", "show", "x").code == 2
    assert cli("model", "verify").code == 0
    assert cli("model", "gc", "--yes").code == 0
    assert not (cli.toy.root / ".harness").exists()


@pytest.mark.parametrize("harm", ["weights", "base", "gone"])
def test_verify_names_what_changed_since(
    project: Callable[..., Cli], copy: Path, base: Path, tmp_path: Path, harm: str
) -> None:
    cli = project(prompt="plain", name="sums")
    own = Path(shutil.copytree(base, tmp_path / "own" / "tiny-llama"))
    artifact = adopt(cli, copy, own)
    assert cli("model", "verify", "sums").code == 0
    folder = cli.toy.root / ".harness" / artifact["folder"]
    if harm == "weights":
        with (folder / "adapter" / "adapter_model.safetensors").open("ab") as file:
            file.write(b"\0")
        says = r"files: WRONG: .* is not what was tuned"
    elif harm == "gone":
        shutil.rmtree(folder)
        says = r"files: WRONG: no artifact folder"
    else:
        build_tiny_model(own, seed=4)
        says = r"base: WRONG: .*was tuned on"
    said = cli("model", "verify", "sums")
    assert said.code == 1
    assert re.search(says, said.out), said.out


def test_a_form_that_is_made_by_hand_is_what_the_verb_makes(
    project: Callable[..., Cli], copy: Path, base: Path, tmp_path: Path
) -> None:
    """The verb adds lineage and nothing to the files."""
    cli = project(prompt="plain", name="sums")
    source = adopt(cli, copy, base)
    made = cli("model", "merge", "sums", "--json").json["artifact"]
    home = cli.toy.root / ".harness"
    make_form("merged", base=base, artifact=home / source["folder"], out=tmp_path / "hand")
    theirs = {p.name: p.read_bytes() for p in (home / made["folder"]).rglob("*") if p.is_file()}
    ours = {p.name: p.read_bytes() for p in (tmp_path / "hand").rglob("*") if p.is_file()}
    assert ours == theirs


# ---------------------------------------------------------------- served by name


def test_what_llama_cpp_serves_under_a_name_is_the_artifact_for_evals_and_gate(
    project: Callable[..., Cli], copy: Path, base: Path, tmp_path: Path
) -> None:
    """Lineage, identity and conditions are the artifact's; the server answers."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp's server comes in a wheel: pip install xllamacpp")
    cli = project(prompt="plain", name="sums")
    cli.toy.seal()
    with (cli.toy.task / "task.toml").open("a") as task:
        task.write("[backends.local]\ndtype = 'float32'\n")  # as the server computes
    adopt(cli, copy, base)
    made = cli("model", "export", "sums", "--to", "gguf", "--type", "f32", "--json").json
    file = cli.toy.root / ".harness" / made["artifact"]["folder"] / "gguf" / "model-f32.gguf"
    name = f"plain@openai:tuned-sums+{made['artifact']['digest'][:16]}"
    with serving(file, tmp_path / "log") as url:
        where = ("--base-url", f"{url}/v1#llama.cpp")
        assert cli("eval", "toy", "--candidate", "sums", "--candidate", name, *where).code == 0
        gate = cli("gate", "toy", "--candidate", name, "--baseline", "plain", *where)
    with store_of(cli.toy) as store:
        runs = [store.run(r.id) for r in store.runs(split="dev") if r.artifact]
        texts = {
            run.candidate.backend: [
                store.known_replies([t.reply_key])[t.reply_key].text
                for t in run.trials
                if t.reply_key
            ]
            for run in runs
        }
    # plainly not one that answers the same whatever is asked
    assert len(set(texts["openai:tuned-sums"])) > 1
    # its keys and values are kept in half precision: a near tie of random weights may tip
    pairs = zip(texts["openai:tuned-sums"], texts[f"local:{base}"], strict=True)
    assert sum(theirs == ours for theirs, ours in pairs) >= 10
    assert gate.code in (1, 3), gate.err  # random weights add no numbers
    assert "same prompt: tuned with prompt plain, served with plain" in gate.out
    [parity] = [line for line in gate.out.splitlines() if "parity:" in line]
    assert "no difference" in parity or "id by id" in parity, parity
    assert "trained by axolotl before it was adopted" in gate.out
    alone = cli("eval", "toy", "--candidate", name)
    assert "say where: --base-url URL" in alone.out + alone.err
