"""The `ask` fixture, end to end: a model that calls tools, recorded turn by turn."""

from __future__ import annotations

import base64
import json
import shutil
from typing import Any

import pytest

from harness.records import to_plain
from harness.store.store import Store
from tests.engine.test_images import PNG
from tests.plugins.loopback import Answer, Seen, completion, loopback
from tests.surface.inprocess import Cli
from tests.surface.toy import Toy

# The price of item n is 2 n. Item 3 is one that the model looks for under a wrong name first, and
# item 5 one that it never stops looking for.
BACKEND = """
import json, os, re
import harness

class Seller:
    honours = frozenset({"tools"})
    def __init__(self, config):
        pass
    def answer(self, request):
        last = request.messages[-1]
        with open(os.environ["SENT"], "a") as log:
            log.write(f"{last.role}: {last.content}\\n")
        mode = os.environ.get("MODE", "")
        if mode == "deaf" and "euros" in last.content:
            raise harness.BackendError("context overflow", is_systemic=True)
        asked = next(m.content for m in request.messages if m.role == "user")
        item = re.search(r"\\d+", asked).group()
        told = {"input_tokens": 10, "output_tokens": 2, "cost_usd": 0.01}
        if "euros" in last.content:
            return harness.Reply(text="no, dollars", **told)
        if last.role != "tool" and request.tools:
            name = "find" if item == "3" else "price"
        elif "error" in last.content or item == "5":
            name = "price"
        else:
            return harness.Reply(text=last.content if last.role == "tool" else "?", **told)
        call = {"id": "c1", "function": {"name": name, "arguments": {"item": int(item)}}}
        return harness.Reply(text="", tool_calls=(call,), **told)

@harness.hookimpl
def harness_backends():
    return {"adder": Seller}
"""
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "price",
            "parameters": {
                "type": "object",
                "properties": {"item": {"type": "integer"}},
                "required": ["item"],
            },
        },
    }
]
PROMPT = """+++
family = 'zero-shot'
tools = 'tools.json'
+++
@system
Sell.
@user
Price of {{ a }}?
"""
EVALS = """
def test_right(case, ask):
    reply = ask(tools={"price": lambda item: str(2 * item)})
    assert reply.text == case.reference
    assert ask("In euros?").text == "no, dollars"
"""


@pytest.fixture
def shop(cli: Cli) -> Cli:
    toy = cli.toy
    (toy.root / "site/adder.py").write_text(BACKEND)
    (toy.task / "tools.json").write_text(json.dumps(TOOLS))
    (toy.task / "prompts/plain.md").write_text(PROMPT)
    (toy.task / "prompts/shots.md").unlink()
    (toy.task / "eval_toy.py").write_text(EVALS)
    write(toy, 1, 2, 3, 5)
    return cli


def write(toy: Toy, *items: int) -> None:
    toy.write_cases(
        [
            {"id": f"c{n}", "split": "dev", "inputs": {"a": n}, "reference": str(2 * n)}
            for n in items
        ]
    )


def newest(toy: Toy, task: str = "toy") -> dict[str, Any]:
    with Store.open(toy.root / ".harness/harness.db") as store:
        row = store.runs(task=task)[-1]
        return dict(to_plain(store.run(row.id)))


def values(run: dict[str, Any]) -> dict[str, Any]:
    return {t["case_id"]: t["scores"][0].get("value") for t in run["trials"]}


def test_tools_are_run_and_every_turn_is_recorded(shop: Cli) -> None:
    assert shop("eval", "toy", "--candidate", "plain").code == 0
    run = newest(shop.toy)
    assert run["is_complete"]
    assert values(run) == {"c1": 1.0, "c2": 1.0, "c3": 1.0, "c5": 0.0}
    assert run["trials"][3]["scores"][0]["reason"].startswith("still calling tools after 8 rounds")
    assert "user: Price of 1?" in shop.toy.sent
    assert "tool: 4" in shop.toy.sent
    assert 'tool: {"error":"no tool \'find\'; there are: price"}' in shop.toy.sent
    with Store.open(shop.toy.root / ".harness/harness.db") as store:
        last = store.known_replies(t["reply_key"] for t in run["trials"])
    assert [last[t["reply_key"]].text for t in run["trials"][:3]] == ["no, dollars"] * 3


def test_a_second_run_sends_nothing_and_offline_finds_every_turn(shop: Cli) -> None:
    shop("eval", "toy", "--candidate", "plain")
    first, sent = newest(shop.toy), shop.toy.sent
    assert len(sent) == 3 + 3 + 4 + 9
    assert shop("eval", "toy", "--candidate", "plain").code == 0
    assert shop("eval", "toy", "--candidate", "plain", "--offline").code == 0
    assert shop.toy.sent == sent
    assert newest(shop.toy) == first


def test_the_table_counts_what_every_turn_cost(shop: Cli) -> None:
    write(shop.toy, 1, 2)
    said = shop("eval", "toy", "--candidate", "plain")
    assert len(shop.toy.sent) == 6
    assert " $0.06 " in said.out


def test_a_lost_turn_is_the_items_fault_as_a_lost_reply_is(shop: Cli) -> None:
    write(shop.toy, 1)
    assert shop("eval", "toy", "--candidate", "plain", MODE="deaf").code == 1
    (trial,) = newest(shop.toy)["trials"]
    assert trial["fault"] == {
        "origin": "backend",
        "message": "context overflow",
        "is_missing": False,
    }
    shop("eval", "toy", "--candidate", "plain", "--offline")
    (again,) = newest(shop.toy)["trials"]
    assert again["fault"] == trial["fault"]


def test_offline_refuses_a_turn_that_was_never_asked(shop: Cli) -> None:
    write(shop.toy, 1)
    shop("eval", "toy", "--candidate", "plain", "--offline")
    (trial,) = newest(shop.toy)["trials"]
    assert "no recorded reply" in trial["fault"]["message"]
    assert shop.toy.sent == []


def test_the_reference_has_one_turn_and_leaves_the_next_unscored(shop: Cli) -> None:
    write(shop.toy, 1)
    assert shop("eval", "toy", "--candidate", "reference").code == 0
    (score,) = newest(shop.toy)["trials"][0]["scores"]
    assert score == {"name": "right", "reason": "reference answers one turn"}


def test_ask_and_reply_share_the_first_turn(shop: Cli) -> None:
    write(shop.toy, 1)
    (shop.toy.task / "eval_toy.py").write_text(
        "def test_right(case, reply, ask):\n"
        "    first = ask()\n"
        "    assert first == reply\n"
        "    assert ask(results={'c1': 7}).text == '7'\n"
    )
    assert shop("eval", "toy", "--candidate", "plain").code == 0
    run = newest(shop.toy)
    assert values(run) == {"c1": 1.0}
    assert shop.toy.sent == ["user: Price of 1?", "tool: 7"]
    with Store.open(shop.toy.root / ".harness/harness.db") as store:
        key = run["trials"][0]["reply_key"]
        assert store.known_replies([key])[key].tool_calls


def test_workers_give_the_same_runs(shop: Cli) -> None:
    """Of two tasks: one scored in dialogues alone, one by the checks of its cases alone."""
    toy = shop.toy
    other = shutil.copytree(toy.task, toy.task.parent / "other")
    (other / "eval_toy.py").unlink()
    (other / "prompts/plain.md").write_text("@user\nPrice of {{ a }} in euros?\n")
    text = (other / "task.toml").read_text()
    (other / "task.toml").write_text(text.replace('primary = "right"', 'primary = "checks"'))
    checks = [{"name": "contains", "arguments": {"text": word}} for word in ("dollars", "euros")]
    rows = [
        {"id": f"c{n}", "split": "dev", "inputs": {"a": n}, "checks": checks[:n]} for n in range(3)
    ]
    (other / "cases.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("toy", "other"):
        assert shop("eval", name, "--candidate", "plain").code == 0
    first, sent = [newest(toy), newest(toy, "other")], toy.sent
    assert values(first[1]) == {"c0": None, "c1": 1.0, "c2": 0.0}
    (toy.root / ".harness/harness.db").unlink()
    toy.sent_log.unlink()
    done = toy.pytest("evals", "--candidate", "plain", "-n", "2")
    assert done.returncode == 0, done.stdout
    assert [newest(toy), newest(toy, "other")] == first
    assert sorted(toy.sent) == sorted(sent)


def test_a_backend_without_tools_is_no_candidate_for_a_prompt_with_some(shop: Cli) -> None:
    write(shop.toy, 1)
    (shop.toy.root / "site/adder.py").write_text(BACKEND.replace('{"tools"}', '{"stop"}'))
    shop("eval", "toy", "--candidate", "plain")
    (trial,) = newest(shop.toy)["trials"]
    assert "adder:small does not honour tools" in trial["fault"]["message"]
    assert shop.toy.sent == []


# ---------------------------------------------------------------- over the wire


def served_model(seen: Seen) -> Answer:
    """Calls the tool once; then says what it was told, and whether it saw an image."""
    last = seen.body["messages"][-1]
    if last["role"] == "tool":
        return Answer(body=completion(f"told {last['content']}"))
    function = {"name": "price", "arguments": '{"item": 1}'}
    call = {"id": "call_a", "type": "function", "function": function}
    return Answer(body=completion(None, tool_calls=[call]))


def test_a_tool_dialogue_about_an_image_with_a_server(shop: Cli) -> None:
    task = shop.toy.task
    (task / "a.png").write_bytes(PNG)
    text = (task / "task.toml").read_text()
    (task / "task.toml").write_text(f'{text}images = ["photo"]\n')
    row = {"id": "c1", "split": "dev", "inputs": {"a": 1, "photo": "a.png"}, "reference": "told 2"}
    shop.toy.write_cases([row])
    (task / "eval_toy.py").write_text(
        "def test_right(case, ask):\n"
        "    reply = ask(tools={'price': lambda item: str(2 * item)})\n"
        "    assert reply.text == case.reference\n"
    )
    with loopback() as server:
        server.answer = served_model
        url = f"{server.base_url}#vllm"
        said = shop("eval", "toy", "--candidate", "plain@openai:m", "--base-url", url)
        assert said.code == 0, said
        first, second = (seen.body["messages"] for seen in server.seen)
        assert [seen.body["tools"] for seen in server.seen] == [TOOLS, TOOLS]
    assert values(newest(shop.toy)) == {"c1": 1.0}
    data = base64.b64encode(PNG).decode()
    assert first[1]["content"] == [
        {"type": "text", "text": "Price of 1?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    assert second[:2] == first
    assert second[2]["tool_calls"] == [
        {
            "id": "call_a",
            "type": "function",
            "function": {"name": "price", "arguments": '{"item": 1}'},
        }
    ]
    assert second[3] == {"role": "tool", "content": "2", "tool_call_id": "call_a"}


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ("{}", "tools.json: holds no list of tools"),
        ("[]", "tools.json: holds no list of tools"),
        ('[{"type": "function"}]', "tools.json: tool 1 is not"),
        ('[{"name": "f", "parameters": []}]', "tools.json: tool 1 (f): parameters are"),
        ('[{"name": "f"}, {"function": {"name": "f"}}]', "tools.json: tool 2: a second 'f'"),
        ("[\n{,]", "tools.json:2: not JSON"),
    ],
)
def test_tools_in_a_bad_shape_are_told_with_their_file(shop: Cli, tools: str, says: str) -> None:
    (shop.toy.task / "tools.json").write_text(tools)
    said = shop("eval", "toy", "--candidate", "plain")
    assert said.code == 2
    assert says in said.err
