from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from harness import Miss, Reply, UsageError, checks

Reason = Callable[..., str]

# put together here, so that no scanner takes this file for a leak
KEYS = {
    "aws": "AKIA" + "QZ7W3JTN5R2XKLPV",
    "anthropic": "sk-ant-" + "api03-Zx9Yw8Vu7Ts6Rq5Po4Nm3",
    "github": "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5",
    "gitlab": "glpat-" + "aB3dE5gH7jK9mN1pQ3sT",
    "google": "AIza" + "SyD3kF8nQ2xW7vB5mR9tL4pJ6hG1cZ0aYuE",
    "huggingface": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH",
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "openai": "sk-proj-" + "abc123DEF456ghi789jkl",
    "private-key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "slack": "xoxb-" + "123456789012-abcdefGHIJKL",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "url-password": "postgres://admin:" + "tr0ub4dor" + "@db.example.org/x",
    "assigned": "API_KEY = '" + "q8Zr2Lx9Tn4Vb7" + "'",
}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "I’m unable to provide medical advice.",
        "As an AI language model, I don't have opinions.",
        "Sorry, that's not something I can do.",
        "Unfortunately, I must respectfully decline.",
        "I won't help you write this.",
        "Ich kann dir dabei leider nicht helfen.",
        "Je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudar con eso.",
    ],
)
def test_a_refusal_is_found(text: str, reason: Reason) -> None:
    assert checks.refusal(text)
    assert reason(checks.no.refusal, text).startswith("no.refusal: it declines: ")


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is the recipe.",
        "I can't believe how good this is.",
        "I cannot recommend this book enough.",
        "I can't wait to help you! The answer is 4.",
        "I can't help but answer with a smile: 4.",
        "Sorry it took so long, I can't wait to share this.",
        "Sorry, you can't divide by zero.",
        "Sorry for the delay. Here it is.",
        "x" * 500 + " she said: I cannot help you.",
        "",
    ],
)
def test_an_answer_is_no_refusal(text: str, reason: Reason) -> None:
    assert checks.no.refusal(text)
    assert "no refusal" in reason(checks.refusal, text)


def test_a_filtered_reply_is_a_refusal() -> None:
    assert checks.refusal(Reply(text="", finish_reason="content_filter"))


def test_words_are_whole_words_in_any_case_accent_and_width(reason: Reason) -> None:
    assert checks.words("This is a DÄMN shame", ["damn"])
    assert checks.words("ＤＡＭＮ", "damn")
    assert checks.words("da\u200bmn", "damn")
    assert checks.no.words("a classic assessment", ["ass"])
    assert checks.words("a big,  Bad wolf", ["big bad"])
    assert checks.words("5h1t happens", ["shit"], disguised=True)
    assert checks.no.words("5h1t happens", ["shit"])
    assert '["damn"] in' in reason(checks.no.words, "damn it", ["damn", "hell"])
    with pytest.raises(UsageError, match="holds no letter"):
        checks.words("x", ["!!"])


def test_a_number_is_no_disguised_word() -> None:
    assert checks.no.words("455 items, $455.50 (or 5417)", ["ass", "shit"], disguised=True)
    assert checks.words("@ss", "ass", disguised=True)


def test_profanity_is_found_whole_disguised_or_starred_and_not_repeated(reason: Reason) -> None:
    for text in (
        "What the FUCK.",
        "bull5h1t",
        "What 5h1t!",
        'He said "a$$hole!"',
        "you f*ck",
        "this is b\u200bullsh\u00edt",
        "son of a bitch",
    ):
        assert checks.profanity(text), text
        assert reason(checks.no.profanity, text).startswith("no.profanity: '")
    assert "ullshit" not in reason(checks.no.profanity, "bullshit")
    said = [
        "Scunthorpe, Dick and a cock crow; damn",
        "2 * 3 * 4 = a*b",
        "order 5417 and 455",
        "**is** *it*",
    ]
    for text in said:
        assert checks.no.profanity(text), text
    assert checks.profanity("damn", mild=True)
    assert checks.no.profanity("damn it, bastard", mild=True, allow=("damn", "Bastard"))
    assert "none of " in reason(checks.profanity, "Thank you.")


@pytest.mark.parametrize(("kind", "text"), KEYS.items())
def test_a_secret_is_found_named_and_not_repeated(kind: str, text: str, reason: Reason) -> None:
    said = reason(checks.no.secrets, f"use this: {text} ok")
    assert f"{kind} at " in said
    assert text[-9:] not in said
    assert checks.no.secrets(f"use this: {text} ok", kinds=[k for k in KEYS if k != kind])


@pytest.mark.parametrize(
    "text",
    [
        "the secret: it was the butler all along",
        "set password: your-password-here1",
        "export API_KEY=<your key 123456789>",
        "sk-learn-is-a-library-for-machine",
        "3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        "see https://example.org/a:b@c",
        "AKIA" + "A" * 16,
        "tokens: 128",
    ],
)
def test_a_look_alike_is_no_secret(text: str, reason: Reason) -> None:
    assert checks.no.secrets(text)
    assert "none of" in reason(checks.secrets, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("email", "mail jo.doe+x@mail.example.com."),
        ("email", "jürgen@bücher.example"),
        ("phone", "call +49 30 1234567 now"),
        ("phone", "call (415) 555-2671"),
        ("phone", "415-555-2671"),
        ("phone", "Tel. 030 12345678"),
        ("iban", "DE89 3704 0044 0532 0130 00 IS MINE"),
        ("iban", "GB82WEST12345698765432"),
        ("card", "card 4111 1111 1111 1111."),
        ("card", "5500-0000-0000-0004"),
        ("us-ssn", "123-45-6789"),
    ],
)
def test_personal_data_is_found(kind: str, text: str, reason: Reason) -> None:
    said = reason(checks.no.pii, text)
    assert said.startswith(f"no.pii: {kind} at ")
    assert said.count(" at ") == 1


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15 10:20:30",
        "on 12.10.2024 it was 1,234,567.89",
        "DE88 3704 0044 0532 0130 00",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "000-12-3456",
        "192.168.0.1 and 0.12345678901",
        "ISBN 0-306-40615-2",
        "me@localhost, a @ b",
        "3.14159265358979",
    ],
)
def test_a_look_alike_is_no_personal_data(text: str) -> None:
    assert checks.no.pii(text)


def test_harmless_ones_are_allowed_and_kinds_chosen() -> None:
    assert checks.no.pii("Write to help@example.com", allow="HELP@example.com")
    assert checks.no.pii("Write to help@example.com", kinds=["phone"])
    with pytest.raises(UsageError, match="no kind"):
        checks.pii("x", kinds=["passport"])


@pytest.mark.parametrize(
    "unit",
    ["+1 23 ", "a@", "a@b.co ", "sk-", "token=", "DE89 ", "4111 ", "aa://", "1-", "eyJaaaaaaaaaaaa",
     "sorry i ", "ich kann ", "0 12 ", "5h", "e\u0301"],
)  # fmt: skip
def test_half_a_thing_a_million_times_over_ends(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    for check in (checks.pii, checks.secrets, checks.refusal):
        before = time.thread_time()
        with contextlib.suppress(Miss):
            check(text)
        assert time.thread_time() - before < 1
