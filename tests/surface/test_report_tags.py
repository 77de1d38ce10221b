"""The report shows the score by tag: what was made stands beside what was collected."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from harness.records import Estimate
from harness.surface.report.model import TagRow, TagTable
from harness.surface.report.page import render_report
from tests.surface.inprocess import Cli
from tests.surface.sample_report import sample_report


def cells(page: str) -> list[list[str]]:
    """Return the rows of the table by tag, as a reader sees them."""
    table = page.split('<h3 id="tags">')[1].split("</table>", maxsplit=1)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    return [[re.sub(r"<.*?>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", r)] for r in rows]


def test_origin_stands_first_and_bounds_stand_with_every_share(cli: Cli) -> None:
    file = cli.toy.task / "cases.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    dev = [row for row in rows if row["split"] == "dev"]
    for number, row in enumerate(dev):
        row["tags"] = ["small"] + (["synthetic"] if number % 3 == 0 else [])
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("eval", "toy", "--candidate", "plain").code == 0
    assert cli("report", "toy", "--out", "page.html").code == 0
    found = cells(Path("page.html").read_text())
    made = len(dev[::3])
    assert [row[:2] for row in found] == [
        ["collected", str(len(dev) - made)],
        ["synthetic", str(made)],
        ["small", str(len(dev))],
    ]
    assert all(re.fullmatch(r"[\d.]+.% \([\d.]+–[\d.]+.%\)", row[2]) for row in found)


def test_a_tag_is_text_and_a_slice_without_a_score_says_so() -> None:
    half = Estimate(mean=0.5, lower=0.3, upper=0.7, n=20, clusters=20)
    rows = (
        TagRow(tag="<script>alert(1)</script>", cases=20, cells=(half, None)),
        TagRow(tag="b", cases=3, cells=(None, None)),
    )
    page = render_report(
        replace(sample_report(), tags=TagTable(candidates=("few-shot", "tuned"), rows=rows))
    )
    assert "<script>alert" not in page
    assert cells(page)[0][0] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert cells(page)[1][2:] == ["unscored", "unscored"]
    assert 'id="tags"' not in render_report(sample_report())
