"""A project whose model heeds some words of a prompt and no others, and larger models beside it."""

from __future__ import annotations

from tests.surface.toy import Toy, sums

BACKEND = """
import os, re
import harness

class Adder:
    concurrency = 8
    is_external = False

    def __init__(self, config):
        self.model, self.artifact = config.model, config.artifact
        self.identity = {"version": "1"}

    def token_ids(self, request):
        if self.model == "base":
            raise harness.UsageError("base has no chat template")
        return [n for m in request.messages for n, _ in enumerate(m.content.split())]

    def stop_ids(self):
        return frozenset()

    def decode(self, ids):
        return ""

    async def answer(self, request):
        with open(os.environ["SENT"], "a") as log:
            log.write(f"{self.model} {request.messages[-1].content}\\n")
        said = " ".join(m.content for m in request.messages)
        a, b = map(int, re.findall(r"\\d+", request.messages[-1].content)[-2:])
        every = {"small": 2, "middle": 5, "large": 0}[self.model]
        if "carefully" in said:
            every *= 3
        if f"The sum of {a} and {b}" in said:
            every = 0
        right = not every or a % every
        cost = {"small": 0.0, "middle": 0.001, "large": 0.01}[self.model]
        return harness.Reply(
            text=str(a + b) if right else "?", input_tokens=5, output_tokens=1, latency_s=0.02,
            cost_usd=cost,
        )

@harness.hookimpl
def harness_backends():
    return {"adder": Adder}
"""
PARTS = """+++
family = "instructions"
note = "long-winded"
+++
@system
You are a calculator of good will.

Work carefully.

Never apologise, and never say why.

@user
The numbers follow.

{{ a }} + {{ b }} =
"""
EVALS = """
def test_right(case, reply):
    assert reply.text == case.reference
"""


def build(toy: Toy, *, dev: int = 60, target: float = 0.9, more: str = "") -> Toy:
    """Make `toy` the project of this school: two prompts, `dev` cases, one eval."""
    (toy.root / "site/adder.py").write_text(BACKEND)
    settings = (toy.task / "task.toml").read_text().replace("target = 0.9", f"target = {target}")
    (toy.task / "task.toml").write_text(settings + more)
    (toy.task / "eval_toy.py").write_text(EVALS)
    (toy.task / "prompts/shots.md").unlink()
    (toy.task / "prompts/parts.md").write_text(PARTS)
    toy.write_cases(sums(["dev"] * dev + ["train"] * 4 + ["test"] * 20))
    return toy
