"""Writes what was found of the planted faults, for docs/lints.md; a test holds it equal."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.engine.data.plants import PLANTS
from tests.engine.data.plants.base import measure

MEASURED = Path(__file__).parents[4] / "docs" / "lints.measured.json"


def main() -> None:
    """Measure every rule."""
    rows = []
    for plant in PLANTS:
        with TemporaryDirectory() as folder:
            rows.append(f'  "{plant.rule}": {json.dumps(measure(plant, Path(folder)).published)}')
    MEASURED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
