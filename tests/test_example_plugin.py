"""A stranger's plugin, installed as a stranger would install it, and found by its entry point."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).with_name("example_plugin")

USE_IT = """
import json, pathlib, sys
from harness import BackendConfig, Message, Miss, Request, TrainingRow, TuneJob, checks
from harness.core.parity import Serving, check_parity
from harness.ports.manager import Plugins

plugins = Plugins().load()
told = {"infos": [[i.name, i.module, i.distribution, i.version] for i in plugins.infos]}

messages = (Message(role="user", content="ping"),)
request = Request(messages=messages)
make = plugins.owner("harness_backends", "echo")
plain = make(BackendConfig(model="any"))
told["echoed"] = plain.answer(request).text

tuner = plugins.owner("harness_tuners", "by-heart")()
row = TrainingRow(case_id="c", messages=messages, completion="PONG")
folder = pathlib.Path(sys.argv[1])
job = TuneJob(base="any", rows=(row,), recipe={}, out_dir=folder)
rows = tuner.prepare(job)
serving = Serving(
    prompt_ids={"c": plain.token_ids(request)}, stop_ids=plain.stop_ids(), decode=plain.decode
)
told["parity"] = [str(f) for f in check_parity((row,), rows, serving=serving)]
tuner.train(job, rows, report=print)
tuned = make(BackendConfig(model="any", artifact=folder))
told["learnt"] = tuned.answer(request).text

checks.capitals(tuned.answer(request))
try:
    checks.capitals(plain.answer(request))
except Miss as miss:
    told["missed"] = str(miss)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Install the example into a folder of its own, and use all of it in a new process."""
    folder = tmp_path_factory.mktemp("stranger")
    source, site, artifact = folder / "source", folder / "site", folder / "artifact"
    shutil.copytree(EXAMPLE, source)  # a build leaves folders in the source
    artifact.mkdir()
    install = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(source)),
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used = subprocess.run(
        [sys.executable, "-c", USE_IT, str(artifact)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
    )
    assert used.returncode == 0, used.stderr
    found: dict[str, Any] = json.loads(used.stdout)
    return found


def test_the_plugin_is_found_through_its_entry_point(told: dict[str, Any]) -> None:
    assert ["example-echo", "example_echo", "harness-example-echo", "0.3.1"] in told["infos"]


def test_its_backend_answers_and_its_tuner_makes_an_artifact_that_the_backend_loads(
    told: dict[str, Any],
) -> None:
    assert (told["echoed"], told["learnt"]) == ("ping", "PONG")


def test_its_tuner_trains_what_its_backend_sends(told: dict[str, Any]) -> None:
    assert told["parity"] == []


def test_its_check_is_one_of_the_checks(told: dict[str, Any]) -> None:
    assert told["missed"] == "'ping' is not in capitals"


def test_all_of_it_is_under_40_lines_of_code_that_import_nothing_but_harness() -> None:
    """Blank lines are the formatter's; docstring and comments count."""
    [module] = EXAMPLE.glob("*.py")
    text = module.read_text(encoding="utf-8")
    assert sum(1 for line in text.splitlines() if line.strip()) < 40
    nodes = list(ast.walk(ast.parse(text)))
    imported = {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    assert imported - set(sys.stdlib_module_names) == {"harness"}
