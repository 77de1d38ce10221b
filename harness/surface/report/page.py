"""Draws a report and writes it to a file. Knows nothing of the store or of how it was measured.

What a model said is untrusted: it reaches the page as escaped text only, the page forbids by its
own policy every script and style but its own two, and it asks the network for nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from harness.errors import StoreError
from harness.records import Json
from harness.store.flushing import flush_folder
from harness.surface.report import cases, charts, words
from harness.surface.report.curves import curve_of
from harness.surface.report.island import Island
from harness.surface.report.model import ReportData, Rung
from harness.surface.report.summaries import as_text, to_the_minute

# Characters that would change how the text around them is read, or that HTML cannot hold: controls
# but tab and newline, marks that turn the writing direction, invisible ones, halves of surrogates.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)


def render_report(data: ReportData) -> str:
    """Return the whole page. The same data give the same text."""
    island = Island()
    rows = cases.rows(data, island)
    rungs = data.rungs or tuple(Rung(result=t) for t in (data.wall.tries if data.wall else ()))
    measured = tuple(r for r in rungs if r.result.estimate.n)  # the others have faults alone
    best = _best(data, measured)
    styles, script = _source("report.css"), _source("report.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_hash(styles)}'",
            f"script-src '{_hash(script)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    compared = [*([data.release.comparison] if data.release else []), *data.comparisons]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            words=words,
            policy=policy,
            styles=styles,
            script=script,
            wall=None if data.wall is None else words.wall_answer(data.wall.answer),
            release=None if data.release is None else words.release_answer(data.release.answer),
            rungs=rungs,
            best=best,
            ladders=[
                charts.ladder(
                    measured,
                    target=data.target,
                    best=None if best is None else best.result.candidate,
                    wide=wide,
                )
                for wide in (True, False)
                if measured
            ],
            headline=_headline(data, measured, best),
            compared=[
                (c, [charts.delta(c, min_gain=data.min_gain, wide=w) for w in (True, False)])
                for c in compared
            ],
            rows=rows,
            counts=cases.counts(rows),
            filters=cases.FILTERS,
            columns=cases.columns(data),
            kinds={r.result.candidate: r.kind for r in rungs},
            histogram=charts.histogram(data.data.lengths) if data.data else None,
            overrides=_overrides(data),
            curves=[curve_of(a) for a in data.artifacts],
            slowest=max((r.p95_latency_s or 0.0 for r in data.costs), default=0.0),
            island=None if island.is_empty else island.packed(),
        )
    )


def write_report(data: ReportData, path: Path) -> None:
    """Write the page to `path`: whole or not at all. Raises StoreError where it cannot be."""
    write_page(render_report(data), path)


def still_page(template: str, *, style_sheets: tuple[str, ...], **values: Any) -> str:
    """Return a page without a script, in the report's own style and under as strict a policy."""
    styles = "\n".join(_source(name) for name in style_sheets)
    policy = f"default-src 'none'; style-src '{_hash(styles)}'; img-src data:; base-uri 'none'; "
    policy += "form-action 'none'"
    page = _environment().get_template(template)
    return page.render(policy=policy, styles=styles, words=words, **values)


def write_page(text: str, path: Path) -> None:
    """Write a page to `path`: whole or not at all. Raises StoreError where it cannot be."""
    blob = text.encode("utf-8")
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("xb") as stream:
            stream.write(blob)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        flush_folder(path.parent)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StoreError(
            f"{path}: the page cannot be written: {exc.strerror or exc}. "
            "Free some space, or choose another place with --out."
        ) from exc


# ---------------------------------------------------------------- what the page says of itself


def _best(data: ReportData, rungs: tuple[Rung, ...]) -> Rung | None:
    prompts = [r for r in rungs if r.kind == "prompt" and r.result.is_counted]
    named = data.wall.best if data.wall is not None else None
    chosen = [r for r in prompts if r.result.candidate == named] or prompts
    return max(chosen, key=lambda r: r.result.estimate.mean, default=None)


def _headline(data: ReportData, rungs: tuple[Rung, ...], best: Rung | None) -> list[Json]:
    """The four numbers that tell the story: label, number, remark, tone."""
    found: list[Json] = []
    if best is not None:
        found.append(_figure("Best prompt", best, tone="ink"))
    tuned = [r for r in rungs if r.kind == "tuned"]
    if tuned:
        top = max(tuned, key=lambda r: r.result.estimate.mean)
        found.append(_figure("Tuned", top, tone="tuned"))
    if data.target is not None:
        found.append(("Target", words.percent(data.target), data.target_reason, "target"))
    if data.release is not None:
        gain = data.release.comparison.delta
        sure = words.surety(gain.alpha)
        remark = f"points on {words.plural(gain.n, 'case')}; at least "
        remark += f"{words.points(gain.lower)}, {sure} sure"
        where = "Gain, sealed test" if data.release.comparison.split == "test" else "Gain"
        found.append((where, words.points(gain.mean), remark, "ink"))
    return found


def _figure(label: str, rung: Rung, *, tone: str) -> tuple[str, str, str, str]:
    tried = rung.result
    remark = f"{tried.candidate} on dev, {words.span(tried.estimate)}"
    return label, words.percent(tried.estimate.mean), remark, tone


def _overrides(data: ReportData) -> tuple[str, ...]:
    """Every override, wherever it was recorded, once."""
    found = [e.text or as_text(e.payload) for e in data.ledger if e.kind == "override"]
    found += [a.override for a in data.artifacts if a.override]
    found += data.release.overrides if data.release is not None else ()
    return tuple(dict.fromkeys(found))


# ---------------------------------------------------------------- templates


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.surface.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["as_text"] = as_text
    made.filters["to_the_minute"] = to_the_minute
    return made


def _seen(value: Any) -> Any:
    """Every value on its way into the page: unseen characters shown, None as a dash."""
    if value is None:
        return words.NONE
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _UNSEEN.sub(_show, value)
    return value


def _show(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\u27e8U+{code:04X}\u27e9"


@cache
def _source(name: str) -> str:
    loader = _environment().loader
    assert loader is not None, "the environment is made with one"
    return loader.get_source(_environment(), name)[0]


def _hash(text: str) -> str:
    """Return the source expression of a policy that allows exactly this inline text."""
    made = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(made).decode('ascii')}"
