"""Finds plugins and tells who owns which name. Knows nothing of what the plugins do.

pluggy's own entry-point loading is not used: it lets a second distribution replace a name in
silence, and one broken plugin stops everything without being named.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pluggy

from harness.errors import PluginError, UsageError
from harness.ports import hookspecs

GROUP = "harness"


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
    """Return the installed entry points of our group, in order of distribution and name."""
    found = {(e.name, e.value, _owner(e)): e for e in metadata.entry_points(group=GROUP)}
    return [found[key] for key in sorted(found)]


def _owner(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unnamed distribution"


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
        mark was forgotten. A plugin that fails to import is left out with a PluginWarning.
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
            try:
                plugin = entry.load()
            except Exception as exc:  # noqa: BLE001 - border: a stranger's import can raise anything
                warnings.warn(
                    f"plugin {entry.name!r} of {owner} was left out: {type(exc).__name__}: {exc}. "
                    f"Repair or uninstall it (pip uninstall {owner}).",
                    PluginWarning,
                    stacklevel=2,
                )
                continue
            version = entry.dist.version if entry.dist is not None else "unknown"
            self.register(plugin, name=entry.name, distribution=owner, version=version)
        return self

    def register(
        self, plugin: object, *, name: str, distribution: str = "this process", version: str = ""
    ) -> None:
        """Add one plugin. Raises PluginError where a hook of it is misspelt or unmarked."""
        known = sorted(n for n in vars(hookspecs) if n.startswith("harness_"))
        for attribute, value in inspect.getmembers(plugin, callable):
            if not attribute.startswith("harness_"):
                continue
            if attribute not in known:
                raise PluginError(
                    f"plugin {name!r} of {distribution}: {attribute!r} is not a hook. "
                    f"The hooks are {', '.join(known)}."
                )
            if not hasattr(value, "harness_impl"):
                raise PluginError(
                    f"plugin {name!r} of {distribution}: {attribute} lacks @harness.hookimpl, "
                    "so it would never be called. Add the mark, or rename it."
                )
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as exc:
            raise PluginError(f"plugin {name!r} of {distribution}: {exc}") from exc
        module = getattr(plugin, "__name__", type(plugin).__name__)
        self.infos.append(
            PluginInfo(name=name, module=module, distribution=distribution, version=version)
        )

    def table(self, hook: str) -> Mapping[str, Any]:
        """Return everything that the plugins offer for `hook`, by name.

        Raises PluginError naming both distributions where two offer the same name.
        """
        if hook not in self._tables:
            owners: dict[str, str] = {}
            merged: dict[str, Any] = {}
            for implementation in getattr(self._manager.hook, hook).get_hookimpls():
                owner = self._distribution(implementation.plugin_name)
                for name, value in implementation.function().items():
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
            what = {"harness_backends": "backend", "harness_tuners": "tuner"}.get(hook, "plugin")
            known = ", ".join(sorted(table)) or "none"
            raise UsageError(f"no {what} {name!r}. Known: {known}. Run `harness plugins`.")
        return table[name]

    def tell(self, record: object) -> None:
        """Tell every plugin of a stored record; what one of them raises becomes a warning."""
        for implementation in self._manager.hook.harness_recorded.get_hookimpls():
            function: Callable[..., Any] = implementation.function
            try:
                function(record)
            except Exception as exc:  # noqa: BLE001 - border: a listener may not stop a run
                warnings.warn(
                    f"plugin {implementation.plugin_name!r}: harness_recorded raised "
                    f"{type(exc).__name__}: {exc}",
                    PluginWarning,
                    stacklevel=2,
                )

    def _distribution(self, plugin_name: str) -> str:
        return next((i.distribution for i in self.infos if i.name == plugin_name), plugin_name)
