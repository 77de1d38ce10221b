"""Every rule, measured: of the faults that were planted, how many it finds; of the rows that only
look alike, how many it names. docs/lints.md shows these numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.engine.data.linting import ALL_RULES
from tests.engine.data.plants import PLANTS
from tests.engine.data.plants.__main__ import MEASURED
from tests.engine.data.plants.base import Plant, measure
from tests.test_docs import generator

EXTRAS = {"label-error": "cleanlab", "wrong-language": "py3langid", "fragmented-word": "tokenizers"}


def test_every_rule_has_its_planted_faults_and_look_alikes() -> None:
    planted = Counter(plant.rule for plant in PLANTS)
    assert planted == Counter(rule.name for rule in ALL_RULES)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.rule)
def test_planted_faults_are_found_and_look_alikes_are_not(plant: Plant, tmp_path: Path) -> None:
    if plant.rule in EXTRAS:
        pytest.importorskip(EXTRAS[plant.rule])
    measured = measure(plant, tmp_path)
    assert measured.planted >= 16
    assert measured.clean >= measured.planted
    assert measured.found >= plant.recall * measured.planted, f"missed: {measured.missed}"
    assert measured.named <= plant.alarms * measured.clean, f"false alarms: {measured.alarmed}"
    published = json.loads(MEASURED.read_text(encoding="utf-8"))[plant.rule]
    assert measured.published == published, "run: python -m tests.engine.data.plants"


def test_the_page_shows_what_was_measured() -> None:
    page = MEASURED.with_name("lints.md").read_text(encoding="utf-8")
    assert page == generator().PAGES["lints.md"](), "run docs/generate.py"
