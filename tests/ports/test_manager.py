"""The plugin manager's traps, with distributions as pip leaves them on disk."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import UsageError, hookimpl
from harness.errors import PluginError
from harness.ports.manager import Plugins, PluginWarning, entry_points

ECHO = """
import harness

@harness.hookimpl
def harness_backends():
    return {"%s": lambda config: config.model}
"""
Install = Callable[..., str]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed distributions; its modules are forgotten again afterwards."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Install a distribution with one plugin; return its name."""
    numbers = itertools.count()

    def installs(
        distribution: str, *, plugin: str, source: str = ECHO, scheme: str = "echo"
    ) -> str:
        module = f"fake_plugin_{next(numbers)}"
        text = source % scheme if "%s" in source else source
        (site / f"{module}.py").write_text(text)
        info = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n"
        )
        (info / "entry_points.txt").write_text(f"[harness]\n{plugin} = {module}\n")
        return distribution

    return installs


def load() -> Plugins:
    """Load what is installed, our own plugins left out: they are tested where they live."""
    own = [e.name for e in entry_points() if e.dist is not None and e.dist.name == "tuning-harness"]
    return Plugins(disabled=own).load()


def test_an_installed_plugin_is_found_with_its_distribution_and_version(install: Install) -> None:
    install("acme-echo", plugin="acme", scheme="acme")
    plugins = load()
    [info] = plugins.infos
    assert (info.name, info.distribution, info.version) == ("acme", "acme-echo", "1.5")
    assert list(plugins.table("harness_backends")) == ["acme"]


def test_two_distributions_with_one_plugin_name_are_both_named(install: Install) -> None:
    """pluggy's own loading lets the second replace the first in silence."""
    install("first-dist", plugin="echo", scheme="one")
    install("second-dist", plugin="echo", scheme="two")
    with pytest.raises(PluginError, match="plugin name 'echo': first-dist and second-dist"):
        load()


def test_two_distributions_with_one_scheme_are_both_named(install: Install) -> None:
    install("first-dist", plugin="one")
    install("second-dist", plugin="two")
    plugins = load()
    with pytest.raises(PluginError, match=r"own .echo.: first-dist and second-dist.*disabled_plug"):
        plugins.table("harness_backends")


def test_a_refused_plugin_gives_its_names_free(install: Install) -> None:
    install("first-dist", plugin="one")
    install("second-dist", plugin="two")
    own = [e.name for e in entry_points() if e.name not in ("one", "two")]
    plugins = Plugins(disabled=["two", *own]).load()
    assert [i.name for i in plugins.infos] == ["one"]
    assert list(plugins.table("harness_backends")) == ["echo"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("def __getattr__(n): raise OSError(n)\ndef __dir__(): return ['lazy']", "OSError: lazy"),
    ],
)
def test_a_broken_plugin_is_left_out_by_name_and_the_others_load(
    install: Install, source: str, says: str
) -> None:
    install("broken-dist", plugin="broken", source=source)
    install("sound-dist", plugin="sound")
    with pytest.warns(PluginWarning, match="pip uninstall broken-dist") as caught:
        plugins = load()
    assert says in str(caught[0].message)
    assert [i.name for i in plugins.infos] == ["sound"]
    assert list(plugins.table("harness_backends")) == ["echo"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "import harness\n@harness.hookimpl\ndef harness_backend(): return {}",
            "'harness_backend' is not a hook. The hooks are harness_backends",
        ),
        (
            "import harness\n@harness.hookimpl\ndef harnes_backends(): return {}",
            "unknown hook 'harnes_backends'",
        ),
        (
            "import harness\n@harness.hookimpl(specname='harness_backend')\ndef b(): return {}",
            "unknown hook 'harness_backend'",
        ),
        ("def harness_backends(): return {}", "lacks @harness.hookimpl"),
        (
            "import harness\n@harness.hookimpl\ndef harness_recorded(trial): pass",
            "Argument.*trial",
        ),
    ],
)
def test_a_hook_that_would_never_be_called_is_an_error(
    install: Install, source: str, says: str
) -> None:
    """pluggy loads each but the last without a word."""
    install("slip-dist", plugin="slip", source=source)
    with pytest.raises(PluginError, match=f"(?s)plugin 'slip' of slip-dist.*{says}"):
        load()


def test_a_hook_may_be_marked_under_another_name(install: Install) -> None:
    source = ECHO.replace("hookimpl", "hookimpl(specname='harness_backends')").replace(
        "def harness_backends", "def my_backends"
    )
    install("renamed-dist", plugin="renamed", source=source)
    assert list(load().table("harness_backends")) == ["echo"]


def test_one_module_under_two_names_is_an_error_that_names_both(
    install: Install, site: Path
) -> None:
    install("first-dist", plugin="one")
    install("second-dist", plugin="two", source="")
    (site / "second_dist-1.5.dist-info/entry_points.txt").write_text(
        "[harness]\ntwo = fake_plugin_0\n"
    )
    with pytest.raises(PluginError, match=r"'two' of second-dist: .* 'one' of first-dist"):
        load()


def test_a_distribution_whose_uninstall_broke_off_stops_nothing(
    install: Install, site: Path
) -> None:
    """What is left then is a folder with entry points and no METADATA."""
    install("sound-dist", plugin="sound")
    husk = site / "husk-1.0.dist-info"
    husk.mkdir()
    (husk / "entry_points.txt").write_text("[harness]\nhusk = husk_that_is_gone\n")
    with pytest.warns(PluginWarning, match="'husk' of an unnamed distribution"):
        plugins = load()
    assert [i.name for i in plugins.infos] == ["sound"]


# ---------------------------------------------------------------- what plugins offer


def plugin(**hooks: Callable[..., object]) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def test_a_hook_that_raises_leaves_its_plugin_out_and_the_others_in() -> None:
    def broken() -> object:
        raise ImportError("no torch")

    plugins = Plugins()
    plugins.register(plugin(harness_backends=broken), name="bad", distribution="bad-dist")
    plugins.register(plugin(harness_backends=lambda: {"ok": print}), name="good")
    with pytest.warns(PluginWarning, match="harness_backends of plugin 'bad' of bad-dist.*torch"):
        assert list(plugins.table("harness_backends")) == ["ok"]


@pytest.mark.parametrize("offered", [None, ["echo"], {1: print}, {"": print}, (n for n in "ab")])
def test_a_hook_that_returns_no_mapping_of_names_is_an_error(offered: object) -> None:
    plugins = Plugins()
    plugins.register(plugin(harness_tuners=lambda: offered), name="odd", distribution="odd-dist")
    with pytest.raises(PluginError, match="harness_tuners of plugin 'odd' of odd-dist returned"):
        plugins.table("harness_tuners")


def test_an_unknown_name_tells_the_known_ones() -> None:
    plugins = Plugins()
    plugins.register(plugin(harness_backends=lambda: {"b": 1, "a": 2}), name="two")
    assert plugins.owner("harness_backends", "a") == 2
    with pytest.raises(UsageError, match=r"no backend .opnai.. Known: a, b. Run `harness plugins`"):
        plugins.owner("harness_backends", "opnai")


def test_a_plugin_that_comes_late_is_seen() -> None:
    plugins = Plugins()
    plugins.register(plugin(harness_backends=lambda: {"a": 1}), name="early")
    assert list(plugins.table("harness_backends")) == ["a"]
    plugins.register(plugin(harness_backends=lambda: {"b": 2}), name="late")
    assert list(plugins.table("harness_backends")) == ["a", "b"]


def test_a_refused_registration_leaves_nothing_behind() -> None:
    plugins = Plugins()
    slip = SimpleNamespace(harnes_backends=hookimpl(lambda: {"a": 1}))
    with pytest.raises(PluginError):
        plugins.register(slip, name="slip")
    plugins.register(plugin(harness_backends=lambda: {"a": 1}), name="slip")
    assert [i.name for i in plugins.infos] == ["slip"]


def test_every_listener_is_told_though_one_fails() -> None:
    told: list[object] = []

    def failing(record: object) -> None:
        raise OSError("disk full")

    plugins = Plugins()
    plugins.register(plugin(harness_recorded=failing), name="bad", distribution="bad-dist")
    plugins.register(plugin(harness_recorded=lambda record: told.append(record)), name="good")
    plugins.register(plugin(harness_recorded=lambda: told.append("no argument")), name="curt")
    with pytest.warns(PluginWarning, match="plugin 'bad' of bad-dist.*disk full") as caught:
        plugins.tell("a record")
    assert len(caught) == 1
    assert sorted(map(str, told)) == ["a record", "no argument"]


def test_our_own_plugins_load_without_a_warning_and_import_nothing_heavy() -> None:
    """`harness --help` must not pay for torch."""
    code = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "from harness.ports.manager import Plugins\n"
        "plugins = Plugins().load(); plugins.table('harness_backends')\n"
        "heavy = {'torch', 'transformers', 'trl', 'aiohttp', 'openai', 'numpy', 'dspy'}\n"
        "heavy &= set(sys.modules)\n"
        "print(sorted(i.name for i in plugins.infos if i.distribution == 'tuning-harness'), heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    ours = [
        "anthropic", "apps", "classifiers", "dspy", "embeddings", "gepa", "openai", "servers",
        "sklearn", "transformers", "trl",
    ]  # fmt: skip
    assert done.stdout.strip() == f"{ours} set()", done.stderr


def test_a_warning_shows_where_the_plugins_were_loaded(install: Install) -> None:
    install("broken-dist", plugin="broken", source="1/0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load()
    assert Path(caught[0].filename) == Path(__file__)
