"""The `http:` backend: any application that answers JSON to JSON. Knows no API.

`http:NAME` is described in `task.toml`:

    [backends."http:my-app"]
    url = "http://localhost:8080/ask"
    body = { question = "$last_user" }        # see harness_apps.template
    header_env = { Authorization = "MY_APP_TOKEN" }   # a header's value, from the environment
    reply = "answer.text"                     # where the reply stands in the answer

`error`, `tool_calls`, `finish_reason`, `input_tokens`, `output_tokens`, `cost_usd`, `model` and
`spans` are paths too. What the body does not name, the application decides; what a request needs
and the body would not carry is refused. Retries belong to the engine alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness_http import failures
from harness_http.addresses import parse_place
from harness_http.answers import Answer
from harness_http.keys import Keys, read_key

from harness import BackendConfig, BackendError, Reply, Request, UsageError
from harness_apps.template import VALUES, fill, find, placeholders, steps_of

if TYPE_CHECKING:
    from harness_http.client import Client

CONCURRENCY = 8
TIMEOUT_S = 300.0
PATHS = (
    "reply", "error", "tool_calls", "finish_reason", "input_tokens", "output_tokens", "cost_usd",
    "model", "spans",
)  # fmt: skip
_OPTIONS = {"url", "method", "body", "headers", "header_env", "honours"}
_METHODS = ("POST", "PUT", "PATCH")
# abilities that are a value of the body; images travel within the messages
_CARRIED = {"schema": "schema", "seed": "seed", "tools": "tools", "stop": "stop"}
_CARRIED["images"] = "messages"
_SECRET = ("authorization", "cookie", "key", "token", "secret", "password")


class HttpBackend:
    """An application's endpoint. Raises UsageError for what its table says wrongly or not."""

    only_waits = True

    def __init__(self, config: BackendConfig) -> None:
        self.name = f"http:{config.model}"
        options = dict(config.options)
        _check(options, name=self.name)
        if config.artifact is not None:
            raise UsageError(f"{self.name} cannot load the artifact {config.artifact.name}")
        url = options.get("url") or config.base_url
        if not url:
            raise UsageError(
                f'{self.name} needs a url: write [backends."{self.name}"] in task.toml, with url, '
                "body and reply."
            )
        self._place = parse_place(str(url), example="http://localhost:8080/ask")
        self._method = str(options.get("method", "POST")).upper()
        if self._method not in _METHODS:
            raise UsageError(f"{self.name}: method is {self._method}, not {', '.join(_METHODS)}")
        self._body = options.get("body", {"messages": "$messages"})
        self._named = placeholders(self._body)
        self._paths = {n: steps_of(options[n], option=n) for n in PATHS if n in options}
        self.honours = frozenset(options.get("honours", ()))
        _check_honours(self.honours, named=self._named, paths=self._paths, name=self.name)
        # said only where it is so: what runs on this machine may ask a hosted model
        if not self._place.is_private:
            self.is_external = True
        self.unpriced = None
        if "cost_usd" not in self._paths:
            self.unpriced = f"{self.name} tells no cost: its table has no path `cost_usd`"
        self.concurrency = int(config.concurrency or CONCURRENCY)
        self._timeout_s = float(config.timeout_s or TIMEOUT_S)
        self.timeout_s = self._timeout_s + 30.0
        self._headers = {str(k): str(v) for k, v in dict(options.get("headers", {})).items()}
        self._variables = dict(options.get("header_env", {}))
        self._key = Keys(
            [read_key(str(v), header=str(h), prefix="") for h, v in self._variables.items()]
        )

    def __repr__(self) -> str:
        return f"<{self.name} at {self._place.base}>"

    @property
    def identity(self) -> Mapping[str, str]:
        """What else can change an answer; which variable a header comes from cannot."""
        asked = [self._method, self._body, self._headers, sorted(self._variables)]
        paths = {name: list(steps) for name, steps in self._paths.items()}
        return {
            "url": self._place.base,
            "asked": json.dumps(asked, sort_keys=True),
            "paths": json.dumps(paths, sort_keys=True),
        }

    def ready(self) -> None:
        """Raise UsageError where a header's variable is not set, or must not be sent."""
        for header, variable in self._variables.items():
            if not os.environ.get(str(variable), "").strip():
                raise UsageError(
                    f"{self.name}: the header {header} comes from the environment variable "
                    f"{variable}, which is not set."
                )
        if self._variables and not self._place.is_private and not self._place.is_encrypted:
            raise UsageError(
                f"{self.name}: what is in {', '.join(map(str, self._variables.values()))} would "
                f"travel to {self._place.host} unencrypted. Use https."
            )

    async def answer(self, request: Request) -> Reply:
        """Return the application's reply. Raises BackendError."""
        self.ready()
        self._refuse(request)
        body = json.dumps(fill(self._body, request)).encode()
        outcome = self._read(await self._client.send(self._method, self._place.base, body))
        if isinstance(outcome, BackendError):
            raise outcome  # from here: the frames that read the answer may hold an echoed key
        return outcome

    def close(self) -> None:
        """Close what is open. A loop that is still running closes its own at its end."""
        if "_client" in vars(self):
            self._client.close()

    def _refuse(self, request: Request) -> None:
        """Raise BackendError where the body would drop a part of `request` in silence."""
        roles = [m.role for m in request.messages]
        lost = []
        if "messages" not in self._named:
            if "system" in roles and "system" not in self._named:
                lost.append("the system text ($system)")
            turns = [r for r in roles if r != "system"]
            if turns != ["user"]:
                lost.append(f"a dialogue of {len(turns)} turns ($messages)")
            elif "last_user" not in self._named:
                lost.append("the user's text ($last_user)")
        decoding = request.decoding
        if decoding.temperature > 0 and "temperature" not in self._named:
            lost.append("temperature ($temperature)")
        if decoding.top_p is not None and "top_p" not in self._named:
            lost.append("top_p ($top_p)")
        if lost:
            raise BackendError(
                f"the body of {self.name} does not carry {', '.join(lost)}. Put it into `body` "
                f'under [backends."{self.name}"], or ask without it.'
            )

    def _read(self, came: Answer) -> Reply | BackendError:
        base = self._place.base
        if not came.is_success:
            return failures.of_answer(came, base=base, key=self._key, advice=self._advice)
        try:
            answer = json.loads(came.body)
        except (ValueError, RecursionError):
            hint = f"Is {base} the address that answers JSON, and does it want to be asked so?"
            return failures.of_garbage(came, base=base, key=self._key, wanted="JSON", hint=hint)
        error = self._at(answer, "error")
        if error:
            said = self._key.scrub(failures.trim(_text(error)))
            # the application is what is measured: that it gave up is its answer
            return BackendError(f"{self.name} answered an error: {said}", is_systemic=True)
        try:
            reply = find(answer, self._paths["reply"]) if "reply" in self._paths else answer
        except LookupError as exc:
            return BackendError(self._key.scrub(f"{self.name}: reply: {exc}"))
        calls, spans = self._at(answer, "tool_calls"), self._at(answer, "spans")
        finish, model = self._at(answer, "finish_reason"), self._at(answer, "model")
        return Reply(
            text=_text(reply),
            finish_reason=finish if isinstance(finish, str) else None,
            input_tokens=_count(self._at(answer, "input_tokens")),
            output_tokens=_count(self._at(answer, "output_tokens")),
            cost_usd=_number(self._at(answer, "cost_usd")),
            latency_s=came.latency_s,
            model=model if isinstance(model, str) else None,
            tool_calls=tuple(calls) if isinstance(calls, list) else (),
            spans=tuple(spans) if isinstance(spans, list) else (),
        )

    def _at(self, answer: Any, name: str) -> Any:
        """What stands at an optional path; None where nothing does."""
        try:
            return find(answer, self._paths[name]) if name in self._paths else None
        except LookupError:
            return None

    @property
    def _advice(self) -> str:
        sent = ", ".join(f"{h} from {v}" for h, v in self._variables.items())
        return f"Sent with it: {sent}." if sent else ""

    @cached_property
    def _client(self) -> Client:
        from harness_http.client import JSON, Client

        return Client(
            self._place,
            auth=self._key,
            timeout_s=self._timeout_s,
            headers={"Accept": JSON, **self._headers},
        )


def _check(options: Mapping[str, Any], *, name: str) -> None:
    known = _OPTIONS | set(PATHS)
    if set(options) - known:
        raise UsageError(
            f"{name}: unknown options {sorted(set(options) - known)}. Known: {sorted(known)}."
        )
    for option in ("headers", "header_env"):
        if not isinstance(options.get(option, {}), Mapping):
            raise UsageError(f"{name}: {option} is {options[option]!r}, not a table")
    for header in options.get("headers", {}):
        if any(part in header.lower() for part in _SECRET):
            raise UsageError(
                f"{name}: the header {header} looks like a secret, and `headers` are recorded. "
                f'Put it into the environment: header_env = {{ "{header}" = "MY_VARIABLE" }}.'
            )


def _check_honours(
    honours: frozenset[str], *, named: frozenset[str], paths: Mapping[str, Any], name: str
) -> None:
    unknown = honours - set(_CARRIED)
    if unknown:
        raise UsageError(
            f"{name}: honours {sorted(unknown)}; an endpoint may honour {sorted(_CARRIED)}"
        )
    for ability in sorted(honours):
        if _CARRIED[ability] not in named:
            raise UsageError(
                f"{name}: honours {ability}, but its body never sends it: put "
                f'"${_CARRIED[ability]}" into `body`.'
            )
    if "tools" in honours and "tool_calls" not in paths:
        raise UsageError(f"{name}: honours tools, but has no path `tool_calls` to read calls from")


def _text(value: Any) -> str:
    is_text = isinstance(value, str)
    return value if is_text else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


assert set(_CARRIED.values()) <= set(VALUES)
