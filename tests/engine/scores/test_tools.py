"""Files that promptfoo, Inspect, lm-eval and DeepEval wrote, read as they are (made/README.md)."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from harness.engine.scores import judging
from harness.engine.scores.detect import detect
from harness.engine.scores.inspect_log import LOCAL_HEADER
from harness.engine.scores.reading import Scores, read_scores
from harness.engine.scores.table import ScoreTable
from harness.errors import HarnessError, Refused, UsageError

MADE = Path(__file__).parent / "made"
PLAIN, STEPS = (str(MADE / f"inspect/{name}.eval") for name in ("plain", "steps"))
LM = {
    (path.parent.name, path.name.split("_")[1]): str(path)
    for path in sorted((MADE / "lm_eval").rglob("*.jsonl"))
}


def unpacked(tmp_path: Path, name: str) -> Path:
    """A copy of a packed file, as its tool wrote it."""
    source = MADE / name
    target = tmp_path / source.name.removesuffix(".gz")
    target.write_bytes(gzip.decompress(source.read_bytes()))
    return target


def passes(table: ScoreTable, metric: str) -> dict[str, float]:
    return {c.name: float(np.nansum(c.scores[metric])) for c in table.columns}


def only(scores: Scores) -> ScoreTable:
    (table,) = scores.tables
    return table


# ---------------------------------------------------------------- what the tools printed


def test_promptfoo_counts_as_it_printed(tmp_path: Path) -> None:
    table = only(read_scores([str(unpacked(tmp_path, "promptfoo/sums.json.gz"))]))
    small, large = "openai:chat:small", "openai:chat:large"
    assert passes(table, "pass") == {
        f"plain @ {small}": 26, f"plain @ {large}": 36, f"steps @ {small}": 34,
        f"steps @ {large}": 34,
    }  # fmt: skip
    assert table.metric(None) == "pass"
    assert table.metrics == ("pass", "score", "exact", "format")
    assert len(table.cases) == 40
    assert len(set(table.clusters)) == 20
    assert set(table.slices) == {"low", "high"}
    assert {c.model for c in table.columns} == {small, large}


def test_promptfoo_errors_are_missing_and_repeats_are_one_case(tmp_path: Path) -> None:
    scores = read_scores([str(unpacked(tmp_path, "promptfoo/faults.json.gz"))])
    table = only(scores)
    (column,) = table.columns
    assert len(table.cases) == 3
    assert column.repeats == 2
    assert np.isnan(column.scores["pass"]).tolist() == [False, True, False]
    assert any("2 results ended in an error" in note for note in scores.notes)


def test_inspect_counts_as_it_printed_without_inspect_ai() -> None:
    table = only(read_scores([PLAIN, STEPS], who="try"))
    means = {c.name: float(c.scores["match"].mean()) for c in table.columns}
    assert means == {"openai/small prompt=plain": 0.625, "openai/small prompt=steps": 0.875}
    assert table.task == "sums"
    assert table.columns[0].repeats == 2
    assert len(table.cases) == 16
    assert len(set(table.clusters)) == 8
    assert len({c.replies_digest for c in table.columns}) == 2


def test_inspect_json_is_read_like_eval_and_tasks_stay_apart(tmp_path: Path) -> None:
    names = unpacked(tmp_path, "inspect/names.json.gz")
    scores = read_scores([PLAIN, str(names)])
    assert [t.task for t in scores.tables] == ["sums", "names"]
    assert passes(scores.tables[1], "includes") == {"openai/large": 10}  # accuracy 0.833 of 12


def test_the_same_log_as_eval_and_as_json_is_the_same_scores(tmp_path: Path) -> None:
    log, samples = inside(Path(PLAIN))
    whole = tmp_path / "plain.json"
    whole.write_text(json.dumps({**log, "samples": samples}))
    one, other = only(read_scores([PLAIN])), only(read_scores([str(whole)]))
    assert passes(one, "match") == passes(other, "match")
    assert one.columns[0].replies_digest == other.columns[0].replies_digest


def test_lm_eval_counts_as_it_printed_with_its_filters() -> None:
    scores = read_scores(list(LM.values()))
    tables = {t.task: t for t in scores.tables}
    for metric in ("exact_match,strict", "exact_match,flexible"):
        assert passes(tables["sums"], metric) == {"large": 36, "small": 26}
        assert passes(tables["doubles"], metric) == {"large": 10, "small": 8}  # of 12
    with pytest.raises(UsageError, match="hold several metrics"):
        tables["sums"].metric(None)


@pytest.mark.parametrize("name", ["plain.json", "dumped.json.gz"])
def test_deepeval_counts_as_it_printed(tmp_path: Path, name: str) -> None:
    path = MADE / "deepeval" / name
    path = unpacked(tmp_path, f"deepeval/{name}") if path.suffix == ".gz" else path
    table = only(read_scores([f"plain={path}"]))
    assert passes(table, "pass") == {"plain": 26}
    assert passes(table, "Exact Match") == {"plain": 26}
    assert passes(table, "Pattern Match") == {"plain": 40}
    assert table.metric(None) == "pass"
    assert len(set(table.clusters)) == 20


def test_every_real_file_is_recognised_for_certain(tmp_path: Path) -> None:
    found = {}
    for path in sorted(p for p in MADE.rglob("*") if p.is_file() and p.suffix != ".md"):
        file = unpacked(tmp_path, str(path.relative_to(MADE))) if path.suffix == ".gz" else path
        seen = detect(file)
        assert seen.is_sure, path
        found.setdefault(path.relative_to(MADE).parts[0], set()).add(seen.form)
    assert found == {
        "promptfoo": {"promptfoo"},
        "inspect": {"inspect", "inspect-json"},
        "lm_eval": {"lm-eval"},
        "deepeval": {"deepeval"},
    }


# ---------------------------------------------------------------- names


def test_a_name_on_the_command_line_wins_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    again = tmp_path / "after" / "plain.eval"
    again.parent.mkdir()
    shutil.copy(PLAIN, again)
    names = [c.name for c in only(read_scores([PLAIN, str(again)])).columns]
    assert sorted(names) == [
        "openai/small prompt=plain in after",
        "openai/small prompt=plain in inspect",
    ]
    assert {c.name for c in only(read_scores([f"old={PLAIN}", f"new={STEPS}"])).columns} == {
        "old",
        "new",
    }


def test_the_same_log_twice_is_one_try(tmp_path: Path) -> None:
    again = tmp_path / "again.eval"
    shutil.copy(PLAIN, again)
    verdict = judging.wall_of(only(read_scores([PLAIN, str(again), STEPS])), target=0.9)
    assert [t.is_counted for t in verdict.tries] == [True, False, True]
    assert verdict.tries[1].note.startswith("repeats ")


def test_lm_eval_takes_the_model_from_the_folder_of_its_results(tmp_path: Path) -> None:
    for (model, task), path in LM.items():
        if task == "sums":
            (tmp_path / model).mkdir()
            shutil.copy(path, tmp_path / model)
            (tmp_path / model / "results_2026.json").write_text("{}")
    files = [str(p) for p in sorted(tmp_path.rglob("samples_*"))]
    table = only(read_scores(files))
    verdict = judging.wall_of(table, target=0.95, metric="exact_match,strict", model="small")
    assert [t.candidate for t in verdict.tries if t.is_counted] == ["small"]
    assert [t.note for t in verdict.tries if not t.is_counted] == ["other model: large"]


# ---------------------------------------------------------------- broken variants


def inside(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A log's header and samples, unpacked by this test itself."""
    raw = path.read_bytes()
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            head = LOCAL_HEADER.unpack_from(raw, entry.header_offset)
            start = entry.header_offset + LOCAL_HEADER.size + head[-2] + head[-1]
            packed = io.BytesIO(raw[start : start + entry.compress_size])
            text = (
                zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True).read()
            )
            found[entry.filename] = json.loads(text)
    samples = [value for name, value in found.items() if name.startswith("samples/")]
    return found["header.json"], samples


def log_with(path: Path, change: Callable[[dict[str, Any], list[dict[str, Any]]], None]) -> str:
    """A deflated `.eval`, as older versions write it, of `plain` with a change."""
    log, samples = inside(Path(PLAIN))
    change(log, samples)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps(log))
    return str(path)


def test_a_deflated_log_reads_as_a_zstandard_one(tmp_path: Path) -> None:
    older = log_with(tmp_path / "older.eval", lambda log, samples: None)
    assert passes(only(read_scores([older])), "match") == passes(
        only(read_scores([PLAIN])), "match"
    )


def test_samples_that_failed_or_never_ran_are_missing(tmp_path: Path) -> None:
    def change(log: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        del log
        for sample in samples:
            if sample["id"] == "s1":
                sample["error"], sample["scores"] = {"message": "boom"}, None
        samples[:] = [s for s in samples if s["id"] != "s2"]

    scores = read_scores([log_with(tmp_path / "x.eval", change)])
    table = only(scores)
    gone = dict(zip(table.cases, np.isnan(table.columns[0].scores["match"]), strict=True))
    assert {case for case, is_gone in gone.items() if is_gone} == {"s1", "s2"}
    assert any("2 samples ended in an error and 1 were never run" in n for n in scores.notes)


def test_a_corrected_answer_between_two_runs_is_refused(tmp_path: Path) -> None:
    def change(log: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        del log
        samples[0]["target"] = "other"
        samples[:] = [s for s in samples if s["id"] != samples[0]["id"] or s["epoch"] == 1]

    with pytest.raises(Refused, match="changed between the runs"):
        read_scores([PLAIN, log_with(tmp_path / "x.eval", change)])


def test_a_scorer_outside_zero_to_one_is_left_out_and_said(tmp_path: Path) -> None:
    def change(log: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        del log
        for sample in samples:
            sample["scores"]["graded"] = {"value": {"stars": 4, "fair": "P"}}

    scores = read_scores([log_with(tmp_path / "x.eval", change)])
    table = only(scores)
    assert table.metrics == ("match", "graded.fair")
    assert set(table.columns[0].scores["graded.fair"]) == {0.5}
    assert any("'graded.stars' is no score" in note for note in scores.notes)


def cut(path: Path, share: float, to: Path) -> str:
    to.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return str(to)


def test_cut_off_and_damaged_files_are_one_plain_error(tmp_path: Path) -> None:
    sums = unpacked(tmp_path, "promptfoo/sums.json.gz")
    damaged = bytearray(Path(PLAIN).read_bytes())
    damaged[3000:3100] = bytes(100)
    hurt = tmp_path / "hurt.eval"
    hurt.write_bytes(damaged)
    lm = LM["small", "sums"]
    for file, said in [
        (cut(sums, 0.7, tmp_path / "a.json"), "the JSON ends too early"),
        (cut(Path(PLAIN), 0.7, tmp_path / "b.eval"), "was cut off"),
        (str(hurt), "damaged"),
        (
            cut(Path(lm), 0.99, tmp_path / "samples_sums.jsonl"),
            ".jsonl:80: the JSON ends too early",
        ),
        (cut(MADE / "deepeval/plain.json", 0.9, tmp_path / "d.json"), "the JSON ends too early"),
    ]:
        with pytest.raises(HarnessError) as error:
            read_scores([file])
        assert said in str(error.value), file
        assert error.value.exit_code == 2


def test_the_wrong_file_of_a_tool_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results_x.json"
    results.write_text(json.dumps({"results": {"sums": {}}, "configs": {}}))
    with pytest.raises(UsageError, match=r"give the samples_\*\.jsonl beside it"):
        read_scores([str(results)])
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(UsageError, match=r"no header\.json in it: not Inspect's"):
        read_scores([str(other)])
