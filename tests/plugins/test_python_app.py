"""`python:MODULE:FUNCTION`: how a callable is found, called, read and named when it fails."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from harness_apps import make_python

from harness import (
    BackendConfig,
    BackendError,
    Message,
    Reply,
    Request,
    UsageError,
    hookimpl,
)
from harness.testing import conformance
from tests.engine.small import Plugin, Workshop, write_task

USER = Request(messages=(Message(role="user", content="How many?"),))
APP = """
from harness import BackendError, Reply
from helpers import shout

def words(text):
    return f"you said {text}"

def typed(question: str, *, loud: bool = False):
    return shout(question) if loud else question

async def whole(request):
    call = {"function": {"name": request.tools[0]["name"], "arguments": {}}}
    spans = [{"name": "search", "duration_s": 0.25}]
    return {"text": "", "tool_calls": [call], "cost_usd": 0.5, "spans": spans}

whole.honours = {"tools"}
whole.is_external = False

def broken(request):
    return 1 / 0

def gives_up(request):
    raise BackendError("too long", is_systemic=True)

def number(request):
    return 5

class Pipeline:
    honours = ("stop",)

    def __call__(self, request):
        return Reply(text="from an object")

pipeline = Pipeline()
"""


class AppsToo(Plugin):
    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        return {"python": make_python}


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    before, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path, "the search path was left polluted"
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"app", "helpers", "pack", "bad", "gone"}:
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "helpers.py").write_text("def shout(text):\n    return text.upper()\n")
    return tmp_path


def backend(folder: Path, function: str = "words", **options: Any) -> Any:
    config = BackendConfig(model=f"app:{function}", folder=folder, options=options)
    return make_python(config)


def ask(asked: Any, request: Request = USER) -> Reply:
    reply = asked.answer(request)
    if inspect.isawaitable(reply):

        async def waited() -> Reply:
            found: Reply = await reply
            return found

        reply = asyncio.run(waited())
    assert isinstance(reply, Reply)
    return reply


def test_a_function_is_found_in_the_task_s_folder_and_given_what_it_asks_for(
    folder: Path,
) -> None:
    assert ask(backend(folder)).text == "you said How many?"
    assert ask(backend(folder, "typed")).text == "How many?"
    assert ask(backend(folder, "typed", loud=True)).text == "HOW MANY?"
    assert ask(backend(folder, "pipeline")).text == "from an object"
    reply = ask(
        backend(folder, "whole"), Request(messages=USER.messages, tools=({"name": "look"},))
    )
    assert reply.tool_calls[0]["function"]["name"] == "look"
    assert reply.spans == ({"name": "search", "duration_s": 0.25},)
    assert reply.cost_usd == 0.5


def test_it_is_found_from_the_folder_of_the_command_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pack").mkdir()
    (folder / "pack/__init__.py").write_text("")
    (folder / "pack/inner.py").write_text(
        "class Home:\n    @staticmethod\n    def f(text):\n        return text[::-1]\n"
    )
    monkeypatch.chdir(folder)
    asked = make_python(BackendConfig(model="pack.inner:Home.f", folder=None))
    assert ask(asked).text == "?ynam woH"


def test_it_is_found_above_the_task_as_far_as_its_project_goes(tmp_path: Path) -> None:
    folder = tmp_path / "evals/deep"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "root_app.py").write_text("def answer(text):\n    return text\n")
    assert make_python(BackendConfig(model="root_app:answer", folder=folder)) is not None
    (tmp_path.parent / "far_app.py").write_text("def answer(text):\n    return text\n")
    with pytest.raises(UsageError, match="no module 'far_app'"):
        make_python(BackendConfig(model="far_app:answer", folder=folder))


def test_what_it_does_not_declare_is_not_honoured(folder: Path) -> None:
    assert backend(folder).honours == frozenset()
    assert backend(folder, "whole").honours == {"tools"}
    assert backend(folder, "pipeline").honours == {"stop"}
    assert backend(folder, "whole").is_external is False
    assert not hasattr(backend(folder), "is_external")
    assert "where it asks no hosted model" in backend(folder).cost_hint


def test_what_it_raises_is_named_with_file_and_line(folder: Path) -> None:
    with pytest.raises(BackendError, match="ZeroDivisionError: division by zero") as caught:
        ask(backend(folder, "broken"))
    line = next(n for n, text in enumerate(APP.split("\n"), start=1) if "1 / 0" in text)
    assert f"({folder / 'app.py'}:{line})" in str(caught.value)
    assert not caught.value.is_systemic
    with pytest.raises(BackendError, match="too long") as caught:
        ask(backend(folder, "gives_up"))
    assert caught.value.is_systemic


@pytest.mark.parametrize("value", [5, {"reply": "x"}, {"text": "x", "tempo": 1}, None])
def test_a_return_value_that_is_no_reply_is_named(folder: Path, value: object) -> None:
    (folder / "app.py").write_text(f"def f(request):\n    return {value!r}\n")
    with pytest.raises(BackendError, match="returned a"):
        ask(backend(folder, "f"))


def test_a_dialogue_is_not_cut_down_to_its_last_text(folder: Path) -> None:
    system = Message(role="system", content="Be brief.")
    with pytest.raises(BackendError, match="Have the function take the Request"):
        ask(backend(folder), Request(messages=(system, *USER.messages)))


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ("app", {}, "write python:package.module:function"),
        ("gone:f", {}, "no module 'gone' in"),
        ("app:word", {}, "no 'word' in app. It has"),
        ("app:Pipeline", {}, "is a class"),
        ("app:shout.__doc__", {}, "cannot be called"),
        ("app:typed", {"louder": True}, r"takes \(question: str, \*, loud"),
        ("bad:f", {}, r"cannot be imported: ValueError: no \(.*bad.py:1\)"),
        ("pack:f", {}, "pack imports absent_library, which is absent"),
    ],
)
def test_what_cannot_be_had_is_said_when_the_backend_is_made(
    folder: Path, model: str, options: dict[str, Any], says: str
) -> None:
    (folder / "bad.py").write_text("raise ValueError('no')\n")
    (folder / "pack.py").write_text("import absent_library\n")
    with pytest.raises(UsageError, match=says):
        make_python(BackendConfig(model=model, folder=folder, options=options))


def test_two_tasks_with_modules_of_one_name_are_not_mixed_up(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "app.py").write_text("def words(text):\n    return 'other'\n")
    backend(folder)
    with pytest.raises(UsageError, match="Give it another name"):
        backend(other)


def test_its_seconds_are_measured_and_a_cost_is_none_only_where_it_asks_nobody(
    folder: Path,
) -> None:
    later = (
        "\nimport asyncio, time\n"
        "def slow(text):\n    time.sleep(0.02)\n    return text\n"
        "async def waits(text):\n    await asyncio.sleep(0.02)\n    return text\n"
        "waits.is_external = False\n"
        "def told(text):\n    return {'text': text, 'latency_s': 9.0, 'cost_usd': 0.5}\n"
        "told.is_external = False\n"
    )
    (folder / "app.py").write_text(APP + later)
    slow = ask(backend(folder, "slow"))
    waits = ask(backend(folder, "waits"))
    told = ask(backend(folder, "told"))
    assert 0.015 < (slow.latency_s or 0) < 2
    assert 0.015 < (waits.latency_s or 0) < 2
    assert (slow.cost_usd, waits.cost_usd) == (None, 0.0)
    assert (told.latency_s, told.cost_usd) == (9.0, 0.5)


def test_the_source_file_and_the_version_are_identity(folder: Path) -> None:
    first = backend(folder).identity
    assert backend(folder).identity == first
    (folder / "app.py").write_text(APP + "\n# changed\n")
    assert backend(folder).identity != first


def test_what_the_module_imports_of_its_project_is_identity_too(folder: Path) -> None:
    """A retriever that changed must not be answered for by replies of the old one."""
    first = backend(folder).identity
    (folder / "helpers.py").write_text("def shout(text):\n    return text.lower()\n")
    assert backend(folder).identity != first


def test_an_object_of_a_library_is_known_by_the_module_that_names_it(folder: Path) -> None:
    (folder / "app.py").write_text("import operator\nchain = operator.attrgetter('model')\n")
    first = backend(folder, "chain").identity
    (folder / "app.py").write_text("import operator\nchain = operator.attrgetter('seed')\n")
    assert first["source"] != "unknown"
    assert backend(folder, "chain").identity != first


def test_it_keeps_the_promises_of_a_backend(folder: Path) -> None:
    for function in ("words", "pipeline"):
        conformance(make_python, config=BackendConfig(model=f"app:{function}", folder=folder))


def test_a_function_of_the_task_s_folder_is_a_candidate(tmp_path: Path) -> None:
    task = write_task(tmp_path, model="python:app:double")
    (task / "app.py").write_text(
        dedent("""
            def double(text: str):
                return str(2 * int(text.split()[1].rstrip(".")))
        """)
    )
    workshop = Workshop(task, AppsToo())
    try:
        [run] = workshop.run("plain")
    finally:
        workshop.close()
    assert [t.fault for t in run.trials] == [None] * 6
    assert {s.value for t in run.trials for s in t.scores} == {1.0}
