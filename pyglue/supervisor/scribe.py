# SPDX-License-Identifier: Apache-2.0
"""A small process that writes lines to files and to syslog, where a write may block for ever (a
dead file server, a logger that does not read). What it does not take in time is lost and counted,
and the supervisor goes on (SUCCESSION.md section 8).

It is a fork and not exec'd, because files of the package may have been replaced since the start,
and holds nothing but its logs. It ends when the supervisor does, or has closed its end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import syslog
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .messages import UNWRITTEN, Level

HEAD = struct.Struct("=II")  # which log, level; then the line
LONGEST = 1 << 16
AGAIN = 1.0  # seconds between two tries to have one
FAREWELL = 1.0  # seconds that it gets to write what is queued when all ends
PRIORITIES = {
    Level.ALERT: syslog.LOG_ALERT,
    Level.CRIT: syslog.LOG_CRIT,
    Level.ERR: syslog.LOG_ERR,
    Level.WARNING: syslog.LOG_WARNING,
    Level.NOTICE: syslog.LOG_NOTICE,
    Level.INFO: syslog.LOG_INFO,
    Level.DEBUG: syslog.LOG_DEBUG,
}
FACILITIES = {
    name: getattr(syslog, f"LOG_{name.upper()}")
    for name in (
        *("auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog"),
        *("user", "uucp", *(f"local{i}" for i in range(8))),
    )
    if hasattr(syslog, f"LOG_{name.upper()}")
}


@dataclass(frozen=True, slots=True)
class Syslog:
    """`ErrorLog syslog[:facility[:tag]]`, as httpd understands it."""

    facility: int
    tag: str

    @classmethod
    def parse(cls, name: str) -> Syslog:
        _, _, rest = name.partition(":")
        facility, _, tag = rest.partition(":")
        return cls(FACILITIES.get(facility.lower(), syslog.LOG_LOCAL7), tag or "httpd")


class Scribe:
    """Writes to these logs: descriptors, or syslog in their places. Owns the descriptors."""

    def __init__(self, logs: Sequence[int | Syslog]) -> None:
        self._logs = list(logs)
        self._sock: socket.socket | None = None
        self._start_at = 0.0
        self._can_have_none = False  # the machine has no process, or no descriptor, to give
        self.pid = 0

    def write(self, index: int, level: Level, line: bytes, now: float) -> bool:
        """Queues a line. False: it was not taken."""
        if self._sock is None and now >= self._start_at:
            self._start(now)
        if self._sock is None:
            return self._can_have_none and self._write_itself(index, line)
        try:
            self._sock.send(HEAD.pack(index, level) + line)
        except BlockingIOError:
            return False
        except OSError:  # it has died: the next line gets another one
            self._drop()
            return False
        return True

    def _write_itself(self, index: int, line: bytes) -> bool:
        """What is to be told then is mostly that: rather a write that may wait than no word."""
        log = self._logs[index]
        try:
            return isinstance(log, int) and os.write(log, line) == len(line)
        except OSError:
            return False

    def close(self) -> None:
        """It writes what is queued, and ends."""
        self._drop()
        for log in self._logs:
            if isinstance(log, int) and log > 2:
                os.close(log)
        self._logs = []

    def wait(self, until: float) -> None:
        """After `close`: for its end; it is killed then."""
        with contextlib.suppress(ChildProcessError):
            while self.pid and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() >= until:
                    os.kill(self.pid, signal.SIGKILL)
                    return
                time.sleep(0.002)

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _start(self, now: float) -> None:
        self._start_at = now + AGAIN
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self._can_have_none = True
            return
        try:
            pid = os.fork()
        except OSError:
            self._can_have_none = True
            ours.close()
            theirs.close()
            return
        self._can_have_none = False
        if pid == 0:
            _live(theirs, self._logs)
        theirs.close()
        ours.setblocking(False)
        ours.shutdown(socket.SHUT_RD)
        self._sock, self.pid = ours, pid


def _live(sock: socket.socket, logs: Sequence[int | Syslog]) -> None:
    """The whole life of the process. Nothing of the supervisor's code may run after it."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the supervisor has
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _keep({sock.fileno(), *(log for log in logs if isinstance(log, int))})
        books = [_Book(log) for log in logs]
        while data := sock.recv(LONGEST):
            index, level = HEAD.unpack_from(data)
            books[index].write(Level(level), data[HEAD.size :])
    finally:
        os._exit(0)


def _keep(fds: set[int]) -> None:
    """And closes all others."""
    low = 0
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 20)


class _Book:
    """One log, and the lines that it did not take."""

    def __init__(self, log: int | Syslog) -> None:
        self._log = log
        self._lost = 0
        self._why = ""

    def write(self, level: Level, line: bytes) -> None:
        if self._lost and self._put(Level.WARNING, self._complaint(line)):
            self._lost = 0
        if self._lost or not self._put(level, line):
            self._lost += 1

    def _complaint(self, line: bytes) -> bytes:
        """In the form of the line that comes after it."""
        text = UNWRITTEN.text.format(lost=self._lost, reason=self._why)
        stamp = line[: line.index(b"]") + 2] if line.startswith(b"[") else b""
        return stamp + f"[wsgi:warn] [pid {os.getppid()}] {UNWRITTEN.id}: {text}\n".encode()

    def _put(self, level: Level, line: bytes) -> bool:
        try:
            if isinstance(self._log, Syslog):
                syslog.openlog(self._log.tag, syslog.LOG_PID, self._log.facility)
                text = line.decode("utf-8", "replace").rstrip("\n")
                syslog.syslog(PRIORITIES[level], text.partition("] ")[2])
                return True
            done = os.write(self._log, line)
            self._why = "it took a part alone"
            return done == len(line)
        except OSError as error:
            self._why = os.strerror(error.errno or 0)
            return False
