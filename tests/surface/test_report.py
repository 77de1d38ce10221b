"""The page as text: everything is on it, nothing on it can run, and it is written whole."""

from __future__ import annotations

import base64
import errno
import hashlib
import itertools
import os
import random
import re
import typing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness import records
from harness.errors import StoreError
from harness.records import Message, Request
from harness.surface.report import words
from harness.surface.report.island import unpack
from harness.surface.report.model import CaseView, ReportData, RungKind
from harness.surface.report.page import render_report, write_report
from tests.surface.payloads import PAYLOADS, changed
from tests.surface.sample_report import full_report, sample_report

BARE = ReportData(
    task="bare", about="", generated_at="2026-11-22", harness_version="0.1.0", primary="all"
)


LITERALS = (
    *(records.WallAnswer, records.ReleaseAnswer, records.Split, RungKind),
    *(
        typing.get_type_hints(record)[name]
        for record, name in (
            (records.LedgerEntry, "kind"),
            (records.Check, "kind"),
            (records.ParityFinding, "severity"),
            (records.Message, "role"),
            (records.Fault, "origin"),
        )
    ),
)


class Page(HTMLParser):
    """A parsed page: its tags with the names of their attributes, its texts, its two programs."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[tuple[str, tuple[str, ...]]] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.programs: dict[str, list[str]] = {"style": [], "script": []}
        self._inside = ""
        self.feed(html)
        self.close()
        packed = re.search(r'id="island">([^<]*)<', html)
        self.island = unpack(packed[1]) if packed else {"texts": [], "sent": [], "cases": {}}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag if tag in self.programs else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.programs[self._inside].append(data)
        else:
            self.texts.append(data)

    @property
    def shown(self) -> str:
        """Everything that a reader can come to see: texts, titles, and the island."""
        titles = [value for _, name, value in self.attributes if name == "title"]
        kept = [*self.island["texts"], *(role for s in self.island["sent"] for role, _ in s)]
        return "\n".join((*self.texts, *titles, *kept))


def policy(html: str) -> dict[str, str]:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert found is not None
    text = found[1].replace("&#39;", "'")
    return dict(part.strip().split(" ", 1) for part in text.split(";"))


# ---------------------------------------------------------------- what is shown


def test_every_text_of_every_record_is_on_the_page() -> None:
    """A field that is added to a record and forgotten by the page fails here."""
    literals = {name for hint in LITERALS for name in typing.get_args(hint)}
    tokens: dict[str, str] = {}

    def stamp(text: str) -> str:
        if not text or text in literals:
            return text
        return tokens.setdefault(text, f"tok{len(tokens):05d}x")

    shown = Page(render_report(changed(full_report(), stamp))).shown
    missing = {text for text, token in tokens.items() if token not in shown}
    assert missing == set()
    assert len(tokens) > 300


def test_every_number_of_the_story_is_on_the_page() -> None:
    shown = " ".join(Page(render_report(sample_report())).texts).replace("\u202f", " ")
    for said in (
        "10 %",  # the best prompt
        "90 %",  # the tuned model
        "60 %",  # the target
        "target 60 %",
        "+80",  # the gain on the sealed cases
        "+80 points (at least +70.1)",
        "Look 1 at the sealed cases",
        "49 better, 10 alike, 1 worse",
        "200 rows compared token by token, no difference.",
    ):
        assert said in re.sub(r"\s+", " ", shown), said


def test_overrides_stand_at_the_top_and_in_the_ledger() -> None:
    html = render_report(full_report())
    banner = html.index('class="overrides"')
    assert banner < html.index('id="ladder"')
    top = html[banner : html.index("</section>", banner)]
    for text in (
        "the release owner wants it today",
        "a pilot, by hand",
        "shipped against the gate",
    ):
        assert text in top
    assert 'class="overrides"' not in render_report(sample_report(dev=4, test=4))


def test_a_parity_finding_is_a_cross_and_its_absence_a_tick() -> None:
    assert "no difference" in render_report(sample_report(dev=4, test=4))
    broken = render_report(full_report())
    assert "1 difference." in broken
    assert "trained &lt;|im_end|&gt;, sent" in broken


def test_a_report_of_nothing_says_what_to_run() -> None:
    html = render_report(BARE)
    assert "harness wall bare" in html
    assert "harness gate bare" in html
    assert "NO WALL VERDICT" in html
    assert 'id="island"' not in html


@pytest.mark.parametrize(
    "answer", ["SHIP_PROMPT", "KEEP_PROMPTING", "WALL", "INSUFFICIENT_EVIDENCE", "FIX_DATA"]
)
def test_each_wall_verdict_is_in_words_with_an_icon_and_a_colour(answer: str) -> None:
    data = sample_report(dev=4, test=4)
    assert data.wall is not None
    html = render_report(replace(data, wall=replace(data.wall, answer=answer), release=None))  # type: ignore[arg-type]
    strip = html[html.index('class="verdicts"') : html.index("</section>")]
    assert f"<strong>{answer.replace('_', ' ')}</strong>" in strip
    assert re.search(r'<article class="verdict (good|go|wall|open)">', strip)
    assert re.search(r'<use href="#i-(tick|ladder|wall|question)"/>', strip)
    assert words.said(data.wall.reason) in strip


def test_an_answer_of_a_later_version_is_shown_as_it_is() -> None:
    data = sample_report(dev=4, test=4)
    assert data.release is not None
    later = replace(data, release=replace(data.release, answer="HOLD"))  # type: ignore[arg-type]
    assert "<strong>HOLD</strong>" in render_report(later)


def test_unknown_is_a_dash_never_the_word_none() -> None:
    texts = " ".join(Page(render_report(sample_report(dev=4, test=4))).texts)
    assert re.search(r"\b(None|nan|Undefined)\b", texts) is None


def test_the_same_data_give_the_same_bytes() -> None:
    assert render_report(full_report()) == render_report(full_report())


# ---------------------------------------------------------------- what cannot run


@pytest.fixture(scope="module")
def harmless() -> Page:
    return Page(render_report(changed(full_report(dev=3, test=2), lambda text: f"w {len(text)}")))


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_payload_in_every_field_adds_no_tag_and_no_attribute(
    payload: str, harmless: Page
) -> None:
    count = itertools.count()
    html = render_report(
        changed(full_report(dev=3, test=2), lambda text: f"{payload} {next(count)}")
    )
    html.encode("utf-8")
    page = Page(html)
    strange = {t for t in page.tags - harmless.tags if t[0] not in {"ins", "del"}}
    # A class or a mark of the page may differ; a tag or a name of an attribute may not.
    assert {(tag, names) for tag, names in strange if not _is_known(tag, names, harmless)} == set()
    assert page.programs == harmless.programs | {"script": page.programs["script"]}
    assert page.programs["script"][-1] == harmless.programs["script"][-1]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def _is_known(tag: str, names: tuple[str, ...], page: Page) -> bool:
    return (tag in {t for t, _ in page.tags}) and set(names) <= {
        n for t, known in page.tags if t == tag for n in known
    } | {"data-text", "data-sent", "data-case", "disabled"}


def test_the_page_asks_the_network_for_nothing() -> None:
    page = Page(render_report(full_report()))
    asks = {"src", "href", "srcset", "action", "data", "poster", "formaction", "xlink:href"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name != "style", (tag, name)
        if name in asks:
            assert value.startswith("#") or value == "data:,", (tag, name, value)
    assert "url(" not in page.programs["style"][0]
    assert "@import" not in page.programs["style"][0]


def test_the_policy_allows_exactly_the_two_inline_programs() -> None:
    html = render_report(full_report())
    rules = policy(html)
    programs = Page(html).programs
    assert rules["default-src"] == "'none'"
    for name in ("style", "script"):
        made = hashlib.sha256(programs[name][-1].encode()).digest()
        assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(made).decode()}'"
    assert "unsafe" not in " ".join(rules.values())
    assert rules["base-uri"] == rules["form-action"] == rules["trusted-types"] == "'none'"


def test_the_script_makes_no_markup_of_a_string() -> None:
    script = Page(render_report(BARE)).programs["script"][-1]
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in script
    assert len(script) < 20_000


# ---------------------------------------------------------------- what fits


def _long_words(rng: random.Random, size: int) -> str:
    return " ".join("".join(rng.choices("abcdefghij{}:\"'", k=6)) for _ in range(size // 7))


def _with_long_texts(data: ReportData, size: int) -> ReportData:
    """Few-shot prompts of about 5 x `size` characters, replies of `size`, over the dev cases."""
    rng = random.Random(3)
    rules = {r.result.candidate: _long_words(rng, 2 * size) for r in data.rungs}
    examples = [_long_words(rng, size // 2) for _ in range(200)]

    def longer(view: CaseView) -> CaseView:
        replies = []
        for r in view.replies:
            texts = [rules[r.candidate], *rng.sample(examples, 5), _long_words(rng, size // 2)]
            request = Request(messages=tuple(Message(role="user", content=t) for t in texts))
            reply = replace(r.reply, text=_long_words(rng, size)) if r.reply else None
            replies.append(replace(r, request=request, reply=reply))
        return CaseView(case=view.case, replies=tuple(replies))

    return replace(data, cases=tuple(longer(c) for c in data.cases if c.case.split == "dev"))


def test_sixty_cases_by_nine_candidates_stay_below_three_megabytes() -> None:
    data = sample_report(dev=60, test=4)
    data = replace(data, cases=tuple(c for c in data.cases if c.case.split == "dev"))
    assert {len(c.replies) for c in data.cases} == {9}
    assert len(render_report(data).encode()) < 3_000_000


def test_long_texts_are_kept_whole_below_three_megabytes() -> None:
    """540 few-shot prompts of 7,000 characters, and as many replies of 1,400."""
    data = _with_long_texts(sample_report(dev=60, test=4), 1_400)
    html = render_report(data)
    assert len(html.encode()) < 3_000_000
    page = Page(html)
    shown = set(page.texts) | set(page.island["texts"])
    for view in data.cases:
        for reply in view.replies:
            assert reply.request is not None
            for message in reply.request.messages:
                assert message.content in shown
            assert reply.reply is None or reply.reply.text in shown


def test_cases_past_the_budget_are_kept_whole_in_the_island() -> None:
    data = _with_long_texts(sample_report(dev=200, test=4), 900)
    html = render_report(data)
    page = Page(html)
    lazy = [v for _, n, v in page.attributes if n == "data-case"]
    assert lazy
    assert sorted(lazy) == sorted(page.island["cases"])
    told = page.island["cases"][lazy[0]]
    view = data.cases[int(lazy[0])]
    said = {page.island["texts"][r["text"]] for r in told["replies"] if r["text"] is not None}
    assert said == {r.reply.text for r in view.replies if r.reply}


# ---------------------------------------------------------------- how it is written


def test_a_report_is_written_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(BARE, path)
    assert path.read_text(encoding="utf-8") == render_report(BARE)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one", encoding="utf-8")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"report\.html.*No space left.*Free some space"):
        write_report(BARE, path)
    assert path.read_text(encoding="utf-8") == "the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(BARE, tmp_path / "file" / "report.html")


# ---------------------------------------------------------------- who can read it


def _colours(css: str) -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\n\s*\}", css, re.S)[:2]
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", b)) for b in blocks)
    return [light, light | dark]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    """Source: WCAG 2.2, 1.4.3 (4.5 to 1 for text) and 1.4.11 (3 to 1 for marks)."""
    colours = _colours(Page(render_report(BARE)).programs["style"][0])[scheme]
    texts = [
        (front, back)
        for front in ("ink", "soft")
        for back in ("paper", "card", "tint", "wall-tint", "good-tint", "bad-tint", "open-tint")
    ]
    texts += [(tone, f"{tone}-tint") for tone in ("wall", "good", "bad", "open", "go")]
    texts += [(tone, "card") for tone in ("wall", "good", "bad", "open", "tuned")]
    texts += [("tuned", "paper"), ("wall", "paper"), ("paper", "ink"), ("on-tie", "tie")]
    texts += [("on-win", "good"), ("on-loss", "bad"), ("bad", "tint"), ("soft", "go-tint")]
    marks = [(mark, "card") for mark in ("prompt", "best", "tuned", "soft", "wall")]
    weak = [(f, b, round(_contrast(colours[f], colours[b]), 2)) for f, b in texts]
    assert [w for w in weak if w[2] < 4.5] == []
    thin = [(f, b, round(_contrast(colours[f], colours[b]), 2)) for f, b in marks]
    assert [w for w in thin if w[2] < 3] == []


def test_every_chart_has_a_title_a_description_and_a_table() -> None:
    html = render_report(sample_report(dev=4, test=4))
    charts = re.findall(r'<svg [^>]*role="img" aria-labelledby="(\S+) (\S+)"', html)
    assert len(charts) == 2 + 2 * 2 + 1
    for title, description in charts:
        assert re.search(rf'<title id="{title}">[^<]+</title>', html)
        assert re.search(rf'<desc id="{description}">[^<]+</desc>', html)
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert html.count("The same as a table") == 3
