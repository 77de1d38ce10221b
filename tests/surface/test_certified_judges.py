"""What a judge may decide: nothing without a certificate, and no look is spent to say so."""

from __future__ import annotations

import pytest

from tests.surface.inprocess import Cli
from tests.surface.judging import (
    ASKING,
    POLITE,
    RIGHT,
    SECRETLY,
    certify,
    identities,
    judged,
    looks,
    with_judge,
)


def with_many_cases(cli: Cli) -> None:
    """Cases that `plain` fails all and `shots` none, enough for a verdict."""
    rows = [
        {
            "id": f"m{n}", "split": "test" if n % 3 else "dev", "cluster": f"m{n}",
            "inputs": {"a": 3 * n, "b": 1}, "reference": str(3 * n + 1),
        }
        for n in range(90)
    ]  # fmt: skip
    train = [
        {"id": f"t{n}", "split": "train", "inputs": {"a": n, "b": 1}, "reference": str(n + 1)}
        for n in range(1000, 1004)
    ]
    cli.toy.write_cases([*rows, *train])


@pytest.mark.parametrize(
    ("evals", "primary"), [(RIGHT, "polite"), (RIGHT, "all"), (ASKING, "polite")]
)
def test_a_release_rests_on_a_judge_only_with_a_certificate(
    cli: Cli, evals: str, primary: str
) -> None:
    """And no look at sealed cases is spent, nor anything asked, for what could not be said."""
    with_judge(cli.toy, POLITE, primary=primary, evals=evals)
    with_many_cases(cli)
    gate = ["gate", "toy", "--candidate", "shots", "--baseline", "plain"]

    def is_declined() -> None:
        before = (cli.toy.sent, judged(cli.toy), looks(cli))
        said = cli(*gate)
        assert said.code == 3, said.out
        assert "no look at the sealed cases is spent: polite (judge " in said.err
        assert "without a certificate that it agrees with people" in said.err
        assert (cli.toy.sent, judged(cli.toy), looks(cli)) == before

    is_declined()
    cli("eval", "toy", "--candidate", "plain")
    (judge,) = identities(cli, "polite")
    is_declined()
    certify(cli, judge)
    said = cli(*gate)
    assert said.code == 0, said.out
    assert "agreement with people is on record" in said.out
    assert looks(cli) == 1
    certify(cli, judge, holds=False)
    is_declined()


def test_a_judge_without_a_certificate_alarms_and_blocks_nothing(cli: Cli) -> None:
    with_judge(cli.toy, POLITE, primary="polite", evals=SECRETLY)
    with_many_cases(cli)
    both = ["--candidate", "shots", "--candidate", "plain"]
    evals = ["eval", "toy", *both, "--floor", "polite=0.99"]
    compare = ["compare", "toy", "--candidate", "plain", "--baseline"]
    gate = ["gate", "toy", "--candidate", "plain", "--baseline", "shots"]
    advice = "by a judge without a certificate: advice, and no verdict"

    said = cli(*evals)
    assert said.code == 0, said.out
    assert "floor: polite of plain is 0 % (0–10), below 99 %, " + advice in said.out
    assert cli(*evals, "--floor", "right=0.99").code == 1
    assert cli("compare", "toy", "--candidate", "shots", "--bless", "b.json").code == 0
    for baseline in ("shots", "b.json"):
        said = cli(*compare, baseline)
        assert said.code == 0, said.out
        assert "no alarm: plain lost 100 points" in said.out
        assert advice in said.out
    said = cli(*gate)
    assert said.code == 3, said.out
    assert "which is advice and blocks nothing" in said.out

    certify(cli, *identities(cli, "polite"))
    codes = [cli(*some).code for some in (evals, [*compare, "shots"], [*compare, "b.json"], gate)]
    assert codes == [1, 1, 1, 1]


def test_a_prompt_ships_on_a_judge_only_with_a_certificate(cli: Cli) -> None:
    """And no look at sealed cases is spent on what could not be said."""
    with_judge(cli.toy, POLITE, primary="polite", evals=RIGHT)
    with_many_cases(cli)
    cli("ladder", "toy", "--only-files")
    said = cli("wall", "toy", "--confirm")
    assert "no look at the sealed cases is spent: polite (judge " in said.out
    assert "KEEP_PROMPTING" in said.out
    assert looks(cli) == 0
    certify(cli, *identities(cli, "polite"))
    said = cli("wall", "toy", "--confirm")
    assert said.code == 1, said.out
    assert "SHIP_PROMPT" in said.out


def test_where_a_plain_eval_is_primary_the_judge_advises(cli: Cli) -> None:
    with_judge(cli.toy, POLITE, primary="right", evals=RIGHT)
    with_many_cases(cli)
    said = cli("gate", "toy", "--candidate", "shots", "--baseline", "plain")
    assert said.code == 0, said.out
    assert "certificate" not in said.out
