"""The parent of a command that runs evals: what takes its process with it costs its own case alone.

Code in C that never comes back and holds the interpreter ends with its process alone, and a crash
in C ends its process, too. So the command forks before it does anything else: the child is the
command, and the parent waits for it. Where the child ends under an eval, the next child begins
anew, finds what is recorded, and knows what that eval did (docs/decisions/0020). Linux alone.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from harness.core.words import count
from harness.engine.life import Life, life, live
from harness.engine.reins import REINS
from harness.surface.orphans import adopt, began_at, end_orphans

SENT = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
"""What is sent to the process that somebody started, and handed on to its child."""
FOR_ALL = {signal.SIGTERM, signal.SIGHUP}
"""What ends the command, and what its evals have begun, where it comes to the group."""
FROM_KERNEL = 0x80
"""`si_code` of what a terminal sends, to each process of its group."""


def begin(config: object = None) -> None:
    """Fork, and return in the child, which is the command from here on; the parent does not return.

    Returns at once where that would not be what it seems: in a process with other threads (a
    notebook, a debugger), or in such a child; and where the system lets none be. An eval then ends
    its process, and the command.
    """
    if life() is not None:
        return
    try:
        if len(list(Path("/proc/self/task").iterdir())) != 1:
            return
        ours = Life(config, stack_fd=_beside_standard(os.memfd_create("harness-stack")))
        breath = _breath()
    except OSError:  # no /proc, no files in memory, no signals of pipes
        return
    has_terminal = _has_terminal()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # it is None, full, or closed
            stream.flush()
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:  # as its own parent may have left it
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*SENT, signal.SIGCHLD})
    parent, code = os.getpid(), 0
    while True:
        try:
            child = os.fork()
        except OSError as exc:  # no more processes, no memory
            if ours.former:
                from harness.surface.post_mortem import KEPT, write

                write(f"It cannot: {exc}. {KEPT}\n")
                _end(code)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        if child == 0:
            _be_child_of(parent, breath, has_terminal=has_terminal)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.register_at_fork(after_in_child=ours.part)
            live(ours)
            REINS.stack_fd = ours.stack_fd
            return
        if not has_terminal:
            _lead(child)
        if not ours.former:
            adopt()
        since = began_at(child)
        code, heard = _wait(child, ours, has_terminal=has_terminal)
        if not _goes_on(ours, code, heard=heard):
            fcntl.fcntl(breath[0], fcntl.F_SETOWN, 0)  # what is left of its group may go on
            _end(code)
        if many := end_orphans(since=since):  # the next process begins them again
            from harness.surface.post_mortem import write

            write(f"{count(many, 'program')} that it had begun ended with it.\n")
        for number in signal.sigpending() & SENT:  # it came while there was no child to hear it
            if signal.getsignal(number) != signal.SIG_IGN:
                _end(-number)
        ours.former.append(child)


def _beside_standard(fd: int) -> int:
    """Return `fd`, or another where it is one of 0, 1 and 2, which was closed: pytest will put
    something else in its place.
    """
    if fd > 2:
        return fd
    other = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return other


def _breath() -> tuple[int, int]:
    """Return both ends of a pipe. Whoever kills the parent means the command: the kernel sends
    SIGKILL to the owner of the one once nobody can write to the other.
    """
    ends = os.pipe()
    reader, writer = [_beside_standard(fd) for fd in ends]
    fcntl.fcntl(reader, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC)
    return reader, writer


def _lead(child: int) -> None:
    """Make a child the leader of its own group: what is sent to the group of the parent is handed
    on, and comes once. Called in both processes, since either may be the first to need it.
    """
    with suppress(OSError):  # it ended
        os.setpgid(child, child)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _be_child_of(parent: int, breath: tuple[int, int], *, has_terminal: bool) -> None:
    reader, writer = breath
    os.close(writer)
    us = os.getpid()
    if not has_terminal:
        _lead(us)
    fcntl.fcntl(reader, fcntl.F_SETOWN, us if has_terminal else -us)  # its group, and all of it
    if os.getppid() != parent:
        os._exit(1)


def _wait(child: int, ours: Life, *, has_terminal: bool) -> tuple[int, str]:
    """Hand signals on until a child ends; return its exit code, that of a signal negative, and what
    was heard: "sent", of a signal while that was under way which was at the end, "stopped", or "".
    """
    was_stopped, is_sent, under = False, False, ours.busy_with()
    while True:
        heard: Any = signal.sigwaitinfo({*SENT, signal.SIGCHLD})
        if heard.si_signo == signal.SIGCHLD:
            pid = -1
            while pid:  # until none is left that ended: orphans have nobody else
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == child:
                    code = os.waitstatus_to_exitcode(status)
                    if is_sent and under == ours.busy_with():
                        return code, "sent"
                    return code, "stopped" if was_stopped else ""
            was_stopped |= heard.si_code in (os.CLD_STOPPED, os.CLD_CONTINUED)
            continue
        if signal.getsignal(heard.si_signo) != signal.SIG_IGN:  # as of nohup: it ends nothing
            is_sent, under = True, ours.busy_with()
        if has_terminal:
            if heard.si_code != FROM_KERNEL:
                os.kill(child, heard.si_signo)
        elif heard.si_signo in FOR_ALL:
            os.killpg(child, heard.si_signo)
        else:
            os.kill(child, heard.si_signo)


def _goes_on(ours: Life, code: int, *, heard: str) -> bool:
    """Tell whether the command begins again, after a child of it ended."""
    stack = _taken(ours.stack_fd)
    if not (stack or any(ours.busy_with())):
        return False
    from harness.surface.post_mortem import learn  # few children end so

    return learn(ours, code, stack=stack, heard=heard)


def _end(code: int) -> NoReturn:
    """End as the child did."""
    if code >= 0:
        os._exit(code)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child left one, where there is to be one
    with suppress(OSError):  # SIGKILL has no other way
        signal.signal(-code, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
    os.kill(os.getpid(), -code)
    os._exit(128 - code)


def _taken(stack_fd: int) -> str:
    text = os.pread(stack_fd, os.fstat(stack_fd).st_size, 0).decode("utf-8", "replace")
    os.ftruncate(stack_fd, 0)
    os.lseek(stack_fd, 0, os.SEEK_SET)
    return text
