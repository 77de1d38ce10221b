"""Personal data, secrets and languages, planted among look-alikes: what is found, and what not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.core.examples import Example
from harness.engine.data.linting import Rows, Settings, lint
from tests.core.lints.planted import clean_rows


def named(rows: list[Example], rule: str) -> set[str]:
    """The ids of the rows that a rule names."""
    report = lint([Rows(name="rows", open=lambda: rows)], settings=Settings(only=(rule,)))
    return {p.id for f in report.findings for p in f.rows}


def luhn(rng: random.Random) -> str:
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(d if i % 2 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits))
    number = "".join(map(str, [*digits, -total % 10]))
    return " ".join(number[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    account = "".join(rng.choices("0123456789", k=18))
    check = 98 - int(f"{account}131400") % 97  # DE is 13 14
    return f"DE{check:02}{account}"


def key(rng: random.Random, length: int) -> str:
    return "".join(
        rng.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=length)
    )


PII: dict[str, Callable[[random.Random], str]] = {
    "email": lambda rng: f"jo.{rng.randrange(999)}@shop-mail{rng.randrange(99)}.net",
    "phone": lambda rng: f"+49 30 {rng.randrange(10**6, 10**7)}",
    "us phone": lambda rng: f"(415) {rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}",
    "iban": iban,
    "card": luhn,
    "ssn": lambda rng: f"{rng.randrange(100, 600)}-45-{rng.randrange(1000, 9999)}",
}
SECRETS: dict[str, Callable[[random.Random], str]] = {
    "github": lambda rng: "ghp_" + key(rng, 36),
    "aws": lambda rng: "AKIA" + "".join(rng.choices("ABCDEFGHIJKLMNOP234567", k=16)),
    "openai": lambda rng: "sk-proj-" + key(rng, 40),
    "url": lambda rng: f"postgres://app:{key(rng, 12)}@db.internal/x",
    "assigned": lambda rng: f"api_key = '{key(rng, 24)}'",
    "private key": lambda rng: "-----BEGIN RSA PRIVATE KEY-----",
}
ALIKE: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"order {rng.randrange(10**6, 10**7)} of 2024-05-{rng.randrange(1, 29):02}",
    lambda rng: f"version {rng.randrange(9)}.{rng.randrange(99)}.{rng.randrange(9999)}",
    lambda rng: f"sha {rng.getrandbits(160):040x}",
    lambda rng: f"write to user{rng.randrange(99)}@example.com",
    lambda rng: f"see https://shop.net/a/{rng.randrange(10**9)}?page={rng.randrange(99)}",
    lambda rng: f"{rng.random():.12f} and {rng.randrange(10**5):,} EUR",
    lambda rng: "the token count and the password policy: see secret santa",
)


@pytest.mark.parametrize(("rule", "kinds"), [("pii", PII), ("secret", SECRETS)])
def test_planted_values_are_found_and_look_alikes_are_not(
    rule: str, kinds: dict[str, Callable[[random.Random], str]]
) -> None:
    rng = random.Random(11)
    rows = [
        replace(row, inputs={"text": f"{row.inputs['text']}, {ALIKE[i % len(ALIKE)](rng)}."})
        for i, row in enumerate(clean_rows(420))
    ]
    planted: dict[str, set[str]] = {name: set() for name in kinds}
    for i, name in enumerate(sorted(kinds) * 20):
        at = 3 * i + 1
        text = f"{rows[at].inputs['text']} It is {kinds[name](rng)}, as you know."
        rows[at] = replace(rows[at], inputs={"text": text})
        planted[name].add(rows[at].id)
    found = named(rows, rule)
    for name, some in planted.items():
        assert len(found & some) >= 19, f"recall of {name}: {len(found & some)} of {len(some)}"
    assert found <= set().union(*planted.values()), "no look-alike among 300"


GERMAN = (
    "Vielen Dank für Ihre Nachricht, wir haben Ihren Fall {} heute an die zuständige Abteilung "
    "weitergeleitet und melden uns bald bei Ihnen."
)
FRENCH = (
    "Nous avons bien reçu votre demande {} et nous vous répondrons dans les plus brefs délais, "
    "merci de votre patience et de votre confiance."
)


def test_answers_in_another_language_are_found_and_short_or_mixed_ones_are_not_doubted() -> None:
    rows = clean_rows(300)
    planted = set()
    for i in range(20):
        text = (GERMAN if i % 2 else FRENCH).format(i)
        rows[7 * i] = replace(rows[7 * i], reference=text)
        planted.add(rows[7 * i].id)
        rows[7 * i + 1] = replace(rows[7 * i + 1], reference="Danke, bis bald!")
    found = named(rows, "wrong-language")
    assert len(found & planted) >= 19
    assert found <= planted
    assert named(clean_rows(300, seed=4), "wrong-language") == set()
