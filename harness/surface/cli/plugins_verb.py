"""`harness plugins`: who is here, and what they offer."""

from __future__ import annotations

from pathlib import Path

import click
from tabulate import tabulate

from harness.surface.cli.app import App, options

HOOKS = {
    "backends": "harness_backends",
    "tuners": "harness_tuners",
    "recipes": "harness_recipes",
    "checks": "harness_checks",
    "optimisers": "harness_optimizers",
    "variants": "harness_variants",
    "servers": "harness_servers",
}


@click.command("plugins")
@click.option("--recipe", metavar="NAME", help="Show this recipe, to be copied and changed.")
@options()
@click.pass_obj
def command(store: str | None, recipe: str | None, as_json: bool) -> int:
    """List plugins and what they offer."""
    with App(store, as_json=as_json) as app:
        if recipe is not None:
            text = Path(app.plugins.owner("harness_recipes", recipe)).read_text(encoding="utf-8")
            app.answer({"recipe": recipe, "text": text})
            app.say(text.rstrip("\n"))
            return 0
        infos = app.plugins.infos
        offers = {what: sorted(app.plugins.table(hook)) for what, hook in HOOKS.items()}
        app.answer({"plugins": infos, **offers})
        rows = [[i.name, i.module, i.distribution, i.version] for i in infos]
        app.say(tabulate(rows, headers=["plugin", "module", "distribution", "version"]), "")
        for what, names in offers.items():
            shown = [f"{n}:" if what == "backends" else n for n in names]
            app.say(f"{what}: {', '.join(shown) or 'none'}")
    return 0
