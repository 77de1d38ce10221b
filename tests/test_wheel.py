"""What is installed is whole: templates, starter files and entry points are in the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy (a build leaves files behind), unpacked outside the clone."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    for folder in ("harness", "plugins"):
        shutil.copytree(ROOT / folder, source / folder)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(work), str(source)]
    subprocess.run(built, check=True, capture_output=True)
    wheel = next(work.glob("tuning_harness-*.whl"))
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(work / "site"), str(wheel)], check=True
    )
    return work / "site"


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command line; `-S` keeps the clone's editable install out of sight."""
    libraries = sysconfig.get_paths()["purelib"]
    code = (
        f"import sys; sys.path[:0] = [{str(site)!r}, {libraries!r}]; "
        f"import harness; assert harness.__file__.startswith({str(site)!r}), harness.__file__; "
        "from harness.surface.cli import main; main()"
    )
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        cwd=folder,
        env=plain,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_makes_a_task_scores_it_and_renders_a_report(site: Path, tmp_path: Path) -> None:
    for arguments in (["init", "tickets"], ["eval", "tickets"], ["report", "tickets"]):
        result = run(site, tmp_path, *arguments)
        assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / ".harness/reports/tickets.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    plugins = run(site, tmp_path, "plugins").stdout
    assert "local:" in plugins
    assert "openai:" in plugins


def test_evals_and_fixtures_are_not_in_the_wheel(site: Path) -> None:
    names = {p.name for p in site.iterdir()}
    plugins = {"anthropic", "apps", "http", "openai", "transformers", "trl"}
    assert {"harness", *(f"harness_{name}" for name in plugins)} <= names
    assert not names & {"evals", "fixtures", "tests", "docs"}
