"""What of a project a file imports, read from its source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.engine.imported_files import imported_files, module_roots


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a task, a package beside the tasks and one in src."""
    files = {
        "pyproject.toml": "",
        "evals/words/app.py": "import helpers\nfrom shop.search import rank\nimport json\n",
        "evals/words/helpers.py": "def shout():\n    from shop import prices\n",
        "evals/words/unused.py": "",
        "shop/__init__.py": "",
        "shop/search.py": "from .deep.index import find\nfrom . import prices, __init__\n",
        "shop/prices.py": "from shop.search import rank  # in a circle\n",
        "shop/unused.py": "",
        "shop/deep/__init__.py": "from kept import thing\nimport harness.checks\n",
        "shop/deep/index.py": "from ..units import *\nfrom ....out import side\n",
        "shop/units.py": "import broken, nowhere\n",
        "broken.py": "def (:\n",
        "src/kept/__init__.py": "",
        "harness/checks.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_all_that_is_reached_is_found_and_nothing_else(project: Path) -> None:
    task = project / "evals" / "words"
    found = imported_files([task / "app.py"], roots=module_roots(task))
    assert list(found) == sorted(found)
    assert set(found) == {
        "helpers.py",
        "shop/__init__.py",
        "shop/search.py",
        "shop/prices.py",
        "shop/deep/__init__.py",
        "shop/deep/index.py",
        "shop/units.py",
        "broken.py",
        "kept/__init__.py",
    }
    assert found["kept/__init__.py"] == project / "src" / "kept" / "__init__.py"


def test_a_file_in_a_package_has_its_packages(project: Path) -> None:
    found = imported_files([project / "shop" / "prices.py"], roots=module_roots(project))
    assert "shop/__init__.py" in found


def test_the_first_root_that_has_a_module_is_the_one_that_python_takes(project: Path) -> None:
    task = project / "evals" / "words"
    (project / "helpers.py").write_text("import broken\n")
    roots = module_roots(task)
    assert imported_files([task / "app.py"], roots=roots)["helpers.py"] == task / "helpers.py"


def test_a_bare_file_outside_every_root_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text("from .beside import x\nfrom ..above import y\n")
    (tmp_path / "beside.py").write_text("")
    (tmp_path.parent / "above.py").write_text("")
    found = imported_files([tmp_path / "alone.py"], roots=[tmp_path / "elsewhere"])
    assert list(found) == ["beside.py"]


def test_an_edit_that_changes_neither_size_nor_time_is_seen(tmp_path: Path) -> None:
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("")
    app = tmp_path / "app.py"
    for module in ("one", "two"):
        app.write_text(f"import {module}\n")
        os.utime(app, ns=(0, 0))
        assert list(imported_files([app], roots=[tmp_path])) == [f"{module}.py"]


def test_an_import_is_found_in_whatever_block_it_stands(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "class A:\n    async def f(self):\n        async with x:\n            import m0\n"
        "try:\n    import m1\nexcept E:\n    import m2\nelse:\n    import m3\n"
        "finally:\n    import m4\n"
        "for _ in x:\n    import m5\nelse:\n    import m6\n"
        "while x:\n    if y: pass\n    elif z:\n        import m7\n    else: import m8\n"
        "match x:\n    case 1:\n        import m9\n"
        "try: pass\nexcept* E:\n    import m10\n"
        "if f(lambda: 1): a = b; import m11\n"
    )
    names = {f"m{n}.py" for n in range(12)}
    for name in names:
        (tmp_path / name).write_text("")
    assert set(imported_files([tmp_path / "app.py"], roots=[tmp_path])) == names
