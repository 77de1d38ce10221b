"""The installable peers: each in a virtual environment of its own, and how it is run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import projects
from measuring import FLIGHT, HERE, Subject

PACKAGES = {
    "pydantic-evals": ["pydantic-evals", "openai", "aiohttp"],
    "deepeval": ["deepeval", "openai"],
    "pytest-evals": ["pytest-evals", "openai"],
    "inspect-ai": ["inspect-ai", "openai"],
    "lm-eval": ["lm_eval[api]"],
}
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}


def peers(root: Path, url: str, total: int, venvs: Path) -> Iterator[Subject]:
    """Install each peer that can be installed, and yield how it is run."""
    n = str(total)
    for name, packages in PACKAGES.items():
        python = _installed(name, packages, venvs)
        if python is None:
            continue
        own = root / name
        own.mkdir()
        file = HERE / "peer_scripts" / f"{name.replace('-', '_')}_run.py"
        script = [str(python), str(file), url, n]
        if name == "pydantic-evals":
            for client in ("openai", "aiohttp"):
                yield Subject(f"{name}, {client} client", [*script, client], own, QUIET)
        elif name == "deepeval":
            shutil.copy(HERE / "peer_scripts" / "deepeval_items.py", own / "test_words.py")
            test = [str(python.parent / "deepeval"), "test", "run", "test_words.py"]
            quiet = {"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "DEEPEVAL_DISABLE_PROGRESS_BAR": "1"}
            env = QUIET | quiet | {"BENCH_N": n, "BENCH_URL": url}
            yield Subject("deepeval test run", [*test, "--display", "failing"], own, env)
            ways = {
                "iterator": "deepeval evals_iterator()",
                "metric": "deepeval evaluate(), a metric that asks",
                "prefetched": "deepeval evaluate() of given replies",
            }
            for way, title in ways.items():
                yield Subject(title, [*script, way], own, QUIET)
        elif name == "pytest-evals":
            shutil.copy(HERE / "peer_scripts" / "plain_pytest.py", own / "test_plain.py")
            test = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_plain.py"]
            env = QUIET | {"BENCH_N": n, "BENCH_URL": url}
            yield Subject("plain pytest, openai client", test, own, env)
            yield Subject(name, [*test, "--run-eval"], own, env | {"PEER": name})
        elif name == "lm-eval":
            projects.make_lm_eval(own / "task", total=total)
            place = f"base_url={url}/chat/completions,num_concurrent={FLIGHT}"
            command = [str(python.parent / "lm_eval"), "--model", "local-chat-completions"]
            command += ["--model_args", f"model=stub,{place}", "--apply_chat_template"]
            command += ["--tasks", "words", "--include_path", str(own / "task")]
            yield Subject(name, command, own, QUIET | {"HF_DATASETS_OFFLINE": "1"})
        else:
            yield Subject(name, [*script, str(own)], own, QUIET)
    promptfoo = _promptfoo(venvs)
    if promptfoo is not None:
        own = projects.make_promptfoo(root / "promptfoo", total=total, url=url)
        command = [str(promptfoo), "eval", "-j", str(FLIGHT), "--no-cache", "--no-table"]
        command += ["--no-progress-bar", "-o", "out.json", "-c", "promptfooconfig.json"]
        env = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1"}
        env["PROMPTFOO_CONFIG_DIR"] = str(own / "config")
        yield Subject("promptfoo", command, own, QUIET | env)


def our_python(venvs: Path) -> str | None:
    """Return the Python of an environment that holds us alone, as each peer's holds it alone."""
    root = HERE.parents[1]
    found = _installed("ours", ["-c", str(root / "constraints.txt"), "-e", str(root)], venvs)
    return str(found) if found else None


def _installed(name: str, packages: list[str], venvs: Path) -> Path | None:
    """Return the Python of the peer's environment, or None where it cannot be made."""
    python = venvs / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venvs / name)], check=True)
        command = [str(python), "-m", "pip", "install", "-q", *packages]
        if subprocess.run(command, check=False).returncode:
            shutil.rmtree(venvs / name)
            return None
    return python


def _promptfoo(venvs: Path) -> Path | None:
    """Return promptfoo's program, installed where npm is; else None."""
    folder = venvs / "promptfoo"
    binary = folder / "node_modules" / ".bin" / "promptfoo"
    if not binary.exists():
        if shutil.which("npm") is None:
            return None
        print("installing promptfoo …", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "promptfoo"]
        if subprocess.run(command, cwd=folder, check=False).returncode:
            return None
    return binary
