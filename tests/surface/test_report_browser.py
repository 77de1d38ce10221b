"""The page in a real Chromium: nothing of a model's words runs, and the keys and filters work."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.surface.report import words
from harness.surface.report.page import render_report
from tests.surface.chromium import Browser, binary
from tests.surface.payloads import OUT, PAYLOADS, RUN, changed
from tests.surface.sample_report import full_report, sample_report
from tests.surface.test_report import _with_long_texts

pytestmark = pytest.mark.skipif(binary() is None, reason="no chromium on this machine")

OPEN_ALL = """(async () => {
  for (let round = 0; round < 2; round++) {
    document.querySelectorAll('details').forEach((box) => { box.open = true; });
    await new Promise((done) => setTimeout(done, 80));
  }
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


def load(browser: Browser, html: str, folder: Path, *, fragment: str = "") -> Path:
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    browser.open(path, fragment=fragment)
    return path


def misdeeds(browser: Browser, path: Path) -> dict[str, list[Any]]:
    """Everything that a page of text alone would not do."""
    asked = [p["request"]["url"] for p in browser.told("Network.requestWillBeSent")]
    return {
        "dialogs": browser.told("Page.javascriptDialogOpening"),
        "requests": [u for u in asked if u not in {path.as_uri(), "data:,"}],
        "refused": [p["entry"]["text"] for p in browser.told("Log.entryAdded")],
        "errors": browser.told("Runtime.exceptionThrown"),
    }


CLEAN: dict[str, list[Any]] = {"dialogs": [], "requests": [], "refused": [], "errors": []}


# ---------------------------------------------------------------- what cannot run


def test_the_guard_sees_what_an_unescaped_page_would_do(browser: Browser, tmp_path: Path) -> None:
    """A guard that cannot fail guards nothing."""
    html = f"<!doctype html><title>x</title><img src={OUT}><script>{RUN}</script>"
    path = load(browser, html, tmp_path)
    seen = misdeeds(browser, path)
    assert len(seen["dialogs"]) == 1
    assert seen["requests"] == [OUT]
    assert browser.run("document.title") == "pwned"


@pytest.mark.parametrize("turn", range(0, len(PAYLOADS), 3))
def test_no_payload_runs_in_any_field(turn: int, browser: Browser, tmp_path: Path) -> None:
    """Every text of every record bears a payload, by turns others; test_report tries all in all."""
    count = itertools.count(turn)
    data = changed(
        full_report(dev=2, test=1), lambda text: f"{PAYLOADS[next(count) % len(PAYLOADS)]}{text}"
    )
    path = load(browser, render_report(data), tmp_path)
    browser.run(OPEN_ALL)
    browser.settle(0.05)
    assert misdeeds(browser, path) == CLEAN
    assert browser.run("document.title").endswith("tuning-harness report")
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.querySelectorAll('iframe,object,embed,form,img').length") == 0


def test_no_payload_runs_where_the_script_builds_the_case(browser: Browser, tmp_path: Path) -> None:
    count = itertools.count()
    data = _with_long_texts(sample_report(dev=120, test=2), 900)
    wild = changed(data, lambda text: f"{PAYLOADS[next(count) % len(PAYLOADS)]}{text[:900]}")
    html = render_report(wild)
    path = load(browser, html, tmp_path)
    built = browser.run("document.querySelectorAll('.case[data-case]').length")
    assert built > 0
    browser.run("document.querySelectorAll('.case[data-case]').forEach(b => { b.open = true; })")
    browser.until("!document.querySelector('.case[data-case]')")
    assert misdeeds(browser, path) == CLEAN
    assert browser.run("document.querySelectorAll('iframe,object,embed,form,img').length") == 0


# ---------------------------------------------------------------- what works


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Browser:
    browser.look(width=1200)
    load(browser, render_report(sample_report()), tmp_path)
    return browser


def visible(browser: Browser) -> list[str]:
    found: list[str] = browser.run(
        "[...document.querySelectorAll('.case')].filter(b => b.offsetParent !== null)"
        ".map(b => b.dataset.id)"
    )
    return found


def test_the_page_opens_without_an_error(page: Browser, tmp_path: Path) -> None:
    assert misdeeds(page, tmp_path / "report.html") == CLEAN
    assert page.run("document.title") == "nl_query · tuning-harness report"


def test_keys_move_open_and_search(page: Browser) -> None:
    shown = visible(page)
    for key in ("j", "j", "k", "j", "Enter"):
        page.press(key)
    page.settle(0.1)
    assert page.run("[...document.querySelectorAll('.case[open]')].map(b => b.dataset.id)") == [
        shown[1]
    ]
    page.press("/")
    assert page.run("document.activeElement.type") == "search"
    page.press("j")
    assert page.run("document.activeElement.value") == "j"


def test_chips_and_search_sift_the_cases(page: Browser) -> None:
    assert len(visible(page)) == 30
    page.run("document.querySelector('.all').click()")
    assert len(visible(page)) == 100
    page.run("document.querySelector('[data-filter=regressed]').click()")
    assert visible(page) == ["test-0002"]
    page.run("document.querySelector('[data-filter=\"\"]').click()")
    page.run(
        "(() => { const f = document.querySelector('.search input'); f.value = 'dev-0013';"
        "f.dispatchEvent(new Event('input')); })()"
    )
    assert visible(page) == ["dev-0013"]


def test_a_link_to_a_case_opens_it(browser: Browser, tmp_path: Path) -> None:
    load(browser, render_report(sample_report()), tmp_path, fragment="#case=dev-0030")
    assert browser.run("document.querySelector('.case[open]').dataset.id") == "dev-0030"
    assert browser.run("document.querySelector('.case[open]').offsetParent !== null")
    load(browser, render_report(sample_report()), tmp_path, fragment="#case=%E0%A4%A")
    assert browser.run("document.querySelectorAll('.case').length") == 100


def test_prompts_show_their_spaces_and_copy_as_they_were_sent(page: Browser) -> None:
    """Each prompt of a case, opened: from the page or from the island, text for text."""
    data = sample_report()
    view = next(c for c in data.cases if c.case.id == "dev-0013")
    page.run("document.querySelector('[data-id=dev-0013]').open = true")
    page.run(OPEN_ALL.replace("'details'", "'[data-id=dev-0013] details'"))
    got = page.run(
        "Object.fromEntries([...document.querySelectorAll('[data-id=dev-0013] .reply')].map(r => "
        "[r.querySelector('header b').textContent, "
        "[...r.querySelectorAll('.turn .text')].map(t => t.textContent)]))"
    )
    for reply in view.replies:
        if reply.request is None:
            continue
        schema = [json.dumps(reply.request.schema, separators=(",", ":"))]
        sent = [m.content for m in reply.request.messages]
        assert got[reply.candidate] == sent + (schema if reply.request.schema else [])
    assert page.run("document.querySelectorAll('.tab').length") > 0
    assert page.run("document.querySelectorAll('.nl').length") > 0


def test_long_texts_become_whole_when_a_case_is_opened(browser: Browser, tmp_path: Path) -> None:
    data = _with_long_texts(sample_report(dev=60, test=4), 1_400)
    load(browser, render_report(data), tmp_path)
    for kind in (".case:not([data-case])", ".case[data-case]"):
        where = browser.run(f"document.querySelector('{kind}').dataset.id")
        browser.run(f"document.querySelector('{kind}').open = true")
        browser.until(f"!document.querySelector('[data-id={where}]').matches('[data-case]')")
        browser.until(f"!document.querySelector('[data-id={where}] [data-text]')")
        text = browser.run(f"document.querySelector('[data-id={where}]').textContent")
        view = next(c for c in data.cases if c.case.id == where)
        for reply in view.replies:
            assert reply.reply is None or reply.reply.text in text


@pytest.mark.parametrize("width", [360, 400, 768, 1280])
def test_no_width_makes_the_page_scroll_sideways(
    width: int, browser: Browser, tmp_path: Path
) -> None:
    browser.look(width=width)
    load(browser, render_report(full_report()), tmp_path)
    browser.run(OPEN_ALL)
    assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_checks_of_a_release_have_room_for_their_words_on_a_telephone(
    browser: Browser, tmp_path: Path
) -> None:
    """They were squeezed to one word a line, in rows half a screen tall."""
    browser.look(width=400)
    load(browser, render_report(full_report()), tmp_path)
    words = "[...document.querySelectorAll('.checks tbody td:last-child')]"
    assert browser.run(f"Math.min(...{words}.map((cell) => cell.offsetWidth))") >= 200


def test_a_long_ladder_leaves_room_for_what_became_of_a_case(
    browser: Browser, tmp_path: Path
) -> None:
    """The squares of two dozen candidates squeezed `missed` to a letter a line."""
    data = full_report()
    more = []
    for view in data.cases:
        twins = (replace(r, candidate=f"{r.candidate}-{n}") for n in range(3) for r in view.replies)
        more.append(replace(view, replies=(*view.replies, *twins)))
    browser.look(width=400)
    load(browser, render_report(replace(data, cases=tuple(more))), tmp_path)
    assert browser.run("Math.max(...[...document.querySelectorAll('.strip')].map("
                       "(strip) => strip.children.length))") > 24  # fmt: skip
    pills = "[...document.querySelectorAll('.case .pill')]"
    assert browser.run(f"Math.max(...{pills}.map((pill) => pill.offsetHeight))") <= 30
    assert browser.run("document.documentElement.scrollWidth") <= 400


def test_without_script_everything_but_cut_texts_is_readable(tmp_path: Path) -> None:
    data = sample_report(dev=6, test=4)
    path = tmp_path / "report.html"
    path.write_text(render_report(data), encoding="utf-8")
    with Browser(allow_script=False) as quiet:
        quiet.open(path)
        assert quiet.run("document.querySelector('.tools').hidden")
        text = quiet.run("document.body.innerText")
        reasons = (words.said(v.reason) for v in (data.wall, data.release) if v)
        for said in (*reasons, "same_query", "How to reproduce"):
            assert said in text
        whole = quiet.run("document.querySelector('#rows').textContent")
        for view in data.cases:
            for reply in view.replies:
                # a reply that is compared word by word has the missing words between its own
                if reply.reply is not None and (reply.primary or reply.candidate == "zero-shot"):
                    assert reply.reply.text in whole
