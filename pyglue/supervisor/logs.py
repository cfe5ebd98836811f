# SPDX-License-Identifier: Apache-2.0
"""Error logs: our own lines, and what workers write to their descriptors 1 and 2.

A worker's text is that of a stranger: split into lines of bounded length, control characters
escaped, limited in rate by group. Writing never blocks: a pipe is re-opened for a description of
our own that is non-blocking (httpd's stays blocking), files and syslog are a scribe's
(scribe.py), and what is not taken is counted.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass, field

from .budget import Budget
from .messages import LEVEL_NAMES, LINES_LOST, Level, Message
from .scribe import FAREWELL, Scribe, Syslog

LINE_MAX = 4096
LAST_LINES = 200  # a traceback of many threads
SAID_MAX = 8000  # characters of a line of our own, about as in httpd: a longer one may be lost
BYTES_PER_SECOND = 512 << 10  # that are read from one worker; it waits when its pipe is full then
_ESCAPES = {c: f"\\x{c:02x}" for c in [*range(32), 127, *range(128, 160)] if c != 9}


def escape(text: bytes) -> str:
    """Text that no terminal acts on and that stays one line."""
    return text.decode("utf-8", "backslashreplace").translate(_ESCAPES)


class Lines:
    """Splits a stream into lines of at most LINE_MAX bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if max(map(len, lines), default=0) > LINE_MAX:
            lines = [piece for line in lines for piece in _cut(line)]
        *long, self._rest = _cut(self._rest)
        return lines + long

    def end(self) -> list[bytes]:
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _cut(line: bytes) -> list[bytes]:
    return [line[i : i + LINE_MAX] for i in range(0, len(line), LINE_MAX)] or [b""]


@dataclass(frozen=True, slots=True)
class Rate:
    """Lines of one group: log-rate= and log-burst=."""

    a_second: int = 200
    burst: int = 2000


class ErrorLog:
    """One error log of httpd's, a pipe or what else never blocks. Takes the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = _own_description(fd)
        self._is_cut = False  # it took a part of the last line alone

    def write(self, level: Level, pid: int, text: str) -> bool:
        """One line in httpd's form. False: it was not taken, or not whole."""
        now = time.time()
        stamp = time.strftime("%a %b %d %H:%M:%S", time.localtime(now))
        micro = int(now % 1 * 1e6)
        year = time.localtime(now).tm_year
        line = f"[{stamp}.{micro:06d} {year}] [wsgi:{LEVEL_NAMES[level]}] [pid {pid}] {text}\n"
        return self._put(level, line.encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        if self._fd > 2:
            os.close(self._fd)

    def _put(self, level: Level, line: bytes) -> bool:
        if self._is_cut:
            line = b"\n" + line
        try:
            self._is_cut = os.write(self._fd, line) < len(line)
        except OSError:
            return False
        return not self._is_cut


class ScribedLog(ErrorLog):
    """One that a scribe writes to: a file, a terminal, syslog."""

    def __init__(self, scribe: Scribe, index: int) -> None:
        self._scribe, self._index = scribe, index

    def close(self) -> None:
        """It is the scribe that owns it."""

    def is_of(self, scribe: Scribe) -> bool:
        return self._scribe is scribe

    def _put(self, level: Level, line: bytes) -> bool:
        return self._scribe.write(self._index, level, line, time.monotonic())


def open_logs(fds: list[int], syslogs: tuple[str | None, ...]) -> tuple[list[ErrorLog], Scribe]:
    """Those of a plan, and who writes to what may block. syslogs: names of those that are not
    descriptors at all. Takes the descriptors."""
    names = dict(enumerate(syslogs))
    is_pipe = [
        names.get(i) is None and stat.S_ISFIFO(os.fstat(fd).st_mode) for i, fd in enumerate(fds)
    ]
    others = {i: index for index, i in enumerate(i for i, pipe in enumerate(is_pipe) if not pipe)}
    scribe = Scribe([_of_scribe(fds[i], names.get(i)) for i in others])
    logs = [
        ErrorLog(fd) if is_pipe[i] else ScribedLog(scribe, others[i]) for i, fd in enumerate(fds)
    ]
    return logs, scribe


def _of_scribe(fd: int, name: str | None) -> int | Syslog:
    if name is None:
        return fd
    if fd > 2:
        os.close(fd)
    return Syslog.parse(name)


def _own_description(fd: int) -> int:
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    with contextlib.suppress(OSError):  # a socket pair, or a pipe of another user: kept as it is
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
        return own
    return fd


@dataclass(slots=True)
class _Target:
    """Where the lines of one group go."""

    name: str
    log: ErrorLog
    threshold: int
    rate: Rate
    budget: Budget = field(init=False)
    lost: int = 0

    def __post_init__(self) -> None:
        self.budget = Budget(self.rate.a_second, self.rate.burst)


class Logs:
    """All error logs in use. A plan brings a new set. What nobody writes to any more is closed, or
    old piped loggers and rotated files would be kept for ever."""

    def __init__(self, main_fd: int) -> None:
        self._main = ErrorLog(main_fd)
        self._targets: dict[bytes, _Target] = {}
        self._open: set[ErrorLog] = set()
        self._scribes: list[Scribe] = []

    def take(self, fds: list[int], syslogs: tuple[str | None, ...] = ()) -> list[ErrorLog]:
        """The logs of a new plan. Lines of no group, and all that is written to descriptors 1 and
        2, go to the first of them from now on. Takes the descriptors."""
        for own in (1, 2):
            os.dup2(fds[0], own)
        logs, scribe = open_logs(fds, syslogs)
        self._scribes.append(scribe)
        self._open.update({self._main, *logs})
        self._main = logs[0]
        return logs

    def assign(
        self, digest: bytes, name: str, log: ErrorLog, threshold: int, rate: Rate | None = None
    ) -> None:
        """This group's lines go there from now on."""
        self._flush_lost(digest)
        self._targets[digest] = _Target(name, log, threshold, rate or Rate())

    def forget(self, digest: bytes) -> None:
        self._flush_lost(digest)
        self._targets.pop(digest, None)
        self.close_unused()

    def close_unused(self) -> None:
        used = {self._main, *(target.log for target in self._targets.values())}
        for log in self._open - used:
            log.close()
        self._open &= used
        for scribe in self._scribes[:-1]:
            if not any(isinstance(log, ScribedLog) and log.is_of(scribe) for log in used):
                self._scribes.remove(scribe)
                scribe.close()

    def scribes(self) -> set[int]:
        """Pids of our own, which are no descendants of workers."""
        return {scribe.pid for scribe in self._scribes if scribe.pid}

    def end(self) -> None:
        """All is over: what is queued is written, for a bounded time."""
        until = time.monotonic() + FAREWELL
        for scribe in self._scribes:
            scribe.close()
        for scribe in self._scribes:
            scribe.wait(until)

    def say(self, message: Message, values: dict[str, object], digest: bytes | None = None) -> None:
        """A line of our own: of a group's server, or of the main log."""
        text = f"{message.id}: {{}}{message.text.format_map(values)}"
        target = self._targets.get(digest) if digest else None
        if message.level > (target.threshold if target else Level.WARNING):
            return
        prefix = f"process group '{target.name}': " if target else ""
        log = target.log if target else self._main
        log.write(message.level, os.getpid(), _one_line(text.replace("{}", prefix, 1))[:SAID_MAX])

    def worker_said(
        self, digest: bytes, pid: int, lines: list[bytes], now: float, *, are_last: bool = False
    ) -> None:
        """Lines that a worker wrote to descriptor 1 or 2. The last ones before its death tell the
        cause, and come though it wrote too much before."""
        target = self._targets.get(digest)
        if target is None:
            return
        granted = target.budget.grant(now, len(lines))
        kept = lines[:granted]
        if are_last and granted < len(lines):
            kept += lines[max(granted, len(lines) - LAST_LINES) :]
        target.lost += len(lines) - len(kept)
        for line in kept:
            text = f"[group {_one_line(target.name)}] {escape(line)}"
            if not target.log.write(Level.ERR, pid, text):
                target.lost += 1

    def tick(self) -> None:
        """Each second: tell what was lost."""
        for digest in self._targets:
            self._flush_lost(digest)

    def _flush_lost(self, digest: bytes) -> None:
        target = self._targets.get(digest)
        if target is None or not target.lost:
            return
        lost, target.lost = target.lost, 0
        self.say(LINES_LOST, {"lost": lost, "rate": target.rate.a_second}, digest)


def _one_line(text: str) -> str:
    return text.translate(_ESCAPES)
