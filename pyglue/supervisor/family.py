# SPDX-License-Identifier: Apache-2.0
"""Processes beyond our workers: httpd's parent and children, and the descendants of workers.

Whether httpd still needs us is told by its processes alone: sockets and pipes are also held by
others (mod_cgid's daemon), and rows only list the children (SUCCESSION.md section 2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Set
from typing import TYPE_CHECKING

from .loop import READ, Callback, Loop

if TYPE_CHECKING:
    from pyglue._pages import Rows

PR_SET_CHILD_SUBREAPER = 36
STAT_SIZE = 4096  # more than the fields of a process in /proc are long


class Stranger:
    """A process that is no child of ours, until it has gone. A pidfd tells that; where none is to
    be had (Linux before 5.3, the filter of an old container) `look` does, each second."""

    def __init__(self, loop: Loop, pid: int, gone: Callback) -> None:
        """ProcessLookupError: it has gone already."""
        self._loop = loop
        self._pid = pid
        self._gone = gone
        self._began = b""
        self._fd = open_pidfd(pid)
        if self._fd >= 0:
            loop.watch(self._fd, READ, gone)
        else:
            self._began = _began(pid)

    def look(self) -> None:
        """Another process with its number is not it."""
        if self._fd >= 0:
            return
        try:
            is_there = _began(self._pid) == self._began
        except ProcessLookupError:
            is_there = False
        if not is_there:
            self._gone()

    def forget(self) -> None:
        self._loop.unwatch(self._fd)
        if self._fd >= 0:
            os.close(self._fd)


class Httpd:
    """Tells when nobody of httpd is left."""

    def __init__(
        self,
        loop: Loop,
        rows: Rows,
        parent: int,
        nobody_left: Callback,
        alone: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._rows = rows
        self._nobody_left = nobody_left
        self._alone = alone  # with so many children
        self._children: set[Stranger] = set()
        self._is_lost = False
        self._parent: Stranger | None = None
        with contextlib.suppress(ProcessLookupError):
            self._parent = Stranger(loop, parent, self.lose)

    @property
    def is_there(self) -> bool:
        return self._parent is not None

    @property
    def is_lost(self) -> bool:
        """The parent is gone, or has another supervisor: no child of it comes to us any more."""
        return self._is_lost

    def look(self) -> None:
        """Each second."""
        known = self._children if self._is_lost else {self._parent}
        for each in known.copy():
            if each is not None:
                each.look()

    def oldest_plan(self) -> int | None:
        """The oldest plan that a listed child was born under; 0 if the list cannot be read."""
        try:
            return min((plan for _, plan in self._rows.children()), default=None)
        except ValueError:
            return 0

    def lose(self) -> None:
        """The parent is gone, or has left us: from now on only its last children count."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._parent is not None:
            self._parent.forget()
        for pid, _ in self._listed():
            self._watch_child(pid)
        self._alone(len(self._children))
        self._check()

    def _listed(self) -> list[tuple[int, int]]:
        try:
            return self._rows.children()
        except ValueError:
            return []

    def _watch_child(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            child = Stranger(self._loop, pid, lambda: self._child_gone(child))
            self._children.add(child)

    def _child_gone(self, child: Stranger) -> None:
        child.forget()
        self._children.discard(child)
        self._check()

    def _check(self) -> None:
        if not self._children:
            self._nobody_left()


def open_pidfd(pid: int) -> int:
    """The caller's to close; -1: none is to be had here. ProcessLookupError: it has gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return -1


def _began(pid: int) -> bytes:
    """When it was made, in ticks since the machine began (proc(5), starttime).
    ProcessLookupError: it has ended, whether it was waited for or not."""
    try:
        fields = _stat(f"/proc/{pid}")
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    if fields[0] in b"ZX":
        raise ProcessLookupError(pid)
    return fields[19]


def has_ended(folder: str) -> bool:
    """The thread of which this folder of /proc is, the first one of a process: it is there yet
    because it was not waited for. OSError: it is not, or is not shown to us."""
    return _stat(folder)[0] in b"ZX"


def _stat(folder: str) -> list[bytes]:
    """From the state on. Asked often, so without what opening a file brings along in Python."""
    fd = os.open(f"{folder}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, STAT_SIZE).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def status(folder: str) -> dict[str, str]:
    """What /proc tells there of a process or thread, by name. OSError. The first line is its own
    choice, in which the kernel escapes no other end of a line than this."""
    with open(f"{folder}/status", encoding="ascii", errors="replace", newline="\n") as file:
        return dict(line.split(":", 1) for line in file if ":" in line)


def become_subreaper() -> None:
    """Descendants that left their worker's session become our children, not init's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def changed_children(most: int) -> Iterator[os.waitid_result]:
    """Children that died or were stopped, not reaped yet; at most so many, because a tenant can
    make new ones as fast as they are reaped."""
    for _ in range(most):
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None:
            return
        yield info


def own_children() -> list[int]:
    """Children of this process, adopted ones too."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def sweep(seconds: float, spared: Set[int] = frozenset()) -> list[int]:
    """Kills and reaps all that is left below us but for those spared, again and again: what they
    fork meanwhile comes to us as its parent dies. Returns the pids that would not end in time."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in own_children() if pid not in spared]
        if not left or time.monotonic() >= deadline:
            return left
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] and time.monotonic() < deadline:
                pass
        time.sleep(0.005)
