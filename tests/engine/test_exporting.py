"""Another form of an artifact: what it takes over from what it was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness import hookimpl
from harness.engine.exporting import make_variant
from harness.ports.artifacts import VariantJob, VariantMaker, VariantResult
from tests.engine.small import Workshop
from tests.engine.test_tune_training import Scholar, shop, tune


class Copies:
    """`copied`: a form with the same file under another name."""

    @hookimpl
    def harness_variants(self) -> dict[str, VariantMaker]:
        def copied(job: VariantJob) -> VariantResult:
            text = (job.artifact / "known.json").read_text()
            (job.out_dir / "copied.json").write_text(text)
            return VariantResult(template_digest="t")

        return {"copied": copied}


def test_what_a_training_cost_is_told_once_of_all_forms(make: Callable[..., Workshop]) -> None:
    workshop = shop(make, Scholar())
    workshop.plugins.register(Copies(), name="copies")
    source = replace(tune(workshop), base="local:tiny", cost_usd=1.5)
    made = make_variant(
        source, "copied", project=workshop.project, plugins=workshop.plugins, store=workshop.store,
        at=workshop.at,
    ).artifact  # fmt: skip
    assert (made.variant_of, made.variant, made.rows) == (source.digest, "copied", source.rows)
    assert made.cost_usd is None
