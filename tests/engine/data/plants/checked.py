"""Personal data, secrets, languages and calls, among what only looks like them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.core.examples import Example
from tests.core.lints.planted import clean_rows
from tests.engine.data.plants.base import Change, Plant, one_by_one

Text = Callable[[random.Random], str]


def luhn(rng: random.Random) -> str:
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    total = sum(d if i % 2 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits))
    return in_fours("".join(map(str, [*digits, -total % 10])))


def in_fours(number: str) -> str:
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def no_luhn(rng: random.Random) -> str:
    number = luhn(rng)
    return number[:-1] + str((int(number[-1]) + 1 + rng.randrange(9)) % 10)


def iban(rng: random.Random) -> str:
    account = "".join(rng.choices("0123456789", k=18))
    check = 98 - int(f"{account}131400") % 97  # DE is 13 14
    return f"DE{check:02}{account}"


def no_iban(rng: random.Random) -> str:
    number = iban(rng)
    return number[:-1] + str((int(number[-1]) + 1) % 10)


def key(rng: random.Random, length: int) -> str:
    return "".join(
        rng.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=length)
    )


def base64(rng: random.Random) -> str:
    return key(rng, 40).replace("a", "/").replace("b", "+") + "=="


PII: dict[str, Text] = {
    "email": lambda rng: f"jo.{rng.randrange(999)}@shop-mail{rng.randrange(99)}.net",
    "email with a plus": lambda rng: f"ann+{rng.randrange(999)}@mail.co.uk",
    "phone": lambda rng: f"+49 30 {rng.randrange(10**6, 10**7)}",
    "phone in groups": lambda rng: f"+44 20 7946 {rng.randrange(1000, 9999)}",
    "German phone": lambda rng: f"030 / {rng.randrange(10**6, 10**7)}",
    "us phone": lambda rng: f"(415) {rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}",
    "us phone with hyphens": lambda rng: (
        f"415-{rng.randrange(200, 999)}-{rng.randrange(1000, 9999)}"
    ),
    "iban": iban,
    "iban in groups": lambda rng: in_fours(iban(rng)),
    "card": luhn,
    "card in one": lambda rng: luhn(rng).replace(" ", ""),
    "ssn": lambda rng: f"{rng.randrange(100, 600)}-45-{rng.randrange(1000, 9999)}",
}
SECRETS: dict[str, Text] = {
    "github": lambda rng: "ghp_" + key(rng, 36),
    "gitlab": lambda rng: "glpat-" + key(rng, 20),
    "aws": lambda rng: "AKIA" + "".join(rng.choices("ABCDEFGHIJKLMNOP234567", k=16)),
    "openai": lambda rng: "sk-proj-" + key(rng, 40),
    "anthropic": lambda rng: "sk-ant-api03-" + key(rng, 60),
    "google": lambda rng: "AIza" + key(rng, 35),
    "huggingface": lambda rng: "hf_" + key(rng, 34),
    "slack": lambda rng: f"xoxb-{rng.randrange(10**11)}-{key(rng, 24)}",
    "stripe": lambda rng: "sk_live_" + key(rng, 24),
    "json web token": lambda rng: f"eyJ{key(rng, 30)}.eyJ{key(rng, 60)}.{key(rng, 40)}",
    "url": lambda rng: f"postgres://app:{key(rng, 12)}@db.internal/x",
    "assigned": lambda rng: f"api_key = '{key(rng, 24)}'",
    "assigned in JSON": lambda rng: f'"password": "{key(rng, 16)}"',
    "in an environment": lambda rng: f"DB_PASSWORD={key(rng, 18)}",
    "bearer": lambda rng: f"Authorization: Bearer {key(rng, 40)}",
    "private key": lambda rng: "-----BEGIN RSA PRIVATE KEY-----",
    "newer private key": lambda rng: "-----BEGIN OPENSSH PRIVATE KEY-----",
}
NO_PII: dict[str, Text] = {
    "an order": lambda rng: (
        f"order {rng.randrange(10**6, 10**7)} of 2024-05-{rng.randrange(1, 29):02}"
    ),
    "an order in groups": lambda rng: (
        f"order #{rng.randrange(100, 999)}-{rng.randrange(100, 999)}-{rng.randrange(1000, 9999)}"
    ),
    "an order by its number": lambda rng: (
        f"order number 789-{rng.randrange(100, 999)}-{rng.randrange(1000, 9999)}"
    ),
    "a version": lambda rng: (
        f"version {rng.randrange(9)}.{rng.randrange(99)}.{rng.randrange(9999)}"
    ),
    "a digest": lambda rng: f"sha {rng.getrandbits(160):040x}",
    "nobody's address": lambda rng: f"write to user{rng.randrange(99)}@example.com",
    "a link": lambda rng: f"see https://shop.net/a/{rng.randrange(10**9)}?page={rng.randrange(99)}",
    "numbers": lambda rng: f"{rng.random():.12f} and {rng.randrange(10**5):,} EUR",
    "a time": lambda rng: f"2024-05-12 10:{rng.randrange(10, 60)}:{rng.randrange(10, 60)}.123456",
    "seconds since 1970": lambda rng: f"at {rng.randrange(16 * 10**8, 17 * 10**8)}",
    "an IP address": lambda rng: f"from 192.168.{rng.randrange(256)}.{rng.randrange(256)}",
    "a book": lambda rng: f"ISBN 978-3-16-{rng.randrange(10**5, 10**6)}-0",
    "a number like a card's": no_luhn,
    "a number like an account's": no_iban,
    "a handle": lambda rng: f"ask @ann_{rng.randrange(99)} or a@b",
    "a package": lambda rng: f"npm i @scope/part@{rng.randrange(9)}.{rng.randrange(20)}.1",
    "a product": lambda rng: f"part 00-45-{rng.randrange(1000, 9999)}-B",
    "a range": lambda rng: f"pages {rng.randrange(100, 200)}-{rng.randrange(200, 300)}, 1990-2004",
    "coordinates": lambda rng: f"{rng.uniform(-90, 90):.6f}, {rng.uniform(-90, 90):.6f}",
    "a UUID": lambda rng: f"{key(rng, 8)}-4f2a-11ee-8c99-{rng.randrange(10**11, 10**12)}".lower(),
}
NO_SECRETS: dict[str, Text] = {
    "words": lambda rng: "the token count and the password policy: see secret santa",
    "a digest": NO_PII["a digest"],
    "a link": NO_PII["a link"],
    "from the environment": lambda rng: "api_key = os.environ['OPENAI_API_KEY']",
    "a stand-in": lambda rng: "password: <your-password> or api_key = 'YOUR_API_KEY_HERE_123'",
    "stars": lambda rng: "password: **************** and token=xxxxxxxxxxxxxxxxxxxx",
    "a variable": lambda rng: "token = ${GITHUB_TOKEN} or secret: {{ secrets.DEPLOY_KEY }}",
    "a name of a model": lambda rng: f"sk-learn-pipeline-for-parcels-{rng.randrange(99)}",
    "an id": lambda rng: f"id {rng.getrandbits(128):032x}",
    "an image": lambda rng: f"data:image/png;base64,{base64(rng)}",
    "a public key": lambda rng: f"-----BEGIN PUBLIC KEY----- {base64(rng)}",
    "a link with a port": lambda rng: f"http://db.internal:{rng.randrange(1000, 9999)}/x@y",
    "tokens counted": lambda rng: f"max_tokens: {rng.randrange(4096)}, token: {rng.randrange(99)}",
    "a long name": lambda rng: "call get_access_token_for_the_customer_account()",
    "a bearer without a token": lambda rng: "Authorization: Bearer YOUR_ACCESS_TOKEN_GOES_HERE_1",
    "a bearer of news": lambda rng: "the bearer responsibilities-of-this-letter 2024",
    "a commit": lambda rng: f"git+https://host.net/x@{rng.getrandbits(160):040x}",
}


def saying(make: Text, *, is_answer: bool = False) -> Change:
    """A row whose question or answer holds a text."""

    def change(row: Example, rng: random.Random) -> Example:
        if is_answer:
            return replace(row, reference=f"{row.reference} It is {make(rng)}, as you know.")
        text = f"{row.inputs['text']} It is {make(rng)}, as you know."
        return replace(row, inputs={"text": text})

    return change


def texts(some: dict[str, Text]) -> dict[str, Change]:
    return {k: saying(make, is_answer=i % 3 == 0) for i, (k, make) in enumerate(some.items())}


FOREIGN = {
    "German": "Vielen Dank für Ihre Nachricht, wir haben Ihren Fall {} heute an die zuständige "
    "Abteilung weitergeleitet und melden uns bald bei Ihnen.",
    "French": "Nous avons bien reçu votre demande {} et nous vous répondrons dans les plus brefs "
    "délais, merci de votre patience et de votre confiance.",
    "Spanish": "Hemos recibido su solicitud {} y le responderemos lo antes posible, gracias por su "
    "paciencia y por la confianza que tiene en nosotros.",
    "Italian": "Abbiamo ricevuto la sua richiesta {} e le risponderemo il prima possibile, grazie "
    "per la sua pazienza e per la fiducia che ha in noi.",
    "Dutch": "Wij hebben uw bericht {} vandaag ontvangen en doorgestuurd naar de juiste afdeling, "
    "die zo snel mogelijk contact met u opneemt.",
    "Polish": "Otrzymaliśmy Państwa zgłoszenie {} i przekazaliśmy je dzisiaj do właściwego działu, "
    "który wkrótce się z Państwem skontaktuje w tej sprawie.",
    "Russian": "Мы получили ваше обращение {} и сегодня передали его в нужный отдел, который скоро "
    "свяжется с вами по этому вопросу.",
    "Japanese": "お問い合わせ {} を 受け取り ました 。 本日 担当 部署 に 転送 し 、 近日 中 に "
    "ご連絡 いたします 。",
}
ENGLISH = {
    "a short foreign answer": "Danke, bis bald!",
    "foreign names": "Mr Müller-Lüdenscheidt of Gare du Nord said that parcel {} was left with "
    "Señora Nuñez at the Café Größenwahn in Tromsø.",
    "a foreign quote": "The label of parcel {} says 'Vorsicht Glas', which is German and means "
    "that there is glass in it, so handle it with care.",
    "code": "Run `for i in range({}): print(items[i])` in a shell, and then look at what it "
    "prints for every one of the items of the list.",
    "clumsy English": "hello pls i has send parcel {} two weak ago an it not arive yet, can u "
    "tell me where is it pls thx",
    "numbers": "{} 12 14 18 22 31 44 52 61 70 81 92 103 114 125 136 147 158 169 180",
    "a list": "1. parcel {} 2. invoice 3. customs label 4. pallet 5. driver 6. warehouse scan 7. "
    "refund 8. delivery address",
    "shouted": "PARCEL {} HAS ARRIVED AT THE WAREHOUSE IN THE MORNING AND WILL BE DELIVERED TO YOU "
    "TOMORROW BEFORE NOON",
}


def replying(text: str) -> Change:
    return lambda row, rng: replace(row, reference=text.format(rng.randrange(10**6)))


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["C", "F"]},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]},
        "note": {"type": ["string", "null"]},
    },
    "required": ["city"],
}
OPEN = {"type": "object", "properties": {"q": {"type": "string"}}, "additionalProperties": True}
TOOLS = tuple(
    {"type": "function", "function": {"name": name, **more}}
    for name, more in {
        "weather": {"parameters": SCHEMA},
        "search": {"parameters": OPEN},
        "now": {"parameters": {"type": "object", "properties": {}}},
        "ping": {},
    }.items()
)


def calling(name: str, arguments: Any, *, as_text: bool = True) -> Change:
    def change(row: Example, rng: random.Random) -> Example:
        given = arguments if isinstance(arguments, str) or not as_text else json.dumps(arguments)
        call = {"id": "c1", "type": "function", "function": {"name": name, "arguments": given}}
        return replace(row, reference=None, calls=(call,), tools=TOOLS)

    return change


def with_tools(n: int) -> list[Example]:
    return [replace(row, tools=TOOLS) for row in clean_rows(n)]


def as_reference(name: str, arguments: Any) -> Change:
    called = {"name": name, "arguments": arguments}
    return lambda row, rng: replace(row, reference=called, tools=TOOLS)


def anthropic(arguments: Any) -> Change:
    def change(row: Example, rng: random.Random) -> Example:
        tools = ({"name": "weather", "input_schema": SCHEMA},)
        call = {"name": "weather", "input": arguments}
        return replace(row, reference=None, calls=(call,), tools=tools)

    return change


BROKEN_CALLS = {
    "a tool not offered": calling("whether", {"city": "Lyon"}),
    "a name in capitals": calling("Weather", {"city": "Lyon"}),
    "a needed argument left out": calling("weather", {}),
    "an unknown argument": calling("weather", {"city": "Lyon", "day": 2}),
    "an argument for a tool that has none": calling("now", {"zone": "UTC"}),
    "a number for a text": calling("weather", {"city": 5}),
    "a text for a number": calling("weather", {"city": "Lyon", "days": "2"}),
    "out of range": calling("weather", {"city": "Lyon", "days": 0}),
    "not of the list": calling("weather", {"city": "Lyon", "unit": "K"}),
    "wrong inside": calling("weather", {"city": "Lyon", "where": {"lat": "north"}}),
    "left out inside": calling("weather", {"city": "Lyon", "where": {}}),
    "cut off": calling("weather", '{"city": "Ly'),
    "a list": calling("weather", "[1]"),
    "an unknown argument of a reference": as_reference("weather", {"town": "Lyon"}),
    "an unknown argument, as Anthropic writes it": anthropic({"town": "Lyon"}),
}
RIGHT_CALLS = {
    "needed arguments alone": calling("weather", {"city": "Lyon"}),
    "all arguments": calling(
        "weather", {"city": "Lyon", "days": 2, "unit": "C", "where": {"lat": 1.5}, "note": "x"}
    ),
    "null where it may be": calling("weather", {"city": "Lyon", "note": None}),
    "a whole number as a fraction": calling("weather", {"city": "Lyon", "days": 2.0}),
    "more, where more may be": calling("search", {"q": "x", "page": 2}),
    "none": calling("now", {}),
    "no text for none": calling("now", ""),
    "a tool without a schema": calling("ping", {"any": 1}),
    "an object for a text": calling("weather", {"city": "Lyon"}, as_text=False),
    "no call": lambda row, rng: replace(row, reference="It rains in Lyon."),
    "as a reference": as_reference("weather", {"city": "Lyon"}),
    "Anthropic's": anthropic({"city": "Lyon"}),
    "other words with a name": lambda row, rng: replace(
        row, reference={"name": "Ann", "arguments": "for and against", "more": 1}
    ),
}

PLANTS = (
    Plant(rule="secret", sow=one_by_one(texts(SECRETS), texts(NO_SECRETS), each=20), recall=0.98),
    Plant(rule="pii", sow=one_by_one(texts(PII), texts(NO_PII), each=20)),
    Plant(
        rule="wrong-language",
        sow=one_by_one(
            {k: replying(text) for k, text in FOREIGN.items()},
            {k: replying(text) for k, text in ENGLISH.items()},
            each=4,
            plain=300,
        ),
    ),
    Plant(rule="invalid-call", sow=one_by_one(BROKEN_CALLS, RIGHT_CALLS, make=with_tools, each=5)),
)
