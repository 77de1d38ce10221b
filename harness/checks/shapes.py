"""What secrets and personal data look like. Knows nothing of texts or replies.

Every pattern begins where a word begins and is bounded or possessive, so that a million
characters are read once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one kind of thing looks like. `real` returns what of a match is the thing, or nothing
    for a look-alike; where the pattern has a group `value`, that is what it is asked about.
    """

    pattern: str
    real: Callable[[str], str] | None = None


def luhn(text: str) -> str:
    """Return `text` where its digits pass the check of card numbers.

    Source: ISO/IEC 7812-1, annex B (Luhn, US patent 2,950,048).
    """
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    is_card = 13 <= len(digits) <= 19 and len(set(digits)) > 1 and sum(doubled) % 10 == 0
    return text if is_card else ""


_IBANS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28
    EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26
    IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30
    NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23
    TN24 TR26 UA29 VA22 VG24 XK20
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}


def iban(text: str) -> str:
    """Return the account number that `text` begins with, by its country's length and mod 97.

    Source: ISO 13616-1 and ISO/IEC 7064; lengths from the SWIFT IBAN registry.
    """
    plain = text.replace(" ", "")
    number = plain[: _IBAN_LENGTHS.get(plain[:2], 0)]
    if not number or len(plain) < _IBAN_LENGTHS[plain[:2]]:
        return ""
    turned = number[4:] + number[:4]
    return number if int("".join(str(int(c, 36)) for c in turned)) % 97 == 1 else ""


def phone(text: str) -> str:
    """Return `text` where it has as many digits as a number that can be called (ITU-T E.164)."""
    return text if 9 <= sum(c.isdigit() for c in text) <= 15 else ""


def entropy_bits(text: str) -> float:
    """Return the Shannon entropy of the characters of `text`, in bits each."""
    n = len(text)
    return -sum(k / n * math.log2(k / n) for k in Counter(text).values()) if n else 0.0


_PLACEHOLDERS = ("example", "your", "xxxx", "changeme", "placeholder", "****", "....", "<", "${")


def random_looking(text: str) -> str:
    """Return `text` where it is as mixed as a key is: digits and letters, 2.5 bits a character."""
    lower = text.lower()
    is_mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    if not is_mixed or any(word in lower for word in _PLACEHOLDERS):
        return ""
    return text if entropy_bits(text) >= 2.5 else ""


def random_part(text: str) -> str:
    """Return `text` where a part of it between hyphens is mixed: `sk-learn-parts-17` is words."""
    parts = re.split(r"[-_]", text)
    is_mixed = any(re.search(r"\d", p) and re.search(r"[A-Za-z]", p) for p in parts)
    return random_looking(text) if is_mixed else ""


def no_placeholder(text: str) -> str:
    """Return `text` where it is more than a row of the same few characters."""
    return text if entropy_bits(text) >= 2.5 else ""


_CALLED = "|".join(
    f"(?<={w}{s})" for w in ("phone", "tel", "cell", "call") for s in ("#", " #", " # ")
)
_NO_ORDER = "".join(
    f"(?<!order {word})" for word in ("", "id ", "id: ", "number ", "number: ", "number is ")
)
"""What stands before a number in groups: `order #789-456-1230` is called by nobody."""

PII: dict[str, Shape] = {
    "email": Shape(
        pattern=r"(?<![\w.+-])[\w.+-]{1,64}+@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}\b"
    ),
    "iban": Shape(
        pattern=r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?",
        real=iban,
    ),
    "card": Shape(pattern=r"(?<![\d.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d.-]*\d)", real=luhn),
    "us-ssn": Shape(pattern=r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    "phone": Shape(
        pattern=rf"(?:(?<![\w.+#-])(?<!# )(?i:{_NO_ORDER})|(?i:{_CALLED}))"
        r"(?:\+\d{1,3}[ .\-/]?(?:\(\d{1,4}\)[ .\-/]?)?\d{1,5}(?:[ .\-/]?\d{2,5}){1,5}"
        r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4}"
        r"|(?<!\d[ -])0[1-9]\d{0,3}(?: ?[/-] ?| )\d{2,8}(?:[ -]\d{2,4}){0,4})(?![\w-])",
        real=phone,
    ),
}

_START = r"(?<![A-Za-z0-9_-])"
SECRETS: dict[str, Shape] = {
    "anthropic": Shape(pattern=_START + r"sk-ant-[A-Za-z0-9_-]{20,200}", real=no_placeholder),
    "aws": Shape(pattern=_START + r"(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])", real=no_placeholder),
    "bearer": Shape(
        pattern=r"(?i)(?<![a-z0-9])bearer\s{1,4}(?P<value>[a-z0-9+/=_.~-]{20,512}+)",
        real=random_looking,
    ),
    "github": Shape(
        pattern=_START + r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255})",
        real=no_placeholder,
    ),
    "gitlab": Shape(pattern=_START + r"glpat-[A-Za-z0-9_-]{20,64}", real=no_placeholder),
    "google": Shape(pattern=_START + r"AIza[A-Za-z0-9_-]{35}", real=no_placeholder),
    "huggingface": Shape(pattern=_START + r"hf_[A-Za-z0-9]{34,64}", real=no_placeholder),
    "jwt": Shape(
        pattern=_START
        + r"eyJ[A-Za-z0-9_-]{8,4096}+\.eyJ[A-Za-z0-9_-]{8,8192}+\.[A-Za-z0-9_-]{8,2048}"
    ),
    "npm": Shape(pattern=_START + r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])", real=no_placeholder),
    "openai": Shape(
        pattern=_START + r"sk-(?!ant-)(?:[a-z]{2,10}-)?[A-Za-z0-9_-]{20,200}", real=random_part
    ),
    "private-key": Shape(pattern=r"-----BEGIN (?:[A-Z]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----"),
    "pypi": Shape(pattern=_START + r"pypi-AgE[A-Za-z0-9_-]{50,500}", real=no_placeholder),
    "slack": Shape(pattern=_START + r"xox[abeoprs]-[A-Za-z0-9-]{10,250}", real=no_placeholder),
    "stripe": Shape(
        pattern=_START + r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,247}", real=no_placeholder
    ),
    "url-password": Shape(
        pattern=r"(?<![A-Za-z0-9+.-])[a-z][a-z0-9+.-]{1,20}+://[^\s:@/]{1,100}+:(?P<value>[^\s:@/]{3,200}+)@"
    ),
    "assigned": Shape(
        pattern=r"(?i)(?<![a-z0-9])(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?key|auth[_-]?token|"
        r"access[_-]?token|token|passwd|password|pwd)[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
        r"(?P<value>[A-Za-z0-9+/=_.~!@#$%^&*-]{12,256}+)",
        real=random_looking,
    ),
}
