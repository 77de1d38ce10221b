from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.engine.candidates import resolve_candidate
from harness.engine.project import find_project, find_task_folder, task_folder_of, task_names
from harness.engine.tasks import Task, load_task
from harness.errors import TaskError, UsageError
from harness.records import Decoding
from tests.engine.small import rows, write_rows, write_settings, write_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_task(tmp_path)


def said(folder: Path) -> str:
    """Return what is wrong with the task, with the path of its folder left out."""
    with pytest.raises(TaskError) as caught:
        load_task(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert str(folder) in text
    return text.replace(f"{folder}/", "")


def candidate(task: Task, text: str, **options: Any) -> Any:
    return resolve_candidate(task, text, artifact_digest=lambda a: f"digest of {a}", **options)


# ---------------------------------------------------------------- task.toml


def test_a_whole_task_is_read(folder: Path) -> None:
    task = load_task(folder)
    assert (task.name, task.settings.target, sorted(task.prompts)) == (
        "double",
        0.9,
        ["near", "plain", "shots", "terse"],
    )
    assert [len(task.split(s)) for s in ("train", "dev", "test")] == [8, 6, 4]
    assert task.cases[0].line.endswith("cases.jsonl:1")


def add(folder: Path, text: str) -> None:
    path = folder / "task.toml"
    path.write_text(path.read_text() + text)


def test_keys_of_advise_that_nobody_knows_are_kept_as_they_stand(folder: Path) -> None:
    add(folder, "[advise]\nteam = 3\nothers = 'x'\nvolume_per_month = 5\nowner = 'me'\n")
    facts = load_task(folder).settings.advise.facts()
    assert list(facts.items()) == [
        ("volume_per_month", 5.0),
        ("owner", "me"),
        ("team", 3),
        ("others", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 1\n", "task.toml:7: colour: no such key. Known keys: about,"),
        (
            "[tune]\ntuner = 't'\nprompt = 'plain'\nrecipes = 'x'\n",
            "task.toml:10: tune.recipes: no such key. Known keys: check_cases, check_every",
        ),
        (
            "[decoding]\nmax_tokens = 5\n[candidates.warm.decoding]\ntemprature = 1\n",
            "task.toml:10: candidates.warm.decoding.temprature: no such key",
        ),
        (
            "[candidates.tune]\ncolour = 1\n",
            "task.toml:8: candidates.tune.colour: no such key. Known keys: artifact, backend,",
        ),
        ("[advise]\nteam = [1]\n", "task.toml:8: advise.team: Input should be true, false, a num"),
        ("repeats = '2'\n", "task.toml:7: repeats: Input should be a valid integer, not '2'."),
        ("goal = 'win'\n", "task.toml:7: goal: Input should be 'beat' or 'match'"),
        ("goal = 'match'\n", 'task.toml:1: task: goal = "match" needs `margin` and `better_in`'),
        ("[waivers]\nragtime = 'we do not sing'\n", "task.toml:7: waivers: 'ragtime' is neither"),
        (
            "[waivers]\nrag = 'no'\n",
            "task.toml:7: waivers: the waiver of rag needs a written reason, in a sentence",
        ),
        ("[tune]\ntuner = 't'\n", "task.toml:7: tune.prompt: it is missing"),
        ("repeats = 0\n", "task.toml:7: repeats: Input should be greater than or equal to 1"),
        ("about = 'again'\n", "task.toml:7: not TOML: Cannot overwrite a value at column"),
        ("guardrails = [\n\n", "task.toml:7: not TOML: Invalid value at the end"),
        ("deep = " + "[" * 5000 + "\n", "task.toml:1: not TOML: "),
        ("mid = 1" + "0" * 5000 + "\n", "task.toml:1: not TOML: Exceeds the limit"),
        ("target_reasons = ''\n", "task.toml:7: target_reasons: no such key"),
        (
            "[guardrails]\nright = 1" + "0" * 400 + "\n",
            "task.toml:8: guardrails.right: 100000000000000000...0000000000000000000 is more than",
        ),
        ("[guardrails]\nright = nan\n", "task.toml:8: guardrails.right: Input should be greater"),
        (
            '[backends."openai:m"]\nsince = 2026-01-01\n',
            "task.toml:8: backends.openai:m.since: Input should be what JSON can hold",
        ),
        (
            "[candidates.own]\noptions = { noise = nan }\n",
            "task.toml:8: candidates.own.options.noise: Input should be what JSON can hold",
        ),
    ],
)
def test_a_mistake_in_task_toml_is_told_with_its_line(folder: Path, text: str, says: str) -> None:
    add(folder, text)
    assert said(folder).startswith(says)


def test_the_line_is_the_keys_own_and_not_that_of_a_longer_one(folder: Path) -> None:
    """`target_reason` begins like `target`."""
    text = (folder / "task.toml").read_text().replace("target = 0.9\n", "")
    (folder / "task.toml").write_text(text + "target = 9\n")
    assert said(folder).startswith("task.toml:6: target: Input should be less than or equal to 1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"primary": "write"}, "task.toml: primary: no eval named 'write'. The evals: right, or"),
        (
            {"guardrails": {"fast": 0.1}},
            "task.toml: guardrails: no eval named 'fast'. The evals: right, or all.",
        ),
        (
            {"tune": {"tuner": "t", "prompt": "gone"}},
            "task.toml: tune.prompt: no prompt 'gone' in prompts/",
        ),
        ({"candidates.plain": {"prompt": "terse"}}, "task.toml: candidates.plain: a prompt file"),
        ({"cases": "missing.jsonl"}, "missing.jsonl: no such file"),
        ({"cases": "prompts"}, "prompts: a folder; `cases` names a JSON Lines file"),
        ({"cases": 5}, "task.toml:3: cases"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_that_are(
    folder: Path, changes: dict[str, Any], says: str
) -> None:
    write_settings(folder, **changes)
    assert said(folder).startswith(says)


def test_a_task_toml_that_cannot_be_read_is_a_task_error(folder: Path) -> None:
    (folder / "task.toml").write_bytes(b'about = "\xff"\n')
    assert said(folder) == "task.toml:1: not UTF-8 (byte 9). Save it as UTF-8."
    (folder / "task.toml").unlink()
    assert said(folder) == "task.toml: no such file"
    (folder / "task.toml").mkdir()
    assert said(folder) == "task.toml: Is a directory"


# ---------------------------------------------------------------- cases

GOOD = '{"id": "a", "split": "dev", "inputs": {"n": 1}, "reference": "2"}'


def raw(folder: Path, *lines: str | bytes) -> None:
    text = b"\n".join(x.encode() if isinstance(x, str) else x for x in lines)
    (folder / "cases.jsonl").write_bytes(text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"id": "b", "split": "dev"', "not JSON: Expecting ',' delimiter at column 27"),
        ("[1]", 'a row is an object, {"id", "split", "inputs", ...}'),
        ('{"id": "b", "inputs": {}}', "split: it is missing. Keys of a row: id, split, inputs"),
        ('{"id": "b", "split": "val", "inputs": {}}', "split: Input should be 'train', 'dev' or"),
        ('{"id": "", "split": "dev", "inputs": {}}', "id: String should have at least 1 char"),
        ('{"id": 7, "split": "dev", "inputs": {}}', "id: Input should be a valid string"),
        (
            '{"id": "b", "split": "dev", "input": {}}',
            "input: no such key, and inputs is missing. Keys of a row",
        ),
        ('{"id": "b", "split": "dev", "inputs": "x"}', "inputs: Input should be a valid dict"),
        ('{"id": "b", "split": "dev", "inputs": {}, "ref": 1}', "ref: no such key"),
        ('{"id": "b", "split": "dev", "inputs": {"n": NaN}}', "NaN is not JSON; write null"),
        ('{"id": "b", "split": "dev", "inputs": {"n": -Infinity}}', "-Infinity is not JSON"),
        ('{"id": "b", "split": "dev", "inputs": {"n": 1e999}}', "1e999 is larger than any"),
        ('{"id": "b", "id": "c", "split": "dev", "inputs": {}}', "the key 'id' stands twice"),
        (
            '{"id": "b", "split": "dev", "inputs": {"n": {"x": 1, "x": 2}}}',
            "the key 'x' stands twice",
        ),
        (
            '{"id": "b", "split": "dev", "inputs": {"n": 1' + "0" * 5000 + "}}",
            "a number of more than 4300 digits",
        ),
        (
            '{"id": "b", "split": "dev", "inputs": {"n": ' + "[" * 300 + "]" * 300 + "}}",
            "nested deeper than 100 levels",
        ),
        (
            '{"id": "b", "split": "dev", "inputs": {"n": ' + "[" * 90000 + "]" * 90000 + "}}",
            "nested deeper than 100 levels",
        ),
        (GOOD.replace('"a"', '"first"'), "the id 'first' stands already at"),
        ("nul\x00", "not JSON: Expecting value at column 1"),
    ],
)
def test_a_broken_row_is_told_with_file_and_line(folder: Path, line: str, says: str) -> None:
    raw(folder, GOOD.replace('"a"', '"first"'), "", line, GOOD)
    assert said(folder).startswith(f"cases.jsonl:3: {says}")


def test_a_row_without_a_split_is_told_how_rows_are_dealt(folder: Path) -> None:
    raw(folder, '{"id": "b", "inputs": {}}')
    dealt = "harness data split cases.jsonl --out cases.jsonl --force"
    assert said(folder).endswith(f" Rows are dealt by: {dealt}")


def test_a_file_that_is_not_utf8_is_told(folder: Path) -> None:
    raw(folder, GOOD.encode("utf-16"))
    assert said(folder) == "cases.jsonl:1: not UTF-8 (byte 0). Save it as UTF-8."


def test_a_packed_file_is_told(folder: Path) -> None:
    raw(folder, gzip.compress(GOOD.encode()))
    assert said(folder).startswith("cases.jsonl:1: packed by gzip. Unpack it: gunzip ")


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "\r\n  \r\n"])
def test_an_empty_file_is_told(folder: Path, text: str) -> None:
    raw(folder, text)
    assert said(folder).startswith('cases.jsonl:1: no cases. A line is {"id", "split", "inputs"')


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(
    folder: Path, mark: str, end: str
) -> None:
    raw(folder, mark + end.join([GOOD, GOOD.replace('"a"', '"b"'), ""]))
    prompt = folder / "prompts/plain.md"
    prompt.write_bytes((mark + prompt.read_text().replace("\n", end)).encode())
    task = load_task(folder)
    assert [c.id for c in task.cases] == ["a", "b"]
    assert task.prompts["plain"].family == "zero-shot"
    assert task.prompts["plain"].sections == (("user", "Double {{ n }}."),)


def test_a_line_separator_within_a_text_ends_no_row(folder: Path) -> None:
    text = "one\u2028two\u0085three"
    raw(folder, GOOD.replace('"n": 1', f'"n": "{text}"'))
    assert load_task(folder).cases[0].inputs["n"] == text


def test_rows_as_deep_as_people_write_them_are_read(folder: Path) -> None:
    deep = '{"n": ' + "[" * 95 + "]" * 95 + "}"
    wide = json.dumps({"n": [[k] for k in range(500)]})
    raw(
        folder, GOOD.replace('{"n": 1}', deep), GOOD.replace('"a"', '"b"').replace('{"n": 1}', wide)
    )
    assert len({c.inputs_digest for c in load_task(folder).cases}) == 2


def test_half_a_surrogate_pair_is_read_and_has_an_identity(folder: Path) -> None:
    raw(folder, GOOD.replace("1}", '"\\ud800"}'))
    [case] = load_task(folder).cases
    assert case.inputs["n"] == "\ud800"
    assert len(case.inputs_digest) == 64


def test_a_case_without_a_cluster_is_its_own(folder: Path) -> None:
    raw(folder, GOOD, GOOD.replace('"a", ', '"b", "cluster": "k", ').replace("1}", "2}"))
    assert [c.cluster for c in load_task(folder).cases] == ["a", "k"]


def test_cases_with_the_same_inputs_are_one_cluster(folder: Path) -> None:
    """A repeat is no new evidence."""
    raw(folder, *(GOOD.replace('"a"', f'"{name}"') for name in "abc"))
    assert len({c.cluster for c in load_task(folder).cases}) == 1


def test_a_task_that_is_read_again_shares_the_cases_that_stayed(folder: Path) -> None:
    before = load_task(folder)
    some = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    some[0]["reference"] = "another"
    write_rows(folder, some[:-1])
    after = load_task(folder, like=before)
    assert after == load_task(folder)
    assert after.cases[0].reference == "another"
    assert before.cases[0].reference != "another"
    assert len(after.cases) == len(before.cases) - 1 > 1
    assert all(a is b for a, b in zip(after.cases[1:], before.cases[1:-1], strict=True))


def test_an_id_that_stands_in_two_files_is_told_with_both(folder: Path) -> None:
    (folder / "more.jsonl").write_text(GOOD.replace('"a"', '"c1"') + "\n")
    write_settings(folder, cases=["cases.jsonl", "more.jsonl"])
    assert said(folder) == "more.jsonl:1: the id 'c1' stands already at cases.jsonl:2"


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("+++\nfamily = 'x'\n+++\n@user\nhi\n", "plain.md:1: unknown family 'x'. Families: zero-"),
        ("+++\nfamly = 'x'\n+++\n@user\nhi\n", "plain.md:1: unknown settings ['famly']. Known: "),
        ("+++\nfamily = \n+++\n@user\nhi\n", "plain.md:2: the settings are not TOML"),
        ("+++\nfamily = 'rag'\n@user\nhi\n", "plain.md:1: the settings opened by +++ are never"),
        (
            "hello\n",
            "plain.md:1: a prompt begins with @system, @user or @assistant, alone on a line. Write",
        ),
        ("@system\nhi\n", "plain.md:1: no @user section"),
        ("@user\nhi\n\n{% if n %}\n", "plain.md:4: Unexpected end of template"),
        ("+++\nshots = 2\n+++\n@user\nhi\n", "plain.md:1: `shots = N` and an @examples section"),
        (
            "+++\nshots = 'two'\n+++\n@examples\n@user\nx\n",
            "plain.md:1: shots, seed or documents: invalid",
        ),
        ("+++\nshots = -1\n+++\n@examples\n@user\nx\n", "plain.md:1: shots: -1 is less than none"),
        ("+++\nschema = 'no.json'\n+++\n@user\nhi\n", "no.json: no such file"),
    ],
)
def test_a_mistake_in_a_prompt_is_told_with_its_line(folder: Path, text: str, says: str) -> None:
    (folder / "prompts/plain.md").write_text(text)
    assert said(folder).replace("prompts/", "", 1).startswith(says)


def test_a_schema_that_is_not_json_is_told_with_its_line(folder: Path) -> None:
    (folder / "s.json").write_text('{\n"type": object}\n')
    (folder / "prompts/plain.md").write_text("+++\nschema = 's.json'\n+++\n@user\nhi\n")
    assert said(folder) == "s.json:2: not JSON: Expecting value at column 9"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 100 levels"),
        ("1" * 5000, "a number of more than 4300 digits"),
    ],
)
def test_a_schema_that_no_program_should_read_is_told(folder: Path, text: str, says: str) -> None:
    (folder / "s.json").write_text(text)
    (folder / "prompts/plain.md").write_text("+++\nschema = 's.json'\n+++\n@user\nhi\n")
    assert said(folder).startswith(f"s.json: {says}")


# ---------------------------------------------------------------- evals


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def test_right(case, reply):\n  assert (\n", "eval_double.py:2: '(' was never closed"),
        ("def test_right(case, reply):\nassert 1\n", "eval_double.py:2: expected an indented"),
        ("x = 1\n", "double: no eval: write `def test_NAME(case, reply)` in eval_*.py"),
        ("a\0b\n", "eval_double.py:1: source code"),
    ],
)
def test_a_broken_eval_file_is_told_with_its_line(folder: Path, text: str, says: str) -> None:
    (folder / "eval_double.py").write_text(text)
    assert said(folder).replace(str(folder), "double").startswith(says)


def test_the_scores_are_the_tests_that_ask_for_a_reply_by_whatever_way(folder: Path) -> None:
    """A plain test beside the evals gives no score: no run would ever be complete with it."""
    (folder / "conftest.py").write_text(
        "import pytest\n@pytest.fixture\ndef number(reply):\n    return int(reply.text)\n"
    )
    (folder / "eval_double.py").write_text(
        "import pytest\n"
        "@pytest.fixture\ndef even(number):\n    return number % 2 == 0\n"
        "@pytest.fixture\ndef limit():\n    return 20\n"
        "def test_right(case, reply):\n    def test_inner(case): ...\n"
        "def test_even(even, limit): ...\n"
        "def test_of_all(trials): ...\n"
        "async def test_later(*, candidate): ...\n"
        "class TestShape:\n    def test_small(self, number): ...\n"
        "def test_limit(limit): ...\n"
        "def test_plain(): ...\n"
        "def helper(case): ...\n"
    )
    assert load_task(folder).eval_names == ("even", "later", "of_all", "right", "small")


# ---------------------------------------------------------------- candidates


def test_a_candidate_is_a_prompt_a_table_or_both_in_one_name(folder: Path) -> None:
    write_settings(
        folder,
        decoding={"max_tokens": 9},
        **{
            "candidates.warm": {"prompt": "plain", "backend": "other:m"},
            "candidates.warm.decoding": {"temperature": 0.5},
            "candidates.tuned": {"prompt": "terse", "artifact": "t1"},
        },
    )
    task = load_task(folder)
    plain, warm, tuned = (candidate(task, name) for name in ("plain", "warm", "tuned"))
    assert (plain.backend, plain.family, plain.decoding) == (
        "letters:small",
        "zero-shot",
        Decoding(max_tokens=9),
    )
    assert (warm.backend, warm.decoding) == ("other:m", Decoding(max_tokens=9, temperature=0.5))
    assert tuned.artifact == "digest of t1"
    long = candidate(task, "terse@letters:small+t1")
    assert long.digest == tuned.digest
    assert candidate(task, "plain@letters:small").digest == plain.digest
    assert candidate(task, "reference").prompt is None
    (folder / "people.jsonl").write_text("")
    assert candidate(task, "replay:people.jsonl").backend == "replay:people.jsonl"


def test_identity_leaves_out_the_name_and_covers_prompt_decoding_and_place(folder: Path) -> None:
    task = load_task(folder)
    before = candidate(task, "plain").digest
    assert candidate(task, "plain", base_url="http://x").digest != before
    (folder / "prompts/again.md").write_text((folder / "prompts/plain.md").read_text())
    assert candidate(load_task(folder), "again").digest == before
    (folder / "prompts/plain.md").write_text("@user\nTwice {{ n }}.\n")
    assert candidate(load_task(folder), "plain").digest != before
    write_settings(folder, decoding={"max_tokens": 3})
    assert candidate(load_task(folder), "again").digest != before


@pytest.mark.parametrize("model", ["local:m", "sklearn:ridge", "python:app:answer"])
def test_an_address_is_given_to_candidates_that_a_server_answers(folder: Path, model: str) -> None:
    """Else `--base-url` for the tuned one makes another of the local baseline beside it."""
    task = load_task(folder)
    here = candidate(task, f"plain@{model}")
    given = candidate(task, f"plain@{model}", base_url="http://x")
    assert (given.base_url, given.digest) == (None, here.digest)
    assert candidate(task, "plain@openai:m", base_url="http://x").base_url == "http://x"
    named = {"backend": model, "prompt": "plain", "base_url": "http://x"}
    write_settings(folder, **{"candidates.far": named})
    with pytest.raises(UsageError, match=r"'far': base_url is the address of a server"):
        candidate(load_task(folder), "far")


def test_train_rows_are_part_of_a_few_shot_prompt_and_of_no_other(folder: Path) -> None:
    before = load_task(folder)
    write_rows(folder, rows(train=9))
    after = load_task(folder)
    assert candidate(before, "shots").digest != candidate(after, "shots").digest
    assert candidate(before, "plain").digest == candidate(after, "plain").digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("plan", r"no candidate 'plan' in task 'double'. Known: near, plain, reference, shots, te"),
        ("plan@s:m", r"no prompt 'plan' in .*prompts. Known: near, plain, shots, terse"),
        ("plain@gpt", r"backend 'gpt' is not SCHEME:MODEL.*`harness plugins` lists schemes"),
        ("", "no candidate ''"),
    ],
)
def test_an_unknown_candidate_is_told_with_what_is_known(
    folder: Path, text: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        candidate(load_task(folder), text)


# ---------------------------------------------------------------- digests


def test_digests_change_with_what_they_cover_and_with_nothing_else(folder: Path) -> None:
    def digests() -> dict[str, str]:
        task = load_task(folder)
        return {
            "inputs": task.inputs_digest("dev"),
            "labels": task.labels_digest("dev"),
            "test labels": task.labels_digest("test"),
            "evals": task.evals_digest,
            "policy": task.policy_digest,
        }

    def changed() -> set[str]:
        nonlocal before
        before, old = digests(), before
        return {k for k in before if before[k] != old[k]}

    before = digests()
    some = rows()
    some[0]["reference"] = "7"
    write_rows(folder, some)
    assert changed() == {"labels"}
    some[0]["cluster"] = "k1"
    write_rows(folder, some)
    assert changed() == {"inputs"}
    some[0]["tags"] = ["slow"]
    write_rows(folder, [*some[:1], *some[:0:-1][::-1]])
    assert changed() == set()
    write_settings(folder, target=0.8)
    assert changed() == {"policy"}
    write_settings(folder, target=0.8, about="Other words.")
    assert changed() == set()
    (folder / "helpers.py").write_text("LIMIT = 3\n")
    assert changed() == {"evals"}
    above = folder.parent.parent / "scoring.py"
    above.write_text("LIMIT = 3\n")
    assert changed() == set()  # not imported yet
    (folder / "helpers.py").write_text("from scoring import LIMIT\n")
    assert changed() == {"evals"}
    above.write_text("LIMIT = 4\n")
    assert changed() == {"evals"}


# ---------------------------------------------------------------- projects


def test_a_project_is_found_from_a_folder_below_it(folder: Path) -> None:
    root = folder.parent.parent
    for start in (root, folder, folder / "prompts/plain.md"):
        project = find_project(start)
        assert project.root == root.resolve()
        assert task_names(project) == ["double"]
        assert project.home == root.resolve() / ".harness"


def test_without_git_or_settings_a_task_and_its_project_share_one_store(tmp_path: Path) -> None:
    """`pytest evals/t` starts from the task's folder, `harness eval t` from the project's."""
    (tmp_path / "evals/t").mkdir(parents=True)
    assert find_project(tmp_path / "evals").root == tmp_path / "evals"  # a folder of that name
    (tmp_path / "evals/t/task.toml").touch()
    stores = {find_project(f).store for f in (tmp_path, tmp_path / "evals/t")}
    assert stores == {tmp_path / ".harness/harness.db"}
    assert find_project(tmp_path / "evals/t").tasks == tmp_path / "evals"


def test_an_unknown_task_is_told_with_the_known_ones_and_the_command_that_lists_them(
    folder: Path,
) -> None:
    project = find_project(folder)
    assert find_task_folder(project, "double", cwd=folder) == folder.resolve()
    assert find_task_folder(project, ".", cwd=folder) == folder.resolve()
    with pytest.raises(UsageError, match=r"Known: double\. `harness doctor` lists them"):
        find_task_folder(project, "triple", cwd=folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool.harness]\ntask = 'x'\n", r"unknown keys \['task'\]. Known: "),
        ("[tool.harness\n", "not TOML"),
    ],
)
def test_broken_settings_of_a_project_are_told(folder: Path, text: str, says: str) -> None:
    (folder.parent.parent / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        find_project(folder)


def test_a_folder_with_no_task_above_it_belongs_to_none(folder: Path) -> None:
    assert task_folder_of(folder / "prompts") == folder
    assert task_folder_of(folder.parent) is None
