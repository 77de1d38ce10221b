"""What ended a process: learnt from how it ended, what was under way, and the stack that it left.

Says it on standard error, and tells whether a command is to begin again. Forks nothing.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.words import count, listed
from harness.engine.life import End, Life
from harness.engine.reins import NAMED
from harness.surface.words import clean, from_here

CRASHES = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
ALIKE = 3
"""Where so many evals ended their processes at one place before they began, the others will, too:
a fixture that all of them need.
"""
KEPT = "What was scored is kept: `harness runs` lists it as a partial run."
ANSWERED = "What was answered is kept."
AGAIN = "The run begins again without it; what was answered is kept."
TOO_LONG = "Timeout ("
"""What `faulthandler` begins with where it ends a process."""
SHOWN = 12
"""How many frames are shown of what ended a process."""
NAMES = 4
"""How many requests are named of those that were under way together."""
_MACHINERY = ("/_pytest/", "/pluggy/", "/harness/surface/", "/harness/engine/", "/harness_apps/")
_REQUEST = re.compile(rf'  File "(\S+) (.*)", line \d+ in {NAMED}$')


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """Where a thread stood, the innermost frame first. `request` is the key of what it was at, and
    `name` what that is called.
    """

    frames: Sequence[str]
    is_current: bool
    request: str = ""
    name: str = ""


def write(text: str) -> None:
    """Say something on standard error, where there is one."""
    with suppress(OSError):
        os.write(2, clean(text).encode("utf-8", "backslashreplace"))


def learn(ours: Life, code: int, *, stack: str, heard: str) -> bool:
    """Take note of what ended its process, and say it; return whether the command is to begin
    again. It is over where it came to its end, where a signal was sent, or nothing is new.

    `code` is the process's exit code, that of a signal negative; `heard` is "sent" where one was
    while the same was under way, "stopped" where the process was, else "".
    """
    under_way, asked = ours.under_way(), ours.asked()
    ours.leave()
    ours.ask({})
    is_stopped = heard == "stopped" and not ours.is_over
    if is_stopped and stack.startswith(TOO_LONG):  # whatever went on first
        what = "a request" if asked else "an eval"
        write(
            f"\nThe command was stopped (Ctrl-Z) for longer than {what} may take. The run begins "
            "again; what was answered is kept.\n"
        )
        return True
    if heard == "sent" and stack.startswith(TOO_LONG) and (asked or under_way):
        what = _names(asked.values()) if asked else under_way[2] if under_way else ""
        kept = ANSWERED if asked else KEPT
        write(f"\nA signal came, and {what} did not come back in time. {kept}\n")
        return False
    left = _left_behind(stack, asked) if heard != "sent" else ()
    if left:
        return _learn_of_left_behind(ours, left, code, stack)
    if not (under_way or asked) or heard == "sent":
        write(stack)
        return False
    if asked:
        return _learn_of_requests(ours, asked, code, stack)
    assert under_way is not None
    phase, path, nodeid = under_way
    did = _deed(code, stack)
    if did is None:
        _say_who(f"{nodeid} was", code, KEPT)
        return False
    frames = _of_folder(_threads(stack), path.parent)
    place = _place(frames, path.parent)
    end = End(phase=phase, place=place, did=did)
    is_known = nodeid in ours.ended
    ours.ended[nodeid] = end
    are_alike = phase == "setup" and [*ours.ended.values()].count(end) >= ALIKE
    if is_known:
        rest = f"It was not called, and did so once more: the command ends. {KEPT}"
    elif are_alike:
        rest = f"So did {ALIKE - 1} others before they began: the command ends. {KEPT}"
    else:
        rest = AGAIN
    _say(frames, f"{nodeid} {did or 'did not end in time, and its process was ended'}", place, rest)
    return not (is_known or are_alike)


def _learn_of_requests(ours: Life, asked: Mapping[str, str], code: int, stack: str) -> bool:
    """Take note of the request that ended its process, or of those that one of them may be."""
    names = _names(asked.values())
    did = _deed(code, stack)
    if did is None:
        _say_who(f"{names} {'was' if len(asked) == 1 else 'were'}", code, ANSWERED)
        return False
    did_so = did or "did not come back in time, and the process was ended"
    threads = _threads(stack)
    culprit = _culprit(threads, asked)
    if culprit is None:
        is_new = not set(asked) <= ours.suspects
        ours.suspects |= set(asked)
        rest = "each of them is asked alone" if is_new else "the command ends"
        _say(
            _crashed(threads) if len(threads) == 1 else (),
            f"One of {count(len(asked), 'request')} ({names}) {did_so}",
            "",
            f"The run begins again, and {rest}; what was answered is kept." if is_new else ANSWERED,
        )
        return is_new
    frames = next((t.frames for t in threads if t.request == culprit), ()) or _crashed(threads)
    place = _place(frames, Path.cwd()) or _file_of(frames)
    is_known = culprit in ours.lost
    ours.lost[culprit] = End(place=place, did=did)
    ours.suspects.discard(culprit)
    rest = f"It was not asked, and did so once more: the command ends. {ANSWERED}"
    _say(frames, f"{asked[culprit]} {did_so}", place, rest if is_known else AGAIN)
    return not is_known


def _learn_of_left_behind(ours: Life, left: Sequence[Thread], code: int, stack: str) -> bool:
    """Take note of requests that were given up, and went on beside others: nobody else is blamed.
    They were late, so that it costs no reply not to ask them again.
    """
    did = _deed(code, stack) or ""
    rest = AGAIN if not ours.is_over else "Every eval was called by then: the command ends."
    for thread in left:
        place = _place(thread.frames, Path.cwd()) or _file_of(thread.frames)
        ours.lost[thread.request] = End(place=place, did=did)
        did_so = did or "was still not back, and the process was ended"
        _say(thread.frames, f"{thread.name}, given up before as too late, {did_so}", place, rest)
    return not ours.is_over


def _names(asked: Collection[str]) -> str:
    """Return `c1, c2 and c3 of BACKEND`, not all of them where they are many."""
    backends = listed(sorted({name.rpartition(" of ")[2] for name in asked}))
    cases = [name.rpartition(" of ")[0] for name in asked]
    return f"{listed(cases[:NAMES] + ['others'] * (len(cases) > NAMES))} of {backends}"


def _culprit(threads: Sequence[Thread], asked: Collection[str]) -> str | None:
    """Return the key of the request that crashed, or that was under way alone."""
    crashed = next((t.request for t in threads if t.is_current and t.request in asked), None)
    return crashed or (next(iter(asked)) if len(asked) == 1 else None)


def _left_behind(stack: str, asked: Collection[str]) -> Sequence[Thread]:
    """Return the threads at requests that nobody waits for any more: the one that crashed; or all,
    where something held the process, as it may be each of them.
    """
    is_held = stack.startswith(TOO_LONG)
    left = {t.request: t for t in _threads(stack) if t.request and (is_held or t.is_current)}
    return [thread for key, thread in left.items() if key not in asked]


def _say(frames: Sequence[str], said: str, place: str, rest: str) -> None:
    shown = [*frames[:SHOWN], *(["  ..."] if len(frames) > SHOWN else [])]
    at = f", at {place}" if place else ""
    write("\n".join(["", *shown, f"{said}{at}. {rest}", ""]))


def _say_who(what: str, code: int, kept: str) -> None:
    write(
        f"\n{what} under way when its process was ended ({signal.strsignal(-code)}): by somebody, "
        f"by a limit, or by a machine that is out of memory. {kept}\n"
    )


def _deed(code: int, stack: str) -> str | None:
    """Return what was done that ended a process so; "" where it was ended since something did not
    come back, None where it was somebody else's doing: a person's, or that of a machine out of
    memory.
    """
    if stack.startswith(TOO_LONG):
        return ""
    if code >= 0:
        return f"ended its process with exit code {code}"
    return f"crashed its process ({signal.Signals(-code).name})" if -code in CRASHES else None


# ---------------------------------------------------------------- the stack


def _threads(stack: str) -> list[Thread]:
    """Return the threads that `faulthandler` shows, their frames as far as pytest's or ours."""
    found: list[tuple[bool, list[str]]] = []
    for line in stack.splitlines():
        if line.startswith(("Thread ", "Current thread ")):
            found.append((line.startswith("Current"), []))
        elif line.startswith("  File ") and found:
            found[-1][1].append(line)
    threads = []
    for is_current, frames in found:
        request, name = next((m.groups() for m in map(_REQUEST.match, frames) if m), ("", ""))
        ends = (i for i, f in enumerate(frames) if any(m in f for m in _MACHINERY))
        shown = frames[: next(ends, len(frames))]
        threads.append(Thread(frames=shown, is_current=is_current, request=request, name=name))
    return threads


def _crashed(threads: Sequence[Thread]) -> Sequence[str]:
    return next((t.frames for t in threads if t.is_current), ())


def _of_folder(threads: Sequence[Thread], folder: Path) -> Sequence[str]:
    """Return the frames of the thread that was in a file of `folder`, or of that which crashed."""
    inside = [thread.frames for thread in threads if _place(thread.frames, folder)]
    return inside[-1] if inside else _crashed(threads)


def _place(frames: Sequence[str], folder: Path) -> str:
    """Return FILE:LINE, as typed here, of the innermost frame in a file of `folder`, or ""."""
    begin = f"{folder}/".encode("ascii", "backslashreplace").decode()  # as `faulthandler` writes it
    for frame in frames:
        file, line = _file_and_line(frame)
        if file.startswith(begin) and "/site-packages/" not in file.removeprefix(begin):
            return f"{from_here(str(folder / file.removeprefix(begin)))}:{line}"
    return ""


def _file_of(frames: Sequence[str]) -> str:
    """Return FILE:LINE of the outermost frame: what was called, wherever it is; or ""."""
    return ":".join(_file_and_line(frames[-1])) if frames else ""


def _file_and_line(frame: str) -> tuple[str, str]:
    file, _, rest = frame.removeprefix('  File "').rpartition('", line ')
    return file, rest.partition(" ")[0]
