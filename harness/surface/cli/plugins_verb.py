"""`harness plugins`: who is here, and what they offer."""

from __future__ import annotations

import click
from tabulate import tabulate

from harness.surface.cli.app import App, options

HOOKS = {
    "backends": "harness_backends",
    "tuners": "harness_tuners",
    "checks": "harness_checks",
    "optimisers": "harness_optimizers",
    "variants": "harness_variants",
    "servers": "harness_servers",
}


@click.command("plugins")
@options()
@click.pass_obj
def command(store: str | None, as_json: bool) -> int:
    """List plugins and what they offer."""
    with App(store, as_json=as_json) as app:
        infos = app.plugins.infos
        offers = {what: sorted(app.plugins.table(hook)) for what, hook in HOOKS.items()}
        app.answer({"plugins": infos, **offers})
        rows = [[i.name, i.module, i.distribution, i.version] for i in infos]
        app.say(tabulate(rows, headers=["plugin", "module", "distribution", "version"]), "")
        for what, names in offers.items():
            shown = [f"{n}:" if what == "backends" else n for n in names]
            app.say(f"{what}: {', '.join(shown) or 'none'}")
    return 0
