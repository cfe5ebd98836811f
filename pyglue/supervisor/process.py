# SPDX-License-Identifier: Apache-2.0
"""One worker as the kernel knows it: pid, pipes, record, listener. No decision is made here.

All descriptors that the worker holds too are written and read without blocking, on descriptions
of our own: a tenant can change the flags of a description that is shared with him.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .actions import Death
from .budget import Budget
from .causes import cause_of, cause_of_traced, running
from .channel import MESSAGES_PER_SECOND, WORDS
from .launch import Recipe
from .listeners import Listener
from .logs import BYTES_PER_SECOND, Lines
from .loop import now
from .plan import GroupPlan
from .reader import UnreadableError

RECORD_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
READ_SIZE = 65536
FDS_A_WORKER = 7  # that are open here
FDS_BESIDE = 64

Spawn = Callable[[Recipe, "list[int]"], "tuple[int, int, int]"]
Read = Callable[[int, int, int], "bytes | None"]  # as Reader.read
ReadRecord = Callable[[int], "tuple[int, int, int, int, list[tuple[int, int, bytes, bytes]]]"]
LAST_WORDS = 1 << 20  # bytes of its log that are read at its end; no pipe holds more by default


@dataclass(slots=True)
class Ends:
    """A worker's own ends of its pipes, until it has them."""

    control: int
    log_read: int
    log_write: int
    messages: int
    scripts: int = -1  # its group's memory of loaded scripts, not closed with these; -1: none

    def in_order(self, null: int, listener: int, record: int) -> list[int]:
        """With what else it is given, as they become 0 to 8: docs/plan.md section 4."""
        first = [
            null,
            self.log_write,
            self.log_write,
            self.control,
            listener,
            record,
            self.messages,
            self.log_read,
        ]
        return first if self.scripts < 0 else [*first, self.scripts]

    def close(self) -> None:
        for fd in (self.control, self.log_read, self.log_write, self.messages):
            os.close(fd)


@dataclass(slots=True, eq=False)
class Process:
    """Owns its descriptors until `close`."""

    number: int
    recipe: Recipe
    key: bytes
    listener: Listener
    control: int
    messages: int
    log: int
    record: int
    read: Read
    pid: int = 0  # 0: it was not started yet
    pidfd: int = -1
    report: int = -1  # of the privileged step
    started: float = field(default_factory=now)  # when
    unsent: bytes = b""  # for the control pipe
    reported: bytes = b""
    unread: bytes = b""
    lines: Lines = field(default_factory=Lines)
    budget: Budget = field(default_factory=lambda: Budget(MESSAGES_PER_SECOND, MESSAGES_PER_SECOND))
    words: Budget = field(default_factory=lambda: Budget(BYTES_PER_SECOND, BYTES_PER_SECOND))
    cpu_time: float = 0.0  # after its end, with what it waited for
    is_closed: bool = False
    is_loud: bool = False  # it has written more than may be read of it now
    is_unreadable: bool = False  # what lies in a pipe of its own: nothing more is read of it

    @property
    def definition(self) -> GroupPlan:
        return self.recipe.definition

    def spawn(self, spawn: Spawn, ends: Ends) -> None:
        """Starts it through the jail. Takes the ends. OSError, ValueError: nothing runs."""
        null = -1
        try:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            assert self.listener.sock is not None
            record = self.record if self.record >= 0 else null
            fds = ends.in_order(null, self.listener.sock.fileno(), record)
            self.pid, self.pidfd, self.report = spawn(self.recipe, fds)
        finally:
            ends.close()
            if null >= 0:
                os.close(null)
        os.set_blocking(self.report, False)

    def adopt(self, pid: int) -> None:
        """It was forked by a preloader: a child of ours, checked."""
        self.pid = pid

    def send(self, data: bytes) -> None:
        """Queues and writes what the pipe takes; the rest goes with `flush`."""
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        try:
            self.unsent = self.unsent[os.write(self.control, self.unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it is gone, or has closed its end: its death will tell
            self.unsent = b""

    def read_messages(self) -> list[tuple[int, int, int]] | None:
        """The whole messages that have come; None at end-of-file."""
        data = self._read_own(self.messages, MESSAGES_PER_SECOND * WORDS.size)
        if data == b"":
            return None
        self.unread += data or b""
        whole = len(self.unread) // WORDS.size * WORDS.size
        words = list(WORDS.iter_unpack(self.unread[:whole]))
        self.unread = self.unread[whole:]
        return words

    def read_log(self, now: float) -> list[bytes] | None:
        """The whole lines that have come; None at end-of-file."""
        data = self._read_own(self.log, READ_SIZE)
        self.is_loud = self.words.grant(now, len(data or b"")) < len(data or b"")
        return None if data == b"" else self.lines.feed(data or b"")

    def _read_own(self, fd: int, size: int) -> bytes | None:
        """Of a pipe that the worker writes to."""
        if self.is_unreadable:
            return b""
        try:
            return self.read(fd, size, self.definition.uid)
        except UnreadableError:
            self.is_unreadable = True
            return b""

    def read_report(self) -> bool:
        """What the privileged step says of itself. False: it has said all."""
        data = _read(self.report, READ_SIZE) if self.report >= 0 else b""
        self.reported += data or b""
        return data != b""

    def kill(self) -> None:
        """The pid as well as the group: it may not have called setsid yet. Only before the reaping,
        after which the numbers may be another's."""
        for end in (os.kill, os.killpg) if self.pid else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self.pid, signal.SIGKILL)

    def read_last_words(self) -> list[bytes]:
        """All lines that its log holds at its end, the unfinished one too."""
        data = b""
        while len(data) < LAST_WORDS and (more := self._read_own(self.log, READ_SIZE)):
            data += more
        return self.lines.feed(data) + self.lines.end()

    def bury(self, read_record: ReadRecord, now: float, shortage: Callable[[], str] = str) -> Death:
        """Reaps it (it is a zombie now) and says how it ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        self.cpu_time = used.ru_utime + used.ru_stime

        def cause(ending: int) -> str:
            return cause_of(status, ending, shortage)

        return self._death(cause, read_record, now, is_clean=status == 0)

    def leave_to(self, tracer: int, read_record: ReadRecord, now: float) -> Death:
        """It has ended, but is this process's zombie, and not to be waited for (traced.py). When it
        becomes ours it is reaped as one that nobody knows."""
        return self._death(partial(cause_of_traced, tracer), read_record, now, is_clean=False)

    def _death(
        self, cause: Callable[[int], str], read_record: ReadRecord, now: float, *, is_clean: bool
    ) -> Death:
        """What its record says. cause: of the ending that it noted there."""
        if self.record < 0:
            return Death(cause(0), is_clean)
        try:
            _, served, _, ending, told = read_record(self.record)
        except ValueError:  # it never began to write, or wrote nonsense
            return Death(cause(0), is_clean, complete=False)
        return Death(
            cause(ending),
            is_clean,
            served,
            tuple(number for number, *_ in told),
            ran=running(told, now, now - self.started),
        )

    def close(self) -> None:
        self.is_closed = True
        for fd in (self.pidfd, self.report, self.control, self.messages, self.log, self.record):
            if fd >= 0:
                os.close(fd)


def make(
    number: int,
    recipe: Recipe,
    key: bytes,
    listener: Listener,
    record_size: int | None,
    scripts: int = -1,
    *,
    read: Read | None = None,
) -> tuple[Process, Ends]:
    """Pipes and record (None: it has none) of a worker that does not run yet, and what becomes its
    own. Takes the listener; OSError with nothing left open."""
    with contextlib.ExitStack() as opened:

        def own(fd: int) -> int:
            opened.callback(os.close, fd)
            return fd

        def pipe() -> tuple[int, int]:
            read, write = os.pipe2(os.O_CLOEXEC)
            return own(read), own(write)

        control_read, control = pipe()
        messages, messages_write = pipe()
        log_read, log_write = pipe()
        log = own(os.open(f"/proc/self/fd/{log_read}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        record = -1 if record_size is None else own(make_memory("pyglue-record", record_size))
        for fd in (control, messages, messages_write):  # no end of these ever waits
            os.set_blocking(fd, False)
        opened.pop_all()
    made = Process(number, recipe, key, listener, control, messages, log, record, read or _read)
    return made, Ends(control_read, log_read, log_write, messages_write, scripts)


def start(
    number: int, recipe: Recipe, key: bytes, listener: Listener, record_size: int, spawn: Spawn
) -> Process:
    """Makes one and starts it through the jail. OSError, ValueError with nothing left open."""
    made, ends = make(number, recipe, key, listener, record_size)
    try:
        made.spawn(spawn, ends)
    except BaseException:
        made.close()
        raise
    return made


def make_memory(name: str, size: int) -> int:
    """For workers to write, who cannot change its size."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, RECORD_SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def raise_open_files() -> None:
    """As far as they may be raised: each worker takes some."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # fs.nr_open was lowered below it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room() -> tuple[int, int]:
    """How many files may be open, and how many workers that is enough for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit, (limit - FDS_BESIDE) // FDS_A_WORKER


def _read(fd: int, size: int, _: int = 0) -> bytes | None:
    """What is there; b"" at end-of-file, None when there is nothing."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
