"""Finds plugins and tells who owns which name. Knows nothing of what the plugins do.

pluggy's own entry-point loading is not used: it lets a second distribution replace a name in
silence, and one broken plugin stops everything without being named. Here a plugin that cannot run
is left out with a warning; one that runs but would not do what its author meant is an error. Both
name the distribution.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from harness.errors import PluginError, UsageError, words_of
from harness.ports import hookspecs

GROUP = "harness"
WHAT = {
    "harness_backends": "backend",
    "harness_optimizers": "optimiser",
    "harness_recipes": "recipe",
    "harness_servers": "server",
    "harness_tuners": "tuner",
    "harness_variants": "form of weights",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """A loaded plugin: its entry-point name, its module, and who distributes it."""

    name: str
    module: str
    distribution: str
    version: str


class PluginWarning(UserWarning):
    """A plugin could not be loaded; the message names its distribution and what to do."""


def entry_points() -> list[metadata.EntryPoint]:
    """Return the installed entry points of our group, in order of name."""
    found = {(e.name, e.value, _owner(e)): e for e in metadata.entry_points(group=GROUP)}
    return [found[key] for key in sorted(found)]


def _owner(entry: metadata.EntryPoint) -> str:
    return _name_and_version(entry.dist)[0] or "an unnamed distribution"


@cache  # each look reads and parses the whole METADATA, and a distribution may have ten plugins
def _name_and_version(owner: metadata.Distribution | None) -> tuple[str, str]:
    try:
        told = owner.metadata if owner is not None else None
        name, version = (told[k] if told and k in told else "" for k in ("Name", "Version"))
        return str(name), str(version)
    except (
        KeyError,
        TypeError,
    ):  # an uninstall that broke off leaves entry points without METADATA
        return ("", "")


class Plugins:
    """The plugins of one process, and the names that they own."""

    def __init__(self, *, disabled: Iterable[str] = ()) -> None:
        self._manager = pluggy.PluginManager("harness")
        self._manager.add_hookspecs(hookspecs)
        self._tables: dict[str, dict[str, Any]] = {}
        self._disabled = frozenset(disabled)
        self.infos: list[PluginInfo] = []

    def load(self, entries: Iterable[metadata.EntryPoint] | None = None) -> Plugins:
        """Load `entries` (the installed ones by default) and check every hook.

        Raises PluginError for two owners of a plugin name, a misspelt hook, or a hook whose
        mark was forgotten. A plugin that cannot be imported is left out with a PluginWarning.
        """
        owners: dict[str, str] = {}
        for entry in entry_points() if entries is None else entries:
            if entry.name in self._disabled:
                continue
            owner = _owner(entry)
            if entry.name in owners:
                raise PluginError(
                    f"two distributions own the plugin name {entry.name!r}: {owners[entry.name]} "
                    f"and {owner}. Uninstall one of them."
                )
            owners[entry.name] = owner
            version = _name_and_version(entry.dist)[1] or "unknown"
            try:
                self.register(entry.load(), name=entry.name, distribution=owner, version=version)
            except PluginError:
                raise
            except (Exception, SystemExit) as exc:  # noqa: BLE001 - border: a stranger's import
                _leave_out(f"plugin {entry.name!r}", owner, exc)
        return self

    def register(
        self, plugin: object, *, name: str, distribution: str = "this process", version: str = ""
    ) -> None:
        """Add one plugin. Raises PluginError where a hook of it is misspelt, unmarked, or takes
        an argument that the hook does not give, and where its name or itself is there already.
        """
        place = f"plugin {name!r} of {distribution}"
        if self._manager.has_plugin(name):
            raise PluginError(
                f"{place}: {self._distribution(name)} owns that name. Uninstall one of them."
            )
        other = self._manager.get_name(plugin)
        if other is not None:
            raise PluginError(
                f"{place}: the same thing is plugin {other!r} of {self._distribution(other)}. "
                "Uninstall one of them."
            )
        _check_hooks(plugin, place)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except BaseException as exc:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            if isinstance(exc, (pluggy.PluginValidationError, ValueError)):
                raise PluginError(f"{place}: {exc}") from exc
            raise
        self._tables.clear()
        module = getattr(plugin, "__name__", type(plugin).__name__)
        self.infos.append(
            PluginInfo(name=name, module=module, distribution=distribution, version=version)
        )

    def table(self, hook: str) -> Mapping[str, Any]:
        """Return everything that the plugins offer for `hook`, by name. A plugin whose hook
        raises is left out with a PluginWarning.

        Raises PluginError for a hook that returns no mapping of names, and, naming both
        distributions, where two offer the same name.
        """
        if hook not in self._tables:
            owners: dict[str, str] = {}
            merged: dict[str, Any] = {}
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                owner = self._distribution(implementation.plugin_name)
                place = f"{hook} of plugin {implementation.plugin_name!r}"
                try:
                    offered = implementation.function()
                except (Exception, SystemExit) as exc:  # noqa: BLE001 - border: a stranger's hook
                    _leave_out(place, owner, exc)
                    continue
                if not isinstance(offered, Mapping) or not all(map(_is_name, offered)):
                    raise PluginError(
                        f"{place} of {owner} returned {offered!r:.80}, not a mapping of names."
                    )
                for name, value in offered.items():
                    if name in owners:
                        raise PluginError(
                            f"{hook}: two distributions own {name!r}: {owners[name]} and {owner}. "
                            "Uninstall one, or refuse one in [tool.harness] disabled_plugins."
                        )
                    owners[name] = owner
                    merged[name] = value
            self._tables[hook] = merged
        return self._tables[hook]

    def owner(self, hook: str, name: str) -> Any:
        """Return what owns `name`. Raises UsageError listing the known names."""
        table = self.table(hook)
        if name not in table:
            what = WHAT.get(hook, "plugin")
            known = ", ".join(sorted(table)) or "none"
            raise UsageError(f"no {what} {name!r}. Known: {known}. Run `harness plugins`.")
        return table[name]

    def tell(self, record: object) -> None:
        """Tell every plugin of a stored record; what one of them raises becomes a warning."""
        for implementation in self._manager.hook.harness_recorded.get_hookimpls():
            function: Callable[..., Any] = implementation.function
            given = [record][: len(implementation.argnames)]  # a hook may take fewer arguments
            try:
                function(*given)
            except Exception as exc:  # noqa: BLE001 - border: a listener may not stop a run
                owner = self._distribution(implementation.plugin_name)
                warnings.warn(
                    f"plugin {implementation.plugin_name!r} of {owner}: harness_recorded raised "
                    f"{type(exc).__name__}: {words_of(exc)}. The record is stored all the same.",
                    PluginWarning,
                    stacklevel=2,
                )

    def _distribution(self, plugin_name: str) -> str:
        return next((i.distribution for i in self.infos if i.name == plugin_name), plugin_name)


def _check_hooks(plugin: object, place: str) -> None:
    known = sorted(n for n in vars(hookspecs) if n.startswith("harness_"))
    for attribute, value in inspect.getmembers(plugin, callable):
        if not attribute.startswith("harness_"):
            continue
        mark = getattr(value, "harness_impl", None)
        # a mark may name the hook itself: @hookimpl(specname="harness_backends")
        named = mark.get("specname") if isinstance(mark, Mapping) else None
        if (named or attribute) not in known:
            raise PluginError(
                f"{place}: {attribute!r} is not a hook. The hooks are {', '.join(known)}."
            )
        if mark is None:
            raise PluginError(
                f"{place}: {attribute} lacks @harness.hookimpl, so it would never be called. "
                "Add the mark, or rename it."
            )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _leave_out(what: str, owner: str, exc: BaseException) -> None:
    warnings.warn(
        f"{what} of {owner} was left out: {type(exc).__name__}: {words_of(exc)}. "
        f"Repair or uninstall it (pip uninstall {owner}).",
        PluginWarning,
        stacklevel=3,
    )
