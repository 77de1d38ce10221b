"""`make bench`: our run beside bare clients and the installed peers, as ratios in one run.

Every subject is a whole process, started anew, in turn with the others, for some rounds; the
shortest time of each is kept, because what makes a run slower is the machine. The server is a
process of its own on the same machine and takes part of it; so it does for every subject.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import projects
from measuring import FLIGHT, HERE, SECONDS, Server, Subject, measure
from peers import our_python, peers
from tabulate import tabulate

ALONE = ", installed alone"
CLIENTS = ("httpx", "aiohttp", "libcurl")
LONG_S = 15.0
"""A peer that takes longer is run once: seconds of noise change nothing there."""


def bare_name(client: str) -> str:
    return f"bare client ({client})"


def ours(root: Path, server: Server, total: int, venvs: Path | None) -> dict[str, Subject]:
    """Return the floors and our own runs; with `venvs` in an environment of our own, too."""
    python = sys.executable
    task = projects.make_task(root / "ours", total=total)
    wrong = projects.make_task(root / "wrong", total=total, wrong=True)
    noop = projects.make_noop(root / "noop", total=total)
    alone = root / "alone"
    alone.mkdir()
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = [*pytest, "evals/words", "--candidate=plain", f"--base-url={server.url}"]

    def fresh() -> None:
        shutil.rmtree(task / ".harness", ignore_errors=True)

    def no_store() -> None:
        for path in alone.iterdir():
            path.unlink()

    bare = [python, str(HERE / "bare_client.py"), f"{server.url}/chat/completions", str(total)]
    subjects = [
        # without us, but with whatever other plugins are installed: each of them takes its part of
        # every item, and takes it of ours too
        Subject("no-op items", [*pytest, "-p", "no:harness", "test_noop.py"], noop),
        *(Subject(bare_name(name), [*bare, name], root) for name in CLIENTS),
        Subject(
            "engine alone",
            [python, str(HERE / "engine_alone.py"), server.url, str(total), str(alone)],
            root,
            before=no_store,
        ),
        Subject("ours", run, task, before=fresh),
        Subject("ours, from cache", run, task),
        Subject("ours, from cache, all missed", run, wrong),
    ]
    python_alone = None if venvs is None else our_python(venvs)
    if python_alone:
        clean = [python_alone, *pytest[1:]]
        run_alone = [python_alone, *run[1:]]
        subjects += [
            Subject(f"no-op items{ALONE}", [*clean, "-p", "no:harness", "test_noop.py"], noop),
            Subject(f"ours{ALONE}", run_alone, task, before=fresh),
            Subject(f"ours{ALONE}, from cache", run_alone, task),
        ]
    return {s.name: s for s in subjects}


def small(root: Path) -> dict[str, Subject]:
    """Return the start-up costs: the command line, and somebody else's pytest."""
    python = sys.executable
    noop = projects.make_noop(root / "foreign", total=1)
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_noop.py"]
    subjects = [
        Subject("import click", [python, "-c", "import click"], root),
        Subject("harness --help", [python, "-m", "harness", "--help"], root),
        Subject("foreign pytest with us", pytest, noop),
        Subject("foreign pytest without us", [*pytest, "-p", "no:harness"], noop),
    ]
    return {s.name: s for s in subjects}


def table(subjects: Mapping[str, Subject], *, against: float) -> str:
    """Return a table of subjects; `against` is the whole time that ratios are taken to."""
    rows = []
    for s in subjects.values():
        if not s.walls:
            rows.append([s.name, f"failed: {s.failed.splitlines()[-1][:70] if s.failed else '?'}"])
            continue
        rows.append(
            [
                s.name,
                f"{s.best:.2f}",
                f"{max(s.walls):.2f}",
                f"{min(s.cpus):.2f}",
                f"{s.best / against:.2f}",
                s.peak or "",
                f"{min(s.inner):.2f}" if s.inner else "",
            ]
        )
    heads = [
        "whole process",
        "best s",
        "worst s",
        "CPU s",
        "times ours",
        "peak",
        "requests alone s",
    ]
    return tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)


Subjects = Mapping[str, Subject]
SHOWN = {
    "pydantic-evals, aiohttp client": "shown: no store, cache, tries or limiter",
}
"""What is no promise, and why not."""


def line(what: str, value: float, limit: float, *, least: bool = False) -> list[str]:
    """Return a row: what was promised, what was measured, and whether it held."""
    holds = value >= limit if least else value <= limit
    sign = "at least" if least else "at most"
    return [what, f"{value:.2f}", f"{sign} {limit:g}", "yes" if holds else "NO"]


def claims(mine: Subjects, tiny: Subjects, others: Subjects, total: int) -> list[list[str]]:
    """Return a row for each promise."""
    noop, run = mine["no-op items"], mine["ours"]
    bare = min((mine[bare_name(name)] for name in CLIENTS), key=lambda s: s.best)
    cached, missed = mine["ours, from cache"], mine["ours, from cache, all missed"]
    with_us, without = tiny["foreign pytest with us"], tiny["foreign pytest without us"]
    alone = min(mine["engine alone"].inner) / min(bare.inner)
    start = tiny["harness --help"].best / tiny["import click"].best
    found = [
        line(f"whole run / (no-op items + {bare.name})", run.best / (noop.best + bare.best), 1.3),
        line("most requests in flight", run.peak, FLIGHT, least=True),
        line(f"engine alone / {bare.name}, requests alone", alone, 1.5),
        line("run from cache / no-op items", cached.best / noop.best, 1.3),
        line("a miss, more than a pass, ms", 1000 * (missed.best - cached.best) / total, 2.0),
        line("--help / import click", start, 2.0),
        line("added to a foreign pytest run, ms", 1000 * (with_us.best - without.best), 20),
    ]
    beside = mine.get(f"ours{ALONE}", run)
    for name, peer in others.items():
        ratio = peer.best / beside.best if peer.walls else 0.0
        if peer.walls and name in SHOWN:
            found.append([f"{name} / ours", f"{ratio:.2f}", SHOWN[name], ""])
        elif peer.walls:
            limit = 1.5 if name.startswith("pydantic") else 3.0
            found.append(line(f"{name} / ours", ratio, limit, least=True))
    return found


def page(mine: Subjects, tiny: Subjects, others: Subjects, options: argparse.Namespace) -> str:
    """Return the page that is committed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    head = (
        f"Made by `make bench`: {options.cases:,} cases of {1000 * SECONDS:.0f} ms, {FLIGHT} in "
        f"flight; {options.rounds} rounds of all in turn, the best kept (a peer that takes more "
        f"than {LONG_S:g} s has one, start-ups have three times as many); {cores} cores, Python "
        f"{platform.python_version()}. Times are of whole processes, imports included; the server "
        "shares the machine. The bare client of a ratio is the fastest of three. A peer asks "
        "with the client that its own pages use. The first eight rows are of the developer's "
        "environment, whose pytest plugins take their part of "
        "every item, ours and empty; a peer is installed alone, and so are ours beside it."
    )
    rows = claims(mine, tiny, others, options.cases)
    heads = ["ratio", "measured", "promised", "held"]
    promised = tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True)
    best = mine.get(f"ours{ALONE}", mine["ours"]).best
    every = table({**mine, **others}, against=best)
    parts = ["# Bench", head, promised, *notes(mine, others), every, table(tiny, against=best)]
    return "\n\n".join(parts) + "\n"


def notes(mine: Subjects, others: Subjects) -> list[str]:
    """Return what a reader of the ratios should know."""
    first = (
        "pydantic-evals over aiohttp is a bare client inside a library: what the first two rows "
        "count as the floor, but for the no-op items. It keeps no reply: a run that is killed "
        "starts again."
    )
    deepeval = (
        "deepeval's pages run an application in two ways, `deepeval test run` and "
        "`evals_iterator()`. Two others are faster: `evaluate()` scores replies that somebody else "
        "fetched, and a metric that asks is a client written into a score, whose reply deepeval "
        "neither sees nor keeps. The promise is held against all four."
    )
    found = [first, deepeval] if any("deepeval" in name for name in others) else [first]
    noop, cached = mine.get(f"no-op items{ALONE}"), mine.get(f"ours{ALONE}, from cache")
    if noop and cached:
        bare = min(mine[bare_name(name)].best for name in CLIENTS)
        floor = noop.best + bare
        found.append(
            f"Installed alone, from cache / no-op items is {cached.best / noop.best:.2f} "
            f"({cached.best - noop.best:.2f} s more): without other plugins the empty items cost "
            "less, and ours as much."
        )
        reach = [
            f"{peer.best / floor:.1f}x of {name}"
            for name, peer in others.items()
            if peer.walls and peer.best < 3 * floor
        ]
        if reach:
            found.append(
                f"The no-op items and the bare client, one after the other, take {floor:.2f} s "
                "installed alone. A tool that runs its items once all replies are there could at "
                "best be ahead by "
                + ", ".join(reach)
                + ": ours runs them while later replies are on their way (docs/decisions/0013)."
            )
    return found


def main() -> int:
    """Measure, print, and write the page where `--out` names one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--venvs", type=Path, default=HERE.parents[1] / ".bench")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    server = Server()
    try:
        with tempfile.TemporaryDirectory() as name:
            root, total = Path(name), options.cases
            venvs = None if options.no_peers else options.venvs
            mine, tiny = ours(root, server, total, venvs), small(root)
            found = [] if options.no_peers else peers(root, server.url, total, options.venvs)
            others = {s.name: s for s in found}
            for turn in range(options.rounds):
                group = [*mine.values(), *tiny.values(), *tiny.values(), *tiny.values()]
                group += [s for s in others.values() if not s.walls or s.best < LONG_S]
                for subject in group:
                    measure(subject, server)
                    shown = subject.failed[-400:] or f"{subject.walls[-1]:.2f} s"
                    print(f"{turn + 1}/{options.rounds} {subject.name}: {shown}", flush=True)
    finally:
        server.close()
    broken = [s for s in (*mine.values(), *tiny.values()) if s.failed]
    if broken:
        raise SystemExit(f"{broken[0].name} failed: {broken[0].failed}")
    text = page(mine, tiny, others, options)
    print(text)
    if options.out:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
