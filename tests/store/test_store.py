"""The store gives back exactly what it was given, whatever it was called."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.errors import HarnessError, StoreError, UsageError
from harness.records import (
    Artifact,
    Candidate,
    Decoding,
    Fault,
    LedgerEntry,
    Message,
    ParityFinding,
    Reply,
    Request,
    Run,
    Score,
    Trial,
    digest,
)
from harness.store.codec import column, from_column
from harness.store.store import Store, StoredReply
from harness.testing import make_candidate, make_run, temporary_store

NOON = "2026-01-01T12:00:00+00:00"
ONE = "2026-01-01T13:00:00+00:00"
TWO = "2026-01-01T14:00:00+00:00"

ODD = [
    "'; DROP TABLE runs; --",
    'a "quoted" name',
    '"',
    '"\\ud800"',  # what the JSON form of a lone surrogate looks like
    "\ud800",
    "nul\0in the middle",
    "\0",
    "]",
    "%_*?[a-z]",
    "",
    "é" * 5000,
    "línea\nnueva\t\x1b[31m",
    "NULL",
]
names = st.sampled_from(ODD) | st.text(st.characters())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with temporary_store(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with temporary_store(tmp_path_factory.mktemp("shared")) as opened:
        yield opened


def stored(
    key: str, text: str = "yes", *, asked: str = "why?", backend: str = "a:b"
) -> StoredReply:
    request = Request(messages=(Message(role="user", content=asked),))
    return StoredReply(key=key, request=request, reply=Reply(text=text), backend=backend)


# ---------------------------------------------------------------- replies


def test_a_reply_comes_back_with_every_field(store: Store) -> None:
    reply = Reply(
        text="sí",
        finish_reason="tool_calls",
        input_tokens=12,
        output_tokens=0,
        latency_s=0.25,
        cost_usd=0.0,
        model="m-1",
        tool_calls=({"name": "look", "arguments": {"where": ["here", None]}},),
        logprobs=({"token": "a", "logprob": -0.5, "top": []},),
        spans=({"name": "search", "duration_s": 0.25, "attributes": {}},),
    )
    request = Request(
        messages=(Message(role="system", content="Be brief."), Message(role="user", content="?")),
        decoding=Decoding(temperature=0.7, max_tokens=5, stop=("\n",), seed=3),
        schema={"type": "object", "properties": {"a": {"type": ["null", "string"]}}},
        tools=({"name": "look"},),
    )
    store.add_replies([StoredReply(key="k", request=request, reply=reply, backend="x:y")])
    assert store.known_replies(["k", "unknown"]) == {"k": reply}
    assert store.request_of("k") == request
    assert store.request_of("unknown") is None


def test_a_request_is_stored_once_for_all_its_replies(store: Store, tmp_path: Path) -> None:
    store.add_replies([stored(f"repeat-{n}", f"answer {n}") for n in range(5)])
    with sqlite3.connect(tmp_path / "harness.db") as raw:
        assert raw.execute("SELECT count(*) FROM requests").fetchone() == (1,)
        assert raw.execute("SELECT count(*) FROM replies").fetchone() == (5,)
    raw.close()


def test_a_stored_reply_is_never_overwritten_and_the_caller_is_told_of_it(store: Store) -> None:
    """Two processes may have asked the same thing: both must score the reply that is kept."""
    assert store.add_replies([stored("k", "first")]) == {}
    assert store.add_replies([stored("k", "second"), stored("new")]) == {"k": Reply(text="first")}
    assert store.known_replies(["k"])["k"].text == "first"


def test_the_first_of_two_rows_with_one_key_is_kept(store: Store) -> None:
    store.add_replies([stored("k", "first"), stored("k", "second")])
    assert store.known_replies(["k"])["k"].text == "first"


def test_one_reply_that_is_not_json_does_not_lose_the_others(store: Store) -> None:
    bad = StoredReply(
        key="bad",
        request=Request(messages=()),
        reply=Reply(text="", tool_calls=({1, 2},)),
        backend="a:b",
    )
    with pytest.raises(StoreError, match="reply bad cannot be stored"):
        store.add_replies([stored("before"), bad, stored("after")])
    assert set(store.known_replies(["before", "bad", "after"])) == {"before", "after"}


def test_nothing_is_stored_when_nothing_is_given(store: Store) -> None:
    assert store.add_replies([]) == {}
    assert store.known_replies([]) == {}


def test_ten_thousand_known_replies_are_found_at_once(store: Store) -> None:
    keys = [digest(n) for n in range(10_000)]
    store.add_replies(stored(key, key[:8], asked=key) for key in keys)
    start = time.perf_counter()
    found = store.known_replies([*keys, *(digest(-n) for n in range(1, 1000))])
    assert time.perf_counter() - start < 2.0  # 0.1 s on a quiet core
    assert {key: reply.text for key, reply in found.items()} == {key: key[:8] for key in keys}


def test_replies_share_what_all_of_a_backend_say(store: Store) -> None:
    model, reason = "a/model-1", "stopped because"
    reply = Reply(text="t", model=model, finish_reason=reason)
    store.add_replies(
        StoredReply(key=key, request=Request(messages=()), reply=reply, backend="x:y")
        for key in ("a", "b")
    )
    keys = ["a", "b", "c"]
    found = store.known_replies(keys)
    assert found == {"a": reply, "b": reply}
    assert found["a"].model is found["b"].model
    assert found["a"].finish_reason is found["b"].finish_reason
    assert all(mine is theirs for mine, theirs in zip(found, keys, strict=False))


@settings(max_examples=200, deadline=None)
@given(key=names, text=names, asked=names, backend=names)
def test_replies_survive_odd_texts(
    shared: Store, key: str, text: str, asked: str, backend: str
) -> None:
    key = f"{key}{digest([key, text, asked, backend])}"
    shared.add_replies([stored(key, text, asked=asked, backend=backend)])
    assert shared.known_replies([key]) == {key: Reply(text=text)}
    request = shared.request_of(key)
    assert request is not None
    assert request.messages[0].content == asked


@given(st.lists(names, unique=True))
def test_two_names_never_share_a_column_value(texts: list[str]) -> None:
    forms = [column(text) for text in texts]
    assert [from_column(form) for form in forms] == texts
    assert len(set(forms)) == len(texts)


# ---------------------------------------------------------------- runs


def test_a_run_comes_back_with_its_identity(store: Store) -> None:
    run = Run(
        task="t",
        split="test",
        candidate=Candidate(name="n", backend="a:b", artifact="f" * 64, base_url="http://h/v1"),
        inputs_digest="i",
        labels_digest="l",
        evals_digest="e",
        is_complete=False,
        repeats=2,
        aggregates=(Score(name="median", value=None, reason="one trial only"),),
        trials=(
            Trial(case_id="b", reply_key="k", scores=(Score(name="s", value=0.5, reason="half"),)),
            Trial(case_id="a", scores=(Score(name="s", value=None, reason="no reference"),)),
            Trial(case_id="a", repeat=1, fault=Fault(origin="eval", message="KeyError: 'x'")),
        ),
    )
    run_id = store.add_run(run, at=NOON)
    assert run_id == run.id
    again = store.run(run_id)
    assert again == run
    assert again.id == run_id
    (row,) = store.runs()
    assert (row.id, row.task, row.split, row.candidate) == (run_id, "t", "test", "n")
    assert (row.cases, row.is_complete, row.prompt, row.artifact) == (2, False, None, "f" * 64)
    assert (row.candidate_digest, row.backend) == (run.candidate.digest, "a:b")
    assert (row.inputs_digest, row.labels_digest, row.evals_digest) == ("i", "l", "e")


def test_a_run_without_trials_comes_back_too(store: Store) -> None:
    run = make_run([])
    assert store.run(store.add_run(run, at=NOON)) == run


def test_the_same_run_stored_again_keeps_the_first_time(store: Store) -> None:
    run = make_run()
    assert store.add_run(run, at=NOON) == store.add_run(run, at=TWO)
    assert [row.at for row in store.runs()] == [NOON]
    assert store.run(run.id) == run


def test_a_rescored_run_keeps_the_time_at_which_its_try_was_first_made(store: Store) -> None:
    """Corrected labels re-score the tries; their order in time is what the trend is read from."""
    first, second = make_candidate("first"), make_candidate("second")
    store.add_run(make_run([1, 0], candidate=first), at=NOON)
    store.add_run(make_run([1, 1], candidate=second), at=ONE)
    store.add_run(make_run([0, 0], candidate=first, labels_digest="labels-2"), at=TWO)
    rows = store.runs(task="task", split="dev")
    assert [(row.candidate, row.at, row.first_at) for row in rows] == [
        ("first", NOON, NOON),
        ("second", ONE, ONE),
        ("first", TWO, NOON),
    ]


def test_other_inputs_or_another_split_are_another_try(store: Store) -> None:
    store.add_run(make_run([1, 0]), at=NOON)
    store.add_run(make_run([1, 0, 1]), at=ONE)
    store.add_run(make_run([1, 0], split="test"), at=TWO)
    assert [row.first_at for row in store.runs()] == [NOON, ONE, TWO]


def test_runs_are_filtered_and_the_newest_is_last(store: Store) -> None:
    store.add_run(make_run([1], task="late"), at=TWO)
    store.add_run(make_run([1], task="early"), at=NOON)
    store.add_run(make_run([1], task="late", is_complete=False), at=ONE)
    assert [row.at for row in store.runs()] == [NOON, ONE, TWO]
    assert [row.at for row in store.runs(task="late")] == [ONE, TWO]
    assert [row.at for row in store.runs(task="late", complete=True)] == [TWO]
    assert [row.at for row in store.runs(complete=False)] == [ONE]
    assert store.runs(split="test") == []


def test_the_newest_run_is_the_one_recorded_last_even_when_its_content_is_old(
    store: Store,
) -> None:
    def newest() -> list[Run]:
        return list(store.newest_runs(good.task, "dev", candidate=good.candidate.name))

    good, partial = make_run([1, 1]), make_run([1, 0], is_complete=False)
    store.add_run(good, at=NOON)
    store.add_run(partial, at=ONE)
    store.add_run(make_run([0, 0], split="test"), at=TWO)
    store.add_run(make_run([0, 0], task="other"), at=TWO)
    assert newest() == [partial, good]
    store.add_run(good, at=TWO)
    assert newest() == [good, partial]
    assert not list(store.newest_runs(good.task, "dev", candidate="another"))


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    runs = [make_run([n / 100]) for n in range(40)]
    for run in runs:
        store.add_run(run, at=NOON)
    for run in runs:
        assert store.run(run.id[:10]) == run
    with pytest.raises(UsageError, match="ambiguous") as several:
        store.run(next(a.id[0] for a in runs if sum(b.id[0] == a.id[0] for b in runs) > 1))
    assert "Give more digits" in str(several.value)
    for unknown in ("zz", "", "%", "_", '"', "'", "\0", "\ud800"):
        with pytest.raises(UsageError, match=r"no run .* Known: .* \(and 30 earlier\)"):
            store.run(unknown)


def test_an_empty_store_says_that_it_knows_no_run(store: Store) -> None:
    with pytest.raises(UsageError, match="Known: none yet"):
        store.run("abc")


@settings(max_examples=200, deadline=None)
@given(task=names, name=names, case_id=names, reason=names)
def test_runs_survive_odd_names(
    shared: Store, task: str, name: str, case_id: str, reason: str
) -> None:
    run = Run(
        task=task,
        split="dev",
        candidate=Candidate(name=name, backend=name, prompt=name, family=name),
        inputs_digest="i",
        labels_digest="l",
        evals_digest="e",
        is_complete=True,
        trials=(Trial(case_id=case_id, scores=(Score(name=name, value=0, reason=reason),)),),
    )
    assert shared.run(shared.add_run(run, at=NOON)) == run
    row = next(row for row in shared.runs(task=task) if row.id == run.id)
    assert (row.task, row.candidate, row.backend, row.prompt) == (task, name, name, name)


def test_a_run_of_five_thousand_trials_loads_fast(store: Store) -> None:
    run = Run(
        task="t",
        split="dev",
        candidate=make_candidate(),
        inputs_digest="i",
        labels_digest="l",
        evals_digest="e",
        is_complete=True,
        trials=tuple(
            Trial(
                case_id=f"c-{n}",
                reply_key=digest(n),
                scores=tuple(Score(name=name, value=0.0, reason="not equal") for name in "abc"),
            )
            for n in range(5000)
        ),
    )
    run_id = store.add_run(run, at=NOON)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(store.run(run_id).trials) == 5000
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4  # 0.08 s on a busy core


# ---------------------------------------------------------------- artifacts


def artifact(name: str = "tuned", *, digest: str = "a" * 64, **other: object) -> Artifact:
    values: dict[str, object] = {
        "digest": digest,
        "name": name,
        "task": "t",
        "tuner": "torch-lora",
        "base": "tiny",
        "base_digest": "b" * 64,
        "template_digest": "c" * 64,
        "prompt": "slim",
        "prompt_digest": "d" * 64,
        "data_digest": "e" * 64,
        "rows": 3,
        "recipe": {},
        "seed": 0,
    }
    return Artifact(**(values | other))  # type: ignore[arg-type]


def test_an_artifact_comes_back_with_its_lineage(store: Store) -> None:
    finding = ParityFinding(severity="warn", name="bos", case_id="q-1", detail="two of them")
    whole = artifact(
        recipe={"rank": 16, "targets": ["q", "v"]},
        wall_verdict="0123",
        environment={"torch": "2.13"},
        metrics={"loss": 0.25},
        parity=(finding,),
        folder="artifacts/aaaa",
    )
    store.add_artifact(whole, at=NOON)
    assert store.artifact("tuned", task="t") == whole
    assert store.artifact("aaaa", task="t") == whole
    bare = artifact("bare", digest="f" * 64)
    store.add_artifact(bare, at=ONE)
    assert store.artifact("f", task="t") == bare


def test_a_name_means_its_newest_artifact(store: Store) -> None:
    old, new = artifact(digest="1" * 64), artifact(digest="2" * 64)
    store.add_artifact(old, at=NOON)
    store.add_artifact(new, at=ONE)
    assert store.artifact("tuned", task="t") == new
    store.add_artifact(old, at=TWO)  # tuned again with the same outcome
    assert store.artifact("tuned", task="t") == old
    assert store.artifacts("t") == [new, old]
    assert store.artifact("1111", task="t") == old


def test_two_records_of_the_same_files_are_both_kept(store: Store) -> None:
    """How an artifact came to be allowed is never written over."""
    allowed, overridden = artifact(wall_verdict="0123"), artifact(override="in a hurry")
    store.add_artifact(allowed, at=NOON)
    store.add_artifact(overridden, at=ONE)
    assert store.artifacts() == [allowed, overridden]
    assert store.artifact("aaaa", task="t") == overridden


def test_an_unknown_or_ambiguous_artifact_lists_the_known_ones(store: Store) -> None:
    with pytest.raises(UsageError, match=r"none yet.*harness tune t"):
        store.artifact("tuned", task="t")
    store.add_artifact(artifact("one", digest="ab" * 32), at=NOON)
    store.add_artifact(artifact("two", digest="ac" * 32), at=NOON)
    with pytest.raises(UsageError, match=r"'b' is not an artifact.*one \(abab.*two \(acac"):
        store.artifact("b", task="t")
    with pytest.raises(UsageError, match="'a' is ambiguous"):
        store.artifact("a", task="t")
    with pytest.raises(UsageError, match="'' is not an artifact"):
        store.artifact("", task="t")
    with pytest.raises(UsageError, match="of task 'other'"):
        store.artifact("one", task="other")


# ---------------------------------------------------------------- the ledger


def test_the_ledger_comes_back_in_the_order_of_recording(store: Store) -> None:
    entries = [
        LedgerEntry(kind="look", task="a", at=TWO, payload={"split": "test", "n": None}),
        LedgerEntry(kind="override", task="a", at=NOON, payload={}, text="in a hurry"),
        LedgerEntry(kind="look", task="b", at=NOON, payload=None),
        LedgerEntry(kind="wall", task="b", at=NOON, payload=["x", 1.5, {"empty": []}]),
    ]
    for entry in entries:
        store.record(entry)
    assert store.ledger() == entries
    assert store.ledger(task="b") == entries[2:]
    assert store.ledger(kind="look") == [entries[0], entries[2]]
    assert store.ledger(task="b", kind="wall") == [entries[3]]
    assert store.ledger(task="c") == []


def test_a_record_as_payload_comes_back_as_plain_json(store: Store) -> None:
    store.record(LedgerEntry(kind="tune", task="t", at=NOON, payload=Reply(text="r")))
    assert store.ledger()[0].payload == {"text": "r"}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger SET body = '{}'",
        "DELETE FROM ledger",
        "INSERT OR REPLACE INTO ledger (seq, kind, task, at, body) VALUES (1, 'x', 'x', 'x', 'x')",
        "REPLACE INTO ledger (seq, kind, task, at, body) VALUES (1, 'x', 'x', 'x', 'x')",
        "INSERT INTO ledger SELECT * FROM ledger WHERE 1 ON CONFLICT (seq) DO UPDATE SET body = 1",
    ],
)
def test_sql_itself_refuses_to_change_the_ledger(store: Store, tmp_path: Path, sql: str) -> None:
    entry = LedgerEntry(kind="look", task="t", at=NOON, payload=1)
    store.record(entry)
    raw = sqlite3.connect(tmp_path / "harness.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(sql)
    raw.close()
    assert store.ledger() == [entry]


@settings(max_examples=200, deadline=None)
@given(task=names, text=names, payload=st.dictionaries(names, names | st.none(), max_size=3))
def test_ledger_entries_survive_odd_names(
    shared: Store, task: str, text: str, payload: dict[str, str | None]
) -> None:
    entry = LedgerEntry(kind="waiver", task=task, at=NOON, payload=payload, text=text)
    shared.record(entry)
    assert shared.ledger(task=task)[-1] == entry


# ---------------------------------------------------------------- use


def test_threads_may_share_an_open_store(store: Store) -> None:
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for n in range(40):
                store.add_replies([stored(f"{thread}-{n}", f"{n}")])
                assert store.known_replies([f"{thread}-{n}"])[f"{thread}-{n}"].text == str(n)
                store.record(LedgerEntry(kind="pilot", task="t", at=NOON, payload=n))
        except (HarnessError, AssertionError, KeyError, sqlite3.Error) as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert len(store.ledger()) == 240


def test_a_failed_write_leaves_nothing_behind_and_the_store_usable(store: Store) -> None:
    def rows() -> Iterator[StoredReply]:
        yield stored("one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add_replies(rows())
    with pytest.raises(StoreError, match="the run of zero-shot is not JSON"):
        store.add_run(make_run([1.0, float("nan")]), at=NOON)
    with pytest.raises(StoreError, match="NOT NULL constraint failed"):  # inside the transaction
        store.add_run(make_run(), at=None)  # type: ignore[arg-type]
    assert store.known_replies(["one"]) == {}
    assert store.runs() == []
    store.add_replies([stored("two")])
    assert set(store.known_replies(["one", "two"])) == {"two"}


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = temporary_store(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.known_replies(["k"])
    with pytest.raises(StoreError, match="closed"):
        store.record(LedgerEntry(kind="look", task="t", at=NOON, payload=1))


def test_a_row_of_a_newer_program_is_named_not_misread(store: Store, tmp_path: Path) -> None:
    store.add_replies([stored("k")])
    raw = sqlite3.connect(tmp_path / "harness.db")
    with raw:
        raw.execute("UPDATE replies SET body = ?", ('{"text":"t","mood":"glad"}',))
    raw.close()
    with pytest.raises(StoreError, match=r"reply k does not fit this program.*mood"):
        store.known_replies(["k"])
