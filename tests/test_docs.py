"""Docs are generated or executed, so they cannot rot."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.surface.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["checks.md", "cli.md", "judges.md", "task.md", "plugins.md"])
def test_a_generated_page_is_what_the_program_says(page: str) -> None:
    made = generator().PAGES[page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "run docs/generate.py"


def test_the_summary_of_every_verb_is_the_first_line_of_its_docstring() -> None:
    for verb, summary in VERBS.items():
        command = importlib.import_module(f"harness.surface.cli.{verb}_verb").command
        assert (command.help or "").split("\n")[0] == summary, verb


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_first_eval_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The five minutes that the README promises, with its own code block."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "tickets" in b)
    monkeypatch.chdir(tmp_path)
    for command in (["init", "tickets"], ["eval", "tickets"], ["doctor"]):
        if command == ["eval", "tickets"]:
            (tmp_path / "evals/tickets/eval_tickets.py").write_text(block)
        result = subprocess.run(
            [sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
    plain = [sys.executable, "-m", "pytest", "-q", "evals/tickets", "--candidate", "few-shot"]
    result = subprocess.run(plain, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    told = [line for line in result.stderr.splitlines() if not line.startswith("replies: ")]
    assert not told, "nothing but the progress, as of what libraries did not free"


def test_every_python_block_of_the_readme_compiles() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(block, "README.md", "exec")


def test_the_names_that_harness_exports_are_sorted_and_importable() -> None:
    import harness

    assert harness.__all__ == sorted(harness.__all__)
    for name in harness.__all__:
        assert getattr(harness, name) is not None


def test_importing_harness_imports_nothing_heavy() -> None:
    heavy = ("numpy", "click", "pydantic")
    code = f"import sys, harness; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
