"""A tuned candidate that a server answers for is compared with that server, as far as it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness import BackendConfig, hookimpl
from harness.core.parity import IGNORED
from harness.engine.candidates import resolve_candidate
from harness.engine.gate import candidate_conditions
from harness.engine.parity_check import check_artifact, parity_condition, parity_entry
from harness.engine.parity_probes import TEXT
from harness.engine.parity_views import spread
from harness.engine.prepared import check_prepared, taught_replies
from harness.engine.project import artifact_folder
from harness.errors import BackendError, MissingExtra, UsageError
from harness.records import Candidate, Condition, ParityCheck, Reply, Request
from tests.engine.small import Letters, Plugin, Workshop, codes, rows
from tests.engine.test_tune import tune

Make = Callable[..., Workshop]
SERVED = {"prompt": "plain", "backend": "remote:tuned", "artifact": "tuned"}


class Counting:
    """A server that answers well, and tells only how many tokens a prompt has."""

    is_external = False
    more = 0
    reply = "re"

    def __init__(self, config: BackendConfig) -> None:
        self.asked: list[Request] = []

    async def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        return Reply(text=self.reply, finish_reason="stop")

    def count_tokens(self, request: Request) -> int | None:
        self.asked.append(request)
        return len(codes(request)) + self.more


class Showing(Counting):
    """A server that shows its ids too."""

    first: tuple[int, ...] = ()

    def token_ids(self, request: Request) -> list[int]:
        return [*self.first, *codes(request)]

    def stop_ids(self) -> frozenset[int]:
        return frozenset()

    def decode(self, ids: Any) -> str:
        return "".join(f"<{i}>" if i < 2 else chr(i) for i in ids)


class Remote(Plugin):
    """The plugin of the small task, and the scheme `remote:`."""

    def __init__(self, server: type) -> None:
        super().__init__()
        self.server = server
        self.served: Any = None

    def _serve(self, config: BackendConfig) -> Any:
        self.served = self.server(config)
        return self.served

    @hookimpl
    def harness_backends(self) -> Mapping[str, Any]:
        return {"letters": self._make, "remote": self._serve}


def tuned(make: Make, server: type, **more: Any) -> Workshop:
    workshop = make(
        plugin=Remote(server),
        **{"tune": {"tuner": "by-heart", "prompt": "plain"}, "candidates.served": SERVED, **more},
    )
    tune(workshop)
    return workshop


def candidate_of(workshop: Workshop) -> Candidate:
    task = workshop.task
    return resolve_candidate(
        task, "served", artifact_digest=lambda a: workshop.store.artifact(a, task=task.name).digest
    )


def check(workshop: Workshop, **more: Any) -> ParityCheck:
    candidate = candidate_of(workshop)
    return check_artifact(
        workshop.task,
        candidate,
        workshop.store.artifact(str(candidate.artifact), task="double"),
        store=workshop.store,
        pool=workshop.pool,
        plugins=workshop.plugins,
        project=workshop.project,
        **more,
    )


def parity(workshop: Workshop) -> Condition:
    found, _ = candidate_conditions(
        workshop.task,
        candidate_of(workshop),
        store=workshop.store,
        pool=workshop.pool,
        plugins=workshop.plugins,
        project=workshop.project,
    )
    return next(c for c in found if c.name == "parity")


def test_the_gate_compares_with_the_server_that_answers_for_the_artifact(make: Make) -> None:
    workshop = tuned(make, Showing)
    condition = parity(workshop)
    assert condition.holds is True
    assert "compared with remote:tuned: 8 rows id by id, 5 probes" in condition.text
    assert "the runtime does not tell which ids end its replies" in condition.text
    assert "no logit probe" in condition.text


def test_what_is_not_installed_here_stops_the_gate_and_blocks_nothing(make: Make) -> None:
    workshop = tuned(make, Showing)

    class Bare:
        def prepare(self, job: object) -> object:
            raise MissingExtra("tuning", extra="tune")

    workshop.plugins.table("harness_tuners")["by-heart"] = Bare
    with pytest.raises(MissingExtra, match=r"tuning-harness\[tune\]"):
        parity(workshop)


def test_a_server_that_begins_twice_blocks_the_release(make: Make) -> None:
    class Twice(Showing):
        first = (1,)

    condition = parity(tuned(make, Twice))
    assert condition.holds is False
    assert condition.text.startswith("double-bos: ")


def test_a_server_that_counts_otherwise_than_it_shows_is_not_believed(make: Make) -> None:
    class Lies(Showing):
        more = 4

    found = check(tuned(make, Lies))
    assert [f.name for f in found.findings if f.severity == "fail"] == ["view-differs"]
    assert not found.holds


def test_what_a_server_was_started_with_is_told_where_it_bends_replies(make: Make) -> None:
    class Warm(Showing):
        def sampling_defaults(self) -> Mapping[str, float]:
            return {"repetition_penalty": 1.1}

    found = check(tuned(make, Warm))
    [one] = found.findings
    assert (one.severity, one.name) == ("warn", "sampling-defaults")
    assert '{"repetition_penalty": 1.1}' in one.detail
    assert found.holds


def test_another_end_than_the_rows_teach_is_told(make: Make) -> None:
    class EndsElsewhere(Showing):
        def stop_ids(self) -> frozenset[int]:
            return frozenset({7})

    [one] = check(tuned(make, EndsElsewhere)).findings
    assert (one.severity, one.name) == ("warn", "stop-ids-differ")
    assert "names [7] as the end of a text, and 8 of 8 rows never teach it" in one.detail

    class EndsAlike(Showing):
        def stop_ids(self) -> frozenset[int]:
            return frozenset({0, 7})

    assert check(tuned(make, EndsAlike)).findings == ()


def letters(text: str, *, with_specials: bool = False) -> list[int]:
    return [*map(ord, text)]


def test_two_tokenizers_that_cut_a_text_otherwise_are_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though they agree on every prompt that was compared."""

    class Cuts(Showing):
        def encode(self, text: str, with_specials: bool = False) -> list[int]:
            return [i for i in letters(text) if i < 256]

    monkeypatch.setattr(Letters, "encode", staticmethod(letters), raising=False)
    found = check(tuned(make, Cuts))
    [one] = found.findings
    assert (one.severity, one.name) == ("warn", "tokenizer-differs")
    assert f"the first difference at {TEXT.index('☃')}" in one.detail
    assert "the tokenizers on a text" in found.compared


@pytest.mark.parametrize("of_now", ["as recorded", "of now"])
def test_an_artifact_whose_tokenizer_changed_since_fails(
    make: Make, monkeypatch: pytest.MonkeyPatch, of_now: str
) -> None:
    monkeypatch.setattr(Letters, "encode", staticmethod(letters), raising=False)
    workshop = tuned(make, Showing)
    folder = artifact_folder(workshop.project, str(candidate_of(workshop).artifact))
    probe = {"text": "of now", "ids": letters(of_now)}
    (folder / "fingerprint.json").write_text(json.dumps({"probe": probe}))
    found = check(workshop)
    if of_now == "of now":
        assert found.findings == ()
        return
    [one] = found.findings
    assert (one.severity, one.name) == ("fail", "tokenizer-changed")
    assert "has 11 ids for its probe, and its tokenizer makes 6 others now" in one.detail
    assert not found.holds


def test_where_only_lengths_are_told_it_is_said_and_they_are_compared(make: Make) -> None:
    workshop = tuned(make, Counting)
    condition = parity(workshop)
    assert condition.holds is True
    assert "the lengths of 8 prompts" in condition.text
    assert "remote:tuned shows no token ids: prompts of equal length may still differ" in (
        condition.text
    )

    class More(Counting):
        more = 1

    assert parity(tuned(make, More)).text.startswith("count-bos: ")


def test_a_server_that_shows_nothing_is_no_parity(make: Make) -> None:
    class Mute:
        def __init__(self, config: BackendConfig) -> None:
            pass

        async def answer(self, request: Request) -> Reply:
            return Reply(text="?")

    with pytest.raises(BackendError, match="remote:tuned cannot show the token ids"):
        check(tuned(make, Mute))


def test_internal_cases_are_not_sent_outside_and_it_is_said(make: Make) -> None:
    class Outside(Counting):
        is_external = True

    some = rows()
    for row in some[6:12]:
        row["tags"] = ["internal"]
    workshop = tuned(make, Outside, some=some)
    found = check(workshop)
    assert found.rows == 2
    assert found.unknown[0] == "6 internal cases were not sent to remote:tuned"
    plugin = workshop.plugin
    assert isinstance(plugin, Remote)
    sent = {r.messages[-1].content for r in plugin.served.asked}
    assert sent == {"Double 12.", "Double 13."}


def test_another_runtime_than_the_candidates_own_can_be_named(make: Make) -> None:
    workshop = tuned(make, Showing)
    runtime = Candidate(name="other", backend="remote:other", base_url="http://127.0.0.1:1/v1")
    found = check(workshop, runtime=runtime)
    assert found.runtime == "remote:other at http://127.0.0.1:1/v1"
    entry = parity_entry(found, at=workshop.at())
    workshop.store.record(entry)
    [kept] = workshop.store.ledger(kind="parity")
    assert kept.text == "served against remote:other at http://127.0.0.1:1/v1: no difference"


def test_a_tuner_without_tokens_has_nothing_to_compare_and_it_is_said(make: Make) -> None:
    workshop = tuned(make, Showing)
    workshop.plugin.tuner.has_tokens = False  # type: ignore[attr-defined]
    condition = parity(workshop)
    assert condition.holds is True
    assert condition.text == "nothing to compare of by-heart: it trains no token ids"


def test_an_artifact_whose_base_shows_no_ids_leaves_the_condition_open(make: Make) -> None:
    workshop = tuned(make, Counting)
    candidate = candidate_of(workshop)
    artifact = workshop.store.artifact(str(candidate.artifact), task="double")
    elsewhere = replace(artifact, base="remote:base", origin="axolotl")
    found = check_artifact(
        workshop.task,
        candidate,
        elsewhere,
        store=workshop.store,
        pool=workshop.pool,
        plugins=workshop.plugins,
        project=workshop.project,
    )
    condition = parity_condition(found)
    assert condition.holds is None
    assert "remote:base shows no token ids" in condition.text


def test_what_a_tuner_elsewhere_trained_has_its_prompts_compared_and_it_is_said(
    make: Make,
) -> None:
    workshop = tuned(make, Showing)
    candidate = candidate_of(workshop)
    artifact = workshop.store.artifact(str(candidate.artifact), task="double")
    found = check_artifact(
        workshop.task,
        candidate,
        replace(artifact, tuner="axolotl", origin="axolotl"),
        store=workshop.store,
        pool=workshop.pool,
        plugins=workshop.plugins,
        project=workshop.project,
    )
    assert found.holds
    assert found.unknown[0].startswith("it was trained elsewhere by axolotl: its own rows")


# ---------------------------------------------------------------- prepared elsewhere


def taught(text: str, reply: str) -> dict[str, Any]:
    """A row as a trainer elsewhere prepares it, for the letters of the small task."""
    prompt = [1, *map(ord, text), 1]
    answer = [*map(ord, reply), 0]
    return {
        "input_ids": [*prompt, *answer],
        "labels": [IGNORED] * len(prompt) + answer,
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": reply},
        ],
    }


def of_rows(make: Make, tmp_path: Path, *some: Any, server: Any = None) -> ParityCheck:
    path = tmp_path / "prepared.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in some))
    workshop = make(plugin=Remote(server or Showing))
    runtime = Candidate(name="r", backend="remote:r") if server else None
    base = Candidate(name="letters:small", backend="letters:small")
    return check_prepared(path, base=base, runtime=runtime, pool=workshop.pool)


def names(found: ParityCheck) -> list[str]:
    return [f.name for f in found.findings]


def test_rows_prepared_elsewhere_are_compared_without_a_task(make: Make, tmp_path: Path) -> None:
    good = [taught("how many", "12"), taught("and then", "3")]
    assert of_rows(make, tmp_path, *good).findings == ()
    assert of_rows(make, tmp_path, *good, server=Showing).holds
    late = good[0] | {"labels": [IGNORED] * 12 + good[0]["labels"][12:]}
    assert "completion-masked" in names(of_rows(make, tmp_path, late))
    endless = {k: v[:-1] if k != "messages" else v for k, v in good[0].items()}
    assert names(of_rows(make, tmp_path, endless)) == ["stop-not-supervised"]
    nothing = good[0] | {"labels": [IGNORED] * len(good[0]["labels"])}
    assert names(of_rows(make, tmp_path, nothing)) == ["no-labels"]
    everything = good[0] | {"labels": good[0]["input_ids"]}
    assert "prompt-supervised" in names(of_rows(make, tmp_path, everything))


def test_every_reply_of_a_conversation_is_compared_by_itself(make: Make, tmp_path: Path) -> None:
    ids = [1, *map(ord, "a"), 1, *map(ord, "b"), 0]
    # the small backend opens each turn with 1 and closes none: the second prompt has no 0
    second = [1, *map(ord, "c"), 1, *map(ord, "d"), 0]
    row = {
        "input_ids": ids + second,
        "labels": [IGNORED] * 3 + ids[3:] + [IGNORED] * 3 + second[3:],
        "messages": [
            {"role": r, "content": c}
            for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
        ],
    }
    found = of_rows(make, tmp_path, row)
    assert {f.case_id for f in found.findings} == {"prepared.jsonl:1#2"}
    assert "[0='<0>']" in found.findings[0].detail


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "hello"}, r"prepared\.jsonl:1: no input_ids .*rows hold \['text'\]"),
        ({"input_ids": [1, 2]}, r"neither labels nor one of completion_mask"),
        ({"input_ids": [1, 2], "labels": [1]}, r"1 labels for 2 input_ids"),
        (
            {"input_ids": [1], "labels": [1], "messages": [{"role": "boss", "content": "x"}]},
            r"a message of the role 'boss'",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_told_with_their_line(
    make: Make, tmp_path: Path, row: Any, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        of_rows(make, tmp_path, row)


def test_rows_are_read_as_every_other_file_is(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "prepared.jsonl"
    row = json.dumps(taught("how many", "12"))
    path.write_text(f"\ufeff{row}\r\n\r\n", encoding="utf-8")
    base = Candidate(name="letters:small", backend="letters:small")
    pool = make(plugin=Remote(Showing)).pool
    assert check_prepared(path, base=base, runtime=None, pool=pool).rows == 1
    path.write_text(f"{row}\n" + "[" * 100_000 + "\n")
    with pytest.raises(UsageError, match=r"prepared\.jsonl:2: nested deeper than 100 levels"):
        check_prepared(path, base=base, runtime=None, pool=pool)


def test_a_taught_call_of_a_tool_is_a_call_and_no_empty_reply() -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"n": 3}}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "how many"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12", "tool_call_id": "c1"},
        {"role": "assistant", "content": "12"},
    ]
    row = {"input_ids": [1, 2, 3, 4], "labels": [IGNORED, 2, IGNORED, 4], "messages": turns}
    found = taught_replies([("rows:1", row)], decode=str, stops=frozenset({4}))
    first, last = found.rows
    assert (first.completion, first.calls) == ("", (call,))
    assert last.messages[1].tool_calls == (call,)
    assert (last.messages[2].tool_call_id, last.completion, last.calls) == ("c1", "12", ())


@pytest.mark.parametrize(("many", "most"), [(0, 5), (3, 5), (99, 50), (151, 50), (7, 1)])
def test_what_is_compared_lies_evenly_from_end_to_end(many: int, most: int) -> None:
    some = spread(range(many), most)
    assert len(some) == min(many, most)
    assert some == sorted(set(some))
    gaps = {b - a for a, b in pairwise([*some, many])}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1
    assert some[:1] == [0][:many]


def test_masks_and_packed_rows_are_read_as_labels(make: Make, tmp_path: Path) -> None:
    one, other = taught("how many", "12"), taught("and then", "3")
    mask = [int(label != IGNORED) for label in one["labels"]]
    masked = {k: v for k, v in one.items() if k != "labels"} | {"completion_mask": mask}
    assert of_rows(make, tmp_path, masked).findings == ()
    packed = {
        "input_ids": one["input_ids"] + other["input_ids"],
        "labels": one["labels"] + other["labels"],
        "position_ids": [*range(len(one["labels"])), *range(len(other["labels"]))],
    }
    Letters.encode = lambda self, text, with_specials=False: [  # type: ignore[attr-defined]
        1 if part == "<1>" else ord(part) for part in text.replace("<1>", "\x01")
    ]
    try:
        found = of_rows(make, tmp_path, packed)
    finally:
        del Letters.encode  # type: ignore[attr-defined]
    assert found.findings == ()
    assert "the rows hold no messages" in found.unknown[0]


def test_a_check_is_the_same_after_a_round_through_the_ledger(make: Make) -> None:
    from harness.records import from_plain, to_plain

    found = check(tuned(make, Showing))
    assert from_plain(ParityCheck, to_plain(found)) == found
    assert replace(found, findings=()).holds
