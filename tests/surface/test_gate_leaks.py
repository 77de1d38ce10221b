from __future__ import annotations

from tests.surface.inprocess import Cli


def test_a_gate_stops_before_a_look_where_a_sealed_case_stands_in_another_split(cli: Cli) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"c{i}", "split": split, "cluster": f"k{i}", "inputs": {"a": i, "b": i},
         "reference": str(2 * i)}
        for i, split in enumerate(["dev"] * 6 + ["train"] * 3 + ["test"] * 3)
    ]  # fmt: skip
    rows[9]["inputs"] = rows[0]["inputs"]
    cli.toy.write_cases(rows)
    said = cli("gate", "toy", "--candidate", "plain", "--baseline", "shots")
    assert said.code == 2
    assert "cases.jsonl:10: the inputs of 'c9' (test) stand in dev too" in said.err
    assert cli.toy.sent == []
